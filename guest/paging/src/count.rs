//! [`count_pages`]: how much of a range is mapped.

use crate::entry::Entry;
use crate::share::linked;
use crate::table::{ROOT, Span, TABLE_PAGES, next_entry, shift};
use crate::{GuestPhys, GuestVirt, TableMemory};

/// How many pages of the range are mapped; of a leaf or a shared table that lies partly in it, those that do.
///
/// It believes the counts in the entries, so it is for one's own tables only. Where it has to look, it takes a handful of instructions a page, which
/// [`crate::for_each_leaf`] can't: it has each leaf's rights to find out.
pub fn count_pages(mem: &impl TableMemory, root: GuestPhys, virt: GuestVirt, pages: u64) -> u64 {
    count(mem, root, ROOT, Span::new(virt, pages))
}

fn count(mem: &impl TableMemory, table: GuestPhys, level: u32, mut span: Span) -> u64 {
    let mut pages = 0;
    while let Some((_, entry, part)) = next_entry(mem, table, level, &mut span) {
        pages += if entry.is_leaf(level) {
            part.pages()
        } else if entry.is_shared() {
            let first = part.start >> shift(level) << shift(level);
            let end = first + (linked(mem, entry, level, first).size >> 12);
            end.min(part.end).saturating_sub(part.start)
        } else if level > 2 {
            count(mem, entry.table(), level - 1, part)
        } else if part.pages() == TABLE_PAGES {
            entry.count()
        } else {
            count_leaves(mem, entry.table(), part)
        };
    }
    pages
}

fn count_leaves(mem: &impl TableMemory, table: GuestPhys, part: Span) -> u64 {
    /// At a time, for the sake of fewer jumps.
    const SOME: usize = 8;
    let present = |index| mem.load(table, index) & Entry::PRESENT;
    let (mut index, stop) = part.indices(1);
    let mut pages = 0;
    while index + SOME <= stop {
        for offset in 0..SOME {
            pages += present(index + offset);
        }
        index += SOME;
    }
    while index < stop {
        pages += present(index);
        index += 1;
    }
    pages
}
