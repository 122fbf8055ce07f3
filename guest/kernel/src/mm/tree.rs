//! A process's areas in order of address, and where there is room for more.

use super::area::Area;
use super::pool::{AreaPool, Want};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

/// What is known to be full: no free range of `len` bytes lies within `[from, to)`. Who maps one thing after the other
/// finds the place for the next one where this begins, with one walk down.
#[derive(Clone, Copy, Debug, Default)]
struct Full {
    from: u64,
    to: u64,
    len: u64,
}

impl Full {
    /// `[start, end)` is not free any more.
    fn took(&mut self, start: u64, end: u64) {
        if start < self.from && self.from <= end {
            self.from = start;
        }
    }

    /// Something may have become free below `end`.
    fn gave(&mut self, end: u64) {
        self.from = self.from.max(end);
    }
}

/// Walks that look for a gap right below one that was too small, before the whole tree is searched.
const WALKS: u32 = 2;

/// One process's areas.
#[derive(Debug, Default)]
pub struct AreaTree {
    root: u16,
    /// The one that was added last, which is not in the tree yet: what comes last often goes first, and then never has to
    /// be.
    newest: u16,
    full: Full,
}

impl AreaTree {
    /// No areas.
    pub const fn new() -> AreaTree {
        AreaTree {
            root: 0,
            newest: 0,
            full: Full {
                from: 0,
                to: 0,
                len: 0,
            },
        }
    }

    /// The area that contains `addr`.
    pub fn find<'p>(&self, pool: &'p AreaPool, addr: GuestVirt) -> Option<&'p Area> {
        self.first_from(pool, addr).filter(|area| area.start <= addr)
    }

    /// The first area that ends after `addr`.
    pub fn first_from<'p>(&self, pool: &'p AreaPool, addr: GuestVirt) -> Option<&'p Area> {
        let mut best = None;
        let mut at = self.root;
        while at != 0 {
            let node = pool.node(at);
            if addr >= node.area.end {
                at = node.right;
            } else {
                best = Some(&node.area);
                if addr >= node.area.start {
                    break;
                }
                at = node.left;
            }
        }
        match self.newest(pool) {
            Some(new) if addr < new.end && best.is_none_or(|best| new.start < best.start) => Some(new),
            _ => best,
        }
    }

    /// The last area that starts before `addr`.
    pub fn last_before<'p>(&self, pool: &'p AreaPool, addr: GuestVirt) -> Option<&'p Area> {
        let mut best = None;
        let mut at = self.root;
        while at != 0 {
            let node = pool.node(at);
            if node.area.start < addr {
                best = Some(&node.area);
                at = node.right;
            } else {
                at = node.left;
            }
        }
        match self.newest(pool) {
            Some(new) if new.start < addr && best.is_none_or(|best| new.start > best.start) => Some(new),
            _ => best,
        }
    }

    /// The area that was added last, if it is not in the tree.
    fn newest<'p>(&self, pool: &'p AreaPool) -> Option<&'p Area> {
        (self.newest != 0).then(|| &pool.node(self.newest).area)
    }

    /// Puts it there.
    fn settle(&mut self, pool: &mut AreaPool) {
        if self.newest != 0 {
            self.root = pool.insert(self.root, core::mem::take(&mut self.newest));
        }
    }

    /// The area that ends exactly at `addr`.
    pub fn ending_at<'p>(&self, pool: &'p AreaPool, addr: GuestVirt) -> Option<&'p Area> {
        self.find(pool, GuestVirt::new(addr.get().wrapping_sub(1)))
            .filter(|area| area.end == addr)
    }

    /// Adds an area that overlaps no other.
    ///
    /// # Errors
    /// ENOMEM when the guest has no more nodes.
    pub fn insert(&mut self, pool: &mut AreaPool, area: Area) -> Result<(), Errno> {
        debug_assert!(area.start < area.end, "empty area at {:?}", area.start);
        debug_assert!(
            self.first_from(pool, area.start)
                .is_none_or(|next| next.start >= area.end)
        );
        let new = pool.take(area).ok_or(Errno::ENOMEM)?;
        self.full.took(area.start.get(), area.end.get());
        self.settle(pool);
        self.newest = new;
        Ok(())
    }

    /// Removes the area that starts at `start`.
    pub fn remove(&mut self, pool: &mut AreaPool, start: GuestVirt) -> Option<Area> {
        let removed = if self.newest(pool).is_some_and(|new| new.start == start) {
            core::mem::take(&mut self.newest)
        } else {
            let (root, removed) = pool.remove(self.root, start);
            self.root = root;
            removed
        };
        if removed == 0 {
            return None;
        }
        pool.give_back(removed);
        let node = pool.node(removed);
        self.full.gave(node.claimed);
        Some(node.area)
    }

    /// Changes the area that starts at `start`. It must keep its place in the order, and some length.
    pub fn update(&mut self, pool: &mut AreaPool, start: GuestVirt, change: impl FnOnce(&mut Area)) {
        self.full.gave(self.full.to);
        // By itself, the newest is a tree.
        let is_newest = self.newest(pool).is_some_and(|new| new.start == start);
        pool.update(if is_newest { self.newest } else { self.root }, start, change);
    }

    /// Tells `seen` of each, in order.
    pub fn for_each(&self, pool: &AreaPool, mut seen: impl FnMut(&Area)) {
        let mut newest = self.newest(pool);
        pool.for_each(self.root, &mut |area| {
            if let Some(new) = newest.take_if(|new| new.start < area.start) {
                seen(new);
            }
            seen(area);
        });
        newest.into_iter().for_each(seen);
    }

    /// Removes all, telling `gone` of each, in order.
    pub fn clear(&mut self, pool: &mut AreaPool, mut gone: impl FnMut(&Area)) {
        self.settle(pool);
        pool.clear(core::mem::take(self).root, &mut gone);
    }

    /// The highest free range of `len` bytes in `[low, high)`, aligned to `align`.
    pub fn highest_gap(
        &mut self,
        pool: &mut AreaPool,
        len: u64,
        align: u64,
        low: u64,
        high: u64,
    ) -> Option<GuestVirt> {
        self.settle(pool);
        let want = Want {
            len,
            align,
            above: low,
            below: high,
        };
        let mut limit = high;
        if self.full.to == high && self.full.len <= len {
            limit = limit.min(self.full.from);
        }
        for _ in 0..WALKS {
            let (taken, start) = pool.below(self.root, limit);
            if let Some(found) = want.fit(taken, limit) {
                return Some(self.found(found, &want));
            }
            limit = start;
        }
        // Areas may lie outside [low, high) on both sides.
        let top = if self.root == 0 {
            high
        } else {
            pool.node(self.root).last.max(high)
        };
        let found = pool.highest_gap(self.root, 0, top, &want)?;
        Some(self.found(found, &want))
    }

    /// Takes note of what a search has shown, and where it ended.
    fn found(&mut self, start: u64, want: &Want) -> GuestVirt {
        // Ranges that are not aligned have been passed over.
        if want.align == PAGE_SIZE {
            self.full = Full {
                from: start + want.len,
                to: want.below,
                len: want.len,
            };
        }
        GuestVirt::new(start)
    }

    /// A tree of areas like these.
    ///
    /// # Errors
    /// ENOMEM when the guest has too few nodes; callers have made sure that it has enough, or some are lost.
    pub fn duplicate(&self, pool: &mut AreaPool) -> Result<AreaTree, Errno> {
        let newest = match self.newest {
            0 => 0,
            newest => pool.duplicate(newest).ok_or(Errno::ENOMEM)?,
        };
        let root = pool.duplicate(self.root).ok_or(Errno::ENOMEM)?;
        Ok(AreaTree {
            root,
            newest,
            full: self.full,
        })
    }

    /// The length of the largest free range in `[low, high)`; areas below `low` may make it seem larger by as
    /// much as lies there.
    pub fn largest_gap(&mut self, pool: &mut AreaPool, low: u64, high: u64) -> u64 {
        self.settle(pool);
        if self.root == 0 {
            return high - low;
        }
        let node = pool.node(self.root);
        node.gap
            .max(node.first.saturating_sub(low))
            .max(high.saturating_sub(node.last))
    }
}
