//! Locks on files: fcntl's F_SETLK and its kin, flock.

use super::open_file;
use super::transfer::size_of_file;
use crate::fs::lock::{Kind, Lock, Owner};
use crate::fs::open::{O_PATH, OpenFile, What};
use crate::process::task::Wait;
use crate::syscall::{Call, Reply};
use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Look for a lock in the way.
pub const F_GETLK: u64 = 5;
/// Lock or unlock.
pub const F_SETLK: u64 = 6;
/// The same, and wait.
pub const F_SETLKW: u64 = 7;
/// [`F_GETLK`] for the open file.
pub const F_OFD_GETLK: u64 = 36;
/// [`F_SETLK`] for the open file.
pub const F_OFD_SETLK: u64 = 37;
/// [`F_SETLKW`] for the open file.
pub const F_OFD_SETLKW: u64 = 38;
const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// `struct flock`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad_end: u32,
}

/// The first byte a program's structure means, and the first one after.
fn range(call: &mut Call<'_>, open: &OpenFile, flock: &Flock) -> Result<(u64, u64), Errno> {
    let base = match (flock.whence, open.what) {
        (0, _) => 0,
        (1, _) => open.offset as i64,
        (2, What::File(file)) => size_of_file(call, file) as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    match flock.len {
        0 => Ok((start as u64, u64::MAX)),
        1.. => {
            let end = start.checked_add(flock.len).ok_or(Errno::EOVERFLOW)?;
            Ok((start as u64, end as u64))
        }
        len if start + len < 0 => Err(Errno::EINVAL),
        len => Ok(((start + len) as u64, start as u64)),
    }
}

/// Commands F_GETLK to F_OFD_SETLKW of fcntl(2). Deadlocks are not found.
pub fn control(call: &mut Call<'_>, (number, open): (u16, &OpenFile), command: u64, at: u64) -> Reply {
    match prepare(call, (number, open), command, at) {
        Ok(Prepared::Told) => Reply::Value(0),
        Ok(Prepared::Lock(lock, kind)) => {
            let waits = command == F_SETLKW || command == F_OFD_SETLKW;
            set(call, lock, kind, waits)
        }
        Err(error) => Reply::Error(error),
    }
}

enum Prepared {
    /// The program has been told what is in the way.
    Told,
    Lock(Lock, Option<Kind>),
}

fn prepare(
    call: &mut Call<'_>,
    (number, open): (u16, &OpenFile),
    command: u64,
    at: u64,
) -> Result<Prepared, Errno> {
    let mut flock: Flock = call.read(at)?;
    let of_open = command >= F_OFD_GETLK;
    let looks = command == F_GETLK || command == F_OFD_GETLK;
    if of_open && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = match flock.kind {
        F_RDLCK => Some(Kind::Shared),
        F_WRLCK => Some(Kind::Exclusive),
        F_UNLCK if !looks => None,
        _ => return Err(Errno::EINVAL),
    };
    let (start, end) = range(call, open, &flock)?;
    let What::File(file) = open.what else {
        return Err(Errno::ENOLCK);
    };
    let usable = match kind {
        _ if looks => true,
        Some(Kind::Shared) => open.can_read(),
        Some(Kind::Exclusive) => open.can_write(),
        None => true,
    };
    if !usable {
        return Err(Errno::EBADF);
    }
    let lock = Lock {
        file,
        owner: if of_open {
            Owner::Open(number)
        } else {
            Owner::Descriptors(call.task().descriptors)
        },
        pid: call.process().pid,
        kind: kind.unwrap_or(Kind::Shared),
        start,
        end,
    };
    if !looks {
        return Ok(Prepared::Lock(lock, kind));
    }
    match call.kernel.files.locks.in_the_way(&lock).copied() {
        None => flock.kind = F_UNLCK,
        Some(other) => {
            flock.kind = if other.kind == Kind::Shared {
                F_RDLCK
            } else {
                F_WRLCK
            };
            flock.whence = 0;
            flock.start = other.start as i64;
            flock.len = if other.end == u64::MAX {
                0
            } else {
                (other.end - other.start) as i64
            };
            flock.pid = match other.owner {
                Owner::Descriptors(_) => other.pid as i32,
                _ => -1,
            };
        }
    }
    call.write(at, &flock)?;
    Ok(Prepared::Told)
}

/// Locks or unlocks; or parks the caller, if it waits.
fn set(call: &mut Call<'_>, lock: Lock, kind: Option<Kind>, waits: bool) -> Reply {
    if kind.is_some() && call.kernel.files.locks.in_the_way(&lock).is_some() {
        return if waits {
            call.wait(Wait::Poll, 0, None)
        } else {
            Reply::Error(Errno::EAGAIN)
        };
    }
    let set = call.kernel.files.locks.set(lock, kind);
    // Others may get what is given up here.
    call.kernel.wake_lockers(call.cpu);
    set.map(|()| 0).into()
}

/// flock(2).
pub fn flock(call: &mut Call<'_>) -> Reply {
    const LOCK_SH: u64 = 1;
    const LOCK_EX: u64 = 2;
    const LOCK_NB: u64 = 4;
    const LOCK_UN: u64 = 8;
    let [fd, operation, ..] = call.args;
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(Kind::Shared),
        LOCK_EX => Some(Kind::Exclusive),
        LOCK_UN => None,
        _ => return Reply::Error(Errno::EINVAL),
    };
    let (number, open) = match open_file(call, fd) {
        Ok((_, open)) if open.flags & O_PATH != 0 => return Reply::Error(Errno::EBADF),
        Ok(found) => found,
        Err(error) => return Reply::Error(error),
    };
    let What::File(file) = open.what else {
        return Reply::Error(Errno::ENOLCK);
    };
    let lock = Lock {
        file,
        owner: Owner::Whole(number),
        pid: call.process().pid,
        kind: kind.unwrap_or(Kind::Shared),
        start: 0,
        end: u64::MAX,
    };
    set(call, lock, kind, operation & LOCK_NB == 0)
}
