//! One 64-bit entry: its bits, and what a leaf says as [`Rights`] and [`Leaf`].
//!
//! Source: SDM 3A, section 5.5 ("4-level paging"), tables 5-15 to 5-20. Bits 12 to 51 hold the address of a
//! table or frame. In an entry that leads to a table the CPU ignores bits 52 to 62; ten of them hold the
//! count of entries in use there, and bit 10 marks a table that other trees link as well. In a leaf it ignores bit 9,
//! which marks memory whose users are counted.

use crate::{GuestPhys, GuestVirt};
use bitflags::bitflags;

bitflags! {
    /// What a mapping allows. Reading is implied.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// May be written.
        const WRITE = 1;
        /// May be executed.
        const EXECUTE = 2;
        /// Ring 3 may use it.
        const USER = 4;
        /// Not a right but a mark that the CPU ignores: the owner of the tables counts the users of the memory
        /// behind. See [`crate::protect()`].
        const COUNTED = 8;
    }
}

/// A mapping: one leaf entry and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First address it maps.
    pub virt: GuestVirt,
    /// What it maps that to.
    pub phys: GuestPhys,
    /// Bytes: 4 KiB or 2 MiB; 1 GiB in tables that others made.
    pub size: u64,
    /// What it allows.
    pub rights: Rights,
    /// It has been used since the bit was last cleared. Preset in every leaf [`crate::map()`] makes.
    pub accessed: bool,
    /// It has been written since the bit was last cleared. Preset in every leaf [`crate::map()`] makes.
    pub dirty: bool,
}

/// The value of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    /// P: the entry is in use.
    pub const PRESENT: u64 = 1 << 0;
    /// W: may be written.
    pub const WRITE: u64 = 1 << 1;
    /// U: ring 3 may use it.
    pub const USER: u64 = 1 << 2;
    /// A: used for a translation.
    pub const ACCESSED: u64 = 1 << 5;
    /// D: written through (leaves only).
    pub const DIRTY: u64 = 1 << 6;
    /// PS: a leaf above the lowest level. In the lowest level this bit is PAT.
    pub const LARGE: u64 = 1 << 7;
    /// Ignored by the CPU in leaves: the mark of [`Rights::COUNTED`].
    pub const COUNTED: u64 = 1 << 9;
    /// Ignored by the CPU in entries that lead to a table: it is a shared one ([`crate::share`]).
    pub const SHARED: u64 = 1 << 10;
    /// NX: may not be executed.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Where the address is.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

    const COUNT_SHIFT: u32 = 52;
    const COUNT: u64 = 0x3ff << Self::COUNT_SHIFT;
    const RIGHTS: u64 = Self::WRITE | Self::USER | Self::NO_EXECUTE;

    /// What [`Entry::rights_along`] starts from: everything is allowed.
    pub(crate) const ALL_ALLOWED: u64 = u64::MAX;

    pub(crate) const fn new(raw: u64) -> Self {
        Entry(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Whether it is in use.
    pub(crate) const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Whether it maps memory rather than leading to a table. Bit 7 is reserved in the root (level 4) and PAT
    /// in the lowest level (1).
    pub(crate) const fn is_leaf(self, level: u32) -> bool {
        level == 1 || (self.0 & Self::LARGE != 0 && level < 4)
    }

    /// Whether it, which is no leaf, leads to a table that other trees may link as well.
    pub(crate) const fn is_shared(self) -> bool {
        self.0 & Self::SHARED != 0
    }

    /// The table it leads to.
    pub(crate) const fn table(self) -> GuestPhys {
        GuestPhys::new(self.0 & Self::ADDRESS)
    }

    /// How many entries are in use in the table it leads to, as far as this engine made that table.
    #[must_use]
    pub const fn count(self) -> u64 {
        (self.0 & Self::COUNT) >> Self::COUNT_SHIFT
    }

    pub(crate) const fn with_count(self, count: u64) -> Self {
        Entry(self.0 & !Self::COUNT | count << Self::COUNT_SHIFT)
    }

    /// The bits of a leaf with these rights, without address.
    pub(crate) const fn leaf_bits(rights: Rights) -> u64 {
        let mut bits = Self::PRESENT | Self::ACCESSED | Self::DIRTY | Self::right_bits(rights);
        if !rights.contains(Rights::EXECUTE) {
            bits |= Self::NO_EXECUTE;
        }
        if rights.contains(Rights::COUNTED) {
            bits |= Self::COUNTED;
        }
        bits
    }

    /// The bits of an entry that leads to a table with such leaves, without address.
    pub(crate) const fn table_bits(rights: Rights) -> u64 {
        Self::PRESENT | Self::WRITE | Self::ACCESSED | (Self::right_bits(rights) & Self::USER)
    }

    /// The bits of an entry that links a shared table with these rights, without address.
    pub(crate) const fn link_bits(rights: Rights) -> u64 {
        let mut bits = Self::PRESENT | Self::ACCESSED | Self::SHARED | Self::right_bits(rights);
        if !rights.contains(Rights::EXECUTE) {
            bits |= Self::NO_EXECUTE;
        }
        bits
    }

    const fn right_bits(rights: Rights) -> u64 {
        let mut bits = 0;
        if rights.contains(Rights::WRITE) {
            bits |= Self::WRITE;
        }
        if rights.contains(Rights::USER) {
            bits |= Self::USER;
        }
        bits
    }

    /// This leaf with the rights in `leaf_bits` and everything else kept.
    pub(crate) const fn with_rights(self, leaf_bits: u64) -> Self {
        Entry(self.0 & !Self::RIGHTS | leaf_bits & Self::RIGHTS)
    }

    /// This leaf with other rights, mark included, and everything else kept.
    pub(crate) const fn marked(self, rights: Rights) -> Self {
        let mask = Self::RIGHTS | Self::COUNTED;
        Entry(self.0 & !mask | Self::leaf_bits(rights) & mask)
    }

    /// This leaf of `level` over the memory at `phys` instead.
    pub(crate) const fn over(self, phys: GuestPhys, level: u32) -> Self {
        Entry(self.0 ^ self.address_at(level) ^ phys.get())
    }

    /// The first of the smaller leaves that together say the same as this leaf; `level` is its own. The next
    /// ones differ by the address only. The large leaf's PAT bit (12) is lost; this engine never sets it.
    pub(crate) const fn first_part(self, level: u32) -> Self {
        let large = if level > 2 { Self::LARGE } else { 0 };
        Entry(self.0 & !(Self::ADDRESS | Self::LARGE) | large | self.address_at(level))
    }

    const fn address_at(self, level: u32) -> u64 {
        self.0 & Self::ADDRESS & !((4096 << (9 * (level - 1))) - 1)
    }

    /// Adds this entry to what the entries above it allow (`path`).
    pub(crate) const fn rights_along(self, path: u64) -> u64 {
        path & (self.0 ^ Self::NO_EXECUTE)
    }

    /// This leaf, in a table of `level`, as seen from outside: `virt` is its first address, `path` what the
    /// entries above it allow.
    pub(crate) const fn to_leaf(self, level: u32, virt: GuestVirt, path: u64) -> Leaf {
        let allowed = self.rights_along(path);
        let mut rights = (allowed & Self::WRITE) >> 1 | allowed & Self::USER;
        if allowed & Self::NO_EXECUTE != 0 {
            rights |= Rights::EXECUTE.bits() as u64;
        }
        // The mark is the leaf's alone.
        rights |= (self.0 & Self::COUNTED) >> 6;
        Leaf {
            virt,
            phys: GuestPhys::new(self.address_at(level)),
            size: 4096 << (9 * (level - 1)),
            rights: Rights::from_bits_retain(rights as u8),
            accessed: self.0 & Self::ACCESSED != 0,
            dirty: self.0 & Self::DIRTY != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_says_what_it_was_made_with() {
        for bits in 0..16 {
            let rights = Rights::from_bits_retain(bits);
            let entry = Entry::new(0x1234_5000 | Entry::leaf_bits(rights));
            let leaf = entry.to_leaf(1, GuestVirt::new(0x7000), Entry::ALL_ALLOWED);
            let expected = Leaf {
                virt: GuestVirt::new(0x7000),
                phys: GuestPhys::new(0x1234_5000),
                size: 4096,
                rights,
                accessed: true,
                dirty: true,
            };
            assert_eq!(leaf, expected);
        }
    }

    #[test]
    fn the_path_above_a_leaf_takes_rights_away_and_gives_none() {
        let all = Rights::WRITE | Rights::EXECUTE | Rights::USER;
        let leaf = Entry::new(Entry::leaf_bits(all));
        let read_only = Entry::new(Entry::PRESENT | Entry::USER).rights_along(Entry::ALL_ALLOWED);
        let no_execute =
            Entry::new(Entry::table_bits(all) | Entry::NO_EXECUTE).rights_along(Entry::ALL_ALLOWED);
        let seen = |entry: Entry, path| entry.to_leaf(1, GuestVirt::default(), path).rights;
        assert_eq!(seen(leaf, read_only), Rights::USER | Rights::EXECUTE);
        assert_eq!(seen(leaf, no_execute), Rights::USER | Rights::WRITE);
        let poor = Entry::new(Entry::leaf_bits(Rights::empty()));
        assert_eq!(seen(poor, Entry::ALL_ALLOWED), Rights::empty());
    }

    #[test]
    fn a_count_reaches_512_and_touches_nothing_else() {
        let entry = Entry::new(Entry::ADDRESS | Entry::table_bits(Rights::USER));
        let counted = entry.with_count(512);
        assert_eq!(counted.count(), 512);
        assert_eq!(counted.table(), entry.table());
        assert_eq!(counted.with_count(0), entry);
        assert_eq!(counted.raw() & Entry::NO_EXECUTE, 0);
    }
}
