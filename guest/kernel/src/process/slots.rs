//! [`Slots`]: which entries of a table are taken, a bit each. The lowest free one goes first: tables stay dense.

const WORDS: usize = 5;

/// Which entries are taken.
pub struct Slots {
    taken: [u64; WORDS],
    size: u16,
}

impl Slots {
    /// Of a table with `size` entries, all free.
    pub const fn new(size: usize) -> Slots {
        assert!(size <= WORDS * 64, "a table is larger than its slots");
        Slots {
            taken: [0; WORDS],
            size: size as u16,
        }
    }

    /// Takes a free entry, if there is one.
    pub fn take(&mut self) -> Option<u16> {
        let word = self.taken.iter().position(|&word| word != u64::MAX)?;
        let bit = self.taken[word].trailing_ones();
        let slot = word as u16 * 64 + bit as u16;
        if slot >= self.size {
            return None;
        }
        self.taken[word] |= 1 << bit;
        Some(slot)
    }

    /// Gives entry `slot` back.
    pub fn give(&mut self, slot: u16) {
        let word = &mut self.taken[usize::from(slot / 64)];
        debug_assert!(*word & 1 << (slot % 64) != 0, "slot {slot} is free already");
        *word &= !(1 << (slot % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_given_once_and_again_when_it_is_free() {
        let mut slots = Slots::new(257);
        assert!((0..257).all(|slot| slots.take() == Some(slot)));
        assert_eq!(slots.take(), None);
        for slot in [256, 64, 3] {
            slots.give(slot);
        }
        assert_eq!(
            [slots.take(), slots.take(), slots.take()],
            [Some(3), Some(64), Some(256)]
        );
        assert_eq!(slots.take(), None);
    }

    #[test]
    fn a_table_that_fills_whole_words_has_an_end_too() {
        let mut slots = Slots::new(64);
        assert!((0..64).all(|slot| slots.take() == Some(slot)));
        assert_eq!(slots.take(), None);
    }
}
