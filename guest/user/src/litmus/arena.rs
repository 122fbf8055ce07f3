//! The segment that a test is played in: where what lies, and how the players wait for each other.
//!
//! A *round* plays the test once, on a *cell* of words of its own; a *batch* is as many rounds as there are cells. In the
//! first pages are the words by which players meet, each in cache lines of its own, and each player's registers.

use super::Failure;
use super::ops::Cell;
use crate::clock::tsc;
use crate::shared::Attached;
use crate::sys;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use litmus::{MAX_REGISTERS, MAX_THREADS, WORDS};

/// Bytes of the segment: two large pages.
pub(super) const SIZE: usize = 4 << 20;
/// Most rounds of a batch.
pub(super) const MAX_BATCH: usize = 8192;

/// How many guests have attached.
const ARRIVED: usize = 0;
/// 1 once a player has given up.
pub(super) const FAILED: usize = 128;
/// 1 once the last round has been played.
pub(super) const OVER: usize = 256;
/// Where each player says how far it is.
const GATES: usize = 1024;
/// Two cache lines: CPUs fetch them in pairs.
const LINE: usize = 128;
/// Where players leave their registers.
const REGISTERS: usize = 64 << 10;
const REGISTERS_OF_PLAYER: usize = MAX_BATCH * MAX_REGISTERS * 4;
/// Where cells begin that lie side by side.
const CELLS: usize = 1 << 20;
/// The boundary of large pages that [`Layout::Boundary`] puts X and Y on either side of.
const BOUNDARY: usize = 2 << 20;
const CACHE_LINE: usize = 64;

/// Looks between two longer thoughts while waiting.
const LOOKS: u32 = 4096;
/// How long a player waits for another before it gives up, in ticks of the time-stamp counter: one to two minutes.
const TIME_LIMIT_TICKS: u64 = 1 << 38;
/// Sleep between looks where there are fewer CPUs than players.
const NAP: Duration = Duration::from_micros(50);

/// Where cells lie in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A cell's words side by side, two cache lines for each.
    Together,
    /// X in one large page, Y and Z in the next.
    Boundary,
}

impl Layout {
    /// Where words 0 to 2 of cell 0 are, and how far it is from a cell to the next.
    fn places(self) -> ([usize; WORDS], usize) {
        match self {
            Layout::Together => ([CELLS, CELLS + LINE, CELLS + 2 * LINE], WORDS * LINE),
            Layout::Boundary => {
                let array = MAX_BATCH * CACHE_LINE;
                ([BOUNDARY - array, BOUNDARY, BOUNDARY + array], CACHE_LINE)
            }
        }
    }

    /// The words of cell `index` by way of an attach.
    #[inline(always)]
    pub(super) fn cell(self, segment: &Attached, index: usize) -> Cell<'_> {
        let [x, y, z] = self.words(segment, index);
        Cell { x, y, z }
    }

    /// The same as an array.
    #[inline(always)]
    pub(super) fn words(self, segment: &Attached, index: usize) -> [&AtomicU32; WORDS] {
        let (first, stride) = self.places();
        first.map(|first| segment.word32(first + index * stride))
    }
}

/// Where players wait for each other, and how.
#[derive(Clone, Copy)]
pub(super) struct Meeting<'a> {
    pub(super) segment: &'a Attached,
    pub(super) players: usize,
    /// Whether each player has a CPU of its own; otherwise those who wait make room.
    pub(super) in_step: bool,
}

impl Meeting<'_> {
    /// Waits until `guests` copies of the program have attached.
    pub(super) fn arrive(&self, guests: u64) -> Result<(), Failure> {
        self.segment.count(ARRIVED);
        self.wait(|| self.segment.load(ARRIVED, Ordering::Acquire) >= guests)
    }

    /// Says that player `me` has come to `number` and waits until all others have. Whether it was the last to come.
    #[inline(always)]
    pub(super) fn pass(&self, me: usize, number: u64) -> Result<bool, Failure> {
        self.segment.store(GATES + me * LINE, number, Ordering::Release);
        let mut last = true;
        for other in (0..self.players).filter(|&other| other != me) {
            let arrived = || self.segment.load(GATES + other * LINE, Ordering::Acquire) >= number;
            if !arrived() {
                last = false;
                self.wait(arrived)?;
            }
        }
        Ok(last)
    }

    #[inline(always)]
    fn wait(&self, done: impl Fn() -> bool) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if done() {
                return Ok(());
            }
        }
        self.wait_long(done)
    }

    /// Makes no system call in step: in a guest that would take so long that the other came to this as well.
    #[cold]
    fn wait_long(&self, done: impl Fn() -> bool) -> Result<(), Failure> {
        let began = tsc();
        loop {
            for _ in 0..LOOKS {
                if done() {
                    return Ok(());
                }
                core::hint::spin_loop();
            }
            if self.segment.load(FAILED, Ordering::Relaxed) != 0 {
                return Err(Failure::OfAnother);
            }
            if tsc().wrapping_sub(began) > TIME_LIMIT_TICKS {
                return Err(Failure::TooLong);
            }
            if !self.in_step {
                sys::sleep(NAP);
            }
        }
    }
}

/// Register `register` that player `player` left of round `index`.
pub(super) fn register(segment: &Attached, player: usize, index: usize, register: usize) -> &AtomicU32 {
    segment.word32(REGISTERS + player * REGISTERS_OF_PLAYER + (index * MAX_REGISTERS + register) * 4)
}

const _: () = assert!(GATES + MAX_THREADS * LINE <= REGISTERS);
const _: () = assert!(REGISTERS + MAX_THREADS * REGISTERS_OF_PLAYER <= CELLS);
const _: () = assert!(CELLS + MAX_BATCH * WORDS * LINE <= SIZE);
const _: () = assert!(BOUNDARY + 2 * MAX_BATCH * CACHE_LINE <= SIZE && MAX_BATCH * CACHE_LINE <= CELLS);
