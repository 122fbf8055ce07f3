//! mremap that leaves the old place mapped: who has which page then, and that all come back.

use super::super::area::{Backing, Prot};
use super::super::{Access, AddressSpace, Fault, Memory, Placement};
use super::{FakeWorld, end, loaded_space, memory};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Leaf, Rights, lookup};

const OLD: GuestVirt = GuestVirt::new(0x7000_0000_0000);
/// As far from a 2 MiB boundary as `OLD`, and not.
const PLACES: [GuestVirt; 2] = [GuestVirt::new(0x7100_0000_0000), GuestVirt::new(0x7100_0000_3000)];
const BLOCK: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;
const MAYMOVE: u64 = 1;
const KEEP_FIXED: u64 = 1 | 2 | 4;

/// Shared memory of so many pages.
const fn shared(pages: u64) -> Backing {
    Backing::SharedAnonymous {
        byte: 0,
        first: 0,
        len: pages * PAGE_SIZE,
    }
}

struct Guest {
    memory: Memory,
    world: FakeWorld,
    space: AddressSpace,
}

impl Guest {
    /// `pages` pages at `OLD`, of which those in `touched` hold their numbers, low byte.
    fn new(backing: Backing, pages: u64, touched: impl Iterator<Item = u64>) -> Guest {
        let mut memory = memory();
        let space = loaded_space(&mut memory);
        let world = FakeWorld::default();
        let mut guest = Guest { memory, world, space };
        let Guest { memory, world, space } = &mut guest;
        let (at, len) = (Placement::Fixed(OLD), pages * PAGE_SIZE);
        space
            .map(
                memory,
                world,
                at,
                len,
                Prot::READ | Prot::WRITE,
                Prot::all(),
                backing,
            )
            .unwrap();
        for page in touched {
            guest.write(OLD, page, page as u8);
        }
        guest
    }

    fn write(&mut self, at: GuestVirt, page: u64, value: u8) {
        let Guest { memory, world, space } = self;
        let at = at.add(page * PAGE_SIZE).get();
        space.write(memory, world, at, &[value]).unwrap();
    }

    fn read(&mut self, at: GuestVirt, page: u64) -> u8 {
        let Guest { memory, world, space } = self;
        let mut byte = [0];
        let at = at.add(page * PAGE_SIZE).get();
        space.read(memory, world, at, &mut byte).unwrap();
        byte[0]
    }

    fn remap(
        &mut self,
        page: u64,
        old: u64,
        new: u64,
        flags: u64,
        to: GuestVirt,
    ) -> Result<GuestVirt, Errno> {
        let Guest { memory, world, space } = self;
        let from = OLD.add(page * PAGE_SIZE);
        space.remap(memory, world, from, old * PAGE_SIZE, new * PAGE_SIZE, flags, to)
    }

    fn leaf(&self, at: GuestVirt, page: u64) -> Option<Leaf> {
        lookup(&self.memory.frames, self.space.root(), at.add(page * PAGE_SIZE))
    }

    /// The frame of a page.
    fn frame(&self, at: GuestVirt, page: u64) -> Option<GuestPhys> {
        let (leaf, page) = (self.leaf(at, page)?, at.add(page * PAGE_SIZE));
        Some(leaf.phys.add(page.get() - leaf.virt.get()))
    }

    fn unmap(&mut self, at: GuestVirt, page: u64, pages: u64) {
        let Guest { memory, world, space } = self;
        let at = at.add(page * PAGE_SIZE);
        space.unmap(memory, world, at, pages * PAGE_SIZE).unwrap();
    }

    fn finish(self) {
        let Guest {
            mut memory,
            mut world,
            space,
        } = self;
        end(&mut memory, &mut world, space);
        assert_eq!(memory.frames.free_frames(), memory.frames.total());
    }
}

#[test]
fn shared_pages_at_a_second_place_are_the_same_and_come_back_once() {
    for to in PLACES {
        // All of it, of which some has been touched; a part that cuts large pages at both ends.
        for (from, pages) in [(0, 3 * BLOCK), (BLOCK / 2, BLOCK + 7), (5, 9)] {
            for gone_first in [OLD, to] {
                let touched = [0, 6, BLOCK - 1, BLOCK + 3];
                let mut guest = Guest::new(shared(3 * BLOCK), 3 * BLOCK, touched.into_iter());
                assert_eq!(guest.remap(from, 0, pages, KEEP_FIXED & 3, to), Ok(to));
                for page in 0..pages {
                    let (old, new) = (guest.frame(OLD, from + page), guest.frame(to, page));
                    assert!(old.is_some() && old == new, "page {page}: {old:?}, {new:?}");
                    for leaf in [guest.leaf(OLD, from + page), guest.leaf(to, page)] {
                        assert!(leaf.unwrap().rights.contains(Rights::COUNTED | Rights::WRITE));
                    }
                }
                guest.write(to, 2, 99);
                assert_eq!(guest.read(OLD, from + 2), 99);
                let survivor = if gone_first == OLD { to } else { OLD };
                guest.unmap(gone_first, 0, 3 * BLOCK);
                let base = if survivor == OLD { from } else { 0 };
                assert_eq!(guest.read(survivor, base + 2), 99);
                // What is given to others now is not what the survivor has.
                let free = guest.memory.frames.take(64).unwrap();
                for page in 0..pages {
                    let frame = guest.frame(survivor, base + page).unwrap().get();
                    assert!(!(free.start.get()..free.start.get() + free.len()).contains(&frame));
                }
                guest.memory.frames.give_back(free);
                guest.finish();
            }
        }
    }
}

#[test]
fn shared_memory_ends_where_it_ended_when_it_was_mapped() {
    // Grown in its place, moved while growing, seen from a second place that is longer.
    for (old, flags, to) in [
        (5, 0, OLD),
        (5, MAYMOVE, OLD),
        (5, 3, PLACES[1]),
        (0, 3, PLACES[1]),
    ] {
        let mut guest = Guest::new(shared(5), 5, 0..5);
        let at = guest.remap(0, old, 3 * BLOCK, flags, to).unwrap();
        let fault = |guest: &mut Guest, page: u64| {
            let Guest { memory, world, space } = guest;
            space.fault(memory, world, at.add(page * PAGE_SIZE), Access::Write)
        };
        let missing = [5, 6, BLOCK, 3 * BLOCK - 1];
        assert_eq!(fault(&mut guest, 4), Ok(()));
        for page in missing {
            assert_eq!(fault(&mut guest, page), Err(Fault::BeyondEnd), "page {page}");
        }
        assert_eq!(
            (0..5).map(|page| guest.read(at, page)).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        // A fork shares what there is.
        let Guest { memory, world, space } = &mut guest;
        let child = space.fork(memory, world).unwrap();
        for page in missing {
            assert_eq!(
                lookup(&memory.frames, child.root(), at.add(page * PAGE_SIZE)),
                None
            );
        }
        end(memory, world, child);
        guest.finish();
    }
}

#[test]
fn private_pages_that_move_leave_none_behind() {
    for to in PLACES {
        for (from, pages) in [(0, 2 * BLOCK), (BLOCK / 2, BLOCK), (1, 3)] {
            let mut guest = Guest::new(Backing::Anonymous, 2 * BLOCK, 0..2 * BLOCK);
            let frames: Vec<_> = (0..pages).map(|page| guest.frame(OLD, from + page)).collect();
            assert_eq!(guest.remap(from, pages, pages, KEEP_FIXED, to), Ok(to));
            for page in 0..pages {
                assert_eq!(guest.frame(to, page), frames[page as usize]);
                assert_eq!(guest.leaf(OLD, from + page), None);
            }
            assert_eq!(guest.read(to, pages - 1), (from + pages - 1) as u8);
            assert_eq!(guest.read(OLD, from), 0);
            guest.write(OLD, from, 5);
            assert_eq!(guest.read(to, 0), from as u8);
            guest.finish();
        }
    }
}

#[test]
fn private_memory_has_no_second_place() {
    let mut guest = Guest::new(Backing::Anonymous, 4, 0..4);
    assert_eq!(
        guest.remap(0, 0, 4, MAYMOVE, GuestVirt::new(0)),
        Err(Errno::EINVAL)
    );
    guest.finish();
}

#[test]
fn a_second_place_that_lacks_tables_changes_nothing() {
    for backing in [shared(2 * BLOCK), Backing::Anonymous] {
        for pages in [9, BLOCK, 2 * BLOCK] {
            let mut refused = 0;
            for left in 0.. {
                let mut guest = Guest::new(backing, 2 * BLOCK, 0..2 * BLOCK);
                let before: Vec<_> = (0..2 * BLOCK).map(|page| guest.frame(OLD, page)).collect();
                // All frames but a few are somebody else's.
                let mut taken = vec![];
                while guest.memory.frames.free_frames() > left {
                    let most = guest.memory.frames.free_frames() - left;
                    taken.push(guest.memory.frames.take(most).unwrap());
                }
                let answer = guest.remap(3, pages - 5, pages - 5, KEEP_FIXED, PLACES[1]);
                if answer == Err(Errno::ENOMEM) {
                    refused += 1;
                    // A large leaf may have been split on the way, but maps what it mapped.
                    let after: Vec<_> = (0..2 * BLOCK).map(|page| guest.frame(OLD, page)).collect();
                    assert!(before == after, "with {left} frames");
                    assert_eq!(guest.leaf(PLACES[1], 0), None);
                }
                for page in 0..2 * BLOCK {
                    let moved =
                        answer.is_ok() && backing == Backing::Anonymous && (3..pages - 2).contains(&page);
                    if !moved {
                        assert_eq!(
                            guest.read(OLD, page),
                            page as u8,
                            "page {page} with {left} frames"
                        );
                    }
                }
                taken
                    .into_iter()
                    .for_each(|run| guest.memory.frames.give_back(run));
                guest.finish();
                if answer.is_ok() {
                    break;
                }
            }
            assert!(refused > 1, "{refused}");
        }
    }
}
