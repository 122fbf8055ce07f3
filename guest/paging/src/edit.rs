//! [`edit`]: leaves stay where they are, what they map and allow changes one by one. [`duplicate`]: what one
//! tree maps appears in another as well.

use crate::entry::Entry;
use crate::table::{ROOT, Span, index_of, next_entry, next_present, shift, virt_of};
use crate::{Flush, GuestPhys, GuestVirt, Leaf, MapError, Rights, TableMemoryMut};

/// Tells `change` of every leaf in the range, in order, which says what memory it is over from now on (of the
/// same size) and with which rights, mark included; `None` leaves it alone. A large leaf that lies partly in the
/// range is told of once, whole, and the flush covers all of it.
///
/// Leaves may only lose the USER right here: what leads to them stays as it is.
pub fn edit<M: TableMemoryMut>(
    mem: &mut M,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    mut change: impl FnMut(&mut M, Leaf) -> Option<(GuestPhys, Rights)>,
) -> Flush {
    let mut flush = Flush::none();
    visit(mem, root, ROOT, Span::new(virt, pages), &mut change, &mut flush);
    flush
}

fn visit<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    change: &mut impl FnMut(&mut M, Leaf) -> Option<(GuestPhys, Rights)>,
    flush: &mut Flush,
) {
    while let Some((index, entry, part)) = next_entry(mem, table, level, &mut span) {
        debug_assert!(
            entry.is_leaf(level) || !entry.is_shared(),
            "a shared table is edited"
        );
        if level == 2 && !entry.is_leaf(level) {
            visit_leaves(mem, entry.table(), part, change, flush);
            continue;
        }
        if !entry.is_leaf(level) {
            visit(mem, entry.table(), level - 1, part, change, flush);
            continue;
        }
        let first = part.start >> shift(level) << shift(level);
        if let Some(new) = changed(mem, entry, level, first, change) {
            mem.store(table, index, new.raw());
            flush.extend(first, first + (1 << shift(level)));
        }
    }
}

#[inline]
fn visit_leaves<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    span: Span,
    change: &mut impl FnMut(&mut M, Leaf) -> Option<(GuestPhys, Rights)>,
    flush: &mut Flush,
) {
    let (first, stop) = span.indices(1);
    let mut from = first;
    while let Some((index, entry)) = next_present(mem, table, from, stop) {
        let page = span.start + (index - first) as u64;
        if let Some(new) = changed(mem, entry, 1, page, change) {
            mem.store(table, index, new.raw());
            flush.extend(page, page + 1);
        }
        from = index + 1;
    }
}

/// What is to stand in the place of a leaf, if not the same.
#[inline]
fn changed<M: TableMemoryMut>(
    mem: &mut M,
    entry: Entry,
    level: u32,
    first: u64,
    change: &mut impl FnMut(&mut M, Leaf) -> Option<(GuestPhys, Rights)>,
) -> Option<Entry> {
    let (phys, rights) = change(mem, entry.to_leaf(level, virt_of(first), Entry::ALL_ALLOWED))?;
    let new = entry.marked(rights).over(phys, level);
    (new != entry).then_some(new)
}

/// Maps in the tree `to`, which has nothing in the range, what the tree `from` maps there, leaf by leaf: `share`
/// is told of each, in order, and says with which rights, mark included, both have it from now on; with `None`
/// it stays with `from` alone. No leaf lies across an edge of the range. `flush` grows by the leaves of `from`
/// whose rights have changed: call with ascending ranges.
///
/// # Errors
/// [`MapError::OutOfTables`]. All leaves that `share` has been asked about until then are where it said.
pub fn duplicate<M: TableMemoryMut>(
    mem: &mut M,
    from: GuestPhys,
    to: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    flush: &mut Flush,
    mut share: impl FnMut(&mut M, &Leaf) -> Option<Rights>,
) -> Result<(), MapError> {
    let span = Span::new(virt, pages);
    if span.is_empty() {
        return Ok(());
    }
    let mut copy = Copy {
        share: &mut share,
        flush,
        short: false,
    };
    copy.tables(mem, from, to, ROOT, span);
    if copy.short {
        Err(MapError::OutOfTables)
    } else {
        Ok(())
    }
}

struct Copy<'a, F> {
    share: &'a mut F,
    flush: &'a mut Flush,
    /// There was no frame for a table.
    short: bool,
}

impl<F> Copy<'_, F> {
    /// Returns how many entries of `to` came into use.
    fn tables<M: TableMemoryMut>(
        &mut self,
        mem: &mut M,
        from: GuestPhys,
        to: GuestPhys,
        level: u32,
        mut span: Span,
    ) -> u64
    where
        F: FnMut(&mut M, &Leaf) -> Option<Rights>,
    {
        let mut added = 0;
        while !self.short
            && let Some((index, entry, part)) = next_entry(mem, from, level, &mut span)
        {
            if entry.is_leaf(level) {
                added += self.leaf(mem, from, to, level, index, entry, part.start);
                continue;
            }
            debug_assert!(!entry.is_shared(), "a shared table is duplicated");
            let old = Entry::new(mem.load(to, index));
            let below = if old.is_present() {
                old
            } else if let Some(table) = mem.allocate() {
                Entry::new(table.get())
            } else {
                self.short = true;
                break;
            };
            let entries = if level == 2 {
                self.leaves(mem, entry.table(), below.table(), part, entry.count())
            } else {
                self.tables(mem, entry.table(), below.table(), level - 1, part)
            };
            if entries == 0 && !old.is_present() {
                mem.retire(below.table());
                continue;
            }
            // USER leaves need it on the whole path, also where that was there already.
            let bits = entry.raw() & Entry::table_bits(Rights::USER);
            let new = Entry::new(below.raw() | bits).with_count(below.count() + entries);
            if new != old {
                mem.store(to, index, new.raw());
            }
            added += u64::from(!old.is_present());
        }
        added
    }

    #[inline]
    fn leaves<M: TableMemoryMut>(
        &mut self,
        mem: &mut M,
        from: GuestPhys,
        to: GuestPhys,
        span: Span,
        live: u64,
    ) -> u64
    where
        F: FnMut(&mut M, &Leaf) -> Option<Rights>,
    {
        let (first, stop) = span.indices(1);
        let (mut added, mut seen) = (0, 0);
        let mut index = first;
        while seen < live
            && let Some((at, entry)) = next_present(mem, from, index, stop)
        {
            seen += 1;
            added += self.leaf(mem, from, to, 1, at, entry, span.start + (at - first) as u64);
            index = at + 1;
        }
        added
    }

    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "two tables, and all there is to an entry"
    )]
    fn leaf<M: TableMemoryMut>(
        &mut self,
        mem: &mut M,
        from: GuestPhys,
        to: GuestPhys,
        level: u32,
        index: usize,
        entry: Entry,
        page: u64,
    ) -> u64
    where
        F: FnMut(&mut M, &Leaf) -> Option<Rights>,
    {
        debug_assert!(index == index_of(page, level));
        debug_assert!(
            !Entry::new(mem.load(to, index)).is_present(),
            "page {page:#x} is mapped already"
        );
        let leaf = entry.to_leaf(level, virt_of(page), Entry::ALL_ALLOWED);
        let Some(rights) = (self.share)(mem, &leaf) else {
            return 0;
        };
        let new = entry.marked(rights);
        mem.store(to, index, new.raw());
        if new != entry {
            mem.store(from, index, new.raw());
            if new.raw() ^ entry.raw() != Entry::COUNTED {
                self.flush.extend(page, page + (1 << shift(level)));
            }
        }
        1
    }
}
