//! read and write in all their forms, lseek: which bytes of a program go where is decided here, and the
//! files beside this one move them.

use super::buffers::{Buffers, One, Vectors, each};
use super::content::Region;
use super::copy::{move_source, prepare_sendfile};
use super::{content, event, object, open_file, pipe, procfs, random, stdio, timerfd};
use crate::fs::FileId;
use crate::fs::device::Device;
use crate::fs::inode::{Kind, SET_GID, SET_UID};
use crate::fs::open::{O_APPEND, O_NOATIME, OpenFile, What};
use crate::mm::contents::MOST_BYTES;
use crate::process::limits;
use crate::process::signal::SIGXFSZ;
use crate::syscall::{Call, Reply, number};
use crate::time;
use abi::Errno;

/// How old the time of the last read may be before it is set again although nothing was written (mount(8), relatime).
const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// Where in a file: at its own offset, or at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The open file's, which moves on.
    Own,
    /// This one.
    Given(u64),
}

impl At {
    fn given(offset: u64) -> Result<At, Errno> {
        if offset as i64 >= 0 {
            Ok(At::Given(offset))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Which place that is, if the open file is at `own`.
    pub fn or(self, own: u64) -> u64 {
        match self {
            At::Own => own,
            At::Given(offset) => offset,
        }
    }
}

/// Whether what is open has places to read and write at.
pub fn has_places(what: What) -> bool {
    matches!(what, What::File(_) | What::Proc(_))
}

/// The open file is at `offset` now, if it was read or written where it was.
pub fn moved_on(call: &mut Call<'_>, number: u16, at: At, offset: u64) {
    if at == At::Own {
        call.kernel.files.open.get_mut(number).offset = offset;
    }
}

/// Whether what is asked for can be done as a whole: the addresses, and the offsets of all bytes, also of those beyond
/// the file's end (`rw_verify_area` in Linux). An epoll is not for bytes at all.
///
/// # Errors
/// EFAULT, EINVAL.
fn check<B: Buffers>(buffers: &B, at: At, open: &OpenFile) -> Result<(), Errno> {
    if matches!(open.what, What::Epoll(_)) {
        return Err(Errno::EINVAL);
    }
    let asked = buffers.asked()?;
    if has_places(open.what) {
        check_range(at.or(open.offset), asked)?;
    }
    Ok(())
}

/// Whether `len` bytes from `offset` on have offsets, which are numbers of 63 bits.
///
/// # Errors
/// EINVAL.
pub fn check_range(offset: u64, len: u64) -> Result<(), Errno> {
    match offset.checked_add(len) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn read_from<B: Buffers>(call: &mut Call<'_>, fd: u64, buffers: &B, at: At) -> Reply {
    let (number, open) = match open_file(call, fd) {
        Ok(found) => found,
        Err(error) => return Reply::Error(error),
    };
    if at != At::Own && !has_places(open.what) {
        return Reply::Error(Errno::ESPIPE);
    }
    if !open.can_read() {
        return Reply::Error(Errno::EBADF);
    }
    if let Err(error) = check(buffers, at, &open) {
        return Reply::Error(error);
    }
    match open.what {
        What::Stdio(_) => stdio::read(call, &open, buffers),
        What::Reader(pipe) => pipe::read(call, pipe, &open, buffers),
        What::Writer(_) => Reply::Error(Errno::EBADF),
        What::Counter { semaphore } => event::read_counter(call, (number, &open), semaphore, buffers),
        What::Timer(timer) => timerfd::read(call, (number, &open), timer, buffers),
        What::Signals => event::read_signals(call, &open, buffers),
        What::Epoll(_) => Reply::Error(Errno::EINVAL),
        What::File(file) => {
            let offset = at.or(open.offset);
            let got = read_file(call, file, buffers, offset, &open);
            if let Ok(got) = got {
                moved_on(call, number, at, offset + got);
            }
            got.into()
        }
        What::Proc(node) => {
            let offset = at.or(open.offset);
            let got = procfs::read(call, number, node, offset, buffers);
            if let Ok(got) = got {
                moved_on(call, number, at, offset + got);
            }
            got.into()
        }
    }
}

fn read_file<B: Buffers>(
    call: &mut Call<'_>,
    file: FileId,
    buffers: &B,
    offset: u64,
    open: &OpenFile,
) -> Result<u64, Errno> {
    match call.kernel.files.inodes.get(file).kind {
        Kind::Regular => {}
        Kind::Directory => return Err(Errno::EISDIR),
        Kind::Device(device) => return read_device(call, device, buffers),
        Kind::Link | Kind::Free => return Err(Errno::EINVAL),
    }
    if let Some(serial) = call.kernel.files.object(file) {
        return each(call, buffers, |call, region, done| {
            object::read(call, serial, offset + done, region)
        });
    }
    let got = each(call, buffers, |call, region, done| {
        content::read(call, file, offset + done, region)
    })?;
    if got > 0 && open.flags & O_NOATIME == 0 {
        let times = &mut call.kernel.files.inodes.get_mut(file).times;
        let last = times.accessed;
        let now = time::realtime();
        if last <= times.modified || last <= times.changed || now > last + DAY_NS {
            times.accessed = now;
        }
    }
    Ok(got)
}

fn read_device<B: Buffers>(call: &mut Call<'_>, device: Device, buffers: &B) -> Result<u64, Errno> {
    match device {
        Device::Null => Ok(0),
        Device::Zero | Device::Full => each(call, buffers, |call, region, _| {
            call.with_space(|space, memory, world| space.clear_out(memory, world, region.address, region.len))
        }),
        Device::Random | Device::Urandom => each(call, buffers, |call, region, _| random::fill(call, region)),
        Device::Tty => Err(Errno::ENXIO),
    }
}

fn write_to<B: Buffers>(call: &mut Call<'_>, fd: u64, buffers: &B, at: At) -> Reply {
    let (number, open) = match open_file(call, fd) {
        Ok(found) => found,
        Err(error) => return Reply::Error(error),
    };
    if at != At::Own && !has_places(open.what) {
        return Reply::Error(Errno::ESPIPE);
    }
    if !open.can_write() {
        return Reply::Error(Errno::EBADF);
    }
    if let Err(error) = check(buffers, at, &open) {
        return Reply::Error(error);
    }
    match open.what {
        What::Stdio(which) => stdio::write(call, which, &open, buffers),
        What::Writer(pipe) => pipe::write(call, pipe, &open, buffers),
        What::Reader(_) => Reply::Error(Errno::EBADF),
        What::Counter { .. } => event::write_counter(call, (number, &open), buffers),
        What::Timer(_) | What::Signals | What::Epoll(_) => Reply::Error(Errno::EINVAL),
        What::File(file) if call.kernel.files.object(file).is_some() => {
            object::write_from(call, file, number, &open, buffers, at)
        }
        What::File(file) => {
            let offset = if open.flags & O_APPEND != 0 {
                call.kernel.memory.contents.size(file)
            } else {
                at.or(open.offset)
            };
            let done = write_file(call, file, buffers, offset);
            if let Ok(done) = done {
                moved_on(call, number, at, offset + done);
            }
            done.into()
        }
        What::Proc(node) => {
            if at != At::Own && procfs::is_written_anywhere(node) {
                return Reply::Error(Errno::ESPIPE);
            }
            let offset = at.or(open.offset);
            let done = procfs::write(call, node, offset, buffers);
            if let (Ok(done), true) = (done, procfs::moves_on(node)) {
                moved_on(call, number, at, offset + done);
            }
            done.into()
        }
    }
}

fn write_file<B: Buffers>(call: &mut Call<'_>, file: FileId, buffers: &B, offset: u64) -> Result<u64, Errno> {
    match call.kernel.files.inodes.get(file).kind {
        Kind::Regular => {}
        Kind::Device(device) => return write_device(call, device, buffers),
        _ => return Err(Errno::EINVAL),
    }
    let [most, _] = call.process().limit(limits::FSIZE);
    let done = each(call, buffers, |call, region, done| {
        let at = offset + done;
        let room = most.min(MOST_BYTES).saturating_sub(at);
        if room == 0 {
            if at >= most {
                call.signal_itself(SIGXFSZ);
            }
            return Err(Errno::EFBIG);
        }
        let room = may_write(call, file, at, region.len.min(room))?;
        let region = Region {
            len: region.len.min(room),
            ..region
        };
        content::write(call, file, at, region)
    })?;
    if done > 0 {
        written(call, file);
    }
    Ok(done)
}

/// A regular file has been written to. (Of an object the broker knows.)
pub fn written(call: &mut Call<'_>, file: FileId) {
    let now = time::realtime();
    let privileged = call.process().credentials.is_privileged();
    let inode = call.kernel.files.inodes.get_mut(file);
    (inode.times.modified, inode.times.changed) = (now, now);
    if inode.mode & (SET_UID | SET_GID) != 0 && !privileged {
        inode.mode &= !(SET_UID | SET_GID);
    }
}

/// How many of `len` bytes may be written at `at` of a regular file that is not an object.
///
/// # Errors
/// EPERM if it is sealed.
pub fn may_write(call: &mut Call<'_>, file: FileId, at: u64, len: u64) -> Result<u64, Errno> {
    match call.kernel.files.inodes.get(file).seals {
        Some(seals) => seals.may_write(call.kernel.memory.contents.size(file), at, len),
        None => Ok(len),
    }
}

fn write_device<B: Buffers>(call: &mut Call<'_>, device: Device, buffers: &B) -> Result<u64, Errno> {
    let total = buffers.total(call)?;
    match device {
        Device::Full => Err(Errno::ENOSPC),
        _ => Ok(total),
    }
}

/// read(2).
pub fn read(call: &mut Call<'_>) -> Reply {
    let [fd, address, len, ..] = call.args;
    read_from(call, fd, &One::new(address, len), At::Own)
}

/// write(2).
pub fn write(call: &mut Call<'_>) -> Reply {
    let [fd, address, len, ..] = call.args;
    write_to(call, fd, &One::new(address, len), At::Own)
}

/// pread64(2).
pub fn pread(call: &mut Call<'_>) -> Reply {
    let [fd, address, len, offset, ..] = call.args;
    match At::given(offset) {
        Ok(at) => read_from(call, fd, &One::new(address, len), at),
        Err(error) => Reply::Error(error),
    }
}

/// pwrite64(2).
pub fn pwrite(call: &mut Call<'_>) -> Reply {
    let [fd, address, len, offset, ..] = call.args;
    match At::given(offset) {
        Ok(at) => write_to(call, fd, &One::new(address, len), at),
        Err(error) => Reply::Error(error),
    }
}

/// Which of reading and writing a call with vectors is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

fn with_vectors(call: &mut Call<'_>, direction: Direction, at: Result<At, Errno>) -> Reply {
    let [fd, array, count, ..] = call.args;
    let at = match at {
        Ok(at) => at,
        Err(error) => return Reply::Error(error),
    };
    // What is wrong with the descriptor comes before what is wrong with the array.
    let open = match open_file(call, fd) {
        Ok((_, open)) => open,
        Err(error) => return Reply::Error(error),
    };
    let usable = match direction {
        Direction::Read => open.can_read(),
        Direction::Write => open.can_write(),
    };
    if at != At::Own && !has_places(open.what) {
        return Reply::Error(Errno::ESPIPE);
    }
    if !usable {
        return Reply::Error(Errno::EBADF);
    }
    let vectors = match Vectors::new(call, array, count) {
        Ok(vectors) => vectors,
        Err(error) => return Reply::Error(error),
    };
    match direction {
        Direction::Read => read_from(call, fd, &vectors, at),
        Direction::Write => write_to(call, fd, &vectors, at),
    }
}

/// readv(2), writev(2).
pub fn vectored(call: &mut Call<'_>, direction: Direction) -> Reply {
    with_vectors(call, direction, Ok(At::Own))
}

/// preadv(2), pwritev(2).
pub fn vectored_at(call: &mut Call<'_>, direction: Direction) -> Reply {
    let offset = call.args[3];
    with_vectors(call, direction, At::given(offset))
}

/// preadv2(2), pwritev2(2): of the flags those that ask for haste or durability are taken.
pub fn vectored_at_2(call: &mut Call<'_>, direction: Direction) -> Reply {
    /// RWF_HIPRI, RWF_DSYNC, RWF_SYNC.
    const TAKEN: u64 = 7;
    let [_, _, _, offset, _, flags] = call.args;
    if flags & !TAKEN != 0 {
        return Reply::Error(Errno::EOPNOTSUPP);
    }
    let at = if offset == u64::MAX {
        Ok(At::Own)
    } else {
        At::given(offset)
    };
    with_vectors(call, direction, at)
}

const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;
const SEEK_END: u64 = 2;
const SEEK_DATA: u64 = 3;
const SEEK_HOLE: u64 = 4;

/// How long a regular file is now.
pub fn size_of_file(call: &mut Call<'_>, file: FileId) -> u64 {
    call.kernel.files.refresh(&mut call.kernel.memory, file);
    call.kernel.memory.contents.size(file)
}

/// lseek(2).
pub fn lseek(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, offset, whence, ..] = call.args;
    let (number, open) = open_file(call, fd)?;
    if open.flags & crate::fs::open::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if open.what.anonymous().is_some() {
        return if whence as u32 as u64 <= SEEK_HOLE {
            Ok(0)
        } else {
            Err(Errno::EINVAL)
        };
    }
    if !has_places(open.what) {
        return Err(Errno::ESPIPE);
    }
    let whence = whence as u32 as u64;
    let kind = match open.what {
        What::File(file) => call.kernel.files.inodes.get(file).kind,
        _ => Kind::Free,
    };
    let size = match (open.what, kind) {
        (What::File(file), Kind::Regular) => Some(size_of_file(call, file)),
        // A directory has places for its names only.
        (_, Kind::Directory) => None,
        // Devices stay where they are.
        (What::File(_), _) => {
            return if whence <= SEEK_HOLE {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            };
        }
        _ => None,
    };
    let base = match (whence, size) {
        (SEEK_SET, _) => 0,
        (SEEK_CUR, _) => open.offset,
        (SEEK_END, Some(size)) => size,
        (SEEK_DATA | SEEK_HOLE, Some(size)) => {
            if offset >= size {
                return Err(Errno::ENXIO);
            }
            // Holes are not told of: all is data, with a hole at the end.
            let new = if whence == SEEK_DATA { offset } else { size };
            call.kernel.files.open.get_mut(number).offset = new;
            return Ok(new);
        }
        // Files in /proc don't know where they end.
        _ => return Err(Errno::EINVAL),
    };
    let new = (base as i64)
        .checked_add(offset as i64)
        .filter(|new| *new >= 0)
        .ok_or(Errno::EINVAL)?;
    call.kernel.files.open.get_mut(number).offset = new as u64;
    Ok(new as u64)
}

/// A signal has ended the wait of call `which`: how many bytes it has moved, if any; then that is its result.
pub fn interrupted(call: &mut Call<'_>, which: u64) -> Option<u64> {
    let moved = match which {
        number::WRITE | number::WRITEV | number::PWRITEV2 | number::SENDFILE => call.task().moved,
        _ => 0,
    };
    if moved == 0 {
        return None;
    }
    if which == number::SENDFILE {
        let [to, from, offset_at, ..] = call.args;
        let (number, _, offset) = prepare_sendfile(call, to, from, offset_at).ok()?;
        move_source(call, number, offset_at, offset + moved).ok()?;
    }
    Some(moved)
}
