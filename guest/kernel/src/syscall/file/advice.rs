//! What programs say of files ahead of time or want written to disks there are none of: posix_fadvise, readahead,
//! sync_file_range, syncfs.

use super::{open_file, stdio};
use crate::fs::inode::Kind;
use crate::fs::open::{O_PATH, OpenFile, What};
use crate::syscall::Call;
use abi::Errno;

/// The open file of `fd`, unless it is open as a place only.
fn usable(call: &mut Call<'_>, fd: u64) -> Result<OpenFile, Errno> {
    let (_, open) = open_file(call, fd)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(open)
}

/// Whether it is a pipe, here or of the host's.
fn is_pipe(call: &mut Call<'_>, open: &OpenFile) -> Result<bool, Errno> {
    const FIFO: u32 = 0o010_000;
    Ok(match open.what {
        What::Reader(_) | What::Writer(_) => true,
        What::Stdio(which) => stdio::status(call, which)?.status().mode & 0o170_000 == FIFO,
        _ => false,
    })
}

/// posix_fadvise(2): files are in memory in any case.
pub fn fadvise64(call: &mut Call<'_>) -> Result<u64, Errno> {
    const NOREUSE: u32 = 5;
    let [fd, _, len, advice, ..] = call.args;
    let open = usable(call, fd)?;
    if is_pipe(call, &open)? {
        return Err(Errno::ESPIPE);
    }
    if (len as i64) < 0 || advice as u32 > NOREUSE {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// readahead(2).
pub fn readahead(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, _, len, ..] = call.args;
    let open = usable(call, fd)?;
    if !open.can_read() {
        return Err(Errno::EBADF);
    }
    match open.what {
        What::File(file) if call.kernel.files.inodes.get(file).kind == Kind::Regular && len as i64 >= 0 => {
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// sync_file_range(2).
pub fn sync_file_range(call: &mut Call<'_>) -> Result<u64, Errno> {
    const KNOWN: u32 = 7;
    let [fd, offset, len, flags, ..] = call.args;
    let open = usable(call, fd)?;
    let end = (offset as i64)
        .checked_add(len as i64)
        .filter(|end| *end >= offset as i64);
    if flags as u32 & !KNOWN != 0 || (offset as i64) < 0 || end.is_none() {
        return Err(Errno::EINVAL);
    }
    match open.what {
        What::File(file) => match call.kernel.files.inodes.get(file).kind {
            Kind::Device(_) => Err(Errno::ESPIPE),
            _ => Ok(0),
        },
        What::Proc(_) => Ok(0),
        _ => Err(Errno::ESPIPE),
    }
}

/// syncfs(2).
pub fn syncfs(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    usable(call, fd).map(|_| 0)
}
