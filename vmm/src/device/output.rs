//! Writing to the host's descriptors from a vCPU's thread.

use crate::config::Output;
use crate::vcpu::kick;
use abi::Errno;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io;
use std::os::fd::BorrowedFd;

/// Writes all of `bytes`. A slow reader blocks the caller, but not for ever: if the caller is a vCPU's thread and
/// its machine is told to stop, the rest is given up. A [`Output`] should write this way.
///
/// # Errors
/// The descriptor's own (EPIPE …), or EINTR when told to stop.
pub fn write_fully(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match io::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(io::Errno::INTR) if kick::interrupted() => return Err(Errno::EINTR),
            Err(io::Errno::INTR) => {}
            // Somebody made it non-blocking; wait as a blocking write would.
            Err(io::Errno::AGAIN) => {
                if let Err(error) = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)
                    && (error != io::Errno::INTR || kick::interrupted())
                {
                    return Err(errno(error));
                }
            }
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(())
}

/// Descriptors 1 and 2 of the guest are those of this process, byte for byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostOutput;

impl Output for HostOutput {
    fn write(&self, _guest: u32, _process: u32, descriptor: u32, bytes: &[u8]) -> Result<(), Errno> {
        let fd = if descriptor == 2 {
            rustix::stdio::stderr()
        } else {
            rustix::stdio::stdout()
        };
        write_fully(fd, bytes)
    }
}

/// The same error number for a guest.
pub(super) fn errno(error: io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error()).unwrap_or(Errno::EIO)
}
