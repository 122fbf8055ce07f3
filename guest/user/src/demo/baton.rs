//! Hand-offs between one writer and one reader, timed: the writer puts its time-stamp counter and a value beside a
//! number; the reader, seeing the number, reads its own counter. Each hand-off is answered before the next.

use super::Failure;
use super::layout::{ANSWER, BATON, BATON_CONTENTS, BATON_TSC, LAST, contents};
use super::wait::spin;
use crate::clock::{ticks_to_ns, tsc};
use crate::shared::Attached;
use core::sync::atomic::Ordering;

/// Most hand-offs between two processes.
pub(super) const MAX_HANDOFFS: usize = 4_000;
/// A pair that is slow (both share a CPU) stops after this many milliseconds …
const BUDGET_MS: u64 = 200;
/// … but not before this many hand-offs.
const FEWEST: u64 = 20;

/// What a reader saw of one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Hand-offs, every one with the right number and contents.
    pub(super) handoffs: u64,
    /// The fastest, ticks.
    pub(super) least: u64,
    /// The median, ticks.
    pub(super) median: u64,
    /// Nine in ten were at least as fast, ticks.
    pub(super) ninth_decile: u64,
}

/// The writer's side of turn `turn`; `khz` is the rate of the time-stamp counter.
pub(super) fn give(segment: &Attached, turn: usize, handoffs: u64, khz: u64) -> Result<(), Failure> {
    let before = number(turn, 0);
    let limit = tsc() + BUDGET_MS * khz;
    for nth in 1..=handoffs {
        let this = before + nth;
        let late = nth >= FEWEST && tsc() > limit;
        let last = nth == handoffs || late;
        segment.store(BATON_CONTENTS, contents(this), Ordering::Relaxed);
        segment.store(BATON_TSC, tsc(), Ordering::Relaxed);
        segment.store(BATON, if last { this | LAST } else { this }, Ordering::Release);
        // At least: having answered the last one, the reader may be a writer already, with another's answer there.
        spin(segment, "the reader's answer", || {
            segment.load(ANSWER, Ordering::Acquire) >= this
        })?;
        if last {
            break;
        }
    }
    Ok(())
}

/// The reader's side of turn `turn`. `samples` holds one place for each hand-off.
pub(super) fn take(segment: &Attached, turn: usize, samples: &mut [u64]) -> Result<Seen, Failure> {
    let mut this = number(turn, 0);
    let mut count = 0;
    loop {
        let before = this;
        let mut baton = 0;
        spin(segment, "the writer's next hand-off", || {
            baton = segment.load(BATON, Ordering::Acquire);
            baton & !LAST > before
        })?;
        let now = tsc();
        this = before + 1;
        if baton & !LAST != this || segment.load(BATON_CONTENTS, Ordering::Relaxed) != contents(this) {
            return Err(Failure::WrongContents { handoff: this });
        }
        let place = samples
            .get_mut(count)
            .ok_or(Failure::WrongContents { handoff: this })?;
        *place = now.saturating_sub(segment.load(BATON_TSC, Ordering::Relaxed));
        count += 1;
        segment.store(ANSWER, this, Ordering::Release);
        if baton & LAST != 0 {
            return Ok(summary(&mut samples[..count]));
        }
    }
}

/// The number of hand-off `nth` of a turn: numbers only ever grow in a run, so that nothing has to be reset.
fn number(turn: usize, nth: u64) -> u64 {
    turn as u64 * (MAX_HANDOFFS as u64 + 1) + nth
}

fn summary(samples: &mut [u64]) -> Seen {
    samples.sort_unstable();
    let at = |part: usize| samples.get(samples.len() * part / 10).copied().unwrap_or(0);
    Seen {
        handoffs: samples.len() as u64,
        least: at(0),
        median: at(5),
        ninth_decile: at(9),
    }
}

impl Seen {
    /// Least, median and ninth decile in nanoseconds.
    pub(super) fn in_ns(&self, khz: u64) -> [u64; 3] {
        [self.least, self.median, self.ninth_decile].map(|ticks| ticks_to_ns(ticks, khz))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::layout::SIZE;
    use crate::sys;
    use abi::ipc::IPC_PRIVATE;

    fn segment() -> (Attached, Attached) {
        let id = sys::shmget(IPC_PRIVATE, SIZE as u64, 0o600).unwrap();
        let both = (
            Attached::new(id, SIZE, 0).unwrap(),
            Attached::new(id, SIZE, 0).unwrap(),
        );
        sys::shm_remove(id).unwrap();
        both
    }

    #[test]
    fn a_reader_sees_every_hand_off_of_a_writer() {
        let (mine, yours) = segment();
        let seen = std::thread::scope(|scope| {
            scope.spawn(move || give(&yours, 3, 500, u64::MAX / 1000).unwrap());
            take(&mine, 3, &mut [0; 500]).unwrap()
        });
        assert_eq!(seen.handoffs, 500);
        assert!(seen.least <= seen.median && seen.median <= seen.ninth_decile && seen.median > 0);
    }

    #[test]
    fn a_wrong_value_is_noticed() {
        let (segment, _other) = segment();
        segment.store(BATON_CONTENTS, contents(1) ^ 1, Ordering::Relaxed);
        segment.store(BATON, 1, Ordering::Release);
        assert_eq!(
            take(&segment, 0, &mut [0; 4]),
            Err(Failure::WrongContents { handoff: 1 })
        );
    }

    #[test]
    fn a_skipped_hand_off_is_noticed() {
        let (segment, _other) = segment();
        segment.store(BATON_CONTENTS, contents(2), Ordering::Relaxed);
        segment.store(BATON, 2, Ordering::Release);
        assert_eq!(
            take(&segment, 0, &mut [0; 4]),
            Err(Failure::WrongContents { handoff: 1 })
        );
    }

    #[test]
    fn a_writer_that_is_late_to_look_takes_a_later_turns_answer_for_its_own() {
        let (segment, _other) = segment();
        segment.store(ANSWER, number(4, 1), Ordering::Release);
        assert_eq!(give(&segment, 3, 1, u64::MAX / 1000), Ok(()));
    }

    #[test]
    fn a_summary_is_made_of_order_statistics() {
        let mut samples: std::vec::Vec<u64> = (0..10).rev().collect();
        assert_eq!(
            summary(&mut samples),
            Seen {
                handoffs: 10,
                least: 0,
                median: 5,
                ninth_decile: 9
            }
        );
        assert_eq!(summary(&mut []), Seen::default());
    }
}
