//! epoll(7). Whoever waits looks at all that its set watches, each time something changes.
//!
//! For EPOLLET open files count how often something has come, and how often room has. Of the command's own input and output,
//! of signals and of other sets it is not known: they are told as long as they are ready.

use super::event::open_new;
use super::open_file;
use super::poll::{self, Timeout};
use crate::fs::epoll::Watch;
use crate::fs::inode::Kind;
use crate::fs::open::{O_CLOEXEC, O_PATH, OpenFile, What};
use crate::mm::is_below_end;
use crate::syscall::{Attempt, Call, Reply};
use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const EPOLL_CTL_ADD: u32 = 1;
const EPOLL_CTL_DEL: u32 = 2;
const EPOLL_CTL_MOD: u32 = 3;
const EPOLLIN: u32 = 1;
const EPOLLOUT: u32 = 4;
const EPOLLERR: u32 = 8;
const EPOLLHUP: u32 = 0x10;
/// EPOLLIN, EPOLLPRI, EPOLLRDNORM, EPOLLRDBAND.
const TO_READ: u32 = 0xc3;
/// EPOLLOUT, EPOLLWRNORM, EPOLLWRBAND.
const TO_WRITE: u32 = 0x304;
/// What poll(2) knows, too.
const POLLED: u32 = 0x3ff | 0x2000;
const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// With EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: u32 = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/// How deep sets may watch each other.
const MOST_NESTED: u32 = 5;

/// `struct epoll_event`, which is packed.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Event {
    events: u32,
    data: u64,
}

const EVENT: u64 = size_of::<Event>() as u64;

fn make(call: &mut Call<'_>, flags: u32) -> Result<u64, Errno> {
    let set = call.kernel.files.epolls.make()?;
    if call.kernel.files.open.is_full() {
        call.kernel.files.epolls.drop_set(set);
        return Err(Errno::ENFILE);
    }
    // Without a descriptor the open file goes, and the set with it.
    open_new(call, What::Epoll(set), flags).map(|(_, fd)| fd)
}

/// epoll_create(2).
pub fn epoll_create(call: &mut Call<'_>) -> Result<u64, Errno> {
    if call.args[0] as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    make(call, 0)
}

/// epoll_create1(2).
pub fn epoll_create1(call: &mut Call<'_>) -> Result<u64, Errno> {
    let flags = call.args[0] as u32;
    if flags & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    make(call, flags)
}

/// Whether one can wait for it: not for files that are always ready.
fn can_be_watched(call: &Call<'_>, open: &OpenFile) -> bool {
    use crate::fs::device::Device;
    match open.what {
        What::File(file) => matches!(
            call.kernel.files.inodes.get(file).kind,
            Kind::Device(Device::Random | Device::Urandom)
        ),
        What::Proc(_) => false,
        _ => true,
    }
}

/// Whether set `from` watches set `to`, itself or by others; also if that goes too deep to say.
fn leads_to(call: &Call<'_>, from: u16, to: u16, depth: u32) -> bool {
    if from == to || depth == MOST_NESTED {
        return true;
    }
    let files = &call.kernel.files;
    let opens = files.epolls.of(from).map(|watch| files.epolls.peek(watch).open);
    opens
        .filter_map(|open| match files.open.get(open).what {
            What::Epoll(set) => Some(set),
            _ => None,
        })
        .any(|set| leads_to(call, set, to, depth + 1))
}

/// epoll_ctl(2).
pub fn epoll_ctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [epoll, operation, fd, event, ..] = call.args;
    let operation = operation as u32;
    let given = operation != EPOLL_CTL_DEL;
    let event: Event = if given {
        call.read(event)?
    } else {
        Event { events: 0, data: 0 }
    };
    let (own, set) = open_file(call, epoll)?;
    let (number, open) = open_file(call, fd)?;
    if (set.flags | open.flags) & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if !can_be_watched(call, &open) {
        return Err(Errno::EPERM);
    }
    let What::Epoll(set) = set.what else {
        return Err(Errno::EINVAL);
    };
    if own == number {
        return Err(Errno::EINVAL);
    }
    let nested = match open.what {
        What::Epoll(other) => Some(other),
        _ => None,
    };
    let Event { mut events, data } = event;
    if given && events & EPOLLEXCLUSIVE != 0 {
        let wrong = operation == EPOLL_CTL_ADD && (nested.is_some() || events & !WITH_EXCLUSIVE != 0);
        if operation == EPOLL_CTL_MOD || wrong {
            return Err(Errno::EINVAL);
        }
    }
    if operation == EPOLL_CTL_ADD && nested.is_some_and(|other| leads_to(call, other, set, 1)) {
        return Err(Errno::ELOOP);
    }
    let fd = fd as u32;
    events |= EPOLLERR | EPOLLHUP;
    let epolls = &mut call.kernel.files.epolls;
    match (operation, epolls.find(set, fd, number)) {
        (EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
        (EPOLL_CTL_ADD, None) => epolls.add(set, Watch::new(fd, number, events, data))?,
        (EPOLL_CTL_DEL, Some(watch)) => epolls.remove(set, watch),
        (EPOLL_CTL_MOD, Some(watch)) => {
            let watch = epolls.get(watch);
            if watch.events & EPOLLEXCLUSIVE == 0 {
                (watch.events, watch.data) = (events, data);
                (watch.told, watch.done) = (None, false);
            }
        }
        (EPOLL_CTL_DEL | EPOLL_CTL_MOD, None) => return Err(Errno::ENOENT),
        _ => return Err(Errno::EINVAL),
    }
    // Others may wait for this set.
    call.kernel.wake_pollers(call.cpu);
    Ok(0)
}

/// How often something has come to what is open as `number`, and how often room has; `None` if nobody counts.
fn counted(call: &mut Call<'_>, number: u16) -> Option<(u32, u32)> {
    let open = *call.kernel.files.open.get(number);
    match open.what {
        What::Reader(pipe) | What::Writer(pipe) => {
            let pipe = call.kernel.files.pipes.get(pipe);
            Some((pipe.arrived, pipe.freed))
        }
        What::Counter { .. } => Some((open.arrived, open.freed)),
        What::Timer(timer) => {
            let more = super::timerfd::expired(call, timer);
            Some((open.arrived.wrapping_add(more as u32), 0))
        }
        _ => None,
    }
}

/// What there is to tell of `watch` now, and up to when that is.
fn look(call: &mut Call<'_>, watch: &Watch, depth: u32) -> (u32, Option<(u32, u32)>) {
    if watch.done {
        return (0, None);
    }
    let ready = poll::state(call, watch.open, (watch.events & POLLED) as u16 as i16, depth);
    let ready = u32::from(ready as u16) & watch.events;
    if ready == 0 || watch.events & EPOLLET == 0 {
        return (ready, None);
    }
    let now = counted(call, watch.open);
    let (Some((arrived, freed)), Some((old_arrived, old_freed))) = (now, watch.told) else {
        return (ready, now);
    };
    let writes = watch.events & TO_WRITE != 0;
    let reads = !writes || watch.events & TO_READ != 0;
    let reading = reads && arrived != old_arrived;
    let writing = writes && freed != old_freed;
    (if reading || writing { ready } else { 0 }, now)
}

/// Whether set `set` has something to tell.
pub fn is_ready(call: &mut Call<'_>, set: u16, depth: u32) -> bool {
    let mut next = call.kernel.files.epolls.first(set);
    while let Some(number) = next {
        let watch = *call.kernel.files.epolls.get(number);
        if depth < MOST_NESTED && look(call, &watch, depth + 1).0 != 0 {
            return true;
        }
        next = call.kernel.files.epolls.after(number);
    }
    false
}

/// Tells `most` events of set `set` at most, at `to`: how many.
///
/// # Errors
/// EFAULT if not even the first can be told.
fn tell(call: &mut Call<'_>, set: u16, to: u64, most: u64) -> Result<u64, Errno> {
    let mut told = 0;
    let mut next = call.kernel.files.epolls.first(set);
    // Those that have been told come last then: each is looked at once.
    let mut left = call.kernel.files.epolls.of(set).count();
    while let Some(number) = next
        && left > 0
        && told < most
    {
        left -= 1;
        let epolls = &mut call.kernel.files.epolls;
        next = epolls.after(number);
        let watch = *epolls.get(number);
        let (ready, now) = look(call, &watch, 0);
        if ready == 0 {
            continue;
        }
        let event = Event {
            events: ready,
            data: watch.data,
        };
        match call.write(to + told * EVENT, &event) {
            Ok(()) => told += 1,
            Err(error) if told == 0 => return Err(error),
            Err(_) => break,
        }
        let epolls = &mut call.kernel.files.epolls;
        let watch = epolls.get(number);
        watch.told = now;
        watch.done = watch.events & EPOLLONESHOT != 0;
        epolls.put_last(set, number);
    }
    Ok(told)
}

/// What the caller waits for, if its arguments are right.
fn checked(call: &mut Call<'_>) -> Result<(u16, u64, u64), Errno> {
    let [epoll, to, most, ..] = call.args;
    let (_, open) = open_file(call, epoll)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let most = most as u32 as i32;
    if most <= 0 || most as u64 > i32::MAX as u64 / EVENT {
        return Err(Errno::EINVAL);
    }
    if !is_below_end(to, most as u64 * EVENT) {
        return Err(Errno::EFAULT);
    }
    match open.what {
        What::Epoll(set) => Ok((set, to, most as u64)),
        _ => Err(Errno::EINVAL),
    }
}

fn wait(call: &mut Call<'_>, timeout: Timeout) -> Reply {
    let told = checked(call).and_then(|(set, to, most)| tell(call, set, to, most));
    match told {
        Ok(0) if timeout == Timeout::AtOnce || call.attempt == Attempt::Again && call.task().expired => {
            Reply::Value(0)
        }
        Ok(0) => poll::wait(call, timeout, Reply::Value(0)),
        told => told.into(),
    }
}

/// epoll_wait(2).
pub fn epoll_wait(call: &mut Call<'_>) -> Reply {
    let timeout = Timeout::milliseconds(call.args[3]);
    wait(call, timeout)
}

/// Waits while other signals are blocked.
fn wait_masked(call: &mut Call<'_>, timeout: Timeout) -> Reply {
    let [.., mask, size] = call.args;
    match poll::set_mask(call, mask, size) {
        Ok(()) => {
            let reply = wait(call, timeout);
            poll::reset_mask(call, reply);
            reply
        }
        Err(error) => Reply::Error(error),
    }
}

/// epoll_pwait(2).
pub fn epoll_pwait(call: &mut Call<'_>) -> Reply {
    let timeout = Timeout::milliseconds(call.args[3]);
    wait_masked(call, timeout)
}

/// epoll_pwait2(2).
pub fn epoll_pwait2(call: &mut Call<'_>) -> Reply {
    match poll::timespec(call, call.args[3]) {
        Ok(timeout) => wait_masked(call, timeout),
        Err(error) => Reply::Error(error),
    }
}
