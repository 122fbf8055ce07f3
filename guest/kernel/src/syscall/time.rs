//! Clocks, and sleeping until one of them says so.

use super::{Attempt, Call, Reply, number, usage};
use crate::arch::machine::tsc;
use crate::process::task::Wait;
use crate::time::{self, NS_PER_S};
use abi::Errno;
use abi::clock::id;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const CLOCK_PROCESS_CPUTIME_ID: u64 = 2;
const CLOCK_THREAD_CPUTIME_ID: u64 = 3;
const TIMER_ABSTIME: u64 = 1;

/// `struct timespec`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    /// A span or point in time.
    pub fn new(ns: u64) -> Timespec {
        Timespec {
            seconds: (ns / NS_PER_S) as i64,
            nanoseconds: (ns % NS_PER_S) as i64,
        }
    }

    /// In nanoseconds, as large as there is room for.
    ///
    /// # Errors
    /// EINVAL if it is not normalised or negative.
    pub fn checked(self) -> Result<u64, Errno> {
        if self.seconds < 0 || !(0..NS_PER_S as i64).contains(&self.nanoseconds) {
            return Err(Errno::EINVAL);
        }
        Ok((self.seconds as u64)
            .saturating_mul(NS_PER_S)
            .saturating_add(self.nanoseconds as u64))
    }
}

/// A clock's number: the upper half of the register counts for nothing.
fn number(argument: u64) -> u64 {
    u64::from(argument as u32)
}

/// The clock's value in nanoseconds.
fn read(call: &mut Call<'_>, clock: u64) -> Result<u64, Errno> {
    match number(clock) {
        CLOCK_PROCESS_CPUTIME_ID => {
            let number = call.task().process;
            Ok(time::nanoseconds(usage::of_process(call.kernel, number)))
        }
        CLOCK_THREAD_CPUTIME_ID => Ok(time::nanoseconds(usage::of_task(call.kernel, call.task))),
        clock if clock as u32 as i32 <= -1 => cpu_clock(call, clock as u32 as i32),
        clock => time::read(clock).ok_or(Errno::EINVAL),
    }
}

/// The CPU time of the process or thread that a negative clock id names (clock_getcpuclockid(3), `CPUCLOCK_*` in Linux):
/// its id inverted, above three bits that say which of the two, and what is to be counted.
fn cpu_clock(call: &mut Call<'_>, clock: i32) -> Result<u64, Errno> {
    const THREAD: i32 = 4;
    const WHAT: i32 = 3;
    let id = !(clock >> 3) as u32;
    let number = call.task().process;
    if clock & WHAT == WHAT {
        return Err(Errno::EINVAL);
    }
    let ticks = if clock & THREAD == 0 {
        let number = match id {
            0 => number,
            id => call.kernel.find_process(id).ok_or(Errno::EINVAL)?,
        };
        usage::of_process(call.kernel, number)
    } else {
        let task = match id {
            0 => call.task,
            id => call.kernel.find_task(id).ok_or(Errno::EINVAL)?,
        };
        if call.kernel.tasks[usize::from(task)].process != number {
            return Err(Errno::EINVAL);
        }
        usage::of_task(call.kernel, task)
    };
    Ok(time::nanoseconds(ticks))
}

/// Whether there is such a clock.
pub fn has_clock(call: &mut Call<'_>, clock: u64) -> bool {
    read(call, clock).is_ok()
}

/// clock_gettime(2).
pub fn clock_gettime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [clock, to, ..] = call.args;
    let now = Timespec::new(read(call, clock)?);
    call.write(to, &now)?;
    Ok(0)
}

/// clock_getres(2).
pub fn clock_getres(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [clock, to, ..] = call.args;
    let resolution = match time::resolution(number(clock)) {
        Some(resolution) => resolution,
        // Is it one of the others?
        None => read(call, clock).map(|_| 1)?,
    };
    call.write_if(to, &Timespec::new(resolution))?;
    Ok(0)
}

/// gettimeofday(2).
pub fn gettimeofday(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, zone, ..] = call.args;
    let mut now = Timespec::new(time::realtime());
    now.nanoseconds /= 1000;
    call.write_if(to, &now)?;
    call.write_if(zone, &[0u32; 2])?;
    Ok(0)
}

/// time(2).
pub fn time(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, ..] = call.args;
    let now = time::realtime() / NS_PER_S;
    call.write_if(to, &now)?;
    Ok(now)
}

/// Sleeps for `ns` nanoseconds; or, if that was interrupted, until it is over.
fn sleep(call: &mut Call<'_>, ns: u64) -> Reply {
    let deadline = match call.attempt {
        Attempt::First => time::deadline_in(ns),
        Attempt::Again => call.task().deadline,
    };
    if ns == 0 || call.attempt == Attempt::Again && deadline <= tsc() {
        return Reply::Value(0);
    }
    call.kernel.park(call.cpu, call.task, Wait::Sleep, Some(deadline));
    Reply::Parked
}

/// Call `which`, which has been interrupted, says how long it would still have slept, if it is one that does. Returns what
/// it fails with.
pub fn what_is_left(call: &mut Call<'_>, which: u64) -> Errno {
    let to = match which {
        number::NANOSLEEP => call.args[1],
        number::CLOCK_NANOSLEEP if call.args[1] & TIMER_ABSTIME == 0 => call.args[3],
        _ => 0,
    };
    let left = call.task().deadline.saturating_sub(tsc());
    match call.write_if(to, &Timespec::new(time::nanoseconds(left))) {
        Ok(()) => Errno::EINTR,
        Err(error) => error,
    }
}

/// nanosleep(2).
pub fn nanosleep(call: &mut Call<'_>) -> Reply {
    let [request, ..] = call.args;
    match call.read::<Timespec>(request).and_then(Timespec::checked) {
        Ok(ns) => sleep(call, ns),
        Err(error) => Reply::Error(error),
    }
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(call: &mut Call<'_>) -> Reply {
    let [clock, flags, request, ..] = call.args;
    match number(clock) {
        id::REALTIME | id::MONOTONIC | id::BOOTTIME | id::TAI => {}
        id::MONOTONIC_RAW | id::REALTIME_COARSE | id::MONOTONIC_COARSE | CLOCK_PROCESS_CPUTIME_ID => {
            return Reply::Error(Errno::EOPNOTSUPP);
        }
        _ => return Reply::Error(Errno::EINVAL),
    }
    let now = if flags & TIMER_ABSTIME != 0 {
        read(call, clock)
    } else {
        Ok(0)
    };
    match now.and_then(|now| Ok((now, call.read::<Timespec>(request)?.checked()?))) {
        Ok((now, ns)) => sleep(call, ns.saturating_sub(now)),
        Err(error) => Reply::Error(error),
    }
}
