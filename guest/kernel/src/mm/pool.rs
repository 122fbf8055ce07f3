//! The nodes of all processes' trees of areas ([`super::tree`]), from one pool for the whole guest: a treap each.
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
use paging::GuestVirt;

/// Most areas of all processes together.
pub const MOST_AREAS: usize = 16384;

#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) area: Area,
    /// End of what the area claims.
    pub(super) claimed: u64,
    /// Bounds of the subtree, and the largest gap within them.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) gap: u64,
    pub(super) left: u16,
    pub(super) right: u16,
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

    pub(super) fn node(&self, index: u16) -> &Node {
        &self.nodes[usize::from(index)]
    }

    pub(super) fn node_mut(&mut self, index: u16) -> &mut Node {
        &mut self.nodes[usize::from(index)]
    }

    pub(super) fn take(&mut self, area: Area) -> Option<u16> {
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

    pub(super) fn give_back(&mut self, index: u16) {
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
    pub(super) fn pull(&mut self, index: u16) {
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

    pub(super) fn insert(&mut self, root: u16, new: u16) -> u16 {
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
    pub(super) fn split(&mut self, root: u16, key: GuestVirt) -> (u16, u16) {
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
    pub(super) fn merge(&mut self, left: u16, right: u16) -> u16 {
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
    pub(super) fn remove(&mut self, root: u16, key: GuestVirt) -> (u16, u16) {
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

    pub(super) fn update(&mut self, root: u16, key: GuestVirt, change: impl FnOnce(&mut Area)) {
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

    pub(super) fn clear(&mut self, root: u16, gone: &mut impl FnMut(&Area)) {
        if root != 0 {
            let Node { left, right, .. } = *self.node(root);
            self.clear(left, gone);
            gone(&self.node(root).area);
            self.clear(right, gone);
            self.give_back(root);
        }
    }

    pub(super) fn for_each(&self, root: u16, seen: &mut impl FnMut(&Area)) {
        if root != 0 {
            let node = self.node(root);
            self.for_each(node.left, seen);
            seen(&node.area);
            self.for_each(node.right, seen);
        }
    }

    /// A subtree like this one, of the same shape. There must be enough nodes.
    pub(super) fn duplicate(&mut self, root: u16) -> Option<u16> {
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
    pub(super) fn below(&self, root: u16, limit: u64) -> (u64, u64) {
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
    pub(super) fn highest_gap(&self, root: u16, low: u64, high: u64, want: &Want) -> Option<u64> {
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
pub(super) struct Want {
    pub(super) len: u64,
    pub(super) align: u64,
    pub(super) above: u64,
    pub(super) below: u64,
}

impl Want {
    pub(super) fn fit(&self, low: u64, high: u64) -> Option<u64> {
        let start = high.min(self.below).checked_sub(self.len)? & !(self.align - 1);
        (start >= low.max(self.above)).then_some(start)
    }
}
