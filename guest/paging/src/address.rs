//! Addresses that can't be mixed up: [`GuestPhys`] and [`GuestVirt`], in bytes.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address `value`, whatever it is.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether it is a multiple of `align`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The nearest multiple of `align`, a power of two, that is not above it.
            #[must_use]
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !(align - 1))
            }

            /// The address `bytes` further, wrapping at 2^64.
            #[must_use]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// The address `bytes` further, if there is one.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A guest-physical address: what a page-table entry holds.
    GuestPhys
}

address! {
    /// A guest-virtual address: what an instruction uses.
    GuestVirt
}

impl GuestVirt {
    /// Whether bits 47 to 63 are equal, without which every access faults (SDM 1, 3.3.7.1).
    #[must_use]
    pub const fn is_canonical(self) -> bool {
        ((self.0 << 16) as i64 >> 16) as u64 == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::format;

    #[test]
    fn only_sign_extended_addresses_are_canonical() {
        for good in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(GuestVirt::new(good).is_canonical(), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            assert!(!GuestVirt::new(bad).is_canonical(), "{bad:#x}");
        }
    }

    #[test]
    fn addresses_align_add_and_print() {
        let address = GuestPhys::new(0x1234);
        assert_eq!(address.align_down(0x1000), GuestPhys::new(0x1000));
        assert!(!address.is_aligned(8) && address.is_aligned(4));
        assert_eq!(GuestPhys::new(u64::MAX).add(2), GuestPhys::new(1));
        assert_eq!(GuestPhys::new(u64::MAX).checked_add(1), None);
        assert_eq!(
            format!("{address:?} {address:x} {address:#x}"),
            "0x1234 1234 0x1234"
        );
    }
}
