//! Which parts of a window are free: first fit, neighbours grow together.
//!
//! Pure arithmetic on offsets; knows nothing of memory.

use std::collections::BTreeMap;

/// The free ranges of `0..size`: start to length, in order, never empty, never touching each other.
#[derive(Debug)]
pub(super) struct Ranges {
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(super) fn new(size: u64) -> Self {
        Ranges {
            free: BTreeMap::from([(0, size)]),
        }
    }

    /// Takes the first free range of `len` bytes (not 0) whose start is a multiple of `align` (a power of two).
    pub(super) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let (start, free, at) = self.free.iter().find_map(|(&start, &free)| {
            let at = start.next_multiple_of(align);
            (free.checked_sub(at - start)? >= len).then_some((start, free, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let (end, free_end) = (at + len, start + free);
        if free_end > end {
            self.free.insert(end, free_end - end);
        }
        Some(at)
    }

    /// Gives back what [`Ranges::take`] returned.
    pub(super) fn give_back(&mut self, at: u64, len: u64) {
        let (mut start, mut end) = (at, at + len);
        if let Some((&before, &free)) = self.free.range(..at).next_back()
            && before + free == at
        {
            start = before;
        }
        if let Some(after) = self.free.remove(&end) {
            end += after;
        }
        self.free.insert(start, end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64 << 20;
    const LARGE: u64 = 2 << 20;

    #[test]
    fn a_range_larger_than_the_window_is_refused() {
        let mut ranges = Ranges::new(SIZE);
        assert_eq!(ranges.take(SIZE + 4096, 4096), None);
        assert_eq!(ranges.take(SIZE, LARGE), Some(0));
        assert_eq!(ranges.take(4096, 4096), None);
    }

    #[test]
    fn the_first_hole_that_fits_is_used() {
        let mut ranges = Ranges::new(SIZE);
        assert_eq!(ranges.take(4096, 4096), Some(0));
        assert_eq!(ranges.take(LARGE, LARGE), Some(LARGE));
        // The gap that alignment left is used for small ones.
        assert_eq!(ranges.take(8192, 4096), Some(4096));
        ranges.give_back(0, 4096);
        assert_eq!(ranges.take(8192, 4096), Some(12288));
        assert_eq!(ranges.take(4096, 4096), Some(0));
    }

    proptest! {
        #[test]
        fn taken_ranges_are_aligned_and_disjoint_and_all_grows_together_again(
            steps in prop::collection::vec((any::<bool>(), 1u64..2000, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut ranges = Ranges::new(SIZE);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (take, pages, which) in steps {
                if take || taken.is_empty() {
                    let len = pages * 4096;
                    let align = if len >= LARGE { LARGE } else { 4096 };
                    match ranges.take(len, align) {
                        Some(at) => {
                            prop_assert_eq!(at % align, 0);
                            prop_assert!(at + len <= SIZE);
                            prop_assert!(taken.iter().all(|&(other, l)| at + len <= other || other + l <= at));
                            taken.push((at, len));
                        }
                        None => {
                            // Refused only where really no hole fits.
                            let mut sorted = taken.clone();
                            sorted.sort_unstable();
                            sorted.push((SIZE, 0));
                            let mut start = 0;
                            for (at, l) in sorted {
                                prop_assert!(at.saturating_sub(u64::next_multiple_of(start, align)) < len);
                                start = at + l;
                            }
                        }
                    }
                } else {
                    let (at, len) = taken.swap_remove(which.index(taken.len()));
                    ranges.give_back(at, len);
                }
            }
            for (at, len) in taken {
                ranges.give_back(at, len);
            }
            prop_assert_eq!(ranges.free, BTreeMap::from([(0, SIZE)]));
        }
    }
}
