//! Two players and a word between them: who hands it over, and who wakes whom.

use super::{Failure, Task, failed};
use crate::clock::tsc;
use crate::shared::Attached;
use crate::sys;
use core::sync::atomic::Ordering;

/// How many players have attached.
pub(super) const ARRIVED: usize = 0;
/// The word that goes back and forth.
const BALL: usize = 1024;
/// What wake-ups wait for.
const BELL: usize = 2048;
/// When it was rung.
const RUNG: usize = 2048 + 64;
/// Each player's answer to a wake-up.
const ANSWER: usize = 3072;
const SIZE: usize = 4096;

/// Looks between two readings of the counter.
const LOOKS: u32 = 4096;
/// How long to wait for the other, in ticks: half a minute or more.
const TIME_LIMIT_TICKS: u64 = 1 << 37;

/// Spins until `done`.
#[inline(always)]
pub(super) fn until(done: impl Fn() -> bool) -> Result<(), Failure> {
    let began = tsc();
    loop {
        for _ in 0..LOOKS {
            if done() {
                return Ok(());
            }
        }
        if tsc().wrapping_sub(began) > TIME_LIMIT_TICKS {
            return Err(Failure::TooLong);
        }
    }
}

/// A cache line goes back and forth; a sample is a hand-off, averaged over [`TRIPS`] round trips.
pub(super) fn hand_off(task: &Task) -> Result<(), Failure> {
    task.both(SIZE, play_hand_off)
}

/// Round trips of a sample: reading the counter costs as much as one.
const TRIPS: u64 = 64;

fn play_hand_off(task: &Task, segment: &Attached, me: usize) -> Result<(), Failure> {
    let mine = me as u64;
    let times = sys::map_words(task.count).map_err(failed("mmap"))?;
    let mut ball = 0;
    for round in 0..task.count + task.count / 10 {
        let began = tsc();
        for _ in 0..TRIPS {
            // Player 0 makes even numbers odd, player 1 odd ones even.
            until_ball(segment, ball + mine)?;
            segment.store(BALL, ball + mine + 1, Ordering::Release);
            ball += 2;
        }
        if let Some(time) = (round.checked_sub(task.count / 10)).and_then(|round| times.get_mut(round)) {
            *time = tsc() - began;
        }
    }
    if me == 0 {
        task.tell("hand-off", times, 2 * TRIPS);
    }
    // Who goes first must not take the other's last trip along.
    finish(segment, me)
}

#[inline(always)]
fn until_ball(segment: &Attached, wanted: u64) -> Result<(), Failure> {
    loop {
        for _ in 0..1 << 20 {
            if segment.load(BALL, Ordering::Acquire) == wanted {
                return Ok(());
            }
        }
        // Slow only because the other does not run: look whether it ever will.
        until(|| segment.load(BALL, Ordering::Acquire) == wanted)?;
    }
}

fn finish(segment: &Attached, me: usize) -> Result<(), Failure> {
    segment.store(ANSWER + 64 + 64 * me, 1, Ordering::Release);
    until(|| segment.load(ANSWER + 64 + 64 * (1 - me), Ordering::Acquire) == 1)
}

/// Two players wake each other by futex: round trips, and from the store to the sleeper's first instruction.
pub(super) fn wake(task: &Task) -> Result<(), Failure> {
    task.both(SIZE, play_wake)
}

fn play_wake(task: &Task, segment: &Attached, me: usize) -> Result<(), Failure> {
    let times = sys::map_words(task.count).map_err(failed("mmap"))?;
    let (bell, warm_up) = (segment.word32(BELL), task.count / 10);
    for round in 0..warm_up + task.count {
        let began = tsc();
        let mine = (2 * round + me) as u32;
        loop {
            let is = bell.load(Ordering::Acquire);
            if is == mine {
                break;
            }
            // EAGAIN and EINTR: look again.
            let _ = sys::futex_wait(bell, is);
        }
        bell.store(mine + 1, Ordering::Release);
        sys::futex_wake(bell, 1).map_err(failed("futex"))?;
        if round >= warm_up {
            times[round - warm_up] = tsc() - began;
        }
    }
    if me == 0 {
        task.tell("round-trip", times, 1);
    }
    finish(segment, me)?;
    one_way(task, segment, me, times)
}

/// Player 1 sleeps; player 0 makes sure of it, stores, and wakes it.
fn one_way(task: &Task, segment: &Attached, me: usize, times: &mut [u64]) -> Result<(), Failure> {
    let bell = segment.word32(BELL);
    let first = 2 * (task.count + task.count / 10) as u32;
    let mut count = 0;
    for round in 0..(task.count / 4) as u32 {
        let before = first + round;
        if me == 1 {
            segment.store(ANSWER, u64::from(round) + 1, Ordering::Release);
            let slept = sys::futex_wait(bell, before).is_ok();
            let now = tsc();
            // Without a sleep there was nothing to wake.
            if slept {
                times[count] = now.saturating_sub(segment.load(RUNG, Ordering::Relaxed));
                count += 1;
            }
        } else {
            until(|| segment.load(ANSWER, Ordering::Acquire) > u64::from(round))?;
            // The sleeper needs a moment from its answer to its sleep, and some more to have gone idle.
            let asleep = tsc() + task.khz;
            until(|| tsc() > asleep)?;
            segment.store(RUNG, tsc(), Ordering::Relaxed);
            bell.store(before + 1, Ordering::Release);
            sys::futex_wake(bell, 1).map_err(failed("futex"))?;
        }
    }
    if me == 1 {
        task.tell("wake-up", &mut times[..count], 1);
    }
    Ok(())
}
