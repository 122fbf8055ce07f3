//! Where tables lie ([`TableMemory`], [`TableMemoryMut`]), and the ranges of pages operations go over.
//!
//! Levels are numbered as they map: 1 is a page table (4 KiB leaves), 2 a page directory (2 MiB), 3 a
//! page-directory-pointer table (1 GiB), 4 the root. Inside the engine addresses are page numbers, because
//! the end of a range at 2^64 would be 0 as an address.

use crate::entry::Entry;
use crate::{GuestPhys, GuestVirt, Leaf, PAGE_SIZE};

/// Read access to tables: all that inspection needs.
pub trait TableMemory {
    /// One atomic 64-bit load of entry `index` (below 512) of the table at `table`.
    fn load(&self, table: GuestPhys, index: usize) -> u64;

    /// The first index from `from` to before `to` (512 at most) at which the table does not hold zero, or `to`. Whoever
    /// can find it in fewer instructions than a load of each takes should: most tables are mostly empty.
    fn skip_zeros(&self, table: GuestPhys, from: usize, to: usize) -> usize {
        (from..to)
            .find(|&index| self.load(table, index) != 0)
            .unwrap_or(to)
    }
}

/// Access to tables that allows changing them.
pub trait TableMemoryMut: TableMemory {
    /// One atomic 64-bit store.
    fn store(&mut self, table: GuestPhys, index: usize, value: u64);

    /// A zeroed frame for a table, or `None` when there is no more.
    fn allocate(&mut self) -> Option<GuestPhys>;

    /// Takes a table that no entry leads to any more. **It is all zero**, so reusing it as a table needs no
    /// clearing. It must not be reused before the [`crate::Flush`] that the operation returns has been spent:
    /// the implementation queues it. (After an operation that failed it was never visible to a CPU.)
    fn retire(&mut self, table: GuestPhys);

    /// One link less leads to `table`, a shared one. Whoever counts them ([`crate::share`]) frees it, and what is below,
    /// when the flush of the operation has been spent.
    fn unlinked(&mut self, table: GuestPhys) {
        let _ = table;
    }

    /// `leaf`, a large one, is about to become 512 small ones that say the same, mark included.
    fn splits(&mut self, leaf: &Leaf) {
        let _ = leaf;
    }
}

/// Index of `virt`'s entry in the root table.
#[must_use]
pub const fn root_index(virt: GuestVirt) -> usize {
    index_of(virt.get() >> 12, ROOT)
}

/// Level of the root table.
pub(crate) const ROOT: u32 = 4;
/// Pages a leaf table maps.
pub(crate) const TABLE_PAGES: u64 = 512;
/// First root entry of the upper half.
pub(crate) const UPPER_HALF: usize = 256;

/// How far to shift a page number to number the entries of `level`.
pub(crate) const fn shift(level: u32) -> u32 {
    9 * (level - 1)
}

/// Index of `page`'s entry in its table of `level`.
pub(crate) const fn index_of(page: u64, level: u32) -> usize {
    (page >> shift(level)) as usize & 511
}

/// The address of a page number.
pub(crate) const fn virt_of(page: u64) -> GuestVirt {
    GuestVirt::new(page << 12)
}

/// Page numbers from `start` to before `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    pub(crate) fn new(virt: GuestVirt, pages: u64) -> Self {
        let start = virt.get() >> 12;
        let span = Span {
            start,
            end: start + pages,
        };
        debug_assert!(virt.is_aligned(PAGE_SIZE), "range starts within a page: {virt:?}");
        debug_assert!(
            span.is_empty()
                || (virt.is_canonical()
                    && virt_of(span.end - 1).is_canonical()
                    && (start ^ (span.end - 1)) >> 35 == 0
                    && span.end <= 1 << 52),
            "range of {pages} pages at {virt:?} leaves its half of the address space"
        );
        span
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub(crate) const fn pages(self) -> u64 {
        self.end - self.start
    }

    /// Cuts off the part at the start that one entry of `level` serves.
    pub(crate) fn split_first(&mut self, level: u32) -> Span {
        let shift = shift(level);
        let end = (((self.start >> shift) + 1) << shift).min(self.end);
        let first = Span {
            start: self.start,
            end,
        };
        self.start = end;
        first
    }

    /// Indices (first, one past the last) in the table of `level` that serves all of the span.
    pub(crate) const fn indices(self, level: u32) -> (usize, usize) {
        (index_of(self.start, level), index_of(self.end - 1, level) + 1)
    }
}

/// The first present entry of `table` from index `from` to before `to`, and its index.
///
/// The entry is the very value that was found present: another CPU may change tables that are only read. A full
/// neighbourhood needs no search.
#[inline]
pub(crate) fn next_present(
    mem: &impl TableMemory,
    table: GuestPhys,
    from: usize,
    to: usize,
) -> Option<(usize, Entry)> {
    let mut index = from;
    while index < to {
        let entry = Entry::new(mem.load(table, index));
        if entry.is_present() {
            return Some((index, entry));
        }
        index = mem.skip_zeros(table, index + 1, to);
    }
    None
}

/// The next present entry of `table` (of `level`) in `span`: its index, its value and the part of the span
/// it serves. The span shrinks to what comes after.
pub(crate) fn next_entry(
    mem: &impl TableMemory,
    table: GuestPhys,
    level: u32,
    span: &mut Span,
) -> Option<(usize, Entry, Span)> {
    if span.is_empty() {
        return None;
    }
    let (first, stop) = span.indices(level);
    let (index, entry) = next_present(mem, table, first, stop)?;
    if index > first {
        let shift = shift(level);
        span.start = ((span.start >> shift) + (index - first) as u64) << shift;
    }
    Some((index, entry, span.split_first(level)))
}
