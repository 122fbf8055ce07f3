//! [`lookup`] and [`for_each_leaf`]: what tables say, as the hardware would take it.
//!
//! Nothing here trusts the tables: the VMM reads a guest's with it. Whatever they hold, a walk goes at most
//! four levels down and a visit ends with its range.

use crate::entry::Entry;
use crate::table::{ROOT, Span, index_of, next_entry, shift, virt_of};
use crate::{GuestPhys, GuestVirt, Leaf, TableMemory};

/// The leaf that maps `virt`, with the rights that the whole path to it gives. Nothing maps an address that is
/// not canonical.
pub fn lookup(mem: &impl TableMemory, root: GuestPhys, virt: GuestVirt) -> Option<Leaf> {
    if !virt.is_canonical() {
        return None;
    }
    let page = virt.get() >> 12;
    let mut table = root;
    let mut path = Entry::ALL_ALLOWED;
    for level in [4, 3, 2] {
        let entry = Entry::new(mem.load(table, index_of(page, level)));
        if !entry.is_present() {
            return None;
        }
        if entry.is_leaf(level) {
            let first = page >> shift(level) << shift(level);
            return Some(entry.to_leaf(level, virt_of(first), path));
        }
        path = entry.rights_along(path);
        table = entry.table();
    }
    let entry = Entry::new(mem.load(table, index_of(page, 1)));
    entry.is_present().then(|| entry.to_leaf(1, virt_of(page), path))
}

/// Tells `seen` of every leaf in the range, in order, with the rights that the whole path to it gives. A large
/// leaf that lies partly in the range is told of once, whole.
pub fn for_each_leaf(
    mem: &impl TableMemory,
    root: GuestPhys,
    virt: GuestVirt,
    pages: u64,
    mut seen: impl FnMut(Leaf),
) {
    visit(
        mem,
        root,
        ROOT,
        Span::new(virt, pages),
        Entry::ALL_ALLOWED,
        &mut seen,
    );
}

fn visit(
    mem: &impl TableMemory,
    table: GuestPhys,
    level: u32,
    mut span: Span,
    path: u64,
    seen: &mut impl FnMut(Leaf),
) {
    while let Some((_, entry, part)) = next_entry(mem, table, level, &mut span) {
        if entry.is_leaf(level) {
            let first = part.start >> shift(level) << shift(level);
            seen(entry.to_leaf(level, virt_of(first), path));
        } else {
            visit(
                mem,
                entry.table(),
                level - 1,
                part,
                entry.rights_along(path),
                seen,
            );
        }
    }
}
