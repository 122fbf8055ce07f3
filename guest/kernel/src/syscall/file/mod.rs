//! The system calls about files and descriptors.
//!
//! | file | family |
//! |---|---|
//! | `path` | from a program's path to what it names |
//! | `open` | open, creat, close |
//! | `name` | link, symlink, unlink, rename, mkdir, rmdir, readlink, getcwd, chdir |
//! | `attribute` | stat, access, chmod, chown, statfs, truncate |
//! | `times` | utimensat and its kin |
//! | `descriptor` | dup, fcntl, ioctl |
//! | `lock` | fcntl's locks, flock |
//! | `listing` | getdents64 |
//! | `transfer` | read, write and their kin, lseek |
//! | `buffers` | where a program's bytes are: one piece or an array of vectors |
//! | `content` | bytes between programs and files |
//! | `object` | bytes between programs and files in `/dev/shm`, which are the group's |
//! | `stdio` | bytes between programs and the command's stdin, stdout and stderr |
//! | `pipe` | pipe; bytes between programs and pipes |
//! | `procfs` | bytes between programs and `/proc` |
//! | `poll`, `epoll` | poll, select, epoll |
//! | `random` | random bytes |
//! | `memfd` | memfd_create, seals |
//! | `copy` | sendfile, copy_file_range |
//! | `event`, `timerfd` | eventfd, signalfd, timerfd |
//! | `advice` | posix_fadvise, readahead, sync_file_range, syncfs |

pub mod advice;
pub mod attribute;
pub mod buffers;
pub mod content;
pub mod copy;
pub mod descriptor;
pub mod epoll;
pub mod event;
pub mod listing;
pub mod lock;
pub mod memfd;
pub mod name;
pub mod object;
pub mod open;
pub mod path;
pub mod pipe;
pub mod poll;
pub mod procfs;
pub mod random;
pub mod stdio;
pub mod timerfd;
pub mod times;
pub mod transfer;

use super::Call;
use crate::fs::open::OpenFile;
use abi::Errno;

/// The open file that descriptor `fd` means, and its number.
///
/// # Errors
/// EBADF.
pub fn open_file(call: &mut Call<'_>, fd: u64) -> Result<(u16, OpenFile), Errno> {
    let descriptor = call.descriptors().get(fd as u32).ok_or(Errno::EBADF)?;
    Ok((descriptor.open, *call.kernel.files.open.get(descriptor.open)))
}
