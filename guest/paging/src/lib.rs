//! The page-table engine: x86-64 four-level tables, mapped, unmapped, protected and read over ranges.
//!
//! The tables lie behind [`TableMemory`] (reading) and [`TableMemoryMut`] (changing), so the kernel edits its
//! live tables, the VMM lays out boot tables and walks a guest's, and tests use an array: one engine for all.
//!
//! | module | what |
//! |---|---|
//! | [`address`] | [`GuestPhys`], [`GuestVirt`] |
//! | [`entry`] | the bits of an entry, [`Rights`], [`Leaf`] |
//! | [`table`] | the memory traits, ranges of pages, finding the next present entry |
//! | `spare` | tables taken in advance, which is what makes every change all or nothing |
//! | [`mod@map`], [`mod@unmap`], [`mod@protect`], [`mod@edit`], `split` | the changes |
//! | [`share`] | one table that several trees link |
//! | [`read`] | [`lookup`], [`for_each_leaf`] |
//! | [`flush`] | [`Flush`]: what is stale after a change |
//!
//! Invariants of tables this engine made:
//! * **Rights live in leaves**, but for shared tables, where they live in the entry that links them. Any other entry
//!   that leads to a table has P, W, A, and U once a USER leaf is below it. Reading follows the hardware: W and U are
//!   the AND, NX the OR of the path.
//! * **A and D are preset**, so the CPU never writes an entry: no assists, and plain load-then-store is safe.
//! * **An entry that leads to a table counts the entries in use there**, in bits that the CPU ignores
//!   ([`entry::Entry::count`]). Finding out that a table has become empty is a subtraction instead of 512
//!   loads: a millisecond on the software KVM. Only changes use the counts; reading never trusts them.
//! * **No table is empty** — except the tables right below the upper half of a root. These are never unlinked
//!   nor counted, because all roots of a kernel share them.
//! * **Nothing is visible before it is certain**: a change first checks, then takes all the tables it needs,
//!   then stores, children before the entry that leads to them. So a failure leaves nothing to flush, neither
//!   translations nor the CPU's copies of upper entries.
//!
//! What callers see to: addresses are page-aligned, ranges canonical and within one half, and changes of one
//! tree never run at the same time. Each operation walks down once per table and has a tight loop for leaves;
//! there is no division and no bit counting (the software KVM emulates ring 0 and has no popcnt).
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod count;
pub mod edit;
pub mod entry;
pub mod flush;
pub mod map;
pub mod protect;
pub mod read;
pub mod share;
mod spare;
mod split;
pub mod table;
pub mod unmap;

pub use address::{GuestPhys, GuestVirt};
pub use count::count_pages;
pub use edit::{duplicate, edit};
pub use entry::{Leaf, Rights};
pub use flush::Flush;
pub use map::{MapError, map};
pub use protect::protect;
pub use read::{for_each_leaf, lookup};
pub use share::{link, make_shared, unshare};
pub use split::split_around;
pub use table::{TableMemory, TableMemoryMut, root_index};
pub use unmap::{clear_low_half, clear_range, unmap};

/// Size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// Size of a large page (a leaf in a page directory), in bytes.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;
