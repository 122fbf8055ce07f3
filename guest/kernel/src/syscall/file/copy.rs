//! sendfile and copy_file_range: bytes from a regular file, to whatever can be written to or to another one.

use super::buffers::MOST;
use super::content::{self, Sent};
use super::open_file;
use super::transfer::{check_range, has_places, size_of_file};
use crate::fs::FileId;
use crate::fs::inode::Kind;
use crate::fs::open::{O_APPEND, O_PATH, OpenFile, What};
use crate::mm::contents::MOST_BYTES;
use crate::process::limits;
use crate::process::signal::SIGXFSZ;
use crate::syscall::{Attempt, Call, Reply};
use abi::Errno;

/// Most bytes one sendfile moves: page by page, which is slow where ring 0 is emulated.
const MOST_SENT: u64 = 16 << 20;

/// One side: the open file, and where in it.
struct Side {
    number: u16,
    open: OpenFile,
    offset: u64,
    /// Where the caller keeps the offset, if not in the open file.
    kept: Option<u64>,
}

impl Side {
    fn new(call: &mut Call<'_>, (number, open): (u16, OpenFile), offset_at: u64) -> Result<Side, Errno> {
        let kept = (offset_at != 0).then_some(offset_at);
        let offset = match kept {
            Some(at) => call.read(at)?,
            None => open.offset,
        };
        Ok(Side {
            number,
            open,
            offset,
            kept,
        })
    }

    fn kind(&self, call: &Call<'_>) -> Option<(FileId, Kind)> {
        match self.open.what {
            What::File(file) => Some((file, call.kernel.files.inodes.get(file).kind)),
            _ => None,
        }
    }

    /// It is `by` bytes further now.
    fn advance(&self, call: &mut Call<'_>, by: u64) -> Result<(), Errno> {
        match self.kept {
            Some(at) => call.write(at, &(self.offset + by)),
            None => {
                call.kernel.files.open.get_mut(self.number).offset = self.offset + by;
                Ok(())
            }
        }
    }
}

/// The regular files behind both sides (`generic_file_rw_checks`).
fn files(call: &mut Call<'_>, from: &Side, to: &Side) -> Result<(FileId, FileId), Errno> {
    let kinds = [from.kind(call), to.kind(call)];
    if kinds
        .iter()
        .any(|kind| matches!(kind, Some((_, Kind::Directory))))
    {
        return Err(Errno::EISDIR);
    }
    let [Some((source, Kind::Regular)), Some((target, Kind::Regular))] = kinds else {
        return Err(Errno::EINVAL);
    };
    if !from.open.can_read() || !to.open.can_write() || to.open.flags & O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let files = &call.kernel.files;
    // Those in /dev/shm are on another file system.
    if files.object(source).is_some() != files.object(target).is_some() {
        return Err(Errno::EXDEV);
    }
    Ok((source, target))
}

/// copy_file_range(2): 16 MiB at most at a time.
pub fn copy_file_range(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from, from_at, to, to_at, len, flags] = call.args;
    let [source, target] = [from, to].map(|fd| open_file(call, fd));
    let (source, target) = (source?, target?);
    if (source.1.flags | target.1.flags) & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let from = Side::new(call, source, from_at)?;
    let target = Side::new(call, target, to_at)?;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let (source, file) = files(call, &from, &target)?;
    for side in [&from, &target] {
        side.offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
    }
    let left = size_of_file(call, source).saturating_sub(from.offset);
    let mut len = len.min(left);
    let [most, _] = call.process().limit(limits::FSIZE);
    if len > 0 && target.offset as i64 >= 0 {
        if target.offset >= most {
            call.signal_itself(SIGXFSZ);
        }
        len = len.min(most.min(MOST_BYTES).saturating_sub(target.offset));
        if len == 0 {
            return Err(Errno::EFBIG);
        }
    }
    let overlaps =
        target.offset < from.offset.saturating_add(len) && from.offset < target.offset.saturating_add(len);
    if source == file && overlaps {
        return Err(Errno::EINVAL);
    }
    if (from.offset as i64) < 0 || (target.offset as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let before = target.open.offset;
    call.kernel.files.open.get_mut(target.number).offset = target.offset;
    let sent = content::send(call, source, from.offset, len.min(MOST_SENT), 0, to);
    call.kernel.files.open.get_mut(target.number).offset = before;
    let copied = match sent? {
        Sent::Bytes(copied) => copied,
        // Files never have to be waited for.
        Sent::Waits => 0,
    };
    if copied > 0 {
        from.advance(call, copied)?;
        target.advance(call, copied)?;
        super::transfer::written(call, file);
    }
    Ok(copied)
}

/// sendfile(2): from a regular file, to whatever bytes can be written to.
pub fn sendfile(call: &mut Call<'_>) -> Reply {
    let [to, from, offset_at, len, ..] = call.args;
    let prepared = prepare_sendfile(call, to, from, offset_at);
    let (number, file, offset) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Reply::Error(error),
    };
    let skip = if call.attempt == Attempt::Again {
        call.task().moved
    } else {
        0
    };
    let left = size_of_file(call, file).saturating_sub(offset);
    let len = len.min(left).min(MOST_SENT);
    let sent = content::send(call, file, offset, len, skip, to);
    match sent {
        Ok(Sent::Waits) => Reply::Parked,
        Ok(Sent::Bytes(sent)) => move_source(call, number, offset_at, offset + sent)
            .map(|()| sent)
            .into(),
        Err(error) => Reply::Error(error),
    }
}

/// The next bytes of what sendfile has read from are at `offset`.
pub fn move_source(call: &mut Call<'_>, number: u16, offset_at: u64, offset: u64) -> Result<(), Errno> {
    if offset_at == 0 {
        call.kernel.files.open.get_mut(number).offset = offset;
        return Ok(());
    }
    call.write(offset_at, &offset)
}

/// What sendfile is asked for: the open file it reads from, which file that is, and where in it.
///
/// # Errors
/// As sendfile(2).
pub fn prepare_sendfile(
    call: &mut Call<'_>,
    to: u64,
    from: u64,
    offset_at: u64,
) -> Result<(u16, FileId, u64), Errno> {
    let (number, source) = open_file(call, from)?;
    if !source.can_read() {
        return Err(Errno::EBADF);
    }
    let offset = if offset_at == 0 {
        source.offset
    } else {
        call.read(offset_at)?
    };
    let len = call.args[3];
    check_range(offset, len)?;
    let (_, target) = open_file(call, to)?;
    if !target.can_write() {
        return Err(Errno::EBADF);
    }
    if has_places(target.what) {
        check_range(target.offset, len.min(MOST))?;
    }
    if target.flags & O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    match source.what {
        What::File(file) if call.kernel.files.inodes.get(file).kind == Kind::Regular => {
            Ok((number, file, offset))
        }
        _ => Err(Errno::EINVAL),
    }
}
