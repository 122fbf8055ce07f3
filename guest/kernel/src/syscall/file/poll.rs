//! poll, ppoll, select, pselect6: whether descriptors can be read from or written to, at once or after a wait.
//!
//! A wait ends when any pipe changes or the host says something; then the whole call is made again. ppoll and pselect6
//! block other signals meanwhile, if they are told to: what was blocked before is kept in
//! [`Task::saved_mask`](crate::process::task::Task), as by sigsuspend(2), until the call is over or the handler that has
//! interrupted it.

use super::stdio::owns_stdin;
use super::{epoll, event, timerfd};
use crate::fs::open::{O_PATH, What};
use crate::hypercall;
use crate::process::signal::deliver;
use crate::process::task::Wait;
use crate::syscall::personality::STICKY_TIMEOUTS;
use crate::syscall::{Attempt, Call, Reply, number};
use crate::time;
use abi::Errno;
use abi::hypercall::Call as Host;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;
const POLLPRI: i16 = 2;
const POLLOUT: i16 = 4;
const POLLERR: i16 = 8;
const POLLHUP: i16 = 0x10;
const POLLNVAL: i16 = 0x20;
const POLLRDNORM: i16 = 0x40;
const POLLRDBAND: i16 = 0x80;
const POLLWRNORM: i16 = 0x100;
const POLLWRBAND: i16 = 0x200;
const READABLE: i16 = POLLIN | POLLRDNORM;
const WRITABLE: i16 = POLLOUT | POLLWRNORM;

/// What of `events`, and of what is always told, is so of descriptor `fd`.
fn ready(call: &mut Call<'_>, fd: i32, events: i16) -> i16 {
    match super::open_file(call, fd as u32 as u64) {
        Ok((number, open)) if open.flags & O_PATH == 0 => state(call, number, events, 0),
        _ => POLLNVAL,
    }
}

/// What of `events`, and of what is always told, is so of open file `number`. Sets of epoll are `depth` deep in each other
/// so far.
pub fn state(call: &mut Call<'_>, number: u16, events: i16, depth: u32) -> i16 {
    let open = *call.kernel.files.open.get(number);
    let state = match open.what {
        // What is never waited for can always be had.
        What::File(_) | What::Proc(_) => READABLE | WRITABLE,
        What::Stdio(0) => {
            let asked = events & READABLE != 0 && owns_stdin(call);
            let who = call.requester();
            if asked && hypercall::call(Host::ReadReady, who, &[]).is_err() {
                0
            } else {
                READABLE
            }
        }
        What::Stdio(which) => {
            let who = call.requester();
            let index = u64::from(call.process().origin);
            let args = [u64::from(which), index];
            match hypercall::call(Host::WriteReady, who, &args) {
                _ if events & WRITABLE == 0 => 0,
                Err(Errno::EAGAIN) => 0,
                _ => WRITABLE,
            }
        }
        What::Reader(pipe) => {
            let pipe = call.kernel.files.pipes.get(pipe);
            let readable = if pipe.is_empty() { 0 } else { READABLE };
            readable | if pipe.writers == 0 { POLLHUP } else { 0 }
        }
        What::Writer(pipe) => {
            let pipe = call.kernel.files.pipes.get(pipe);
            let writable = if pipe.is_full() { 0 } else { WRITABLE };
            writable | if pipe.readers == 0 { POLLERR } else { 0 }
        }
        What::Counter { .. } => {
            let count = open.offset;
            let readable = if count > 0 { POLLIN } else { 0 };
            readable | if count < u64::MAX - 1 { POLLOUT } else { 0 }
        }
        What::Timer(timer) if timerfd::expired(call, timer) > 0 => POLLIN,
        What::Signals if event::has_signals(call, open.offset) => POLLIN,
        What::Epoll(set) if epoll::is_ready(call, set, depth) => READABLE,
        What::Timer(_) | What::Signals | What::Epoll(_) => 0,
    };
    state & (events | POLLERR | POLLHUP)
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// For ever.
    Never,
    /// Not at all.
    AtOnce,
    /// Nanoseconds.
    After(u64),
}

impl Timeout {
    fn after(ns: u64) -> Timeout {
        if ns == 0 {
            Timeout::AtOnce
        } else {
            Timeout::After(ns)
        }
    }

    /// From milliseconds, which are 32 bits; for ever if they are negative.
    pub fn milliseconds(ms: u64) -> Timeout {
        match ms as u32 as i32 {
            ..0 => Timeout::Never,
            ms => Timeout::after(ms as u64 * 1_000_000),
        }
    }

    /// From seconds and nanoseconds.
    fn of([seconds, ns]: [u64; 2]) -> Result<Timeout, Errno> {
        if seconds as i64 >= 0 && ns < time::NS_PER_S {
            Ok(Timeout::after(
                seconds.saturating_mul(time::NS_PER_S).saturating_add(ns),
            ))
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// Parks the caller, unless its time is over: then the call comes to `over`, or to EINTR if there is a signal for the
/// caller.
pub fn wait(call: &mut Call<'_>, timeout: Timeout, over: Reply) -> Reply {
    let again = call.attempt == Attempt::Again;
    if timeout == Timeout::AtOnce || again && call.task().expired {
        return if call.has_signals() {
            Reply::Error(Errno::EINTR)
        } else {
            over
        };
    }
    let deadline = match timeout {
        Timeout::After(ns) if !again => Some(time::deadline_in(ns)),
        // Something came, but not for it: the first deadline holds.
        Timeout::After(_) => Some(call.task().deadline),
        _ => None,
    };
    call.wait(Wait::Poll, 0, deadline)
}

fn poll_all(call: &mut Call<'_>, timeout: Timeout) -> Reply {
    let [array, count, ..] = call.args;
    let count = count as u32 as u64;
    if count > super::open::most_descriptors(call) {
        return Reply::Error(Errno::EINVAL);
    }
    let mut found = 0;
    for index in 0..count {
        let at = array.wrapping_add(index * size_of::<PollFd>() as u64);
        let mut entry: PollFd = match call.read(at) {
            Ok(entry) => entry,
            Err(error) => return Reply::Error(error),
        };
        entry.revents = if entry.fd < 0 {
            0
        } else {
            ready(call, entry.fd, entry.events)
        };
        found += u64::from(entry.revents != 0);
        if let Err(error) = call.write(at, &entry) {
            return Reply::Error(error);
        }
    }
    if found > 0 {
        return Reply::Value(found);
    }
    wait(call, timeout, Reply::Value(0))
}

/// poll(2).
pub fn poll(call: &mut Call<'_>) -> Reply {
    let timeout = Timeout::milliseconds(call.args[2]);
    poll_all(call, timeout)
}

/// The `struct timespec` at `address`; none is for ever.
pub fn timespec(call: &mut Call<'_>, address: u64) -> Result<Timeout, Errno> {
    if address == 0 {
        return Ok(Timeout::Never);
    }
    let value: [u64; 2] = call.read(address)?;
    Timeout::of(value)
}

/// ppoll(2).
pub fn ppoll(call: &mut Call<'_>) -> Reply {
    let [_, _, at, mask, size, _] = call.args;
    match timespec(call, at).and_then(|timeout| set_mask(call, mask, size).map(|()| timeout)) {
        Ok(timeout) => {
            let reply = poll_all(call, timeout);
            reset_mask(call, reply);
            put_back(call, at, timeout, reply, Unit::Nanoseconds);
            reply
        }
        Err(error) => Reply::Error(error),
    }
}

/// Blocks the signals in the set at `mask`, and no others, until the call is over.
pub fn set_mask(call: &mut Call<'_>, mask: u64, size: u64) -> Result<(), Errno> {
    if mask == 0 || call.attempt == Attempt::Again {
        return Ok(());
    }
    if size != size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = call.read(mask)?;
    call.task().saved_mask = Some(call.task().blocked);
    deliver::set_mask(call.kernel, call.cpu, call.task, mask);
    Ok(())
}

/// The call is over, if `reply` says so: what was blocked before is again. If a signal has ended it the mask holds until
/// its handler has been called.
pub fn reset_mask(call: &mut Call<'_>, reply: Reply) {
    if matches!(reply, Reply::Parked | Reply::Error(Errno::EINTR)) {
        return;
    }
    if let Some(mask) = call.task().saved_mask.take() {
        deliver::set_mask(call.kernel, call.cpu, call.task, mask);
    }
}

/// A signal has ended the wait of call `which`: tells the program how much of its time is left, if it is one of these.
pub fn interrupted(call: &mut Call<'_>, which: u64) {
    let over = Reply::Error(Errno::EINTR);
    match which {
        number::PPOLL => {
            let at = call.args[2];
            if let Ok(timeout) = timespec(call, at) {
                put_back(call, at, timeout, over, Unit::Nanoseconds);
            }
        }
        number::PSELECT6 => {
            let at = call.args[4];
            if let Ok(timeout) = timespec(call, at) {
                put_back(call, at, timeout, over, Unit::Nanoseconds);
            }
        }
        number::SELECT => {
            let at = call.args[4];
            if let Ok(timeout) = timeval(call, at) {
                put_back(call, at, timeout, over, Unit::Microseconds);
            }
        }
        _ => {}
    }
}

/// What the second word of a time is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Nanoseconds,
    Microseconds,
}

/// Tells the program how much of its time is left, as Linux does.
fn put_back(call: &mut Call<'_>, at: u64, timeout: Timeout, reply: Reply, unit: Unit) {
    let sticky = call.task().personality & STICKY_TIMEOUTS != 0;
    if at == 0 || sticky || matches!(reply, Reply::Parked) {
        return;
    }
    let again = call.attempt == Attempt::Again;
    let left = match timeout {
        Timeout::After(_) if again => {
            let ticks = call.task().deadline.saturating_sub(crate::arch::machine::tsc());
            if call.task().expired {
                0
            } else {
                time::nanoseconds(ticks)
            }
        }
        Timeout::After(ns) => ns,
        _ => 0,
    };
    let per_unit = if unit == Unit::Microseconds { 1000 } else { 1 };
    // Also where the program may not write: Linux says nothing of it.
    let _ = call.write(at, &[left / time::NS_PER_S, left % time::NS_PER_S / per_unit]);
}

/// Descriptors of a set that lie in one word of it.
const BITS: u64 = 64;

fn select_all(call: &mut Call<'_>, timeout: Timeout) -> Reply {
    match look(call) {
        Ok(0) => {
            let waits = wait(call, timeout, Reply::Value(0));
            if !matches!(waits, Reply::Value(_)) {
                return waits;
            }
            // Empty sets, as they have been found.
            match store(call, |_, _, _| 0) {
                Ok(()) => waits,
                Err(error) => Reply::Error(error),
            }
        }
        Ok(found) => {
            let told = store(call, |call, set, (word, asked)| of_word(call, set, word, asked));
            match told {
                Ok(()) => Reply::Value(found),
                Err(error) => Reply::Error(error),
            }
        }
        Err(error) => Reply::Error(error),
    }
}

/// What each of the three sets asks for, and what answers it.
const SETS: [(i16, i16); 3] = [
    (POLLIN, POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR),
    (POLLOUT, POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR),
    (POLLPRI, POLLPRI),
];

/// How many descriptors are looked at.
fn looked_at(call: &mut Call<'_>) -> Result<u64, Errno> {
    let count = call.args[0] as u32 as i32;
    let most = u64::from(call.descriptors().end()).next_multiple_of(BITS);
    // Beyond what is open Linux does not look.
    u64::try_from(count)
        .map(|count| count.min(most))
        .map_err(|_| Errno::EINVAL)
}

/// A word of a set, without what is beyond the last descriptor.
fn word_of(call: &mut Call<'_>, set: usize, word: u64, count: u64) -> Result<u64, Errno> {
    let at = call.args[set + 1];
    if at == 0 {
        return Ok(0);
    }
    let bits: u64 = call.read(at.wrapping_add(word * 8))?;
    let left = count - word * BITS;
    Ok(if left < BITS {
        bits & ((1 << left) - 1)
    } else {
        bits
    })
}

/// Those of the descriptors `asked` for in word `word` of set `set` that are ready.
fn of_word(call: &mut Call<'_>, set: usize, word: u64, asked: u64) -> u64 {
    let (events, answers) = SETS[set];
    let (mut left, mut found) = (asked, 0);
    while left != 0 {
        let bit = left.trailing_zeros();
        left &= left - 1;
        let fd = (word * BITS) as i32 + bit as i32;
        if ready(call, fd, events | answers) & answers != 0 {
            found |= 1 << bit;
        }
    }
    found
}

/// How many descriptors are ready, over all sets.
fn look(call: &mut Call<'_>) -> Result<u64, Errno> {
    let count = looked_at(call)?;
    let mut found = 0;
    for word in 0..count.div_ceil(BITS) {
        for set in 0..SETS.len() {
            let asked = word_of(call, set, word, count)?;
            let mut left = asked;
            while left != 0 {
                let fd = word * BITS + u64::from(left.trailing_zeros());
                left &= left - 1;
                super::open_file(call, fd)?;
            }
            found += u64::from(of_word(call, set, word, asked).count_ones());
        }
    }
    Ok(found)
}

/// Stores what `answer` makes of each word of each set.
fn store(
    call: &mut Call<'_>,
    mut answer: impl FnMut(&mut Call<'_>, usize, (u64, u64)) -> u64,
) -> Result<(), Errno> {
    let count = looked_at(call)?;
    for word in 0..count.div_ceil(BITS) {
        for set in 0..SETS.len() {
            let at = call.args[set + 1];
            if at != 0 {
                let asked = word_of(call, set, word, count)?;
                let bits = answer(call, set, (word, asked));
                call.write(at.wrapping_add(word * 8), &bits)?;
            }
        }
    }
    Ok(())
}

/// The `struct timeval` at `address`; none is for ever.
fn timeval(call: &mut Call<'_>, address: u64) -> Result<Timeout, Errno> {
    if address == 0 {
        return Ok(Timeout::Never);
    }
    let [seconds, us]: [u64; 2] = call.read(address)?;
    if (us as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    // Linux takes more than a second's microseconds.
    let more = us / 1_000_000;
    Timeout::of([seconds.wrapping_add(more), us % 1_000_000 * 1000])
}

/// select(2).
pub fn select(call: &mut Call<'_>) -> Reply {
    let at = call.args[4];
    match timeval(call, at) {
        Ok(timeout) => {
            let reply = select_all(call, timeout);
            put_back(call, at, timeout, reply, Unit::Microseconds);
            reply
        }
        Err(error) => Reply::Error(error),
    }
}

/// pselect6(2).
pub fn pselect6(call: &mut Call<'_>) -> Reply {
    let [.., at, packed] = call.args;
    let masked = if packed == 0 {
        Ok([0; 2])
    } else {
        call.read(packed)
    };
    let prepared = masked.and_then(|[mask, size]: [u64; 2]| {
        let timeout = timespec(call, at)?;
        set_mask(call, mask, size).map(|()| timeout)
    });
    match prepared {
        Ok(timeout) => {
            let reply = select_all(call, timeout);
            reset_mask(call, reply);
            put_back(call, at, timeout, reply, Unit::Nanoseconds);
            reply
        }
        Err(error) => Reply::Error(error),
    }
}
