//! eventfd and signalfd: what an open file of these kinds has to remember is one number, which it keeps where others keep
//! their offset.

use super::buffers::Buffers;
use super::open::install;
use super::open_file;
use crate::fs::open::{O_CLOEXEC, O_NONBLOCK, O_RDWR, OpenFile, What};
use crate::process::signal::info::{Info, SI_KERNEL, SI_TIMER, SI_USER};
use crate::process::signal::{SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, UNBLOCKABLE, deliver};
use crate::process::task::Wait;
use crate::syscall::{Call, Reply};
use abi::Errno;
use zerocopy::{FromZeros, Immutable, IntoBytes};

const EFD_SEMAPHORE: u32 = 1;
/// The flags of eventfd2 and its kin that open(2) has, too.
const SHARED: u32 = O_CLOEXEC | O_NONBLOCK;
/// Bytes of a number that is read or written.
const WORD: u64 = 8;

/// A descriptor for a new open file of this kind.
pub fn open_new(call: &mut Call<'_>, what: What, flags: u32) -> Result<(u16, u64), Errno> {
    let kept = O_RDWR | flags & O_NONBLOCK;
    let open = call.kernel.files.open.add(what, kept)?;
    let fd = install(call, open, 0, flags & O_CLOEXEC != 0)?;
    Ok((open, fd))
}

fn make_counter(call: &mut Call<'_>, count: u64, flags: u32) -> Result<u64, Errno> {
    if flags & !(SHARED | EFD_SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let semaphore = flags & EFD_SEMAPHORE != 0;
    let (open, fd) = open_new(call, What::Counter { semaphore }, flags)?;
    call.kernel.files.open.get_mut(open).offset = u64::from(count as u32);
    Ok(fd)
}

/// eventfd(2).
pub fn eventfd(call: &mut Call<'_>) -> Result<u64, Errno> {
    make_counter(call, call.args[0], 0)
}

/// eventfd2(2).
pub fn eventfd2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [count, flags, ..] = call.args;
    make_counter(call, count, flags as u32)
}

/// Whoever waits for the open file `number`, for something to read from it or for room, is to look.
pub fn changed(call: &mut Call<'_>, number: u16, room: bool) {
    let open = call.kernel.files.open.get_mut(number);
    if room {
        open.freed = open.freed.wrapping_add(1);
    } else {
        open.arrived = open.arrived.wrapping_add(1);
    }
    call.kernel.wake_pollers(call.cpu);
}

/// The caller waits, or is told that it would have to.
pub fn wait(call: &mut Call<'_>, open: &OpenFile) -> Reply {
    if open.is_non_blocking() {
        Reply::Error(Errno::EAGAIN)
    } else {
        call.wait(Wait::Poll, 0, None)
    }
}

/// A number to the reader's buffers, which must have room for it.
pub fn give<B: Buffers>(call: &mut Call<'_>, buffers: &B, number: u64) -> Reply {
    buffers.scatter(call, &number.to_le_bytes()).map(|()| WORD).into()
}

/// Whether the buffers have room for a number.
///
/// # Errors
/// EINVAL if not, EFAULT.
pub fn has_room<B: Buffers>(call: &mut Call<'_>, buffers: &B) -> Result<(), Errno> {
    if buffers.total(call)? < WORD {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// read(2) of an eventfd.
pub fn read_counter<B: Buffers>(
    call: &mut Call<'_>,
    (number, open): (u16, &OpenFile),
    semaphore: bool,
    buffers: &B,
) -> Reply {
    if let Err(error) = has_room(call, buffers) {
        return Reply::Error(error);
    }
    let count = open.offset;
    if count == 0 {
        return wait(call, open);
    }
    let taken = if semaphore { 1 } else { count };
    call.kernel.files.open.get_mut(number).offset = count - taken;
    changed(call, number, true);
    give(call, buffers, taken)
}

/// write(2) to an eventfd.
pub fn write_counter<B: Buffers>(
    call: &mut Call<'_>,
    (number, open): (u16, &OpenFile),
    buffers: &B,
) -> Reply {
    let mut bytes = [0; WORD as usize];
    let given = buffers.total(call).and_then(|total| {
        if total != WORD {
            return Err(Errno::EINVAL);
        }
        buffers.gather(call, &mut bytes)
    });
    if let Err(error) = given {
        return Reply::Error(error);
    }
    let more = u64::from_le_bytes(bytes);
    if more == u64::MAX {
        return Reply::Error(Errno::EINVAL);
    }
    if u64::MAX - open.offset <= more {
        return wait(call, open);
    }
    call.kernel.files.open.get_mut(number).offset += more;
    changed(call, number, false);
    Reply::Value(WORD)
}

/// `struct signalfd_siginfo`.
#[derive(Clone, Copy, FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct SignalInfo {
    signal: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: u32,
    timer: u32,
    band: u32,
    overrun: u32,
    trap: u32,
    status: u32,
    int: u32,
    pointer: u64,
    user_time: u64,
    system_time: u64,
    address: u64,
    rest: [u64; 6],
}

const _: () = assert!(size_of::<SignalInfo>() == 128);

impl SignalInfo {
    /// What of `info` means something for its kind (`signalfd_copyinfo`).
    fn new(info: &Info) -> SignalInfo {
        let [first, value, third, fourth] = info.fields;
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let mut told = SignalInfo::new_zeroed();
        (told.signal, told.errno, told.code) = (info.signal, info.errno, info.code);
        match (info.code, info.signal) {
            (SI_TIMER, _) => (told.timer, told.overrun) = halves(first),
            (1..SI_KERNEL, SIGSEGV | SIGBUS | SIGILL | SIGFPE | SIGTRAP) => told.address = first,
            (code, _) if code != SI_KERNEL => (told.pid, told.uid) = halves(first),
            _ => {}
        }
        match (info.code, info.signal) {
            (1..SI_KERNEL, SIGCHLD) => {
                told.status = value as u32;
                (told.user_time, told.system_time) = (third, fourth);
            }
            (code, _) if code < SI_USER => (told.pointer, told.int) = (value, value as u32),
            _ => {}
        }
        told
    }
}

fn signals(call: &mut Call<'_>, flags: u32) -> Result<u64, Errno> {
    let [fd, mask, size, ..] = call.args;
    if size != WORD {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = call.read(mask)?;
    let mask = mask & !UNBLOCKABLE;
    if flags & !SHARED != 0 {
        return Err(Errno::EINVAL);
    }
    let (number, fd) = if fd as u32 == u32::MAX {
        let made = open_new(call, What::Signals, flags)?;
        call.kernel.files.signal_readers += 1;
        made
    } else {
        let (number, open) = open_file(call, fd)?;
        if open.what != What::Signals {
            return Err(Errno::EINVAL);
        }
        (number, u64::from(fd as u32))
    };
    call.kernel.files.open.get_mut(number).offset = mask;
    changed(call, number, false);
    Ok(fd)
}

/// signalfd(2).
pub fn signalfd(call: &mut Call<'_>) -> Result<u64, Errno> {
    signals(call, 0)
}

/// signalfd4(2).
pub fn signalfd4(call: &mut Call<'_>) -> Result<u64, Errno> {
    let flags = call.args[3] as u32;
    signals(call, flags)
}

/// read(2) of a signalfd: as many signals of the caller's as there are and have room.
pub fn read_signals<B: Buffers>(call: &mut Call<'_>, open: &OpenFile, buffers: &B) -> Reply {
    /// More come with the next call.
    const MOST: usize = 8;
    let room = match buffers.total(call) {
        Ok(total) => (total / size_of::<SignalInfo>() as u64).min(MOST as u64) as usize,
        Err(error) => return Reply::Error(error),
    };
    if room == 0 {
        return Reply::Error(Errno::EINVAL);
    }
    let mut told = [SignalInfo::new_zeroed(); MOST];
    let mut count = 0;
    while count < room
        && let Some(info) = deliver::take(call.kernel, call.cpu, call.task, !open.offset)
    {
        told[count] = SignalInfo::new(&info);
        count += 1;
    }
    if count == 0 {
        return wait(call, open);
    }
    let bytes = told[..count].as_bytes();
    buffers.scatter(call, bytes).map(|()| bytes.len() as u64).into()
}

/// Whether there are signals for a signalfd with mask `mask`.
pub fn has_signals(call: &mut Call<'_>, mask: u64) -> bool {
    (call.task().pending.set() | call.process().pending.set()) & mask != 0
}
