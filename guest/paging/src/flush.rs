//! [`Flush`]: the proof, and the reminder, that translations have become stale.

use crate::GuestVirt;
use crate::table::virt_of;

/// What translations an operation has made stale.
///
/// Nothing that was unmapped, and no table that was retired, may be reused before the range is flushed on
/// every vCPU that may have used it. INVLPG on any one page of it also drops all cached upper entries
/// (SDM 3A, 5.10.4.1), so a range that is flushed page by page is flushed for retired tables too; and it drops
/// a cached large page that the operation has split.
#[must_use = "stale translations must be flushed before anything is reused"]
#[derive(Debug, PartialEq, Eq)]
pub struct Flush {
    start: u64,
    end: u64,
}

impl Flush {
    /// Nothing is stale.
    pub fn none() -> Self {
        Flush { start: 0, end: 0 }
    }

    /// Whether anything is stale.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        self.start != self.end
    }

    /// First address that is stale; 0 if nothing is.
    #[must_use]
    pub fn start(&self) -> GuestVirt {
        virt_of(self.start)
    }

    /// Pages (of 4 KiB) from there that may be stale: to the end of the last leaf that changed, not of the
    /// range that was asked for.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.end - self.start
    }

    /// Takes in a changed leaf: page numbers from `start` to before `end`, above all earlier ones.
    #[inline]
    pub(crate) fn extend(&mut self, start: u64, end: u64) {
        if self.start == self.end {
            self.start = start;
        }
        self.end = end;
    }
}
