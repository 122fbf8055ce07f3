//! Shared tables: one test for each rule of attaching by links (docs/architecture.md, "The life of an attach").

use super::super::area::{Backing, Prot, Window};
use super::super::{AddressSpace, Placement};
use super::space::{Guest, RW, guest, segment};
use super::{FakeWorld, KERNEL_ROOT, LOADED, leaves, tables};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::entry::Entry;
use paging::{GuestPhys, GuestVirt, Rights, TableMemory, lookup};

const GIB: u64 = 1 << 30;
/// Sizes in pages that are linked: a page table, one with large pages before it, a directory, two directories.
const SIZES: [u64; 4] = [100, 3 * 512 + 40, 40 * 512 + 7, 262_144 + 17 * 512];

/// The entries of a process that link shared tables: table, and what the link allows.
fn links(guest: &Guest, space: &AddressSpace) -> Vec<(u64, u64)> {
    let mut found = vec![];
    let mut level = vec![space.root()];
    for depth in 0..3 {
        let mut below = vec![];
        for table in level {
            for index in 0..if depth == 0 { 256 } else { 512 } {
                let entry = guest.memory.frames.load(table, index);
                let is_leaf = depth > 0 && entry & Entry::LARGE != 0;
                if entry & Entry::PRESENT == 0 || is_leaf {
                } else if entry & Entry::SHARED != 0 {
                    let allowed = entry & (Entry::WRITE | Entry::USER | Entry::NO_EXECUTE);
                    found.push((entry & Entry::ADDRESS, allowed));
                } else {
                    below.push(GuestPhys::new(entry & Entry::ADDRESS));
                }
            }
        }
        level = below;
    }
    found
}

/// A second process.
fn other(guest: &mut Guest) -> AddressSpace {
    let mut space = AddressSpace::new(&mut guest.memory, KERNEL_ROOT).unwrap();
    space.loaded = LOADED;
    space
}

/// Does something as the process `space`.
fn as_other<R>(guest: &mut Guest, space: &mut AddressSpace, act: impl FnOnce(&mut Guest) -> R) -> R {
    std::mem::swap(&mut guest.space, space);
    let result = act(guest);
    std::mem::swap(&mut guest.space, space);
    result
}

fn ends(mut guest: Guest, others: impl IntoIterator<Item = AddressSpace>) {
    for mut space in others {
        space.loaded = 0;
        space.destroy(&mut guest.memory, &mut guest.world);
    }
    guest.end();
}

/// Everything a process can see from `at` on: address, memory, rights of each page.
fn view(guest: &Guest, space: &AddressSpace, at: GuestVirt, pages: u64) -> Vec<Option<(u64, Rights)>> {
    let seen = |page: u64| {
        let virt = at.add(page * PAGE_SIZE);
        let leaf = lookup(&guest.memory.frames, space.root(), virt)?;
        Some((leaf.phys.get() + (virt.get() - leaf.virt.get()), leaf.rights))
    };
    (0..pages).map(seen).collect()
}

/// What is to be seen of a whole segment.
fn whole(gpa: GuestPhys, pages: u64, rights: Rights) -> Vec<Option<(u64, Rights)>> {
    (0..pages)
        .map(|page| Some((gpa.get() + page * PAGE_SIZE, rights)))
        .collect()
}

#[test]
fn from_the_second_process_on_an_attach_is_a_link_and_no_table() {
    for pages in SIZES {
        let mut guest = guest();
        let mut second = other(&mut guest);
        let segment = segment(1, Window::ReadWrite, pages);
        let at = guest.attach(None, segment).unwrap();
        let first = links(&guest, &guest.space);
        assert!(!first.is_empty(), "{pages}");
        let there = as_other(&mut guest, &mut second, |guest| {
            guest.attach(None, segment).unwrap()
        });
        assert_eq!(there, at);
        assert_eq!(links(&guest, &second), first);
        let (ours, theirs) = (
            tables(&guest.memory, &guest.space),
            tables(&guest.memory, &second),
        );
        // What leads there is each one's own: three tables at most, and large pages' directory.
        assert!(theirs.difference(&ours).count() <= 3);
        let expected = whole(segment.gpa, pages, RW.rights());
        assert_eq!(view(&guest, &guest.space, at, pages), expected);
        assert_eq!(view(&guest, &second, there, pages), expected);
        ends(guest, [second]);
    }
}

#[test]
fn a_small_attach_is_not_linked_and_lies_beside_its_neighbour() {
    let mut guest = guest();
    let first = guest.attach(None, segment(1, Window::ReadWrite, 16)).unwrap();
    let second = guest.attach(None, segment(2, Window::ReadWrite, 1)).unwrap();
    assert_eq!(second.add(PAGE_SIZE), first);
    assert_eq!(links(&guest, &guest.space), []);
    guest.end();
}

#[test]
fn rights_are_the_links_alone() {
    let mut guest = guest();
    let mut second = other(&mut guest);
    let segment = segment(1, Window::ReadWrite, 100);
    let at = guest.attach(None, segment).unwrap();
    let Guest { memory, world, .. } = &mut guest;
    world.attaches.entry(1).and_modify(|count| *count += 1);
    let there = second
        .attach(memory, world, None, segment, Prot::READ | Prot::EXECUTE)
        .unwrap();
    let (ours, theirs) = (links(&guest, &guest.space), links(&guest, &second));
    assert_eq!(ours[0].0, theirs[0].0);
    assert_ne!(ours[0].1, theirs[0].1);
    assert_eq!(
        view(&guest, &guest.space, at, 100),
        whole(segment.gpa, 100, RW.rights())
    );
    let rights = Rights::USER | Rights::EXECUTE;
    assert_eq!(view(&guest, &second, there, 100), whole(segment.gpa, 100, rights));
    for index in 0..512 {
        let leaf = guest.memory.frames.load(GuestPhys::new(ours[0].0), index);
        let all = Entry::PRESENT | Entry::WRITE | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
        let expected = if index < 100 {
            all | (segment.gpa.get() + index as u64 * PAGE_SIZE)
        } else {
            0
        };
        assert_eq!(leaf, expected, "entry {index}");
    }
    ends(guest, [second]);
}

/// What a process does to a part of its attach at that address.
type Act = fn(&mut Guest, GuestVirt);

/// All that has to give a process entries of its own, and how many pages of them there are still.
const ACTS: [(&str, Act); 8] = [
    ("mprotect of a part", |guest, at| {
        guest.protect(at.add(3 * PAGE_SIZE), 2, Prot::READ).unwrap();
    }),
    ("mprotect of all", |guest, at| {
        let pages = guest.space.area_at(&guest.memory, at).unwrap().len() / PAGE_SIZE;
        guest.protect(at, pages, Prot::READ).unwrap();
    }),
    ("munmap of a part", |guest, at| {
        guest.unmap(at.add(PAGE_SIZE), 5).unwrap()
    }),
    ("munmap of the end", |guest, at| {
        let len = guest.space.area_at(&guest.memory, at).unwrap().len();
        guest.unmap(at.add(len - PAGE_SIZE), 1).unwrap();
    }),
    ("MAP_FIXED over a part", |guest, at| {
        map_fixed(guest, at.add(2 * PAGE_SIZE), 1);
    }),
    ("MAP_FIXED behind it, in what the link claims", |guest, at| {
        let area = guest.space.area_at(&guest.memory, at).unwrap();
        assert!(area.claimed_end() > area.end);
        map_fixed(guest, area.end, 1);
        guest.write(area.end, &[1]).unwrap();
    }),
    ("SHM_REMAP over a part", |guest, at| {
        let Guest { memory, world, space } = guest;
        *world.attaches.entry(2).or_default() += 1;
        let small = segment(2, Window::ReadWrite, 1);
        space
            .attach_replacing(memory, world, at.add(PAGE_SIZE), small, RW)
            .unwrap();
    }),
    ("mremap of a part", |guest, at| {
        let Guest { memory, world, space } = guest;
        let (len, to) = (2 * PAGE_SIZE, GuestVirt::new(7 * GIB));
        space
            .remap(memory, world, at.add(4 * PAGE_SIZE), len, len, 3, to)
            .unwrap();
    }),
];

fn map_fixed(guest: &mut Guest, at: GuestVirt, pages: u64) {
    guest
        .map(Placement::Fixed(at), pages, RW, Backing::Anonymous)
        .unwrap();
}

#[test]
fn what_changes_a_part_changes_one_processs_own_entries() {
    // The parts lie in the first link.
    for pages in [SIZES[0], SIZES[2], SIZES[3]] {
        for (name, act) in ACTS {
            let mut guest = guest();
            let mut second = other(&mut guest);
            let segment = segment(1, Window::ReadWrite, pages);
            let at = guest.attach(None, segment).unwrap();
            as_other(&mut guest, &mut second, |guest| {
                guest.attach(None, segment).unwrap()
            });
            let (before, count) = (links(&guest, &second), links(&guest, &guest.space).len());
            let contents = |guest: &Guest| -> Vec<u64> {
                let tables = before.iter().map(|&(table, _)| GuestPhys::new(table));
                tables
                    .flat_map(|table| (0..512).map(move |index| (table, index)))
                    .map(|(table, index)| guest.memory.frames.load(table, index))
                    .collect()
            };
            let was = contents(&guest);
            guest.world.flushed.clear();
            act(&mut guest, at);
            assert!(!guest.world.flushed.is_empty(), "{name}");
            assert!(links(&guest, &guest.space).len() < count, "{name}, {pages} pages");
            assert_eq!(links(&guest, &second), before, "{name}, {pages} pages");
            assert_eq!(contents(&guest), was, "{name}, {pages} pages");
            let expected = whole(segment.gpa, pages, RW.rights());
            assert_eq!(
                view(&guest, &second, at, pages),
                expected,
                "{name}, {pages} pages"
            );
            // And everything goes.
            guest.detach(at).unwrap();
            ends(guest, [second]);
        }
    }
}

#[test]
fn a_change_of_tables_without_a_frame_for_them_is_enomem_and_changes_nothing() {
    let mut guest = guest();
    let segment = segment(1, Window::ReadWrite, 100);
    let at = guest.attach(None, segment).unwrap();
    let before = (links(&guest, &guest.space), guest.areas());
    guest.with_frames(0, |guest| {
        assert_eq!(guest.protect(at, 2, Prot::READ), Err(Errno::ENOMEM));
        assert_eq!(guest.unmap(at, 2), Err(Errno::ENOMEM));
    });
    assert_eq!((links(&guest, &guest.space), guest.areas()), before);
    assert_eq!(guest.nattch(1), 1);
    // Whole, it needs none.
    guest.with_frames(0, |guest| guest.detach(at).unwrap());
    guest.end();
}

#[test]
fn a_fork_copies_the_link_unless_the_parent_has_entries_of_its_own() {
    for pages in SIZES {
        let mut guest = guest();
        let segment = segment(1, Window::ReadWrite, pages);
        let at = guest.attach(None, segment).unwrap();
        let Guest { memory, world, space } = &mut guest;
        let mut child = space.fork(memory, world).unwrap();
        child.loaded = LOADED;
        assert_eq!(links(&guest, &child), links(&guest, &guest.space));
        guest.protect(at, 1, Prot::READ).unwrap();
        let Guest { memory, world, space } = &mut guest;
        let mut second = space.fork(memory, world).unwrap();
        second.loaded = LOADED;
        for space in [&guest.space, &second] {
            let rights = view(&guest, space, at, 2).into_iter().map(|page| page.unwrap().1);
            assert!(rights.eq([Prot::READ.rights(), RW.rights()]));
        }
        assert_eq!(
            view(&guest, &child, at, pages),
            whole(segment.gpa, pages, RW.rights())
        );
        ends(guest, [child, second]);
    }
}

#[test]
fn what_a_link_claims_is_left_free_by_whoever_may_choose() {
    for pages in SIZES {
        let mut guest = guest();
        let at = guest.attach(None, segment(1, Window::ReadWrite, pages)).unwrap();
        let area = guest.space.area_at(&guest.memory, at).unwrap();
        let claimed = area.claimed_end();
        assert!(claimed > area.end, "{pages}");
        let before = links(&guest, &guest.space);
        for len in [1, 3, 511, 700] {
            let there = guest
                .map(Placement::Anywhere, len, RW, Backing::Anonymous)
                .unwrap();
            let end = there.add(len * PAGE_SIZE);
            assert!(
                end <= at || there >= claimed,
                "{there:?} lies in {at:?} to {claimed:?}"
            );
            guest.write(there, &[1]).unwrap();
        }
        assert_eq!(links(&guest, &guest.space), before);
        guest.end();
    }
}

#[test]
fn an_address_of_the_callers_gets_a_link_where_it_is_aligned_and_alone() {
    let large = GuestVirt::new(6 * GIB);
    let mut guest = guest();
    let one = segment(1, Window::ReadWrite, 100);
    guest.attach(Some(large), one).unwrap();
    assert_eq!(links(&guest, &guest.space).len(), 1);
    guest
        .attach(Some(large.add(LARGE_PAGE_SIZE + PAGE_SIZE)), one)
        .unwrap();
    assert_eq!(links(&guest, &guest.space).len(), 1);
    // Something that has not been touched yet counts as well.
    let third = large.add(4 * LARGE_PAGE_SIZE);
    map_fixed(&mut guest, third.add(200 * PAGE_SIZE), 1);
    guest.attach(Some(third), one).unwrap();
    assert_eq!(links(&guest, &guest.space).len(), 1);
    guest.write(third.add(200 * PAGE_SIZE), &[1]).unwrap();
    assert_eq!(
        view(&guest, &guest.space, third, 100),
        whole(one.gpa, 100, RW.rights())
    );
    // 40 times 2 MiB are one link at a multiple of 1 GiB, else a leaf each.
    let two = segment(2, Window::ReadWrite, 40 * 512);
    guest.attach(Some(GuestVirt::new(8 * GIB)), two).unwrap();
    assert_eq!(links(&guest, &guest.space).len(), 2);
    guest
        .attach(Some(GuestVirt::new(9 * GIB).add(LARGE_PAGE_SIZE)), two)
        .unwrap();
    assert_eq!(links(&guest, &guest.space).len(), 2);
    let large_leaves = leaves(&guest.memory, &guest.space)
        .into_iter()
        .filter(|leaf| leaf.size == LARGE_PAGE_SIZE);
    assert_eq!(large_leaves.count(), 80);
    guest.end();
}

#[test]
fn the_last_link_takes_the_table_along_when_the_flush_is_done() {
    for pages in SIZES {
        let mut guest = guest();
        let mut second = other(&mut guest);
        let free = guest.memory.frames.free_frames();
        let segment = segment(1, Window::ReadWrite, pages);
        let at = guest.attach(None, segment).unwrap();
        as_other(&mut guest, &mut second, |guest| {
            guest.attach(None, segment).unwrap()
        });
        let shared = guest.memory.frames.shared.len();
        assert!(shared > 0);
        guest.detach(at).unwrap();
        assert_eq!(guest.memory.frames.shared.len(), shared);
        guest.world.flushed.clear();
        as_other(&mut guest, &mut second, |guest| guest.detach(at).unwrap());
        assert!(covered(&guest.world, at, pages), "{:?}", guest.world.flushed);
        assert_eq!(guest.memory.frames.shared.len(), 0);
        assert_eq!(guest.memory.frames.free_frames(), free);
        ends(guest, [second]);
    }
}

fn covered(world: &FakeWorld, at: GuestVirt, pages: u64) -> bool {
    let start = at.get() / PAGE_SIZE;
    world
        .flushed
        .iter()
        .any(|&(from, to)| from <= start && start + pages <= to)
}

#[test]
fn another_segment_at_the_same_place_in_the_window_gets_a_table_of_its_own() {
    let mut guest = guest();
    let mut second = other(&mut guest);
    let long = segment(1, Window::ReadWrite, 100);
    let short = segment(1, Window::ReadWrite, 50);
    guest.attach(None, long).unwrap();
    // It can't be, for the range is taken; but if it were, nothing would be seen that is not the segment's.
    let at = as_other(&mut guest, &mut second, |guest| {
        guest.attach(None, short).unwrap()
    });
    assert_eq!(view(&guest, &second, at, 60)[50..], vec![None; 10]);
    ends(guest, [second]);
}
