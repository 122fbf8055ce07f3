//! Tables taken before a change begins, so that the change itself cannot fail.
//!
//! The tables wait as a chain: each one's entry 0 holds the next one's address (not present, so it would mean
//! nothing even to a CPU; no CPU can see it). No list, no limit.

use crate::{GuestPhys, MapError, TableMemoryMut};

/// Zeroed tables in reserve, exactly as many as a change needs.
pub(crate) struct Spare {
    head: GuestPhys,
    left: u64,
}

impl Spare {
    /// Takes `count` tables, or none.
    pub(crate) fn allocate(mem: &mut impl TableMemoryMut, count: u64) -> Result<Spare, MapError> {
        let mut spare = Spare {
            head: GuestPhys::new(0),
            left: 0,
        };
        while spare.left < count {
            let Some(table) = mem.allocate() else {
                while spare.left > 0 {
                    let table = spare.take(mem);
                    mem.retire(table);
                }
                return Err(MapError::OutOfTables);
            };
            if spare.left > 0 {
                mem.store(table, 0, spare.head.get());
            }
            spare.head = table;
            spare.left += 1;
        }
        Ok(spare)
    }

    /// One zeroed table. Whoever allocated has counted right.
    pub(crate) fn take(&mut self, mem: &mut impl TableMemoryMut) -> GuestPhys {
        assert!(self.left > 0, "page tables needed were counted wrong");
        let table = self.head;
        self.left -= 1;
        if self.left > 0 {
            self.head = GuestPhys::new(mem.load(table, 0));
            mem.store(table, 0, 0);
        }
        table
    }

    /// Checks that nothing is left over.
    pub(crate) fn finish(self) {
        debug_assert!(self.left == 0, "{} page tables left over", self.left);
    }
}
