//! Waiting for a word to become what one wants, without hanging for ever and without starving others.
//!
//! Nothing tells whether two processes in different guests share one CPU of the host, and giving up the CPU in
//! a guest does not give it to the other guest. So: spin for a while, then sleep between looks.

use super::layout::FAILED;
use super::{Failure, TIME_LIMIT};
use crate::clock::tsc;
use crate::shared::Attached;
use crate::sys;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// How long to spin before the first sleep, in ticks of the time-stamp counter: some milliseconds. That is long
/// enough for the host to see that one CPU has two vCPUs to run and another none; with short spins between sleeps
/// the two would share a CPU for ever.
const SPIN_TICKS: u64 = 12_000_000;
/// Looks between two readings of the counter.
const LOOKS: u32 = 256;
/// Sleep between looks once spinning has not helped.
const NAP: Duration = Duration::from_micros(500);
/// Sleep between looks of a process whose turn it is not.
const DOZE: Duration = Duration::from_millis(10);

/// Waits for a hand-off: spins, then naps.
///
/// # Errors
/// [`Failure`] when another process has failed or time is over.
#[inline(always)]
pub(super) fn spin(
    segment: &Attached,
    what: &'static str,
    mut done: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let began = tsc();
    loop {
        for _ in 0..LOOKS {
            if done() {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        if tsc().saturating_sub(began) > SPIN_TICKS {
            break;
        }
    }
    sleep_until(segment, what, NAP, done)
}

/// Waits asleep: looks now and then.
///
/// # Errors
/// [`Failure`] when another process has failed or time is over.
pub(super) fn doze(
    segment: &Attached,
    what: &'static str,
    done: impl FnMut() -> bool,
) -> Result<(), Failure> {
    sleep_until(segment, what, DOZE, done)
}

#[cold]
fn sleep_until(
    segment: &Attached,
    what: &'static str,
    nap: Duration,
    mut done: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let limit = sys::monotonic_ns() + TIME_LIMIT.as_nanos() as u64;
    while !done() {
        if segment.load(FAILED, Ordering::Relaxed) != 0 {
            return Err(Failure::OfAnother);
        }
        if sys::monotonic_ns() > limit {
            return Err(Failure::TooLong(what));
        }
        sys::sleep(nap);
    }
    Ok(())
}
