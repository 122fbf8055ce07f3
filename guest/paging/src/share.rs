//! Shared tables: one table, made once, that several trees link. [`make_shared`], [`link`], [`unshare`].
//!
//! A shared table maps a contiguous run of memory from its first entry on, and nothing behind the run's end. It is a
//! page table, or, for runs of 2 MiB and more, a page directory of large leaves with at most one page table below it.
//! Mapping the run in a tree is then one entry, whatever its length.
//!
//! Rules:
//! * Leaves in a shared table allow everything; **rights are the linking entry's alone.**
//! * **It is never edited for one tree.** Before a part of what a tree has there changes, [`unshare`] gives that tree
//!   entries of its own, which say the same. [`crate::unmap()`] takes a link away as a whole; no other change may meet one.
//! * Who owns the tables counts the links ([`crate::TableMemoryMut::unlinked`]), and frees a table that has none left
//!   when what was stale is flushed.

use crate::entry::Entry;
use crate::spare::Spare;
use crate::table::{ROOT, Span, TABLE_PAGES, index_of, next_entry, shift, virt_of};
use crate::{Flush, GuestPhys, GuestVirt, Leaf, MapError, PAGE_SIZE, Rights, TableMemory, TableMemoryMut};

/// Most pages one shared table maps: 1 GiB.
pub const MOST_SHARED: u64 = TABLE_PAGES * TABLE_PAGES;

/// The level of the entry that links a shared table of `pages` pages.
const fn link_level(pages: u64) -> u32 {
    if pages < TABLE_PAGES { 2 } else { 3 }
}

/// Pages that the link to a shared table of `pages` pages claims: it starts at a multiple of as many, and nothing else
/// can be mapped there as long as it stands.
#[must_use]
pub const fn claimed_by_link(pages: u64) -> u64 {
    1 << shift(link_level(pages))
}

/// Makes a table that maps `pages` pages (at most [`MOST_SHARED`]) of memory from `phys` on. A run of 512 pages and more
/// starts at a multiple of 2 MiB.
///
/// # Errors
/// [`MapError::OutOfTables`].
pub fn make_shared(
    mem: &mut impl TableMemoryMut,
    phys: GuestPhys,
    pages: u64,
) -> Result<GuestPhys, MapError> {
    debug_assert!(0 < pages && pages <= MOST_SHARED, "{pages} pages in one table");
    debug_assert!(pages < TABLE_PAGES || phys.is_aligned(TABLE_PAGES * PAGE_SIZE));
    let rights = Rights::WRITE | Rights::EXECUTE | Rights::USER;
    let (large, small) = (pages / TABLE_PAGES, pages % TABLE_PAGES);
    let has_tail = large > 0 && small > 0;
    let mut spare = Spare::allocate(mem, 1 + u64::from(has_tail))?;
    let table = spare.take(mem);
    let mut leaf = phys.get() | Entry::leaf_bits(rights);
    for index in 0..large as usize {
        mem.store(table, index, leaf | Entry::LARGE);
        leaf += TABLE_PAGES * PAGE_SIZE;
    }
    let last = if has_tail { spare.take(mem) } else { table };
    for index in 0..small as usize {
        mem.store(last, index, leaf);
        leaf += PAGE_SIZE;
    }
    if has_tail {
        let entry = Entry::new(last.get() | Entry::table_bits(rights)).with_count(small);
        mem.store(table, large as usize, entry.raw());
    }
    spare.finish();
    Ok(table)
}

/// The table below a shared table of `pages` pages, if it has one.
#[must_use]
pub fn table_below(mem: &impl TableMemory, shared: GuestPhys, pages: u64) -> Option<GuestPhys> {
    let large = pages / TABLE_PAGES;
    (large > 0 && !pages.is_multiple_of(TABLE_PAGES))
        .then(|| Entry::new(mem.load(shared, large as usize)).table())
}

/// Links the table `shared`, made for `pages` pages, at `virt`, a multiple of what it claims ([`claimed_by_link`]) in
/// the lower half. All or nothing; there is nothing to flush.
///
/// # Errors
/// [`MapError::Occupied`] if anything is mapped in the range that it claims, [`MapError::OutOfTables`].
pub fn link(
    mem: &mut impl TableMemoryMut,
    root: GuestPhys,
    virt: GuestVirt,
    shared: GuestPhys,
    pages: u64,
    rights: Rights,
) -> Result<(), MapError> {
    debug_assert!(
        virt.is_aligned(claimed_by_link(pages) * PAGE_SIZE),
        "link at {virt:?}"
    );
    let page = virt.get() >> 12;
    let linked_at = link_level(pages);
    // As far down as there are tables.
    let (mut table, mut level) = (root, ROOT);
    loop {
        let entry = Entry::new(mem.load(table, index_of(page, level)));
        if !entry.is_present() {
            break;
        }
        if level == linked_at || entry.is_leaf(level) || entry.is_shared() {
            return Err(MapError::Occupied(virt));
        }
        table = entry.table();
        level -= 1;
    }
    let mut spare = Spare::allocate(mem, u64::from(level - linked_at))?;
    let mut entry = Entry::new(shared.get() | Entry::link_bits(rights)).with_count(entries(pages));
    for missing in linked_at..level {
        let new = spare.take(mem);
        mem.store(new, index_of(page, missing), entry.raw());
        entry = Entry::new(new.get() | Entry::table_bits(rights)).with_count(1);
    }
    spare.finish();
    mem.store(table, index_of(page, level), entry.raw());
    // What leads there: USER on the whole path, and one entry more in the last table that was there.
    let mut table = root;
    for above in (level + 1..=ROOT).rev() {
        let index = index_of(page, above);
        let old = Entry::new(mem.load(table, index));
        let mut new = Entry::new(old.raw() | Entry::table_bits(rights));
        if above == level + 1 {
            new = new.with_count(new.count() + 1);
        }
        if new != old {
            mem.store(table, index, new.raw());
        }
        table = old.table();
    }
    Ok(())
}

/// Entries in use of a shared table of `pages` pages.
const fn entries(pages: u64) -> u64 {
    if pages < TABLE_PAGES {
        pages
    } else {
        pages.div_ceil(TABLE_PAGES)
    }
}

/// What the shared table that `link`, an entry of `level` for the pages from `first` on, leads to maps in all.
pub(crate) fn linked(mem: &impl TableMemory, link: Entry, level: u32, first: u64) -> Leaf {
    let last = link.count() - 1;
    let pages = match level {
        2 => link.count(),
        _ => match Entry::new(mem.load(link.table(), last as usize)) {
            entry if entry.is_leaf(2) => (last + 1) * TABLE_PAGES,
            entry => last * TABLE_PAGES + entry.count(),
        },
    };
    let path = link.rights_along(Entry::ALL_ALLOWED);
    let start = Entry::new(mem.load(link.table(), 0));
    Leaf {
        size: pages * PAGE_SIZE,
        ..start.to_leaf(level - 1, virt_of(first), path)
    }
}

/// Gives the tree entries of its own for all that it has in shared tables of which any part lies in the range: they say
/// the same, and nothing else has changed. Spend the flush before anything is mapped in what the links claimed.
///
/// # Errors
/// [`MapError::OutOfTables`]; then nothing has changed.
pub fn unshare<M: TableMemoryMut>(
    mem: &mut M,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
) -> Result<Flush, MapError> {
    let mut flush = Flush::none();
    let span = Span::new(virt, pages);
    let mut needed = 0;
    each_link(mem, root, ROOT, span, &mut |mem, _, _, link, level, _| {
        let tail = level == 3 && !Entry::new(mem.load(link.table(), link.count() as usize - 1)).is_leaf(2);
        needed += 1 + u64::from(tail);
    });
    if needed == 0 {
        return Ok(flush);
    }
    let mut spare = Spare::allocate(mem, needed)?;
    each_link(
        mem,
        root,
        ROOT,
        span,
        &mut |mem: &mut M, table, index, link, level, first| {
            let size = linked(mem, link, level, first).size;
            let own = copy(mem, link, link, level - 1, &mut spare);
            mem.store(table, index, own.raw());
            mem.unlinked(link.table());
            flush.extend(first, first + (size >> 12));
        },
    );
    spare.finish();
    Ok(flush)
}

/// Tells `seen` of each link in the span: table and index, the entry, its level, the first page that it claims.
fn each_link<M: TableMemoryMut>(
    mem: &mut M,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    seen: &mut impl FnMut(&mut M, GuestPhys, usize, Entry, u32, u64),
) {
    while let Some((index, entry, part)) = next_entry(mem, table, level, &mut span) {
        if entry.is_leaf(level) {
        } else if entry.is_shared() {
            let first = part.start >> shift(level) << shift(level);
            seen(mem, table, index, entry, level, first);
        } else if level > 2 {
            each_link(mem, entry.table(), level - 1, part, seen);
        }
    }
}

/// Copies the table of `level` that `entry` leads to, which allows what `link` does, into tables of one's own, and
/// returns the entry that leads there.
fn copy(mem: &mut impl TableMemoryMut, entry: Entry, link: Entry, level: u32, spare: &mut Spare) -> Entry {
    let own = spare.take(mem);
    for index in 0..entry.count() as usize {
        let old = Entry::new(mem.load(entry.table(), index));
        let new = if old.is_leaf(level) {
            old.with_rights(link.raw())
        } else {
            copy(mem, old, link, level - 1, spare)
        };
        mem.store(own, index, new.raw());
    }
    let user = link.raw() & Entry::USER;
    Entry::new(own.get() | Entry::table_bits(Rights::empty()) | user).with_count(entry.count())
}
