//! What programs can find out about descriptors 0 to 2: they are the command's own.
// UNSAFETY: two ioctls whose results rustix does not give as the bytes programs expect.
#![expect(unsafe_code, reason = "TIOCGWINSZ and TCGETS as raw bytes")]

use super::output::errno;
use crate::hypercall::StdioQuery;
use abi::Errno;
use rustix::fs::{Stat, fstat};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `sizeof(struct winsize)`.
const WINSIZE_LEN: usize = 8;
/// `sizeof(struct termios)` of the kernel (asm-generic/termbits.h).
const TERMIOS_LEN: usize = 36;

/// Answers `query` about the host's `descriptor` in `payload`; `of_bytes`: it is not the host's, but a given
/// string, which looks like a pipe.
///
/// # Errors
/// As Linux: EBADF, ENOTTY.
pub fn query(
    descriptor: u32,
    of_bytes: bool,
    query: StdioQuery,
    payload: &mut [u8; 256],
) -> Result<u64, Errno> {
    let fd = match descriptor {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    };
    match query {
        StdioQuery::Status if of_bytes => put_status(&pipe(), payload),
        StdioQuery::Status => put_status(&status(&fstat(fd).map_err(errno)?), payload),
        StdioQuery::WindowSize | StdioQuery::Termios if of_bytes => return Err(Errno::ENOTTY),
        StdioQuery::WindowSize => {
            payload[..WINSIZE_LEN].copy_from_slice(&ioctl::<WINSIZE_LEN>(fd, libc::TIOCGWINSZ)?);
        }
        StdioQuery::Termios => {
            payload[..TERMIOS_LEN].copy_from_slice(&ioctl::<TERMIOS_LEN>(fd, libc::TCGETS)?);
        }
    }
    Ok(0)
}

fn ioctl<const LEN: usize>(fd: BorrowedFd<'_>, request: libc::c_ulong) -> Result<[u8; LEN], Errno> {
    // More than either structure has.
    let mut bytes = [0u64; 16];
    // SAFETY: both requests write their structure, which is shorter than `bytes`, to the address given.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, bytes.as_mut_ptr()) };
    if result < 0 {
        let raw = std::io::Error::last_os_error().raw_os_error();
        return Err(raw.and_then(Errno::from_raw).unwrap_or(Errno::EIO));
    }
    let mut out = [0; LEN];
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = bytes[index / 8].to_le_bytes()[index % 8];
    }
    Ok(out)
}

/// `struct stat` of x86-64 (asm/stat.h), in 64-bit words.
type Status = [u64; 18];

/// What fstat(2) says of a pipe, as far as programs look.
fn pipe() -> Status {
    let mut words = [0; 18];
    words[1] = 1;
    words[2] = 1;
    words[3] = u64::from(libc::S_IFIFO | 0o600);
    words[7] = 4096;
    words
}

fn status(stat: &Stat) -> Status {
    [
        stat.st_dev,
        stat.st_ino,
        stat.st_nlink,
        u64::from(stat.st_mode) | u64::from(stat.st_uid) << 32,
        u64::from(stat.st_gid),
        stat.st_rdev,
        stat.st_size as u64,
        stat.st_blksize as u64,
        stat.st_blocks as u64,
        stat.st_atime as u64,
        stat.st_atime_nsec,
        stat.st_mtime as u64,
        stat.st_mtime_nsec,
        stat.st_ctime as u64,
        stat.st_ctime_nsec,
        0,
        0,
        0,
    ]
}

fn put_status(words: &Status, payload: &mut [u8; 256]) {
    for (place, word) in payload.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_bytes_are_those_of_the_hosts_own_structure() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let words = status(&fstat(reader.as_fd()).unwrap());
        let mut native = [0u64; 18];
        // SAFETY: struct stat is 144 bytes of integers.
        let result = unsafe { libc::fstat(reader.as_raw_fd(), native.as_mut_ptr().cast()) };
        assert_eq!(result, 0);
        assert_eq!(words, native);
        assert_eq!(
            ioctl::<TERMIOS_LEN>(reader.as_fd(), libc::TCGETS),
            Err(Errno::ENOTTY)
        );
    }
}
