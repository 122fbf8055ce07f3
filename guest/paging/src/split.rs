//! Large leaves are split where a range begins or ends within one, before anything else is done to the range.
//!
//! A split changes no translation. The CPU may go on using the large one it has cached: it says the same until
//! the change that follows, and the flush of that change drops it.

use crate::entry::Entry;
use crate::spare::Spare;
use crate::table::{ROOT, Span, TABLE_PAGES, index_of, shift, virt_of};
use crate::{GuestPhys, GuestVirt, MapError, PAGE_SIZE, TableMemory, TableMemoryMut};

/// Splits the large leaf over the page at `virt`, if there is one, until a 4 KiB leaf maps that page.
///
/// # Errors
/// [`MapError::OutOfTables`]; then nothing has changed.
pub fn split_around(mem: &mut impl TableMemoryMut, root: GuestPhys, virt: GuestVirt) -> Result<(), MapError> {
    split_edges(mem, root, Span::new(virt, 1))
}

/// Splits until no leaf lies across the span's start or end. All or nothing.
pub(crate) fn split_edges(
    mem: &mut impl TableMemoryMut,
    root: GuestPhys,
    span: Span,
) -> Result<(), MapError> {
    let at_start = leaf_across(mem, root, span.start);
    // Within one leaf table, start has answered for both.
    let one_region = (span.start ^ (span.end - 1)) & !(TABLE_PAGES - 1) == 0;
    let at_end = match at_start {
        None if one_region && span.start & (TABLE_PAGES - 1) != 0 => None,
        _ => leaf_across(mem, root, span.end),
    };
    let needed =
        tables_for(at_start, span.start) + tables_for(at_end, span.end) - shared(at_start, at_end, span);
    if needed == 0 {
        return Ok(());
    }
    let mut spare = Spare::allocate(mem, needed)?;
    split_at(mem, root, span.start, &mut spare);
    split_at(mem, root, span.end, &mut spare);
    spare.finish();
    Ok(())
}

/// The level of the leaf that maps both `page` and the page before it.
fn leaf_across(mem: &impl TableMemory, root: GuestPhys, page: u64) -> Option<u32> {
    let mut table = root;
    for level in [4, 3, 2] {
        // The largest leaf that could lie across; also true where `page` is the end of an address-space half.
        if page & ((1 << shift(level.min(3))) - 1) == 0 {
            return None;
        }
        let entry = Entry::new(mem.load(table, index_of(page, level)));
        if !entry.is_present() {
            return None;
        }
        if entry.is_leaf(level) {
            return Some(level);
        }
        table = entry.table();
    }
    None
}

/// Tables it takes to split a leaf of this level until none lies across `page`.
fn tables_for(level: Option<u32>, page: u64) -> u64 {
    match level {
        None => 0,
        Some(2) => 1,
        Some(_) => 1 + u64::from(page & (TABLE_PAGES - 1) != 0),
    }
}

/// Tables that are counted for both edges of the span and needed once.
fn shared(at_start: Option<u32>, at_end: Option<u32>, span: Span) -> u64 {
    let (Some(level), Some(other)) = (at_start, at_end) else {
        return 0;
    };
    let same = |shift| span.start >> shift == span.end >> shift;
    if level != other || !same(shift(level)) {
        return 0;
    }
    let unaligned = |page: u64| page & (TABLE_PAGES - 1) != 0;
    1 + u64::from(level == 3 && same(shift(2)) && unaligned(span.start) && unaligned(span.end))
}

fn split_at(mem: &mut impl TableMemoryMut, root: GuestPhys, page: u64, spare: &mut Spare) {
    let mut table = root;
    for level in (2..=ROOT).rev() {
        if page & ((1 << shift(level.min(3))) - 1) == 0 {
            return;
        }
        let index = index_of(page, level);
        let mut entry = Entry::new(mem.load(table, index));
        if !entry.is_present() {
            return;
        }
        if entry.is_leaf(level) {
            let below = spare.take(mem);
            let first = virt_of(page >> shift(level) << shift(level));
            mem.splits(&entry.to_leaf(level, first, Entry::ALL_ALLOWED));
            entry = split(mem, entry, level, below);
            mem.store(table, index, entry.raw());
        }
        table = entry.table();
    }
}

/// Fills `table` with what `leaf` says and returns the entry that leads there.
fn split(mem: &mut impl TableMemoryMut, leaf: Entry, level: u32, table: GuestPhys) -> Entry {
    let mut part = leaf.first_part(level).raw();
    for index in 0..TABLE_PAGES as usize {
        mem.store(table, index, part);
        part += PAGE_SIZE << shift(level - 1);
    }
    let rights = Entry::PRESENT | Entry::WRITE | Entry::ACCESSED | leaf.raw() & Entry::USER;
    Entry::new(table.get() | rights).with_count(TABLE_PAGES)
}
