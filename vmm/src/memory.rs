//! A guest's RAM: a memfd, mapped into this process and registered with KVM.
//!
//! The guest's vCPUs change it at any moment, so nothing here ever hands out a reference to it: bytes are
//! copied in and out through `vm-memory`, which uses volatile accesses and checks bounds; page-table entries
//! are read as 64-bit atomics. Pages cost nothing before they are first touched, and are zero then.
//!
//! RAM is contiguous from guest-physical 0, except for the hole below 4 GiB ([`abi::memory`]).

use crate::error::VmmError;
use abi::boot::GpaRange;
use abi::memory::{RAM_HOLE_END, RAM_HOLE_START};
use abi::{Errno, LARGE_PAGE_SIZE};
use paging::{GuestPhys, TableMemory};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    VolatileMemory,
};
use zerocopy::{FromBytes, IntoBytes};

/// One guest's RAM. Dropping it unmaps it: the VM must be gone by then.
#[derive(Debug)]
pub struct GuestRam {
    mapped: GuestMemoryMmap,
    ranges: [GpaRange; 2],
}

/// A piece of RAM as KVM wants to hear of it.
#[derive(Clone, Copy, Debug)]
pub struct RamSlot {
    /// Guest-physical address.
    pub gpa: GuestPhys,
    /// Where it lies in this process.
    pub host: *mut u8,
    /// Bytes.
    pub len: u64,
}

impl GuestRam {
    /// RAM of `bytes` bytes, rounded up to 2 MiB.
    ///
    /// # Errors
    /// [`VmmError::Host`] if the host refuses the memory or the mapping.
    pub fn new(bytes: u64) -> Result<GuestRam, VmmError> {
        let total = bytes.next_multiple_of(LARGE_PAGE_SIZE);
        let failed = |source: std::io::Error| VmmError::Host {
            what: format!("{total} bytes of guest RAM"),
            source,
        };
        let fd = memfd_create("tombolo-ram", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        ftruncate(&fd, total).map_err(|errno| failed(errno.into()))?;
        let file = Arc::new(File::from(fd));
        let low = total.min(RAM_HOLE_START);
        let ranges = [
            GpaRange { start: 0, len: low },
            GpaRange {
                start: if total > low { RAM_HOLE_END } else { 0 },
                len: total - low,
            },
        ];
        let mut offset = 0;
        let mut pieces = Vec::new();
        for range in ranges.iter().filter(|range| range.len > 0) {
            let place = Some(FileOffset::from_arc(Arc::clone(&file), offset));
            let piece = GuestRegionMmap::from_range(GuestAddress(range.start), range.len as usize, place);
            pieces.push(piece.map_err(|error| failed(std::io::Error::other(error)))?);
            offset += range.len;
        }
        let mapped =
            GuestMemoryMmap::from_regions(pieces).map_err(|error| failed(std::io::Error::other(error)))?;
        Ok(GuestRam { mapped, ranges })
    }

    /// RAM below and above the hole; the second is empty if all of it fits below.
    #[must_use]
    pub fn ranges(&self) -> [GpaRange; 2] {
        self.ranges
    }

    /// What to register with KVM.
    pub fn slots(&self) -> impl Iterator<Item = RamSlot> {
        self.mapped.iter().map(|piece| RamSlot {
            gpa: GuestPhys::new(piece.start_addr().0),
            host: piece.as_ptr(),
            len: piece.len(),
        })
    }

    /// Whether all `len` bytes at `gpa` are RAM.
    #[must_use]
    pub fn contains(&self, gpa: GuestPhys, len: u64) -> bool {
        self.ranges.iter().any(|range| {
            let offset = gpa.get().wrapping_sub(range.start);
            offset <= range.len && len <= range.len - offset && range.len > 0
        })
    }

    /// Copies bytes out of RAM.
    ///
    /// # Errors
    /// EFAULT if they do not all lie in RAM.
    pub fn read(&self, gpa: GuestPhys, bytes: &mut [u8]) -> Result<(), Errno> {
        self.check(gpa, bytes.len() as u64)?;
        self.mapped
            .read_slice(bytes, GuestAddress(gpa.get()))
            .map_err(|_| Errno::EFAULT)
    }

    /// Copies bytes into RAM.
    ///
    /// # Errors
    /// EFAULT if the place does not lie in RAM; then nothing is written.
    pub fn write(&self, gpa: GuestPhys, bytes: &[u8]) -> Result<(), Errno> {
        self.check(gpa, bytes.len() as u64)?;
        self.mapped
            .write_slice(bytes, GuestAddress(gpa.get()))
            .map_err(|_| Errno::EFAULT)
    }

    /// Copies a structure out of RAM.
    ///
    /// # Errors
    /// As [`GuestRam::read`].
    pub fn read_value<T: FromBytes + IntoBytes>(&self, gpa: GuestPhys) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read(gpa, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Clears bytes.
    ///
    /// # Errors
    /// As [`GuestRam::write`].
    pub fn zero(&self, gpa: GuestPhys, len: u64) -> Result<(), Errno> {
        const ZEROS: [u8; 16384] = [0; 16384];
        self.check(gpa, len)?;
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(ZEROS.len() as u64);
            self.write(gpa.add(done), &ZEROS[..piece as usize])?;
            done += piece;
        }
        Ok(())
    }

    /// Copies bytes within RAM; the two places may overlap.
    ///
    /// # Errors
    /// EFAULT if one of the places does not lie in RAM; then nothing is written.
    pub fn copy(&self, to: GuestPhys, from: GuestPhys, len: u64) -> Result<(), Errno> {
        self.check(to, len)?;
        self.check(from, len)?;
        let slice = |gpa: GuestPhys| self.mapped.get_slice(GuestAddress(gpa.get()), len as usize);
        let (Ok(source), Ok(target)) = (slice(from), slice(to)) else {
            return Err(Errno::EFAULT);
        };
        source.copy_to_volatile_slice(target);
        Ok(())
    }

    fn check(&self, gpa: GuestPhys, len: u64) -> Result<(), Errno> {
        if self.contains(gpa, len) {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Sets bits of an aligned 64-bit word in one step. Returns what it was.
    ///
    /// # Errors
    /// EFAULT if the word does not lie in RAM, or is not aligned.
    pub(crate) fn fetch_or(&self, gpa: GuestPhys, bits: u64) -> Result<u64, Errno> {
        let slice = self.mapped.get_slice(GuestAddress(gpa.get()), size_of::<u64>());
        let slice = slice.map_err(|_| Errno::EFAULT)?;
        let word = slice.get_atomic_ref::<AtomicU64>(0).map_err(|_| Errno::EFAULT)?;
        Ok(word.fetch_or(bits, Ordering::AcqRel))
    }

    /// An aligned 64-bit atomic store.
    pub(crate) fn store(&self, gpa: GuestPhys, value: u64) -> Result<(), Errno> {
        self.mapped
            .store(value, GuestAddress(gpa.get()), Ordering::Relaxed)
            .map_err(|_| Errno::EFAULT)
    }
}

/// Tables that lie outside RAM read as empty: a guest may point its tables anywhere.
impl TableMemory for GuestRam {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        let entry = GuestAddress(table.get().wrapping_add(index as u64 * 8));
        self.mapped.load(entry, Ordering::Relaxed).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_around_the_hole_is_reached_on_both_sides_and_not_in_it() {
        let ram = GuestRam::new(RAM_HOLE_START + (4 << 20)).unwrap();
        assert_eq!(
            ram.ranges()[1],
            GpaRange {
                start: RAM_HOLE_END,
                len: 4 << 20
            }
        );
        for gpa in [0, RAM_HOLE_START - 3, RAM_HOLE_END, RAM_HOLE_END + (4 << 20) - 3] {
            ram.write(GuestPhys::new(gpa), b"abc").unwrap();
            let mut bytes = [0; 3];
            ram.read(GuestPhys::new(gpa), &mut bytes).unwrap();
            assert_eq!(&bytes, b"abc");
        }
        for gpa in [
            RAM_HOLE_START - 2,
            RAM_HOLE_START,
            RAM_HOLE_END - 1,
            RAM_HOLE_END + (4 << 20) - 2,
            u64::MAX,
        ] {
            assert_eq!(
                ram.write(GuestPhys::new(gpa), b"abc"),
                Err(Errno::EFAULT),
                "{gpa:#x}"
            );
        }
    }

    #[test]
    fn copies_and_clears_stay_within_what_was_asked() {
        let ram = GuestRam::new(2 << 20).unwrap();
        let at = |gpa| GuestPhys::new(gpa);
        ram.write(at(100), &[7; 40000]).unwrap();
        ram.copy(at(50), at(100), 40000).unwrap();
        ram.zero(at(60), 39000).unwrap();
        let mut bytes = vec![0; 40100];
        ram.read(at(50), &mut bytes).unwrap();
        assert!(bytes[..10].iter().all(|byte| *byte == 7));
        assert!(bytes[10..39010].iter().all(|byte| *byte == 0));
        assert!(bytes[39010..40050].iter().all(|byte| *byte == 7));
        assert!(bytes[40050..].iter().all(|byte| *byte == 0));
        assert_eq!(ram.copy(at(0), at(2 << 20), 1), Err(Errno::EFAULT));
        assert_eq!(ram.zero(at((2 << 20) - 1), 2), Err(Errno::EFAULT));
        assert_eq!(ram.zero(at(1), u64::MAX), Err(Errno::EFAULT));
    }
}
