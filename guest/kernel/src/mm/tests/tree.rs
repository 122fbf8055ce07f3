//! The tree of areas against a `BTreeMap`.

use super::super::area::{Advice, Area, Backing, Prot};
use super::super::pool::{AreaPool, MOST_AREAS};
use super::super::tree::AreaTree;
use paging::GuestVirt;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LOW: u64 = 10;
const HIGH: u64 = 600;

fn area(start: u64, end: u64) -> Area {
    Area {
        start: GuestVirt::new(start),
        end: GuestVirt::new(end),
        prot: Prot::READ,
        may: Prot::all(),
        backing: Backing::Anonymous,
        advice: Advice::empty(),
    }
}

fn pool() -> AreaPool {
    let mut pool = AreaPool::empty();
    pool.init();
    pool
}

/// The tree beside a map from start to end.
struct Both {
    pool: AreaPool,
    tree: AreaTree,
    map: BTreeMap<u64, u64>,
}

impl Both {
    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = vec![];
        let mut at = LOW;
        for (&start, &end) in &self.map {
            gaps.push((at, start));
            at = end;
        }
        gaps.push((at, at.max(HIGH + 50)));
        gaps
    }

    fn check(&mut self, at: u64, len: u64, align: u64) {
        let virt = GuestVirt::new(at);
        let bounds = |area: &Area| (area.start.get(), area.end.get());
        let first = self
            .map
            .iter()
            .map(|(&start, &end)| (start, end))
            .find(|&(_, end)| end > at);
        assert_eq!(self.tree.first_from(&self.pool, virt).map(bounds), first);
        let within = first.filter(|&(start, _)| start <= at);
        assert_eq!(self.tree.find(&self.pool, virt).map(bounds), within);
        let ending = self
            .map
            .iter()
            .map(|(&start, &end)| (start, end))
            .find(|&(_, end)| end == at);
        assert_eq!(self.tree.ending_at(&self.pool, virt).map(bounds), ending);
        let mut seen = vec![];
        self.tree.for_each(&self.pool, |area| seen.push(bounds(area)));
        assert!(
            seen.iter()
                .copied()
                .eq(self.map.iter().map(|(&start, &end)| (start, end)))
        );
        let before = self
            .map
            .range(..at)
            .next_back()
            .map(|(&start, &end)| (start, end));
        assert_eq!(self.tree.last_before(&self.pool, virt).map(bounds), before);
        if len.is_multiple_of(2) {
            // Whoever looks for a gap puts the newest area into the tree; not every time.
            return;
        }
        let highest = self.gaps().into_iter().rev().find_map(|(from, to)| {
            let start = to.min(HIGH).checked_sub(len)? & !(align - 1);
            (start >= from).then_some(start)
        });
        let found = self.tree.highest_gap(&mut self.pool, len, align, LOW, HIGH);
        assert_eq!(
            found.map(GuestVirt::get),
            highest,
            "{len} aligned to {align} in {:?}",
            self.map
        );
        let largest = self.gaps().iter().map(|&(from, to)| to - from).max();
        assert_eq!(
            Some(self.tree.largest_gap(&mut self.pool, LOW, HIGH + 50)),
            largest
        );
    }
}

proptest! {
    #[test]
    fn the_tree_answers_as_an_ordered_map_does(
        steps in prop::collection::vec((0u8..4, LOW..HIGH + 40, 1u64..40, 0u32..5), 1..200),
    ) {
        let mut both = Both { pool: pool(), tree: AreaTree::new(), map: BTreeMap::new() };
        for (what, at, len, align) in steps {
            let Both { pool, tree, map } = &mut both;
            let overlaps = map.iter().any(|(&start, &end)| start < at + len && at < end);
            let chosen = map.range(..=at).next_back().map(|(&start, &end)| (start, end));
            match (what, chosen) {
                (0 | 1, _) if !overlaps && at + len <= HIGH + 50 => {
                    tree.insert(pool, area(at, at + len)).unwrap();
                    map.insert(at, at + len);
                }
                (2, Some((start, end))) => {
                    assert_eq!(tree.remove(pool, GuestVirt::new(start)), Some(area(start, end)));
                    map.remove(&start);
                }
                (3, Some((start, end))) if end - start > 2 => {
                    tree.update(pool, GuestVirt::new(start), |changed| *changed = area(start + 1, end - 1));
                    map.remove(&start);
                    map.insert(start + 1, end - 1);
                }
                _ => assert_eq!(tree.remove(pool, GuestVirt::new(HIGH + 51)), None),
            }
            both.check(at, len, 1 << align);
            prop_assert_eq!(both.pool.available(), MOST_AREAS - both.map.len());
        }
        let mut seen = vec![];
        both.tree.clear(&mut both.pool, |area| seen.push((area.start.get(), area.end.get())));
        prop_assert_eq!(seen, both.map.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(both.pool.available(), MOST_AREAS);
    }
}

#[test]
fn the_pool_ends_with_an_error_and_serves_again_after_a_removal() {
    let mut pool = pool();
    let mut tree = AreaTree::new();
    for at in 0..MOST_AREAS as u64 {
        tree.insert(&mut pool, area(2 * at, 2 * at + 1)).unwrap();
    }
    let more = area(1 << 40, (1 << 40) + 1);
    assert_eq!(tree.insert(&mut pool, more), Err(abi::Errno::ENOMEM));
    tree.remove(&mut pool, GuestVirt::new(8000)).unwrap();
    tree.insert(&mut pool, more).unwrap();
    assert_eq!(tree.find(&pool, more.start), Some(&more));
    assert_eq!(tree.find(&pool, GuestVirt::new(8000)), None);
}
