//! [`map()`]: a contiguous run of memory appears at a range of addresses.
//!
//! Two passes: `plan` checks that everything is free and counts the tables that are missing; `fill` can't
//! fail any more. The common case, a few pages in a leaf table that exists, needs a single walk.

use crate::entry::Entry;
use crate::spare::Spare;
use crate::table::{ROOT, Span, TABLE_PAGES, UPPER_HALF, index_of, next_present, shift, virt_of};
use crate::{GuestPhys, GuestVirt, PAGE_SIZE, Rights, TableMemory, TableMemoryMut};
use core::fmt;

/// Why tables could not be changed. They are as they were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There was no frame for a table.
    OutOfTables,
    /// The page at this address, the first such in the range, is mapped already, or a link claims it.
    Occupied(GuestVirt),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::OutOfTables => f.write_str("no frame is left for a page table"),
            MapError::Occupied(virt) => write!(f, "page {virt:?} is mapped already"),
        }
    }
}

impl core::error::Error for MapError {}

/// What [`fill`] goes over.
struct Run {
    /// Entry for the first page still to be mapped, without [`Entry::LARGE`].
    leaf: u64,
    /// Bits of entries that lead to tables.
    table_bits: u64,
    /// Whether virtual and physical addresses agree in their offset within 2 MiB.
    congruent: bool,
}

/// Maps `pages` pages of memory from `phys` at `virt`.
///
/// 2 MiB leaves are used wherever `virt` and `phys` are both 2 MiB aligned and at least 512 pages remain, else
/// 4 KiB. Nothing is ever replaced. All or nothing; there is nothing to flush, neither after success nor
/// after failure, since entries that are not present are not cached (SDM 3A, 5.10.2.3).
///
/// # Errors
/// [`MapError::Occupied`] with the first page in the range that is mapped, [`MapError::OutOfTables`].
pub fn map(
    mem: &mut impl TableMemoryMut,
    root: GuestPhys,
    virt: GuestVirt,
    phys: GuestPhys,
    pages: u64,
    rights: Rights,
) -> Result<(), MapError> {
    debug_assert!(
        phys.is_aligned(PAGE_SIZE),
        "memory to map starts within a page: {phys:?}"
    );
    let span = Span::new(virt, pages);
    if span.is_empty() {
        return Ok(());
    }
    let mut run = Run {
        leaf: phys.get() | Entry::leaf_bits(rights),
        table_bits: Entry::table_bits(rights),
        congruent: (virt.get() ^ phys.get()) & (TABLE_PAGES * PAGE_SIZE - 1) == 0,
    };
    if (span.start ^ (span.end - 1)) & !(TABLE_PAGES - 1) == 0
        && let Some(result) = map_in_one_table(mem, root, span, &mut run)
    {
        return result;
    }
    let needed = plan(mem, root, ROOT, span, run.congruent)?;
    let mut spare = Spare::allocate(mem, needed)?;
    fill(mem, root, ROOT, span, &mut run, &mut spare, false);
    spare.finish();
    Ok(())
}

/// The case of a span within one leaf table, if that table exists and no entry above it lacks rights.
fn map_in_one_table(
    mem: &mut impl TableMemoryMut,
    root: GuestPhys,
    span: Span,
    run: &mut Run,
) -> Option<Result<(), MapError>> {
    let mut directory = root;
    for level in [4, 3] {
        let entry = Entry::new(mem.load(directory, index_of(span.start, level)));
        if !leads_on(entry, level, run.table_bits) {
            return None;
        }
        directory = entry.table();
    }
    let index = index_of(span.start, 2);
    let entry = Entry::new(mem.load(directory, index));
    if !leads_on(entry, 2, run.table_bits) {
        return None;
    }
    let table = entry.table();
    if let Err(occupied) = check_free(mem, table, span) {
        return Some(Err(occupied));
    }
    fill_leaves(mem, table, span, run);
    mem.store(
        directory,
        index,
        entry.with_count(entry.count() + span.pages()).raw(),
    );
    Some(Ok(()))
}

/// Whether the entry leads to a table of this tree's own and has all of `table_bits`.
fn leads_on(entry: Entry, level: u32, table_bits: u64) -> bool {
    entry.raw() & (table_bits | Entry::SHARED) == table_bits && !entry.is_leaf(level)
}

/// Checks that nothing in the span is mapped, and says how many tables its mapping will need.
fn plan(
    mem: &impl TableMemory,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    congruent: bool,
) -> Result<u64, MapError> {
    if level == 1 {
        return check_free(mem, table, span).map(|()| 0);
    }
    let mut needed = 0;
    while !span.is_empty() {
        let part = span.split_first(level);
        let entry = Entry::new(mem.load(table, index_of(part.start, level)));
        needed += if !entry.is_present() {
            tables_below(level, part, congruent)
        } else if entry.is_leaf(level) || entry.is_shared() {
            return Err(MapError::Occupied(virt_of(part.start)));
        } else {
            plan(mem, entry.table(), level - 1, part, congruent)?
        };
    }
    Ok(needed)
}

fn check_free(mem: &impl TableMemory, table: GuestPhys, span: Span) -> Result<(), MapError> {
    let (first, stop) = span.indices(1);
    match next_present(mem, table, first, stop) {
        Some((taken, _)) => Err(MapError::Occupied(virt_of(span.start + (taken - first) as u64))),
        None => Ok(()),
    }
}

/// Tables that the span, served by one empty entry of `level`, needs.
fn tables_below(level: u32, span: Span, congruent: bool) -> u64 {
    let mut needed = 0;
    for below in 1..level {
        let shift = shift(below + 1);
        needed += ((span.end - 1) >> shift) - (span.start >> shift) + 1;
    }
    if congruent {
        // Whole 2 MiB regions become leaves instead of tables.
        let first_whole = (span.start + TABLE_PAGES - 1) >> 9;
        needed -= (span.end >> 9).saturating_sub(first_whole);
    }
    needed
}

/// Maps the span, served by `table`; returns how many of the table's entries it took into use. `fresh`: the
/// table is empty.
fn fill<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    run: &mut Run,
    spare: &mut Spare,
    fresh: bool,
) -> u64 {
    if level == 1 {
        fill_leaves(mem, table, span, run);
        return span.pages();
    }
    let mut added = 0;
    while !span.is_empty() {
        let part = span.split_first(level);
        let index = index_of(part.start, level);
        let old = Entry::new(if fresh { 0 } else { mem.load(table, index) });
        if level == 2 && run.congruent && part.pages() == TABLE_PAGES && !old.is_present() {
            mem.store(table, index, run.leaf | Entry::LARGE);
            run.leaf += TABLE_PAGES * PAGE_SIZE;
            added += 1;
            continue;
        }
        let made = !old.is_present();
        let mut entry = Entry::new(if made { spare.take(mem).get() } else { old.raw() } | run.table_bits);
        let below = fill(mem, entry.table(), level - 1, part, run, spare, made);
        if is_counted(level, index) {
            entry = entry.with_count(entry.count() + below);
        }
        // The entry comes after what it leads to: another CPU never walks into a half-made table.
        if entry != old {
            mem.store(table, index, entry.raw());
        }
        added += u64::from(made);
    }
    added
}

/// Whether the entry counts what is in use below it: not where all roots of a kernel share a table.
pub(crate) const fn is_counted(level: u32, index: usize) -> bool {
    level != ROOT || index < UPPER_HALF
}

#[inline]
fn fill_leaves(mem: &mut impl TableMemoryMut, table: GuestPhys, span: Span, run: &mut Run) {
    let (first, stop) = span.indices(1);
    let mut leaf = run.leaf;
    for index in first..stop {
        mem.store(table, index, leaf);
        leaf += PAGE_SIZE;
    }
    run.leaf = leaf;
}
