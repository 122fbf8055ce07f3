//! Timers: alarm, setitimer, and the family of timer_create.

use super::time::{Timespec, has_clock};
use super::{Call, usage};
use crate::arch::machine::tsc;
use crate::process::alarm::Countdown;
use crate::process::signal::{LAST, SIGALRM};
use crate::time::{self, NS_PER_S};
use crate::timers::{Notify, next_after};
use abi::Errno;
use abi::clock::id;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const ITIMER_REAL: u64 = 0;
const ITIMER_PROF: u64 = 2;
const TIMER_ABSTIME: u64 = 1;
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
const SIGEV_THREAD_ID: u32 = 4;

/// `struct timeval`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Timeval {
    seconds: i64,
    microseconds: i64,
}

/// `struct itimerval`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Interval {
    period: Timeval,
    value: Timeval,
}

/// `struct itimerspec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Spec {
    /// Between that and each time after.
    pub period: Timespec,
    /// Until it expires.
    pub value: Timespec,
}

/// The part of `struct sigevent` that the kernel looks at.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Event {
    value: u64,
    signal: u32,
    notify: u32,
    thread: u32,
    rest: [u32; 11],
}

const _: () = assert!(size_of::<Event>() == 64);

/// How a timer is set, nanoseconds: until it expires, 0 if it is off; and between that and each time after, 0 if there is
/// none.
#[derive(Clone, Copy)]
pub struct Setting {
    value: u64,
    period: u64,
}

impl Timeval {
    fn new(ns: u64) -> Timeval {
        Timeval {
            seconds: (ns / NS_PER_S) as i64,
            microseconds: (ns % NS_PER_S / 1000) as i64,
        }
    }

    fn checked(self) -> Result<u64, Errno> {
        if self.seconds < 0 || !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Ok((self.seconds as u64)
            .saturating_mul(NS_PER_S)
            .saturating_add(self.microseconds as u64 * 1000))
    }
}

impl Interval {
    fn new(setting: Setting) -> Interval {
        // What is left is told as something, however little it is.
        let value = match setting.value {
            0 => 0,
            value => value.max(1000),
        };
        Interval {
            period: Timeval::new(setting.period),
            value: Timeval::new(value),
        }
    }
}

/// How ITIMER_REAL of the caller is set.
fn get_real(call: &mut Call<'_>) -> Setting {
    let number = call.task().process;
    let running = call.kernel.timers.is_running(number);
    let timer = call.kernel.timers.get(number);
    let left = time::nanoseconds(timer.deadline.saturating_sub(tsc()));
    Setting {
        value: if running { left.max(1) } else { 0 },
        period: timer.period,
    }
}

fn set_real(call: &mut Call<'_>, setting: Setting) {
    let number = call.task().process;
    call.kernel.stop_timer(number);
    // A timer that is turned off has no period either, as on Linux.
    call.kernel.timers.get(number).period = if setting.value == 0 { 0 } else { setting.period };
    if setting.value != 0 {
        call.kernel
            .start_timer(call.cpu, number, time::deadline_in(setting.value));
    }
}

/// How one of the timers that count the caller's own time is set.
fn get_countdown(call: &mut Call<'_>, which: usize) -> Setting {
    let Countdown { at, period } = call.process().countdowns[which];
    let number = call.task().process;
    let ran = usage::of_process(call.kernel, number);
    let left = time::nanoseconds(at.saturating_sub(ran));
    Setting {
        value: if at == 0 { 0 } else { left.max(1) },
        period,
    }
}

fn set_countdown(call: &mut Call<'_>, which: usize, setting: Setting) {
    let number = call.task().process;
    let ran = usage::of_process(call.kernel, number);
    call.process().countdowns[which] = match setting.value {
        0 => Countdown::OFF,
        value => Countdown {
            at: ran + time::ticks(value).max(1),
            period: setting.period,
        },
    };
    call.kernel.limit_by_countdowns(call.cpu, call.task);
}

fn get(call: &mut Call<'_>, which: u64) -> Result<Setting, Errno> {
    match which as u32 as u64 {
        ITIMER_REAL => Ok(get_real(call)),
        which @ 1..=ITIMER_PROF => Ok(get_countdown(call, which as usize - 1)),
        _ => Err(Errno::EINVAL),
    }
}

/// getitimer(2).
pub fn getitimer(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, to, ..] = call.args;
    let setting = get(call, which)?;
    call.write(to, &Interval::new(setting)).map(|()| 0)
}

/// setitimer(2). A null pointer stands for zeros.
pub fn setitimer(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, new, old, ..] = call.args;
    let mut setting = Setting { value: 0, period: 0 };
    if new != 0 {
        let interval: Interval = call.read(new)?;
        setting.value = interval.value.checked()?;
        setting.period = interval.period.checked()?;
    }
    let before = get(call, which)?;
    match which as u32 as u64 {
        ITIMER_REAL => set_real(call, setting),
        which => set_countdown(call, which as usize - 1, setting),
    }
    call.write_if(old, &Interval::new(before)).map(|()| 0)
}

/// alarm(2), which returns seconds: rounded, but never 0 for an alarm that is on.
pub fn alarm(call: &mut Call<'_>) -> Result<u64, Errno> {
    let seconds = (call.args[0] as u32).min(i32::MAX as u32);
    let before = get_real(call).value;
    set_real(
        call,
        Setting {
            value: u64::from(seconds) * NS_PER_S,
            period: 0,
        },
    );
    let rounded = (before + NS_PER_S / 2) / NS_PER_S;
    Ok(if before == 0 { 0 } else { rounded.max(1) })
}

/// Whom a timer made with `event` tells.
fn notified(call: &mut Call<'_>, event: &Event) -> Result<Notify, Errno> {
    let signal_is_good = (1..=LAST).contains(&event.signal);
    match event.notify {
        SIGEV_NONE => Ok(Notify::Nobody),
        SIGEV_SIGNAL | SIGEV_THREAD if signal_is_good => Ok(Notify::Process),
        SIGEV_THREAD_ID if signal_is_good => {
            let number = call.task().process;
            let task = call.kernel.find_task(event.thread).ok_or(Errno::EINVAL)?;
            if call.kernel.tasks[usize::from(task)].process == number {
                Ok(Notify::Thread(event.thread))
            } else {
                Err(Errno::EINVAL)
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// timer_create(2), with the clocks that go on by themselves.
pub fn timer_create(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [clock, event, to, ..] = call.args;
    let event: Option<Event> = if event == 0 { None } else { Some(call.read(event)?) };
    let clock = clock as u32 as u64;
    match clock {
        id::REALTIME | id::MONOTONIC | id::BOOTTIME | id::TAI => {}
        _ if has_clock(call, clock) => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    // An id is used up also where the rest fails, as on Linux.
    let own = call.process().next_timer_id;
    call.process().next_timer_id = (own + 1) & i32::MAX as u32;
    let (notify, signal, value) = match event {
        None => (Notify::Process, SIGALRM, u64::from(own)),
        Some(event) => (notified(call, &event)?, event.signal, event.value),
    };
    let timer = call.kernel.timers.make().ok_or(Errno::EAGAIN)?;
    if let Err(error) = call.write(to, &own) {
        call.kernel.timers.free(timer);
        return Err(error);
    }
    let process = call.task().process;
    let sibling = call.process().timers.replace(timer);
    let entry = call.kernel.timers.get(timer);
    (entry.process, entry.sibling, entry.id) = (process, sibling, own);
    (entry.notify, entry.signal, entry.value) = (notify, signal, value);
    entry.clock = clock as u8;
    Ok(0)
}

/// The caller's timer with id `id`.
fn find(call: &mut Call<'_>, id: u64) -> Result<u16, Errno> {
    let mut next = call.process().timers;
    while let Some(timer) = next {
        let entry = call.kernel.timers.get(timer);
        if entry.id == id as u32 {
            return Ok(timer);
        }
        next = entry.sibling;
    }
    Err(Errno::EINVAL)
}

/// How `timer` is set.
pub fn get_made(call: &mut Call<'_>, timer: u16) -> Setting {
    let now = tsc();
    let running = call.kernel.timers.is_running(timer);
    let entry = *call.kernel.timers.get(timer);
    let value = if entry.deadline == 0 {
        0
    } else if entry.deadline > now {
        time::nanoseconds(entry.deadline - now).max(1)
    } else if entry.period != 0 {
        // Its signal waits to be taken, or nobody is told: it counts as going on.
        let (next, _) = next_after(entry.deadline, time::ticks(entry.period).max(1), now);
        time::nanoseconds(next - now).max(1)
    } else {
        u64::from(running)
    };
    Setting {
        value,
        period: entry.period,
    }
}

/// A setting as programs have it.
pub fn told(setting: Setting) -> Spec {
    Spec {
        period: Timespec::new(setting.period),
        value: Timespec::new(setting.value),
    }
}

/// timer_gettime(2).
pub fn timer_gettime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, to, ..] = call.args;
    let timer = find(call, id)?;
    let setting = get_made(call, timer);
    call.write(to, &told(setting)).map(|()| 0)
}

/// timer_settime(2).
pub fn timer_settime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, flags, new, old, ..] = call.args;
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let spec: Spec = call.read(new)?;
    let (period, value) = (spec.period.checked()?, spec.value.checked()?);
    let timer = find(call, id)?;
    let before = get_made(call, timer);
    let number = call.task().process;
    call.kernel.stop_timer(timer);
    call.kernel.discard_of_timer(number, timer);
    let entry = call.kernel.timers.get(timer);
    // Linux forgets the period of a timer that is turned off.
    entry.period = if value == 0 { 0 } else { period };
    (entry.deadline, entry.overrun) = (0, 0);
    if value != 0 {
        let (clock, notify) = (entry.clock, entry.notify);
        let ns = match flags & TIMER_ABSTIME {
            0 => value,
            _ => value.saturating_sub(time::read(clock.into()).unwrap_or(0)),
        };
        let deadline = time::deadline_in(ns);
        if notify == Notify::Nobody {
            // Nothing happens when it expires: it is enough to know when that is.
            call.kernel.timers.get(timer).deadline = deadline;
        } else {
            call.kernel.start_timer(call.cpu, timer, deadline);
        }
    }
    call.write_if(old, &told(before)).map(|()| 0)
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, ..] = call.args;
    let timer = find(call, id)?;
    Ok(u64::from(call.kernel.timers.get(timer).overrun))
}

/// timer_delete(2).
pub fn timer_delete(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, ..] = call.args;
    let timer = find(call, id)?;
    let sibling = call.kernel.timers.get(timer).sibling;
    let number = call.task().process;
    if call.process().timers == Some(timer) {
        call.process().timers = sibling;
    } else {
        let mut next = call.process().timers;
        while let Some(before) = next {
            next = call.kernel.timers.get(before).sibling;
            if next == Some(timer) {
                call.kernel.timers.get(before).sibling = sibling;
                break;
            }
        }
    }
    call.kernel.forget_timer(number, timer);
    Ok(0)
}
