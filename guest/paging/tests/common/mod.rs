//! What the tests stand on: a pool of tables that watches its use, and a page walker of its own.
//!
//! The walker shares no code with the crate: it is written from the SDM (3A, 5.5) with its own constants.

use paging::{GuestPhys, TableMemory, TableMemoryMut};
use std::collections::{BTreeMap, BTreeSet};

/// Where the pool's tables lie, guest-physical: far enough from the memory that tests map.
const POOL: u64 = 0x55_0000_0000;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InUse,
    Retired,
    Free,
}

/// Table memory with accounting. Every table is in use, retired (awaiting a flush) or free.
pub(crate) struct Pool {
    tables: Vec<Box<[u64; 512]>>,
    states: Vec<State>,
    /// Allocations that will still succeed.
    pub(crate) budget: Option<u64>,
    pub(crate) root: GuestPhys,
}

/// What a page is mapped to, as hardware would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) phys: u64,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    pub(crate) user: bool,
    pub(crate) accessed: bool,
    pub(crate) dirty: bool,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let mut pool = Pool {
            tables: vec![],
            states: vec![],
            budget: None,
            root: GuestPhys::new(0),
        };
        pool.root = pool.allocate().unwrap();
        pool
    }

    fn index(table: GuestPhys) -> usize {
        let offset = table.get().checked_sub(POOL).expect("below the pool");
        assert_eq!(offset % 4096, 0);
        (offset / 4096) as usize
    }

    fn phys(index: usize) -> GuestPhys {
        GuestPhys::new(POOL + index as u64 * 4096)
    }

    fn count(&self, state: State) -> usize {
        self.states.iter().filter(|&&s| s == state).count()
    }

    pub(crate) fn in_use(&self) -> usize {
        self.count(State::InUse)
    }

    pub(crate) fn retired(&self) -> usize {
        self.count(State::Retired)
    }

    /// The flush has been done everywhere: retired tables may be reused.
    pub(crate) fn spend_flush(&mut self) {
        for state in &mut self.states {
            if *state == State::Retired {
                *state = State::Free;
            }
        }
    }

    /// The content of every table in use.
    pub(crate) fn snapshot(&self) -> BTreeMap<u64, Box<[u64; 512]>> {
        let in_use = (0..self.tables.len()).filter(|&i| self.states[i] == State::InUse);
        in_use
            .map(|i| (Self::phys(i).get(), self.tables[i].clone()))
            .collect()
    }

    /// Walks to `page` (a page number) as an MMU would.
    pub(crate) fn walk(&self, page: u64) -> Option<Seen> {
        let mut table = self.root.get();
        let (mut write, mut user, mut execute) = (true, true, true);
        for level in (0..4).rev() {
            let entry = self.load(GuestPhys::new(table), (page >> (9 * level)) as usize % 512);
            if entry & 1 == 0 {
                return None;
            }
            write &= entry & 2 != 0;
            user &= entry & 4 != 0;
            execute &= entry >> 63 == 0;
            let large = entry & 0x80 != 0;
            assert!(!(large && level == 3), "reserved bit set in the root");
            if level == 0 || large {
                let size = 4096u64 << (9 * level);
                let base = entry & ADDRESS;
                assert_eq!(base % size, 0, "reserved bits set in a large leaf");
                let phys = base + (page * 4096) % size;
                let (accessed, dirty) = (entry & 0x20 != 0, entry & 0x40 != 0);
                return Some(Seen {
                    phys,
                    write,
                    execute,
                    user,
                    accessed,
                    dirty,
                });
            }
            table = entry & ADDRESS;
        }
        unreachable!()
    }

    /// Checks what must hold of the whole tree: each table in use is led to exactly once, none is empty (but
    /// those all roots share), counts are exact, none leads to a table that is not in use. Returns the tree's
    /// leaves: page number to pages.
    pub(crate) fn check(&self) -> BTreeMap<u64, u64> {
        let mut reached = BTreeSet::from([self.root.get()]);
        let mut leaves = BTreeMap::new();
        self.check_below(self.root, 4, 0, &mut reached, &mut leaves);
        assert_eq!(
            reached.len(),
            self.in_use(),
            "a table in use is not part of the tree"
        );
        leaves
    }

    fn check_below(
        &self,
        table: GuestPhys,
        level: u32,
        base: u64,
        reached: &mut BTreeSet<u64>,
        leaves: &mut BTreeMap<u64, u64>,
    ) -> usize {
        let mut used = 0;
        for index in 0..512u64 {
            let entry = self.load(table, index as usize);
            if entry == 0 {
                continue;
            }
            used += 1;
            let size = 1 << (9 * (level - 1));
            let mut page = base + index * size;
            if level == 4 && index >= 256 {
                // Sign extension.
                page |= 0xf_fff0_0000_0000;
            }
            if level == 1 || entry & 0x80 != 0 {
                leaves.insert(page, size);
                continue;
            }
            assert_eq!(
                entry & 0x23,
                0x23,
                "P, W and A are set in every entry that leads to a table"
            );
            let below = entry & ADDRESS;
            assert!(reached.insert(below), "two entries lead to {below:#x}");
            assert_eq!(self.states[Self::index(GuestPhys::new(below))], State::InUse);
            let live = self.check_below(GuestPhys::new(below), level - 1, page, reached, leaves);
            if level == 4 && index >= 256 {
                assert_eq!(entry >> 52 & 0x3ff, 0);
            } else {
                assert!(live > 0, "table {below:#x} is empty");
                assert_eq!(entry >> 52 & 0x3ff, live as u64, "count of table {below:#x}");
            }
        }
        used
    }
}

impl TableMemory for Pool {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        let number = Self::index(table);
        assert_eq!(
            self.states[number],
            State::InUse,
            "load from a table not in use: {table:?}"
        );
        self.tables[number][index]
    }
}

impl TableMemoryMut for Pool {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        let number = Self::index(table);
        assert_eq!(
            self.states[number],
            State::InUse,
            "store to a table not in use: {table:?}"
        );
        self.tables[number][index] = value;
    }

    fn allocate(&mut self) -> Option<GuestPhys> {
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(1)?;
        }
        // The one freed last first, so that a stale entry shows.
        let number = self
            .states
            .iter()
            .rposition(|&s| s == State::Free)
            .unwrap_or_else(|| {
                self.tables.push(Box::new([0; 512]));
                self.states.push(State::Free);
                self.tables.len() - 1
            });
        self.states[number] = State::InUse;
        Some(Self::phys(number))
    }

    fn retire(&mut self, table: GuestPhys) {
        let number = Self::index(table);
        assert_eq!(self.states[number], State::InUse, "retired twice: {table:?}");
        assert!(
            self.tables[number].iter().all(|&e| e == 0),
            "retired before it was empty: {table:?}"
        );
        for (other, entries) in self.tables.iter().enumerate() {
            if self.states[other] == State::InUse {
                let leads = |&e: &u64| e & 1 != 0 && e & ADDRESS == table.get();
                assert!(
                    !entries.iter().any(leads),
                    "retired while an entry leads to it: {table:?}"
                );
            }
        }
        self.states[number] = State::Retired;
    }
}
