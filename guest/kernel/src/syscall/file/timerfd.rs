//! timerfd: a timer that is read. It is one of [`crate::timers`]; how often it has expired follows from when it did so
//! first and what time it is. It runs until it has expired once, so that who waits looks; who has looked starts it again.

use super::buffers::Buffers;
use super::event::{self, open_new};
use super::open_file;
use crate::arch::machine::tsc;
use crate::fs::open::{O_CLOEXEC, O_NONBLOCK, OpenFile, What};
use crate::syscall::timer::{Spec, get_made, told};
use crate::syscall::{Call, Reply};
use crate::time;
use crate::timers::{Notify, next_after};
use abi::Errno;
use abi::clock::id;

/// As REALTIME and BOOTTIME; they could wake a machine that sleeps.
const REALTIME_ALARM: u64 = 8;
const BOOTTIME_ALARM: u64 = 9;
const TFD_TIMER_ABSTIME: u64 = 1;
const TFD_TIMER_CANCEL_ON_SET: u64 = 2;

/// timerfd_create(2).
pub fn timerfd_create(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [clock, flags, ..] = call.args.map(|word| u64::from(word as u32));
    let flags = flags as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let clock = match clock {
        id::REALTIME | id::MONOTONIC | id::BOOTTIME => clock,
        REALTIME_ALARM | BOOTTIME_ALARM if !call.process().credentials.is_privileged() => {
            return Err(Errno::EPERM);
        }
        REALTIME_ALARM => id::REALTIME,
        BOOTTIME_ALARM => id::BOOTTIME,
        _ => return Err(Errno::EINVAL),
    };
    let timer = call.kernel.timers.make().ok_or(Errno::ENFILE)?;
    let entry = call.kernel.timers.get(timer);
    (entry.notify, entry.clock) = (Notify::Readers, clock as u8);
    // Whatever fails, the open file takes the timer with it; without one it is given back here.
    if call.kernel.files.open.is_full() {
        call.kernel.timers.free(timer);
        return Err(Errno::ENFILE);
    }
    open_new(call, What::Timer(timer), flags).map(|(_, fd)| fd)
}

/// The timer that descriptor `fd` is open for, and the number of its open file.
fn timer_of(call: &mut Call<'_>, fd: u64) -> Result<(u16, u16), Errno> {
    let (number, open) = open_file(call, fd)?;
    match open.what {
        What::Timer(timer) => Ok((number, timer)),
        _ => Err(Errno::EINVAL),
    }
}

/// timerfd_settime(2). Nobody sets the clock, so TFD_TIMER_CANCEL_ON_SET has nothing to do.
pub fn timerfd_settime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, flags, new, old, ..] = call.args;
    let spec: Spec = call.read(new)?;
    if flags as u32 as u64 & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let (period, value) = (spec.period.checked()?, spec.value.checked()?);
    let (number, timer) = timer_of(call, fd)?;
    let before = get_made(call, timer);
    call.kernel.stop_timer(timer);
    let entry = call.kernel.timers.get(timer);
    (entry.deadline, entry.period) = (0, period);
    if value != 0 {
        let clock = entry.clock;
        let ns = match flags & TFD_TIMER_ABSTIME {
            0 => value,
            _ => value.saturating_sub(time::read(clock.into()).unwrap_or(0)),
        };
        call.kernel.start_timer(call.cpu, timer, time::deadline_in(ns));
    }
    let open = call.kernel.files.open.get_mut(number);
    open.arrived = open.arrived.wrapping_add(1);
    call.write_if(old, &told(before)).map(|()| 0)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, to, ..] = call.args;
    let (_, timer) = timer_of(call, fd)?;
    let setting = get_made(call, timer);
    call.write(to, &told(setting)).map(|()| 0)
}

/// How often `timer` has expired since it was set or read. If it has not, it runs.
pub fn expired(call: &mut Call<'_>, timer: u16) -> u64 {
    let now = tsc();
    let entry = *call.kernel.timers.get(timer);
    match entry.deadline {
        0 => 0,
        deadline if deadline > now => {
            if !call.kernel.timers.is_running(timer) {
                call.kernel.start_timer(call.cpu, timer, deadline);
            }
            0
        }
        _ if entry.period == 0 => 1,
        deadline => 1 + next_after(deadline, time::ticks(entry.period).max(1), now).1,
    }
}

/// read(2): how often it has expired.
pub fn read<B: Buffers>(
    call: &mut Call<'_>,
    (number, open): (u16, &OpenFile),
    timer: u16,
    buffers: &B,
) -> Reply {
    if let Err(error) = event::has_room(call, buffers) {
        return Reply::Error(error);
    }
    let count = expired(call, timer);
    if count == 0 {
        return event::wait(call, open);
    }
    call.kernel.stop_timer(timer);
    let entry = call.kernel.timers.get(timer);
    if entry.period == 0 {
        entry.deadline = 0;
    } else {
        let period = time::ticks(entry.period).max(1);
        let next = entry.deadline + count * period;
        call.kernel.start_timer(call.cpu, timer, next);
    }
    let open = call.kernel.files.open.get_mut(number);
    open.arrived = open.arrived.wrapping_add(count as u32);
    event::give(call, buffers, count)
}
