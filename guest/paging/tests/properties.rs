//! Random sequences of changes against a model: a map from page to frame and rights.
//!
//! After every change an independent walker looks at each page of the areas, the tree's invariants are
//! checked, and a change that failed must have left every table as it was.

mod common;

use common::Pool;
use paging::{
    Flush, GuestPhys, GuestVirt, Leaf, MapError, Rights, clear_low_half, count_pages, for_each_leaf, lookup,
    map,
};
use paging::{protect, unmap};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Page numbers where areas begin. Each has a border of tables in its middle, or lies at an edge of its half.
const AREAS: [u64; 7] = [
    0x400,                            // where programs lie
    (1 << 18) - AREA / 2,             // across 1 GiB
    (1 << 27) - AREA / 2,             // across 512 GiB
    (1 << 35) - AREA,                 // the end of the lower half
    (1 << 52) - (1 << 35),            // the direct map
    (1 << 52) - (1 << 19) - AREA / 2, // where the kernel lies, across 1 GiB
    (1 << 52) - AREA,                 // the end of everything
];
/// Pages of an area: three regions of 2 MiB.
const AREA: u64 = 3 * 512;

#[derive(Clone, Copy, Debug)]
enum Change {
    Map { phys: u64, rights: Rights },
    Unmap,
    Protect { rights: Rights },
}

#[derive(Clone, Copy, Debug)]
struct Step {
    change: Change,
    area: usize,
    start: u64,
    pages: u64,
    budget: Option<u64>,
}

fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..=3u64).prop_map(|n| n * 512),
        2 => (0..=3u64, 0..=4u64).prop_map(|(n, d)| (n * 512 + d).saturating_sub(2).min(AREA)),
        2 => 0..=AREA,
    ]
}

fn rights() -> impl Strategy<Value = Rights> {
    (0..8u8).prop_map(Rights::from_bits_retain)
}

fn steps() -> impl Strategy<Value = Step> {
    // Frames: 2 MiB aligned as the area is, or shifted by some pages.
    let phys = prop_oneof![3 => Just(0u64), 1 => 1..512u64];
    let change = prop_oneof![
        4 => (phys, rights()).prop_map(|(phys, rights)| Change::Map { phys, rights }),
        2 => Just(Change::Unmap),
        2 => rights().prop_map(|rights| Change::Protect { rights }),
    ];
    let budget = prop_oneof![3 => Just(None), 2 => (0..4u64).prop_map(Some)];
    (change, 0..2usize, offsets(), offsets(), budget).prop_map(|(change, area, a, b, budget)| Step {
        change,
        area,
        start: a.min(b),
        pages: a.max(b) - a.min(b),
        budget,
    })
}

type Model = BTreeMap<u64, (u64, Rights)>;

fn expand(model: &mut Model, leaf: Leaf) {
    for page in 0..leaf.size / 4096 {
        let old = model.insert(
            leaf.virt.get() / 4096 + page,
            (leaf.phys.get() + page * 4096, leaf.rights),
        );
        assert_eq!(old, None, "told of twice");
    }
}

fn assert_covers(flush: &Flush, pages: impl IntoIterator<Item = u64>) {
    let start = flush.start().get() >> 12;
    let mut any = false;
    for page in pages {
        any = true;
        assert!(
            page >= start && page - start < flush.pages(),
            "{page:#x} is stale, but not in {flush:?}"
        );
    }
    assert_eq!(any, flush.needs_flush());
}

/// Carries out the step on both; the model decides what must happen.
fn carry_out(pool: &mut Pool, model: &mut Model, step: Step, start: u64) {
    let virt = GuestVirt::new(start << 12);
    let range = start..start + step.pages;
    let before = pool.snapshot();
    pool.budget = step.budget;
    let root = pool.root;
    let error = match step.change {
        Change::Map { phys, rights } => {
            let phys = 0x40_0000_0000 + (start % (1 << 20) + phys) * 4096;
            let taken = model
                .range(range.clone())
                .next()
                .map(|(&page, _)| GuestVirt::new(page << 12));
            let result = map(pool, root, virt, GuestPhys::new(phys), step.pages, rights);
            match (result, taken) {
                (Ok(()), None) => {
                    assert_eq!(pool.retired(), 0, "more tables were taken than needed");
                    model.extend(
                        range
                            .enumerate()
                            .map(|(i, page)| (page, (phys + i as u64 * 4096, rights))),
                    );
                    None
                }
                (Err(MapError::Occupied(at)), Some(taken)) => {
                    assert_eq!(at, taken, "not the first page that is mapped");
                    Some(MapError::Occupied(at))
                }
                (Err(MapError::OutOfTables), None) => Some(MapError::OutOfTables),
                other => panic!("{other:?}"),
            }
        }
        Change::Unmap => {
            let mut removed = Model::new();
            let mut last = None;
            let result = unmap(pool, root, virt, step.pages, |pool, leaf| {
                assert!(Some(leaf.virt) > last, "out of order");
                last = Some(leaf.virt);
                assert_eq!(
                    pool.walk(leaf.virt.get() >> 12),
                    None,
                    "told of before it was gone"
                );
                expand(&mut removed, leaf);
            });
            let expected: Model = model.range(range).map(|(&page, &to)| (page, to)).collect();
            match result {
                Ok(flush) => {
                    assert_eq!(removed, expected);
                    assert_covers(&flush, removed.keys().copied());
                    model.retain(|page, _| !removed.contains_key(page));
                    None
                }
                Err(error) => {
                    assert!(removed.is_empty());
                    Some(error)
                }
            }
        }
        Change::Protect { rights } => match protect(pool, root, virt, step.pages, rights) {
            Ok(flush) => {
                let mut changed = vec![];
                for (&page, to) in model.range_mut(range) {
                    if to.1 != rights {
                        to.1 = rights;
                        changed.push(page);
                    }
                }
                assert_covers(&flush, changed);
                None
            }
            Err(error) => Some(error),
        },
    };
    if let Some(error) = error {
        assert!(before == pool.snapshot(), "{error:?} left something changed");
        assert!(error != MapError::OutOfTables || step.budget.is_some());
    }
    pool.budget = None;
}

/// Compares every page of the area, and what the crate's own readers say.
fn compare(pool: &Pool, model: &Model, area: u64) {
    for page in area..area + AREA {
        let seen = pool.walk(page).map(|seen| {
            assert!(seen.accessed && seen.dirty);
            let mut rights = Rights::empty();
            rights.set(Rights::WRITE, seen.write);
            rights.set(Rights::EXECUTE, seen.execute);
            rights.set(Rights::USER, seen.user);
            (seen.phys, rights)
        });
        assert_eq!(seen, model.get(&page).copied(), "page {page:#x}");
    }
    let mut told = Model::new();
    for_each_leaf(pool, pool.root, GuestVirt::new(area << 12), AREA, |leaf| {
        expand(&mut told, leaf);
        let inner = leaf.virt.add(leaf.size - 1);
        assert_eq!(lookup(pool, pool.root, inner), Some(leaf));
    });
    assert!(model.range(area..area + AREA).eq(told.iter()));
    for (from, to) in [(0, AREA), (3, 10), (509, 1027), (512, 1024), (0, 1), (700, AREA)] {
        assert_eq!(
            count_pages(pool, pool.root, GuestVirt::new((area + from) << 12), to - from),
            model.range(area + from..area + to).count() as u64
        );
    }
}

proptest! {
    #[test]
    fn tables_say_what_the_model_says(
        first in 0..AREAS.len(), distance in 1..AREAS.len(), sequence in prop::collection::vec(steps(), 1..16),
    ) {
        let areas = [AREAS[first], AREAS[(first + distance) % AREAS.len()]];
        let mut pool = Pool::new();
        let mut model = Model::new();
        for step in sequence {
            carry_out(&mut pool, &mut model, step, areas[step.area] + step.start);
            let leaves = pool.check();
            prop_assert_eq!(leaves.values().sum::<u64>(), model.len() as u64);
            for area in areas {
                compare(&pool, &model, area);
            }
            pool.spend_flush();
        }

        // The end of the address space: everything is told of, nothing of the lower half is left.
        let mut told = Model::new();
        let root = pool.root;
        clear_low_half(&mut pool, root, |_, leaf| expand(&mut told, leaf));
        let upper = model.split_off(&(1 << 35));
        prop_assert_eq!(told, model);
        prop_assert_eq!(pool.check().values().sum::<u64>(), upper.len() as u64);
        for area in areas {
            let flush = unmap(&mut pool, root, GuestVirt::new(area << 12), AREA, |_, _| {});
            prop_assert!(flush.is_ok());
        }
        let shared = pool.snapshot()[&root.get()].iter().filter(|&&entry| entry != 0).count();
        prop_assert_eq!(pool.in_use(), 1 + shared);
    }
}
