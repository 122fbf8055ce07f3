//! Single behaviours, each with an input made for it.

mod common;

use common::Pool;
use paging::{Flush, GuestPhys, GuestVirt, LARGE_PAGE_SIZE, Leaf, MapError, PAGE_SIZE, Rights, TableMemory};
use paging::{
    TableMemoryMut, clear_low_half, duplicate, for_each_leaf, lookup, map, protect, root_index, unmap,
};
use std::cell::Cell;

const USER_DATA: Rights = Rights::USER.union(Rights::WRITE);
const GIB: u64 = 1 << 30;

fn virt(address: u64) -> GuestVirt {
    GuestVirt::new(address)
}

fn phys(address: u64) -> GuestPhys {
    GuestPhys::new(address)
}

fn leaf_sizes(pool: &Pool, start: u64, pages: u64) -> Vec<u64> {
    let mut sizes = vec![];
    for_each_leaf(pool, pool.root, virt(start), pages, |leaf| sizes.push(leaf.size));
    sizes
}

#[test]
fn large_leaves_are_used_exactly_where_both_addresses_are_aligned_and_enough_is_left() {
    let mut pool = Pool::new();
    let root = pool.root;
    let start = 4 * LARGE_PAGE_SIZE - 2 * PAGE_SIZE;
    let memory = GIB - 2 * PAGE_SIZE;
    map(
        &mut pool,
        root,
        virt(start),
        phys(memory),
        2 + 512 + 511,
        USER_DATA,
    )
    .unwrap();
    let mut expected = vec![PAGE_SIZE; 2];
    expected.push(LARGE_PAGE_SIZE);
    expected.extend([PAGE_SIZE; 511]);
    assert_eq!(leaf_sizes(&pool, start, 1025), expected);

    // Not aligned to each other: small leaves only.
    map(&mut pool, root, virt(GIB), phys(GIB + PAGE_SIZE), 1024, USER_DATA).unwrap();
    assert_eq!(leaf_sizes(&pool, GIB, 1024), [PAGE_SIZE; 1024]);
}

#[test]
fn a_page_unmapped_within_a_large_leaf_leaves_the_other_511() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(GIB), phys(2 * GIB), 512, USER_DATA).unwrap();
    let hole = virt(GIB + 7 * PAGE_SIZE);
    let mut removed = vec![];
    let flush = unmap(&mut pool, root, hole, 1, |_, leaf| removed.push(leaf)).unwrap();
    assert_eq!((flush.start(), flush.pages()), (hole, 1));
    assert_eq!(removed.len(), 1);
    assert_eq!(
        (removed[0].virt, removed[0].phys),
        (hole, phys(2 * GIB + 7 * PAGE_SIZE))
    );
    assert_eq!(leaf_sizes(&pool, GIB, 512), [PAGE_SIZE; 511]);
    assert_eq!(lookup(&pool, root, hole), None);
    let last = lookup(&pool, root, virt(GIB + LARGE_PAGE_SIZE - 1)).unwrap();
    assert_eq!(
        (last.phys, last.rights),
        (phys(2 * GIB + 511 * PAGE_SIZE), USER_DATA)
    );
    assert_eq!(pool.check().len(), 511);
}

#[test]
fn entries_that_lead_to_tables_are_for_users_only_when_a_mapping_below_is() {
    let mut pool = Pool::new();
    let root = pool.root;
    let user_bit = |pool: &Pool| pool.load(root, 0) & 4 != 0;
    map(&mut pool, root, virt(0x40_0000), phys(GIB), 1, Rights::WRITE).unwrap();
    assert!(!user_bit(&pool));
    map(&mut pool, root, virt(0x40_1000), phys(GIB), 1, Rights::USER).unwrap();
    assert!(user_bit(&pool));
    assert_eq!(
        lookup(&pool, root, virt(0x40_0000)).unwrap().rights,
        Rights::WRITE
    );
    assert_eq!(lookup(&pool, root, virt(0x40_1000)).unwrap().rights, Rights::USER);
}

#[test]
fn protect_can_open_a_kernel_mapping_to_users() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(0x40_0000), phys(GIB), 2, Rights::WRITE).unwrap();
    let flush = protect(&mut pool, root, virt(0x40_0000), 1, USER_DATA).unwrap();
    assert_eq!(flush.pages(), 1);
    assert!(pool.walk(0x400).unwrap().user);
    assert!(!pool.walk(0x401).unwrap().user);
}

#[test]
fn protect_keeps_accessed_and_dirty() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(GIB), phys(GIB), 512, USER_DATA).unwrap();
    // As if the leaf had been cleaned: neither bit set.
    let directory = [0, 1]
        .iter()
        .fold(root, |table, &i| phys(pool.load(table, i) & 0xf_ffff_ffff_f000));
    let entry = pool.load(directory, 0);
    pool.store(directory, 0, entry & !0x60);
    let flush = protect(&mut pool, root, virt(GIB), 1, Rights::USER).unwrap();
    assert!(flush.needs_flush());
    for (page, rights) in [(0, Rights::USER), (1, USER_DATA)] {
        let leaf = lookup(&pool, root, virt(GIB + page * PAGE_SIZE)).unwrap();
        assert_eq!((leaf.accessed, leaf.dirty, leaf.rights), (false, false, rights));
    }
}

#[test]
fn changes_of_nothing_ask_for_no_flush() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(GIB), phys(GIB), 2, USER_DATA).unwrap();
    let nobody = |_: &mut Pool, leaf: Leaf| panic!("{leaf:?}");
    assert_eq!(
        unmap(&mut pool, root, virt(0), 1 << 18, nobody).unwrap(),
        Flush::none()
    );
    assert_eq!(
        unmap(&mut pool, root, virt(GIB), 0, nobody).unwrap(),
        Flush::none()
    );
    assert_eq!(
        protect(&mut pool, root, virt(GIB), 2, USER_DATA).unwrap(),
        Flush::none()
    );
    assert_eq!(pool.retired(), 0);
}

#[test]
fn a_flush_is_as_short_as_what_was_removed() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(5 * GIB), phys(GIB), 3, USER_DATA).unwrap();
    let flush = unmap(&mut pool, root, virt(0), 512 << 18, |_, _| {}).unwrap();
    assert_eq!((flush.start(), flush.pages()), (virt(5 * GIB), 3));
    assert_eq!((pool.in_use(), pool.retired()), (1, 3));
}

#[test]
fn tables_right_below_the_upper_half_of_a_root_stay_because_roots_share_them() {
    let mut pool = Pool::new();
    let root = pool.root;
    let top = virt(0xffff_ffff_ffff_f000);
    map(&mut pool, root, top, phys(GIB), 1, Rights::WRITE).unwrap();
    let entry = pool.load(root, 511);
    let flush = unmap(&mut pool, root, top, 1, |_, _| {}).unwrap();
    assert_eq!((flush.start(), flush.pages()), (top, 1));
    assert_eq!(pool.load(root, 511), entry);
    assert_eq!((pool.in_use(), pool.retired()), (2, 2));
}

#[test]
fn clearing_the_lower_half_leaves_the_upper_one() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(0x40_0000), phys(GIB), 600, USER_DATA).unwrap();
    map(&mut pool, root, virt(0x7fff_ffff_e000), phys(GIB), 1, USER_DATA).unwrap();
    map(
        &mut pool,
        root,
        virt(0xffff_8000_0000_0000),
        phys(0),
        512,
        Rights::WRITE,
    )
    .unwrap();
    let mut leaves = 0;
    clear_low_half(&mut pool, root, |_, _| leaves += 1);
    assert_eq!(leaves, 1 + 88 + 1);
    assert_eq!(pool.in_use(), 3);
    assert!(lookup(&pool, root, virt(0xffff_8000_001f_ffff)).is_some());
}

#[test]
fn every_number_of_allocations_that_is_too_small_changes_nothing() {
    // 511 small pages, large ones across 512 GiB, 511 small pages: two of each level.
    let start = (512 * GIB) - 2 * LARGE_PAGE_SIZE + PAGE_SIZE;
    let pages = 3 * 512 - 2 + 512;
    let mut pool = Pool::new();
    let root = pool.root;
    let enough = (0..).find(|&budget| {
        pool.budget = Some(budget);
        let result = map(
            &mut pool,
            root,
            virt(start),
            phys(GIB + PAGE_SIZE),
            pages,
            USER_DATA,
        );
        if result == Err(MapError::OutOfTables) {
            assert_eq!((pool.in_use(), pool.retired() as u64), (1, budget));
            pool.spend_flush();
            assert!(pool.check().is_empty());
        }
        result.is_ok()
    });
    assert_eq!(enough, Some(6));
    assert_eq!(pool.in_use(), 7);

    // A split at each edge.
    let inner = (virt(512 * GIB - LARGE_PAGE_SIZE + PAGE_SIZE), 512);
    for budget in 0..2 {
        let before = pool.snapshot();
        pool.budget = Some(budget);
        let result = unmap(&mut pool, root, inner.0, inner.1, |_, _| panic!("removed"));
        assert_eq!(result, Err(MapError::OutOfTables));
        pool.budget = Some(budget);
        assert_eq!(
            protect(&mut pool, root, inner.0, inner.1, Rights::USER),
            Err(MapError::OutOfTables)
        );
        assert!(pool.snapshot() == before);
    }
    pool.budget = Some(2);
    assert_eq!(
        unmap(&mut pool, root, inner.0, inner.1, |_, _| {})
            .unwrap()
            .pages(),
        512
    );
}

#[test]
fn a_leaf_of_1_gib_made_by_others_is_read_and_split() {
    // (first page, pages, tables the splits need): both edges aligned to 2 MiB, one, none, none and far apart.
    for (first, pages, needed) in [
        (512, 512, 1),
        (512, 3, 2),
        (513, 3, 2),
        (513, 1024, 3),
        (0, 1 << 18, 0),
    ] {
        let mut pool = Pool::new();
        let root = pool.root;
        map(&mut pool, root, virt(GIB), phys(GIB), 1, USER_DATA).unwrap();
        let pointers = phys(pool.load(root, 0) & 0xf_ffff_ffff_f000);
        let upper = pool.load(root, 0) + (1 << 52);
        pool.store(root, 0, upper);
        pool.store(pointers, 2, (7 * GIB) | 0xe7);
        let inside = lookup(&pool, root, virt(2 * GIB + 12345)).unwrap();
        assert_eq!(
            (inside.virt, inside.phys, inside.size),
            (virt(2 * GIB), phys(7 * GIB), GIB)
        );

        let start = 2 * GIB + first * PAGE_SIZE;
        let before = pool.snapshot();
        if needed > 0 {
            pool.budget = Some(needed - 1);
            let result = unmap(&mut pool, root, virt(start), pages, |_, _| panic!("removed"));
            assert_eq!(result, Err(MapError::OutOfTables));
            assert!(pool.snapshot() == before);
        }
        pool.budget = Some(needed);
        let mut removed = 0;
        let flush = unmap(&mut pool, root, virt(start), pages, |_, leaf| {
            removed += leaf.size / PAGE_SIZE
        })
        .unwrap();
        assert_eq!(
            (removed, flush.start(), flush.pages()),
            (pages, virt(start), pages)
        );
        assert_eq!(pool.check().values().sum::<u64>(), 1 + (1 << 18) - pages);
        for page in 0..1 << 18 {
            let expected = (page < first || page >= first + pages).then_some(7 * GIB + page * PAGE_SIZE);
            assert_eq!(
                pool.walk((2 << 18) + page).map(|seen| seen.phys),
                expected,
                "page {page}"
            );
        }
    }
}

#[test]
fn nothing_maps_an_address_that_is_not_canonical() {
    let mut pool = Pool::new();
    let root = pool.root;
    map(&mut pool, root, virt(0x40_0000), phys(GIB), 1, USER_DATA).unwrap();
    assert!(lookup(&pool, root, virt(0x40_0000)).is_some());
    assert_eq!(lookup(&pool, root, virt(1 << 60 | 0x40_0000)), None);
}

#[test]
fn the_root_index_of_either_half_is_right() {
    for (address, index) in [
        (0, 0),
        (0x7fff_ffff_ffff, 255),
        (0xffff_8000_0000_0000, 256),
        (u64::MAX, 511),
    ] {
        assert_eq!(root_index(virt(address)), index);
    }
}

/// Tables that a hostile guest wrote: every entry leads back to the only table.
struct Hostile;

impl TableMemory for Hostile {
    fn load(&self, _: GuestPhys, _: usize) -> u64 {
        !0x80
    }
}

#[test]
fn hostile_tables_are_read_without_running_away() {
    let mut leaves = 0;
    for_each_leaf(&Hostile, phys(0), virt(0x1000), 1000, |_| leaves += 1);
    assert_eq!(leaves, 1000);
    assert!(lookup(&Hostile, phys(0), virt(0xffff_ffff_ffff_ffff)).is_some());
}

/// Counts accesses: each is several ring-0 instructions, half a microsecond apiece where ring 0 is emulated.
struct Counting {
    pool: Pool,
    accesses: Cell<u64>,
}

impl TableMemory for Counting {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        self.accesses.set(self.accesses.get() + 1);
        self.pool.load(table, index)
    }
}

impl TableMemoryMut for Counting {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        self.accesses.set(self.accesses.get() + 1);
        self.pool.store(table, index, value);
    }
    fn allocate(&mut self) -> Option<GuestPhys> {
        self.pool.allocate()
    }
    fn retire(&mut self, table: GuestPhys) {
        self.pool.retire(table);
    }
}

#[test]
fn hot_paths_touch_tables_no_more_often_than_they_must() {
    let mut mem = Counting {
        pool: Pool::new(),
        accesses: Cell::new(0),
    };
    let root = mem.pool.root;
    let at = |page: u64| virt(0x40_0000 + page * PAGE_SIZE);
    map(&mut mem, root, at(0), phys(GIB), 1, USER_DATA).unwrap();
    // A demand fault: 3 loads down, 16 to check with 2 for the groups of eight, 16 stores, 1 for the count.
    mem.accesses.set(0);
    map(&mut mem, root, at(16), phys(GIB), 16, USER_DATA).unwrap();
    assert!(
        mem.accesses.get() <= 3 + 16 + 2 + 16 + 1,
        "{}",
        mem.accesses.get()
    );
    // A small detach: 4 loads to find no split, 3 down, a load and a store a page, 1 for the count.
    mem.accesses.set(0);
    let flush = unmap(&mut mem, root, at(17), 4, |_, _| {}).unwrap();
    assert_eq!(flush.pages(), 4);
    assert!(mem.accesses.get() <= 4 + 3 + 8 + 1, "{}", mem.accesses.get());
    // A table that becomes empty is not searched.
    mem.accesses.set(0);
    clear_low_half(&mut mem, root, |_, _| {});
    assert_eq!(mem.pool.in_use(), 1);
    assert!(mem.accesses.get() < 400, "{}", mem.accesses.get());
}

#[test]
fn what_is_duplicated_can_be_used_by_ring_3_where_the_tables_led_to_nothing_of_its_own_before() {
    // In the same table as what is there, and in others.
    for place in [GIB + PAGE_SIZE, GIB + LARGE_PAGE_SIZE, 2 * GIB] {
        let mut pool = Pool::new();
        let (from, to) = (pool.root, pool.allocate().unwrap());
        map(&mut pool, to, virt(GIB), phys(GIB), 1, Rights::empty()).unwrap();
        map(&mut pool, from, virt(place), phys(place), 1, USER_DATA).unwrap();
        let mut flush = Flush::none();
        duplicate(&mut pool, from, to, virt(place), 1, &mut flush, |_, leaf| {
            Some(leaf.rights)
        })
        .unwrap();
        let seen = lookup(&pool, to, virt(place)).map(|leaf| leaf.rights);
        assert_eq!(seen, Some(USER_DATA), "{place:#x}");
    }
}
