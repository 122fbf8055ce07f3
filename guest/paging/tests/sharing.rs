//! Shared tables: random changes of two trees that link the same ones, against a map from page to frame and rights
//! each, as trees without any sharing would have it. A shared table must never be stored to.

#[expect(dead_code, reason = "trees with shared tables are checked here, not there")]
mod common;

use common::Pool;
use paging::share::{claimed_by_link, table_below};
use paging::{
    Flush, GuestPhys, GuestVirt, MapError, Rights, TableMemory, TableMemoryMut, clear_low_half, count_pages,
    for_each_leaf, link, lookup, make_shared, map, protect, unmap, unshare,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const SHARED: u64 = 1 << 10;

/// The pool, and what the owner of shared tables knows of them.
struct Sharing {
    pool: Pool,
    /// By table: pages, links.
    shared: BTreeMap<GuestPhys, (u64, u64)>,
    /// Shared tables and those below: none is ever changed.
    frozen: BTreeSet<GuestPhys>,
}

impl TableMemory for Sharing {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        self.pool.load(table, index)
    }
}

impl TableMemoryMut for Sharing {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        assert!(!self.frozen.contains(&table), "shared table {table:?} is edited");
        self.pool.store(table, index, value);
    }
    fn allocate(&mut self) -> Option<GuestPhys> {
        self.pool.allocate()
    }
    fn retire(&mut self, table: GuestPhys) {
        assert!(!self.frozen.contains(&table), "shared table {table:?} is retired");
        self.pool.retire(table);
    }
    fn unlinked(&mut self, table: GuestPhys) {
        self.shared.get_mut(&table).expect("a shared table").1 -= 1;
    }
}

impl Sharing {
    fn new() -> Sharing {
        Sharing {
            pool: Pool::new(),
            shared: BTreeMap::new(),
            frozen: BTreeSet::new(),
        }
    }

    fn make(&mut self, phys: u64, pages: u64) -> GuestPhys {
        let table = make_shared(&mut self.pool, GuestPhys::new(phys), pages).unwrap();
        self.shared.insert(table, (pages, 0));
        self.frozen.insert(table);
        self.frozen.extend(table_below(&self.pool, table, pages));
        table
    }

    /// Checks a tree and returns the tables of its own.
    fn check(&self, root: GuestPhys) -> BTreeSet<GuestPhys> {
        let mut own = BTreeSet::from([root]);
        self.check_below(root, 4, &mut own);
        own
    }

    fn check_below(&self, table: GuestPhys, level: u32, own: &mut BTreeSet<GuestPhys>) -> u64 {
        let mut used = 0;
        for index in 0..512 {
            let entry = self.load(table, index);
            if entry == 0 {
                continue;
            }
            used += 1;
            if level == 1 || entry & 0x80 != 0 {
                continue;
            }
            let below = GuestPhys::new(entry & ADDRESS);
            if entry & SHARED != 0 {
                assert!(self.shared[&below].1 > 0, "a link that is not counted");
                continue;
            }
            assert!(own.insert(below), "two entries lead to {below:?}");
            let live = self.check_below(below, level - 1, own);
            assert_eq!(entry >> 52 & 0x3ff, live, "count of {below:?}");
            assert!(live > 0);
        }
        used
    }
}

type Model = BTreeMap<u64, (u64, Rights)>;

fn seen(sharing: &mut Sharing, root: GuestPhys, page: u64) -> Option<(u64, Rights)> {
    let old = std::mem::replace(&mut sharing.pool.root, root);
    let seen = sharing.pool.walk(page);
    sharing.pool.root = old;
    seen.map(|seen| {
        let mut rights = Rights::empty();
        rights.set(Rights::WRITE, seen.write);
        rights.set(Rights::EXECUTE, seen.execute);
        rights.set(Rights::USER, seen.user);
        (seen.phys, rights)
    })
}

/// What is linked: small ones, whole page directories, one with a page table at its end.
const SIZES: [u64; 6] = [1, 17, 511, 512, 3 * 512, 2 * 512 + 9];
/// Where links may be: the first page of blocks of 1 GiB, two of them under one table.
const BLOCKS: [u64; 3] = [1 << 18, 2 << 18, 1 << 27];
/// Pages looked at in each block.
const LOOK: u64 = 4 * 512;

fn phys_of(segment: usize) -> u64 {
    0x40_0000_0000 + segment as u64 * 0x4000_0000
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Link(usize, Rights),
    /// Unshares the range, then maps there.
    Map(Rights),
    Protect(Rights),
    /// Unshares what the range cuts, then unmaps.
    Unmap,
    Unshare,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    tree: usize,
    block: usize,
    change: Change,
    start: u64,
    pages: u64,
    budget: Option<u64>,
}

fn steps() -> impl Strategy<Value = Step> {
    let rights = || (0..8u8).prop_map(Rights::from_bits_retain);
    let change = prop_oneof![
        6 => (0..SIZES.len(), rights()).prop_map(|(segment, rights)| Change::Link(segment, rights)),
        2 => rights().prop_map(Change::Map),
        2 => rights().prop_map(Change::Protect),
        3 => Just(Change::Unmap),
        1 => Just(Change::Unshare),
    ];
    let offset = prop_oneof![
        2 => (0..=4u64).prop_map(|block| block * 512),
        2 => (0..=3u64, 0..20u64).prop_map(|(block, page)| block * 512 + page),
    ];
    let pages = prop_oneof![Just(1), 1..30u64, Just(512), Just(LOOK)];
    let budget = prop_oneof![3 => Just(None), 1 => (0..5u64).prop_map(Some)];
    (0..2usize, 0..BLOCKS.len(), change, offset, pages, budget).prop_map(
        |(tree, block, change, start, pages, budget)| Step {
            tree,
            block,
            change,
            start,
            pages: pages.min(LOOK - start),
            budget,
        },
    )
}

/// Unshares, and says whether it could.
fn own(sharing: &mut Sharing, root: GuestPhys, page: u64, pages: u64) -> bool {
    let before = sharing.pool.snapshot();
    match unshare(sharing, root, GuestVirt::new(page << 12), pages) {
        Ok(flush) => {
            assert_eq!(flush.needs_flush(), before != sharing.pool.snapshot());
            true
        }
        Err(error) => {
            assert_eq!(error, MapError::OutOfTables);
            assert!(before == sharing.pool.snapshot());
            false
        }
    }
}

fn covers(flush: &Flush, pages: &[u64]) -> bool {
    let start = flush.start().get() >> 12;
    pages
        .iter()
        .all(|&page| page >= start && page - start < flush.pages())
}

fn carry_out(sharing: &mut Sharing, root: GuestPhys, model: &mut Model, tables: &[GuestPhys], step: Step) {
    let start = BLOCKS[step.block] + step.start;
    let range = start..start + step.pages;
    let virt = GuestVirt::new(start << 12);
    sharing.pool.budget = step.budget;
    match step.change {
        Change::Link(segment, rights) => {
            let pages = SIZES[segment];
            let claim = claimed_by_link(pages);
            let at = start / claim * claim;
            // What is mapped or claimed there; a link of a neighbour may claim all of it.
            let taken = model.range(at..at + claim).next().is_some();
            let before = sharing.pool.snapshot();
            match link(
                sharing,
                root,
                GuestVirt::new(at << 12),
                tables[segment],
                pages,
                rights,
            ) {
                Ok(()) => {
                    assert!(!taken);
                    sharing.shared.get_mut(&tables[segment]).unwrap().1 += 1;
                    model
                        .extend((0..pages).map(|page| (at + page, (phys_of(segment) + page * 4096, rights))));
                }
                Err(_) => assert!(before == sharing.pool.snapshot()),
            }
        }
        Change::Map(rights) if own(sharing, root, start, step.pages) => {
            let phys = 0x10_0000_0000 + start % (1 << 20) * 4096;
            let result = map(sharing, root, virt, GuestPhys::new(phys), step.pages, rights);
            if result.is_ok() {
                assert_eq!(model.range(range.clone()).next(), None);
                model.extend(range.map(|page| (page, (phys + (page - start) * 4096, rights))));
            }
        }
        Change::Protect(rights) if own(sharing, root, start, step.pages) => {
            if let Ok(flush) = protect(sharing, root, virt, step.pages, rights) {
                let mut changed = vec![];
                for (&page, to) in model.range_mut(range).filter(|(_, to)| to.1 != rights) {
                    to.1 = rights;
                    changed.push(page);
                }
                assert!(covers(&flush, &changed));
            }
        }
        Change::Unmap if own(sharing, root, start, 1) && own(sharing, root, start + step.pages - 1, 1) => {
            let mut told = 0;
            let flush = unmap(sharing, root, virt, step.pages, |_, leaf| {
                told += leaf.size / 4096
            });
            if let Ok(flush) = flush {
                let gone: Vec<u64> = model.range(range).map(|(&page, _)| page).collect();
                assert!(covers(&flush, &gone));
                assert_eq!(told, gone.len() as u64);
                model.retain(|page, _| !gone.contains(page));
            }
        }
        Change::Unshare => drop(own(sharing, root, start, step.pages)),
        _ => {}
    }
    sharing.pool.budget = None;
}

proptest! {
    #[test]
    fn trees_that_share_tables_say_what_trees_that_do_not_would(
        sequence in prop::collection::vec(steps(), 1..24),
    ) {
        let mut sharing = Sharing::new();
        let tables: Vec<_> =
            (0..SIZES.len()).map(|segment| sharing.make(phys_of(segment), SIZES[segment])).collect();
        let roots = [sharing.pool.root, sharing.pool.allocate().unwrap()];
        let mut models = [Model::new(), Model::new()];
        for step in sequence {
            carry_out(
                &mut sharing,
                roots[step.tree],
                &mut models[step.tree],
                &tables,
                step,
            );
            sharing.pool.spend_flush();
            let own = roots.map(|root| sharing.check(root));
            prop_assert!(own[0].is_disjoint(&own[1]));
            prop_assert_eq!(own[0].len() + own[1].len() + sharing.frozen.len(), sharing.pool.in_use());
            for (root, model) in roots.into_iter().zip(&models) {
                for page in BLOCKS.into_iter().flat_map(|block| block..block + LOOK) {
                    prop_assert_eq!(seen(&mut sharing, root, page), model.get(&page).copied(), "page {:#x}", page);
                }
                let mut told = Model::new();
                for_each_leaf(&sharing, root, GuestVirt::new(0), 1 << 35, |leaf| {
                    for page in 0..leaf.size / 4096 {
                        told.insert((leaf.virt.get() >> 12) + page, (leaf.phys.get() + page * 4096, leaf.rights));
                    }
                    assert_eq!(lookup(&sharing, root, leaf.virt), Some(leaf));
                });
                prop_assert_eq!(&told, model);
                for block in BLOCKS {
                    for (from, to) in [(0, LOOK), (5, 300), (510, 1030), (512, 1024), (700, LOOK)] {
                        let counted = count_pages(&sharing, root, GuestVirt::new((block + from) << 12), to - from);
                        prop_assert_eq!(counted, model.range(block + from..block + to).count() as u64);
                    }
                }
            }
        }
        for root in roots {
            clear_low_half(&mut sharing, root, |_, _| {});
        }
        prop_assert!(sharing.shared.values().all(|&(_, links)| links == 0), "links are left");
    }
}

#[test]
fn a_link_is_one_entry_and_what_lies_behind_the_run_stays_empty() {
    for pages in [1, 300, 512, 700, 512 * 512 - 3, 512 * 512] {
        let mut sharing = Sharing::new();
        let (phys, root) = (phys_of(0), sharing.pool.root);
        let table = sharing.make(phys, pages);
        let at = GuestVirt::new(1 << 39);
        link(&mut sharing, root, at, table, pages, Rights::USER).unwrap();
        sharing.shared.get_mut(&table).unwrap().1 = 1;
        let first = at.get() >> 12;
        for page in [0, pages / 2, pages - 1] {
            assert_eq!(
                seen(&mut sharing, root, first + page),
                Some((phys + page * 4096, Rights::USER))
            );
        }
        for page in pages..(pages + 2).min(claimed_by_link(pages)) {
            assert_eq!(seen(&mut sharing, root, first + page), None);
        }
        // The root, and at most two tables that lead to the entry.
        let own = sharing.check(root).len();
        assert!(own <= 3, "{own}");
        let tables = sharing.pool.in_use();
        let next = at.add(claimed_by_link(pages) * 4096);
        link(
            &mut sharing,
            root,
            next,
            table,
            pages,
            Rights::USER | Rights::WRITE,
        )
        .unwrap();
        assert_eq!(sharing.pool.in_use(), tables);
        assert_eq!(
            link(&mut sharing, root, next, table, pages, Rights::USER),
            Err(MapError::Occupied(next))
        );
        sharing.shared.get_mut(&table).unwrap().1 = 2;
        let flush = unmap(&mut sharing, root, next, pages, |_, leaf| {
            assert_eq!((leaf.virt, leaf.size), (next, pages * 4096));
        });
        assert_eq!(flush.map(|flush| flush.pages()), Ok(pages));
        assert_eq!(sharing.shared[&table].1, 1);
    }
}
