//! A process's areas in order of address: a treap over nodes from one pool for the whole guest.
//!
//! Each node also knows its subtree's first and last address and its largest gap, so a free range is found in
//! O(log n) like everything else. Gaps are what no area claims ([`Area::claimed_end`]); something may lie in what is
//! claimed all the same, where a program has put it. Links are indices into the pool, 0 is none; nothing is allocated. The
//! nodes lie in BSS, where those that are never used cost nothing.

use super::area::Area;
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use crate::mm::area::{Advice, Backing, FilePart, Prot};
use crate::mm::contents::{FileId, MOST_FILES};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

/// Most areas of all processes together.
pub const MOST_AREAS: usize = 16384;

#[derive(Clone, Copy)]
struct Node {
    area: Area,
    /// End of what the area claims.
    claimed: u64,
    /// Bounds of the subtree, and the largest gap within them.
    first: u64,
    last: u64,
    gap: u64,
    left: u16,
    right: u16,
    priority: u32,
}

impl Node {
    /// All bytes zero, so that the pool stays in BSS.
    const UNUSED: Node = Node {
        area: Area {
            start: GuestVirt::new(0),
            end: GuestVirt::new(0),
            prot: Prot::empty(),
            may: Prot::empty(),
            backing: Backing::Anonymous,
            advice: Advice::empty(),
        },
        claimed: 0,
        first: 0,
        last: 0,
        gap: 0,
        left: 0,
        right: 0,
        priority: 0,
    };
}

#[cfg(target_os = "none")]
static NODES: Reserve<[Node; MOST_AREAS + 1]> = Reserve::new([Node::UNUSED; MOST_AREAS + 1]);
#[cfg(target_os = "none")]
static SHOWING: Reserve<[u16; MOST_FILES]> = Reserve::new([0; MOST_FILES]);

/// The nodes of all processes' areas.
pub struct AreaPool {
    /// Node 0 is never used.
    nodes: &'static mut [Node],
    /// Head of the list of nodes given back, linked by `right`.
    free: u16,
    /// How many nodes have ever been used.
    used: u16,
    /// How many are left.
    available: u16,
    seed: u32,
    /// How many of them show each file.
    showing: &'static mut [u16],
    /// A file is no longer shown by any: whoever waits for that may look.
    pub let_go: bool,
}

impl AreaPool {
    /// A pool without nodes, until `init`.
    pub const fn empty() -> AreaPool {
        AreaPool {
            nodes: &mut [],
            free: 0,
            used: 0,
            available: 0,
            seed: 0,
            showing: &mut [],
            let_go: false,
        }
    }

    /// Takes the nodes. Once.
    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let nodes = NODES.take().expect("a kernel has one pool of areas");
        #[cfg(not(target_os = "none"))]
        let nodes = Box::leak(vec![Node::UNUSED; MOST_AREAS + 1].into_boxed_slice());
        #[cfg(target_os = "none")]
        let showing = SHOWING.take().expect("a kernel has one pool of areas");
        #[cfg(not(target_os = "none"))]
        let showing = Box::leak(vec![0; MOST_FILES].into_boxed_slice());
        self.nodes = nodes;
        self.showing = showing;
        self.available = MOST_AREAS as u16;
        self.seed = 0x9e37_79b9;
    }

    /// Whether an area shows `file`.
    pub fn shows(&self, file: FileId) -> bool {
        self.showing[usize::from(file.0)] > 0
    }

    /// How many areas more there can be.
    pub fn available(&self) -> usize {
        usize::from(self.available)
    }

    /// For tests of what happens when there are few: as if only `left` were available.
    #[cfg(test)]
    pub(super) fn pretend_available(&mut self, left: usize) -> usize {
        core::mem::replace(&mut self.available, left as u16).into()
    }

    fn node(&self, index: u16) -> &Node {
        &self.nodes[usize::from(index)]
    }

    fn node_mut(&mut self, index: u16) -> &mut Node {
        &mut self.nodes[usize::from(index)]
    }

    fn take(&mut self, area: Area) -> Option<u16> {
        self.available = self.available.checked_sub(1)?;
        let index = if self.free != 0 {
            let index = self.free;
            self.free = self.node(index).right;
            index
        } else {
            self.used += 1;
            self.used
        };
        // xorshift (Marsaglia): the tree's shape only has to be unrelated to the order of addresses.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        if let Some(part) = area.file() {
            self.showing[usize::from(part.file.0)] += 1;
        }
        let claimed = area.claimed_end().get();
        *self.node_mut(index) = Node {
            area,
            claimed,
            first: area.start.get(),
            last: claimed,
            gap: 0,
            left: 0,
            right: 0,
            priority: self.seed,
        };
        Some(index)
    }

    fn give_back(&mut self, index: u16) {
        if let Some(&FilePart { file, .. }) = self.node(index).area.file() {
            let showing = &mut self.showing[usize::from(file.0)];
            *showing -= 1;
            self.let_go |= *showing == 0;
        }
        self.node_mut(index).right = self.free;
        self.free = index;
        self.available += 1;
    }

    /// Recomputes what `index` knows of its subtree.
    fn pull(&mut self, index: u16) {
        let node = self.node(index);
        let (mut first, mut last, mut gap) = (node.area.start.get(), node.claimed, 0);
        if node.left != 0 {
            let left = self.node(node.left);
            gap = left.gap.max(first.saturating_sub(left.last));
            first = left.first;
            last = last.max(left.last);
        }
        if node.right != 0 {
            let right = self.node(node.right);
            gap = gap.max(right.gap).max(right.first.saturating_sub(last));
            last = last.max(right.last);
        }
        let node = self.node_mut(index);
        (node.first, node.last, node.gap) = (first, last, gap);
    }

    fn insert(&mut self, root: u16, new: u16) -> u16 {
        if root == 0 {
            return new;
        }
        let key = self.node(new).area.start;
        if self.node(new).priority > self.node(root).priority {
            let (left, right) = self.split(root, key);
            let node = self.node_mut(new);
            (node.left, node.right) = (left, right);
            self.pull(new);
            return new;
        }
        if key < self.node(root).area.start {
            let left = self.insert(self.node(root).left, new);
            self.node_mut(root).left = left;
        } else {
            let right = self.insert(self.node(root).right, new);
            self.node_mut(root).right = right;
        }
        self.pull(root);
        root
    }

    /// Splits a subtree into what is below `key` and what is not.
    fn split(&mut self, root: u16, key: GuestVirt) -> (u16, u16) {
        if root == 0 {
            return (0, 0);
        }
        let parts = if self.node(root).area.start < key {
            let (left, right) = self.split(self.node(root).right, key);
            self.node_mut(root).right = left;
            (root, right)
        } else {
            let (left, right) = self.split(self.node(root).left, key);
            self.node_mut(root).left = right;
            (left, root)
        };
        self.pull(root);
        parts
    }

    /// Joins two subtrees; all of `left` is below all of `right`.
    fn merge(&mut self, left: u16, right: u16) -> u16 {
        if left == 0 || right == 0 {
            return left | right;
        }
        let root = if self.node(left).priority > self.node(right).priority {
            let below = self.merge(self.node(left).right, right);
            self.node_mut(left).right = below;
            left
        } else {
            let below = self.merge(left, self.node(right).left);
            self.node_mut(right).left = below;
            right
        };
        self.pull(root);
        root
    }

    /// Removes the area that starts at `key`; returns the new root and the node.
    fn remove(&mut self, root: u16, key: GuestVirt) -> (u16, u16) {
        if root == 0 {
            return (0, 0);
        }
        let node = *self.node(root);
        let removed;
        if key < node.area.start {
            (self.node_mut(root).left, removed) = self.remove(node.left, key);
        } else if key > node.area.start {
            (self.node_mut(root).right, removed) = self.remove(node.right, key);
        } else {
            return (self.merge(node.left, node.right), root);
        }
        self.pull(root);
        (root, removed)
    }

    fn update(&mut self, root: u16, key: GuestVirt, change: impl FnOnce(&mut Area)) {
        if root == 0 {
            return;
        }
        let node = self.node_mut(root);
        if key < node.area.start {
            let left = node.left;
            self.update(left, key, change);
        } else if key > node.area.start {
            let right = node.right;
            self.update(right, key, change);
        } else {
            change(&mut node.area);
            node.claimed = node.area.claimed_end().get();
        }
        self.pull(root);
    }

    fn clear(&mut self, root: u16, gone: &mut impl FnMut(&Area)) {
        if root != 0 {
            let Node { left, right, .. } = *self.node(root);
            self.clear(left, gone);
            gone(&self.node(root).area);
            self.clear(right, gone);
            self.give_back(root);
        }
    }

    fn for_each(&self, root: u16, seen: &mut impl FnMut(&Area)) {
        if root != 0 {
            let node = self.node(root);
            self.for_each(node.left, seen);
            seen(&node.area);
            self.for_each(node.right, seen);
        }
    }

    /// A subtree like this one, of the same shape. There must be enough nodes.
    fn duplicate(&mut self, root: u16) -> Option<u16> {
        if root == 0 {
            return Some(0);
        }
        let node = *self.node(root);
        let copy = self.take(node.area)?;
        let (left, right) = (self.duplicate(node.left)?, self.duplicate(node.right)?);
        *self.node_mut(copy) = Node { left, right, ..node };
        Some(copy)
    }

    /// Up to where anything that starts below `limit` claims, and where the last of that starts.
    fn below(&self, root: u16, limit: u64) -> (u64, u64) {
        let (mut taken, mut start) = (0, 0);
        let mut at = root;
        while at != 0 {
            let node = self.node(at);
            if node.area.start.get() >= limit {
                at = node.left;
                continue;
            }
            start = node.area.start.get();
            taken = node.claimed.max(taken);
            if node.left != 0 {
                taken = taken.max(self.node(node.left).last);
            }
            at = node.right;
        }
        (taken, start)
    }

    /// The highest start of a free range that fits `want` between `low` and `high`, which hold the subtree.
    fn highest_gap(&self, root: u16, low: u64, high: u64, want: &Want) -> Option<u64> {
        if root == 0 {
            return want.fit(low, high);
        }
        let node = self.node(root);
        let most = node
            .gap
            .max(node.first.saturating_sub(low))
            .max(high.saturating_sub(node.last));
        if most < want.len || low >= want.below || high <= want.above {
            return None;
        }
        let mut taken = node.claimed.max(low);
        if node.left != 0 {
            taken = taken.max(self.node(node.left).last);
        }
        self.highest_gap(node.right, taken, high, want)
            .or_else(|| self.highest_gap(node.left, low, node.area.start.get(), want))
    }
}

/// A free range that is looked for.
struct Want {
    len: u64,
    align: u64,
    above: u64,
    below: u64,
}

impl Want {
    fn fit(&self, low: u64, high: u64) -> Option<u64> {
        let start = high.min(self.below).checked_sub(self.len)? & !(self.align - 1);
        (start >= low.max(self.above)).then_some(start)
    }
}

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
