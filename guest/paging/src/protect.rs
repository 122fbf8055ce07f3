//! [`protect()`]: mappings stay, what they allow changes.

use crate::entry::Entry;
use crate::split::split_edges;
use crate::table::{ROOT, Span, next_entry, next_present};
use crate::{Flush, GuestPhys, GuestVirt, MapError, Rights, TableMemoryMut};

/// Sets the rights of every leaf in the range to `rights`, USER included as given; accessed and dirty stay.
/// Empty entries are fine. A large leaf that lies only partly in the range is split first.
///
/// The mark [`Rights::COUNTED`] stays where it is and comes nowhere else. A leaf that has it gets the right to
/// write only if `rights` names it too: memory that several use and none may change must stay so.
///
/// The flush covers the leaves whose rights changed, also if they only grew: a CPU may fault by the old ones.
///
/// # Errors
/// [`MapError::OutOfTables`] if there was no table for a split; then nothing has changed.
pub fn protect(
    mem: &mut impl TableMemoryMut,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    rights: Rights,
) -> Result<Flush, MapError> {
    let span = Span::new(virt, pages);
    let mut flush = Flush::none();
    if span.is_empty() {
        return Ok(flush);
    }
    split_edges(mem, root, span)?;
    change(mem, root, ROOT, span, rights, &mut flush);
    Ok(flush)
}

fn change(
    mem: &mut impl TableMemoryMut,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    rights: Rights,
    flush: &mut Flush,
) {
    if level == 1 {
        return change_leaves(mem, table, span, Entry::leaf_bits(rights), flush);
    }
    while let Some((index, entry, part)) = next_entry(mem, table, level, &mut span) {
        if entry.is_leaf(level) {
            let new = changed(entry, Entry::leaf_bits(rights));
            if new != entry {
                mem.store(table, index, new.raw());
                flush.extend(part.start, part.end);
            }
            continue;
        }
        debug_assert!(!entry.is_shared(), "a shared table is protected");
        // USER leaves need it on the whole path.
        let new = Entry::new(entry.raw() | Entry::table_bits(rights));
        if new != entry {
            mem.store(table, index, new.raw());
        }
        change(mem, entry.table(), level - 1, part, rights, flush);
    }
}

/// The leaf with the rights in `bits`, short of that to write if it has a mark that `bits` have not.
#[inline]
fn changed(leaf: Entry, bits: u64) -> Entry {
    let held_back = (leaf.raw() & !bits & Entry::COUNTED) / (Entry::COUNTED / Entry::WRITE);
    leaf.with_rights(bits & !held_back)
}

#[inline]
fn change_leaves(mem: &mut impl TableMemoryMut, table: GuestPhys, span: Span, bits: u64, flush: &mut Flush) {
    let (first, stop) = span.indices(1);
    let mut from = first;
    while let Some((index, entry)) = next_present(mem, table, from, stop) {
        let new = changed(entry, bits);
        if new != entry {
            mem.store(table, index, new.raw());
            let page = span.start + (index - first) as u64;
            flush.extend(page, page + 1);
        }
        from = index + 1;
    }
}
