//! Identifiers: `id = seq << 15 | index`.
//!
//! Indices are handed out cyclically, so that the id of a segment just destroyed is not soon given to another;
//! the sequence number grows whenever the cycle starts over (`ipc_idr_alloc` in Linux's `ipc/util.c`).

use alloc::vec;
use alloc::vec::Vec;

/// Where the sequence number starts within an id (`ipcmni_seq_shift`).
pub(crate) const SEQ_SHIFT: u32 = 15;
/// Most identifiers (`ipc_mni`).
pub(crate) const MOST: u32 = 1 << SEQ_SHIFT;
/// The sequence number that becomes 0 again (`ipcid_seq_max`).
const SEQ_END: u32 = i32::MAX as u32 >> SEQ_SHIFT;
/// The cycle is at least this long (`ipc_min_cycle`).
const MIN_CYCLE: u32 = 64;

/// The table index in an id: what `SHM_STAT` takes and `IPC_INFO` counts.
#[must_use]
pub const fn index_of(id: i32) -> u32 {
    id as u32 & (MOST - 1)
}

/// Which indices are taken, and where the cycle is.
#[derive(Debug)]
pub(crate) struct IdSpace {
    /// One bit an index.
    taken: Vec<u64>,
    in_use: u32,
    /// Where the search for a free index starts.
    next: u32,
    /// The index handed out last.
    last: Option<u32>,
    seq: u32,
    /// The id that is wanted next, once.
    wanted: Option<i32>,
}

impl IdSpace {
    pub(crate) fn new() -> Self {
        IdSpace {
            taken: vec![0; MOST as usize / 64],
            in_use: 0,
            next: 0,
            last: None,
            seq: 0,
            wanted: None,
        }
    }

    /// The id wanted next (`kernel.shm_next_id`).
    pub(crate) fn next_id(&self) -> Option<i32> {
        self.wanted
    }

    /// Asks for this id, from 0, next. The cycle and its sequence number don't take part in that.
    pub(crate) fn set_next_id(&mut self, id: i32) {
        self.wanted = Some(id);
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use
    }

    /// A free index and the sequence number to go with it; `None` when all are taken. If an id is wanted: its index,
    /// or the next free one after that.
    pub(crate) fn allocate(&mut self) -> Option<(u32, u16)> {
        if let Some(id) = self.wanted.take() {
            let index = self.first_free(index_of(id), MOST)?;
            self.take(index);
            return Some((index, (id >> SEQ_SHIFT) as u16));
        }
        let end = (self.in_use * 3 / 2).clamp(MIN_CYCLE, MOST);
        let index = self
            .first_free(self.next, end)
            .or_else(|| self.first_free(0, end))?;
        self.next = index + 1;
        if self.last.is_some_and(|last| index <= last) {
            self.seq = (self.seq + 1) % SEQ_END;
        }
        self.last = Some(index);
        self.take(index);
        Some((index, self.seq as u16))
    }

    fn take(&mut self, index: u32) {
        self.taken[index as usize / 64] |= 1 << (index % 64);
        self.in_use += 1;
    }

    /// Gives back an index that [`IdSpace::allocate`] returned.
    pub(crate) fn release(&mut self, index: u32) {
        self.taken[index as usize / 64] &= !(1 << (index % 64));
        self.in_use -= 1;
    }

    /// The highest index taken.
    pub(crate) fn highest(&self) -> Option<u32> {
        let word = self.taken.iter().rposition(|&word| word != 0)?;
        Some(word as u32 * 64 + 63 - self.taken[word].leading_zeros())
    }

    fn first_free(&self, from: u32, end: u32) -> Option<u32> {
        let mut index = from;
        while index < end {
            // Bits below `index` count as taken.
            let free = !self.taken[index as usize / 64] & (u64::MAX << (index % 64));
            if free != 0 {
                let found = index / 64 * 64 + free.trailing_zeros();
                return (found < end).then_some(found);
            }
            index = (index / 64 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_cycle_through_64_and_seq_grows_when_they_start_over() {
        let mut ids = IdSpace::new();
        for round in 0..3u16 {
            for want in 0..64 {
                let (index, seq) = ids.allocate().unwrap();
                assert_eq!((index, seq), (want, round));
                ids.release(index);
            }
        }
    }

    #[test]
    fn the_cycle_is_half_as_long_again_as_what_is_in_use() {
        let mut ids = IdSpace::new();
        for want in 0..100 {
            assert_eq!(ids.allocate().unwrap(), (want, 0));
        }
        // 100 in use: indices up to 149, then from the start.
        for want in 100..150 {
            let (index, seq) = ids.allocate().unwrap();
            assert_eq!((index, seq), (want, 0));
            ids.release(index);
        }
        ids.release(7);
        assert_eq!(ids.allocate().unwrap(), (7, 1));
    }

    #[test]
    fn every_index_can_be_taken_and_no_more() {
        let mut ids = IdSpace::new();
        for _ in 0..MOST {
            ids.allocate().unwrap();
        }
        assert_eq!(ids.highest(), Some(MOST - 1));
        assert_eq!(ids.allocate(), None);
        ids.release(5);
        assert_eq!(ids.allocate().map(|(index, _)| index), Some(5));
    }

    #[test]
    fn an_id_that_is_wanted_is_given_once_and_leaves_the_cycle_as_it_was() {
        let mut ids = IdSpace::new();
        assert_eq!(ids.allocate(), Some((0, 0)));
        for (wanted, got) in [
            (7 << 15 | 1000, (1000, 7)),
            (1000, (1001, 0)),
            (i32::MAX, (MOST - 1, u16::MAX)),
        ] {
            ids.set_next_id(wanted);
            assert_eq!((ids.next_id(), ids.allocate()), (Some(wanted), Some(got)));
            assert_eq!(ids.next_id(), None);
        }
        // The last index is taken, and there is none after it.
        ids.set_next_id(MOST as i32 - 1);
        assert_eq!((ids.allocate(), ids.next_id()), (None, None));
        assert_eq!(ids.allocate(), Some((1, 0)));
    }

    #[test]
    fn the_sequence_number_starts_over() {
        let mut ids = IdSpace::new();
        let mut highest = 0;
        for _ in 0..64 * (SEQ_END + 1) {
            let (index, seq) = ids.allocate().unwrap();
            highest = highest.max(seq);
            ids.release(index);
        }
        assert_eq!(u32::from(highest), SEQ_END - 1);
        assert_eq!(ids.allocate().unwrap(), (0, 1));
    }
}
