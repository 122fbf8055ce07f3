//! Shared page tables: what makes an attach O(1).
//!
//! A piece of a segment is mapped by one table for the whole guest, and every process that attaches it links that table
//! ([`paging::share`]): one entry for 1 GiB of 2 MiB leaves, or for what a page table holds. [`SharedTables`] knows
//! which there are, by where their piece lies in a window, and counts the links. A table is made by the first attach
//! and retired with the last link, so it is gone before its range of the window can be another segment's.
//!
//! [`piece`] says how an attach is put together. A handful of entries is cheaper to store than a table is to find, and
//! claims no more addresses than it needs, so pieces of at most [`FEW`] entries are stored by each process.

use super::Frames;
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::entry::Entry;
use paging::share::{MOST_SHARED, claimed_by_link, table_below};
use paging::{GuestPhys, GuestVirt, TableMemory, make_shared};

/// Entries that a process stores itself rather than link a table with them.
pub const FEW: u64 = 16;
const LARGE_PAGES: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;

/// How the first pages of (a rest of) an attach are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// By a shared table with so many.
    Linked(u64),
    /// By so many pages' own entries.
    Own(u64),
}

impl Piece {
    /// Pages.
    pub const fn pages(self) -> u64 {
        match self {
            Piece::Linked(pages) | Piece::Own(pages) => pages,
        }
    }
}

/// How to begin mapping `pages` pages of a segment, from a 2 MiB boundary of it on, at `at`.
pub fn piece(at: GuestVirt, pages: u64) -> Piece {
    if pages > FEW * LARGE_PAGES && at.is_aligned(MOST_SHARED * PAGE_SIZE) {
        Piece::Linked(pages.min(MOST_SHARED))
    } else if pages >= LARGE_PAGES {
        Piece::Own(pages & !(LARGE_PAGES - 1))
    } else if pages > FEW && at.is_aligned(LARGE_PAGE_SIZE) {
        Piece::Linked(pages)
    } else {
        Piece::Own(pages)
    }
}

/// What an address should be a multiple of to have a segment of `pages` pages linked.
pub fn alignment(pages: u64) -> u64 {
    if pages > FEW * LARGE_PAGES {
        MOST_SHARED * PAGE_SIZE
    } else if pages > FEW {
        LARGE_PAGE_SIZE
    } else {
        PAGE_SIZE
    }
}

/// Bytes that a whole segment of `pages` pages at `at` takes, with what the link at its end claims.
pub fn claim(at: GuestVirt, pages: u64) -> u64 {
    if pages <= FEW {
        return pages * PAGE_SIZE;
    }
    let mut rest = pages;
    if pages > FEW * LARGE_PAGES && at.is_aligned(MOST_SHARED * PAGE_SIZE) {
        rest %= MOST_SHARED;
    }
    // At most a link, some large pages, and a link or single pages: all begin at boundaries of what they claim.
    while rest > 0 {
        let start = at.add((pages - rest) * PAGE_SIZE);
        match piece(start, rest) {
            Piece::Linked(last) if last == rest => return (pages - rest + claimed_by_link(last)) * PAGE_SIZE,
            piece => rest -= piece.pages(),
        }
    }
    pages * PAGE_SIZE
}

/// Most tables there can be: more than there are segments, in both windows.
const MOST: usize = 3 * SLOTS / 4;
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 14;

/// A shared table; the slot is free if it has no links.
#[derive(Clone, Copy)]
struct Slot {
    /// First address of what it maps.
    start: GuestPhys,
    table: GuestPhys,
    pages: u32,
    links: u32,
}

impl Slot {
    const FREE: Slot = Slot {
        start: GuestPhys::new(0),
        table: GuestPhys::new(0),
        pages: 0,
        links: 0,
    };
}

#[cfg(target_os = "none")]
static TABLE: Reserve<[Slot; SLOTS]> = Reserve::new([Slot::FREE; SLOTS]);

/// All shared tables: a hash table with linear probing.
pub struct SharedTables {
    slots: &'static mut [Slot],
    used: usize,
}

impl SharedTables {
    /// None, until `init`.
    pub const fn empty() -> SharedTables {
        SharedTables {
            slots: &mut [],
            used: 0,
        }
    }

    /// Takes the slots. Once.
    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let slots = TABLE.take().expect("a kernel has one table of shared tables");
        #[cfg(not(target_os = "none"))]
        let slots = Box::leak(vec![Slot::FREE; SLOTS].into_boxed_slice());
        self.slots = slots;
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Where to begin looking (Knuth, TAOCP 3, 6.4: multiplication by 2^64 / the golden ratio).
    fn home(start: GuestPhys) -> usize {
        ((start.get() / PAGE_SIZE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize
    }

    /// The slot of what starts there, or the free one where it would be. There always is a free one.
    fn place(&self, start: GuestPhys) -> usize {
        let mut at = Self::home(start);
        while self.slots[at].links != 0 && self.slots[at].start != start {
            at = (at + 1) % SLOTS;
        }
        at
    }

    /// Frees a slot, and moves those after it that are to be found from before it.
    fn remove(&mut self, mut hole: usize) {
        self.used -= 1;
        let mut at = hole;
        loop {
            self.slots[hole].links = 0;
            loop {
                at = (at + 1) % SLOTS;
                if self.slots[at].links == 0 {
                    return;
                }
                let home = Self::home(self.slots[at].start);
                if at.wrapping_sub(home) % SLOTS >= at.wrapping_sub(hole) % SLOTS {
                    break;
                }
            }
            self.slots[hole] = self.slots[at];
            hole = at;
        }
    }
}

impl Frames {
    /// The shared table for the `pages` pages from `start` on, made if there is none. Its link, which counts already, is
    /// to be stored, or given back ([`Frames::drop_link`]). `None` without a frame or a slot for it, or if what starts
    /// there has been shared in another size.
    pub fn shared_table(&mut self, start: GuestPhys, pages: u64) -> Option<GuestPhys> {
        let at = self.shared.place(start);
        let slot = &mut self.shared.slots[at];
        if slot.links != 0 {
            if u64::from(slot.pages) != pages || slot.links == u32::MAX {
                return None;
            }
            slot.links += 1;
            return Some(slot.table);
        }
        if self.shared.used == MOST {
            return None;
        }
        let table = make_shared(self, start, pages).ok()?;
        self.shared.slots[at] = Slot {
            start,
            table,
            pages: pages as u32,
            links: 1,
        };
        self.shared.used += 1;
        Some(table)
    }

    /// One link less leads to `table`, a shared one. With the last its frames retire.
    pub fn drop_link(&mut self, table: GuestPhys) {
        let start = GuestPhys::new(self.load(table, 0) & Entry::ADDRESS);
        let at = self.shared.place(start);
        let slot = &mut self.shared.slots[at];
        debug_assert!(
            slot.table == table && slot.links > 0,
            "no shared table at {table:?}"
        );
        slot.links -= 1;
        if slot.links == 0 {
            let pages = u64::from(slot.pages);
            // Still in use for who looks for others, until it is removed.
            slot.links = 1;
            self.shared.remove(at);
            let below = table_below(self, table, pages);
            for table in below.into_iter().chain([table]) {
                self.retire_frames(table, PAGE_SIZE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB_PAGES: u64 = MOST_SHARED;

    fn pieces(at: GuestVirt, pages: u64) -> Vec<Piece> {
        let mut all = vec![];
        let mut done = 0;
        while done < pages {
            let next = piece(at.add(done * PAGE_SIZE), pages - done);
            all.push(next);
            done += next.pages();
        }
        all
    }

    #[test]
    fn a_segment_of_any_size_takes_few_links_and_few_entries() {
        use Piece::{Linked, Own};
        let aligned = GuestVirt::new(1 << 40);
        assert_eq!(pieces(aligned, 1), [Own(1)]);
        assert_eq!(pieces(aligned, 16), [Own(16)]);
        assert_eq!(pieces(aligned, 17), [Linked(17)]);
        assert_eq!(pieces(aligned, 512), [Own(512)]);
        assert_eq!(pieces(aligned, 16 * 512 + 100), [Linked(16 * 512 + 100)]);
        assert_eq!(pieces(aligned, 3 * 512 + 100), [Own(3 * 512), Linked(100)]);
        assert_eq!(pieces(aligned, GIB_PAGES), [Linked(GIB_PAGES)]);
        assert_eq!(
            pieces(aligned, 2 * GIB_PAGES + 513),
            [Linked(GIB_PAGES), Linked(GIB_PAGES), Own(512), Own(1)]
        );
        assert_eq!(pieces(aligned.add(PAGE_SIZE), 300), [Own(300)]);
    }

    #[test]
    fn a_claim_is_what_the_last_link_takes() {
        let aligned = GuestVirt::new(1 << 40);
        for (pages, claimed) in [
            (1, 1),
            (16, 16),
            (17, 512),
            (512, 512),
            (513, 513),
            (600, 1024),
            (16 * 512, 16 * 512),
            (16 * 512 + 1, GIB_PAGES),
            (GIB_PAGES, GIB_PAGES),
            (GIB_PAGES + 1, GIB_PAGES + 1),
            (GIB_PAGES + 100, GIB_PAGES + 512),
            (2 * GIB_PAGES - 1, 2 * GIB_PAGES),
        ] {
            assert_eq!(claim(aligned, pages), claimed * PAGE_SIZE, "{pages}");
        }
        assert_eq!(claim(aligned.add(PAGE_SIZE), 17), 17 * PAGE_SIZE);
        assert_eq!(
            claim(aligned.add(LARGE_PAGE_SIZE), 16 * 512 + 17),
            (17 * 512) * PAGE_SIZE
        );
    }

    #[test]
    fn slots_are_found_whatever_has_been_removed() {
        let mut tables = SharedTables::empty();
        tables.init();
        let start = |number: u64| GuestPhys::new((1 << 40) + number * 7 * PAGE_SIZE);
        let mut there = std::collections::BTreeSet::new();
        let mut seed = 1u64;
        for _ in 0..40_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (seed >> 33) % 9000;
            let at = tables.place(start(number));
            if there.remove(&number) {
                assert_eq!(
                    (tables.slots[at].start, tables.slots[at].links),
                    (start(number), 1)
                );
                tables.remove(at);
            } else {
                assert_eq!(tables.slots[at].links, 0);
                tables.slots[at] = Slot {
                    start: start(number),
                    links: 1,
                    ..Slot::FREE
                };
                tables.used += 1;
                there.insert(number);
            }
            assert_eq!(tables.len(), there.len());
        }
        for number in 0..9000 {
            let found = tables.slots[tables.place(start(number))].links;
            assert_eq!(found == 1, there.contains(&number));
        }
    }
}
