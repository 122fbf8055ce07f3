//! Writing to the host's descriptors from a vCPU's thread, which must not wait: it may hold its guest's kernel lock.

use crate::config::Output;
use abi::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a pipe with room takes without blocking (PIPE_BUF, pipe(7)).
const PIPE_BUF: usize = 4096;

/// A descriptor of the host that programs' output goes to.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    kind: SinkKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinkKind {
    /// A regular file takes everything and is never full.
    Regular,
    /// Writing to it never blocks.
    NonBlocking,
    /// It may block, if more is written than there was room for: it is asked before, and given little at once.
    Asked,
}

impl Sink {
    /// Output to `fd`. Of a pipe or terminal a description of its own is opened that does not block: O_NONBLOCK
    /// on the given one would be everyone's who has it.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Sink {
        let kind = fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::RegularFile) => Sink {
                fd,
                kind: SinkKind::Regular,
            },
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                match open(path, flags, Mode::empty()) {
                    Ok(own) => Sink {
                        fd: own,
                        kind: SinkKind::NonBlocking,
                    },
                    Err(_) => Sink {
                        fd,
                        kind: SinkKind::Asked,
                    },
                }
            }
            _ => Sink {
                fd,
                kind: SinkKind::Asked,
            },
        }
    }

    /// Writes what `bytes` there is room for: how many.
    ///
    /// # Errors
    /// EAGAIN if there is no room at all; else the descriptor's own (EPIPE …), if nothing was written before.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let piece = match self.kind {
                SinkKind::Asked if !is_ready(self.fd.as_fd(), PollFlags::OUT)? => break,
                SinkKind::Asked => &rest[..rest.len().min(PIPE_BUF)],
                SinkKind::Regular | SinkKind::NonBlocking => rest,
            };
            match io::write(&self.fd, piece) {
                Ok(written) => done += written,
                Err(io::Errno::INTR) => {}
                Err(io::Errno::AGAIN) => break,
                Err(error) if done == 0 => return Err(errno(error)),
                Err(_) => break,
            }
        }
        if done == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        Ok(done)
    }

    /// Whether a write would be told something else than EAGAIN.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.kind == SinkKind::Regular || is_ready(self.fd.as_fd(), PollFlags::OUT).unwrap_or(true)
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether `fd` is ready for `what` now, be it with an error or the end.
pub(super) fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> Result<bool, Errno> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&at_once)) {
        Ok(count) => Ok(count > 0),
        Err(io::Errno::INTR) => Ok(false),
        Err(error) => Err(errno(error)),
    }
}

/// Descriptors 1 and 2 of the guest are those of this process, byte for byte.
#[derive(Debug)]
pub struct HostOutput([Sink; 2]);

impl HostOutput {
    /// The process's own stdout and stderr.
    ///
    /// # Errors
    /// The host's, should it have no descriptor left.
    pub fn new() -> std::io::Result<HostOutput> {
        Ok(HostOutput([
            Sink::new(rustix::stdio::stdout().try_clone_to_owned()?),
            Sink::new(rustix::stdio::stderr().try_clone_to_owned()?),
        ]))
    }

    fn sink(&self, descriptor: u32) -> &Sink {
        &self.0[usize::from(descriptor == 2)]
    }
}

impl Output for HostOutput {
    fn write(&self, _guest: u32, _process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        self.sink(descriptor).write(bytes)
    }

    fn awaited(&self, descriptor: u32) -> Option<BorrowedFd<'_>> {
        let sink = self.sink(descriptor);
        (!sink.is_ready()).then(|| sink.as_fd())
    }
}

/// The same error number for a guest.
pub(super) fn errno(error: io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error()).unwrap_or(Errno::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_full_pipe_takes_what_it_has_room_for_and_no_more() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sink = Sink::new(writer.into());
        let text = vec![7; 1 << 20];
        let taken = sink.write(&text).unwrap();
        assert!(taken > 0 && taken < text.len(), "{taken} of {}", text.len());
        assert!(!sink.is_ready());
        assert_eq!(sink.write(&text), Err(Errno::EAGAIN));
        reader.read_exact(&mut vec![0; 1 << 15]).unwrap();
        assert!(sink.is_ready());
        assert!(sink.write(&text).unwrap() > 0);
        drop(reader);
        assert!(sink.is_ready());
        assert_eq!(sink.write(&text), Err(Errno::EPIPE));
        assert_eq!(sink.write(&[]), Ok(0));
    }

    #[test]
    fn the_descriptor_given_stays_blocking_for_others() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let others = writer.try_clone().unwrap();
        let sink = Sink::new(writer.into());
        assert_eq!(sink.kind, SinkKind::NonBlocking);
        let flags = rustix::fs::fcntl_getfl(&others).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
    }
}
