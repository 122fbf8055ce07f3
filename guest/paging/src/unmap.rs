//! [`unmap()`] and [`clear_low_half`]: mappings go away, and with them the tables they leave empty.

use crate::entry::Entry;
use crate::map::is_counted;
use crate::share::linked;
use crate::split::split_edges;
use crate::table::{ROOT, Span, TABLE_PAGES, UPPER_HALF, next_entry, next_present, shift, virt_of};
use crate::{Flush, GuestPhys, GuestVirt, Leaf, MapError, TableMemoryMut};

/// Removes every mapping in the range and tells `removed` of each leaf, in order; empty entries are fine.
///
/// A shared table ([`crate::share`]) of which a part lies in the range lies there with all that it maps, and is told of
/// as one leaf of that size.
///
/// A large leaf that lies only partly in the range is split first. Tables that become empty are unlinked and
/// retired (not those right below the upper half of the root, which all roots share).
///
/// # Errors
/// [`MapError::OutOfTables`] if there was no table for a split; then nothing has been removed.
pub fn unmap<M: TableMemoryMut>(
    mem: &mut M,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    mut removed: impl FnMut(&mut M, Leaf),
) -> Result<Flush, MapError> {
    let span = Span::new(virt, pages);
    let mut flush = Flush::none();
    if span.is_empty() {
        return Ok(flush);
    }
    split_edges(mem, root, span)?;
    remove(mem, root, ROOT, span, u64::MAX, &mut |mem: &mut M, leaf: Leaf| {
        let start = leaf.virt.get() >> 12;
        flush.extend(start, start + (leaf.size >> 12));
        removed(mem, leaf);
    });
    Ok(flush)
}

/// Removes every mapping in a range of a tree that comes to its end: as [`unmap()`], but no leaf may lie across an edge of a range, and there is nothing to flush, for the
/// root must not be loaded on any vCPU, nor have translations cached (no PCIDs).
///
/// For who knows where mappings are, this is cheaper than [`clear_low_half`], which searches.
pub fn clear_range<M: TableMemoryMut>(
    mem: &mut M,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    mut removed: impl FnMut(&mut M, Leaf),
) {
    let span = Span::new(virt, pages);
    if !span.is_empty() {
        remove(mem, root, ROOT, span, u64::MAX, &mut removed);
    }
}

/// Removes everything in the lower half (root entries 0 to 255), tells `removed` of each leaf, in order, and
/// retires every table below the root.
///
/// There is nothing to flush: the root must not be loaded on any vCPU, nor have translations cached (no PCIDs).
pub fn clear_low_half<M: TableMemoryMut>(
    mem: &mut M,
    root: GuestPhys,
    mut removed: impl FnMut(&mut M, Leaf),
) {
    let span = Span {
        start: 0,
        end: (UPPER_HALF as u64) << shift(ROOT),
    };
    remove(mem, root, ROOT, span, u64::MAX, &mut removed);
}

/// Removes what `table` maps of the span; returns how many of its entries went out of use. No leaf lies across
/// an edge of the span. `live`: entries in use, after which there is nothing to look for.
fn remove<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    live: u64,
    removed: &mut impl FnMut(&mut M, Leaf),
) -> u64 {
    if level == 1 {
        return remove_leaves(mem, table, span, live, removed);
    }
    let mut gone = 0;
    while gone < live
        && let Some((index, entry, part)) = next_entry(mem, table, level, &mut span)
    {
        if entry.is_leaf(level) {
            mem.store(table, index, 0);
            removed(mem, entry.to_leaf(level, virt_of(part.start), Entry::ALL_ALLOWED));
            gone += 1;
            continue;
        }
        if entry.is_shared() {
            let leaf = linked(mem, entry, level, part.start);
            debug_assert!(
                part.start.trailing_zeros() >= shift(level) && part.pages() >= leaf.size >> 12,
                "a part of what is linked at {:?} is removed",
                leaf.virt
            );
            mem.store(table, index, 0);
            removed(mem, leaf);
            mem.unlinked(entry.table());
            gone += 1;
            continue;
        }
        if !is_counted(level, index) {
            remove(mem, entry.table(), level - 1, part, TABLE_PAGES, removed);
            continue;
        }
        let below = remove(mem, entry.table(), level - 1, part, entry.count(), removed);
        let left = entry.count() - below;
        if left == 0 {
            mem.store(table, index, 0);
            mem.retire(entry.table());
            gone += 1;
        } else if below > 0 {
            mem.store(table, index, entry.with_count(left).raw());
        }
    }
    gone
}

#[inline]
fn remove_leaves<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    span: Span,
    live: u64,
    removed: &mut impl FnMut(&mut M, Leaf),
) -> u64 {
    let (first, stop) = span.indices(1);
    let (mut gone, mut from) = (0, first);
    while gone < live
        && let Some((index, entry)) = next_present(mem, table, from, stop)
    {
        mem.store(table, index, 0);
        let virt = virt_of(span.start + (index - first) as u64);
        removed(mem, entry.to_leaf(1, virt, Entry::ALL_ALLOWED));
        gone += 1;
        from = index + 1;
    }
    gone
}
