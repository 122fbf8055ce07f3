//! Copies between a program's memory and the kernel's. Addresses from programs are allegations: each is
//! checked against the areas, and pages that aren't there yet are faulted in.

use super::fault::Access;
use super::{AddressSpace, Fault, Memory, World};
use crate::arch::direct;
use abi::memory::USER_END;
use abi::{Errno, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Leaf, Rights, lookup};

/// Whether `len` bytes from `addr` on are all where a program's memory can be, there or not (Linux's `access_ok`).
pub fn is_below_end(addr: u64, len: u64) -> bool {
    addr.checked_add(len).is_some_and(|end| end <= USER_END)
}

/// A run of a program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// RAM: its address, and how many bytes lie in a row.
    Ram(GuestPhys, u64),
    /// So many bytes of a segment: the host takes no addresses in a window, so they have to be copied.
    Segment(u64),
}

impl AddressSpace {
    /// Copies from the program at `addr`. If pages of segments can be among it, `self` must be loaded here.
    ///
    /// # Errors
    /// EFAULT if some of it can't be read; `to` may have changed in part.
    pub fn read(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        to: &mut [u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < to.len() {
            let left = (to.len() - done) as u64;
            let (virt, phys, len) = self.reach(mem, world, addr, done as u64, left, Access::Read)?;
            let piece = &mut to[done..done + len as usize];
            if mem.frames.is_ram(phys) {
                direct::read(phys, piece);
            } else {
                direct::read_user(virt, phys, piece);
            }
            done += len as usize;
        }
        Ok(())
    }

    /// Copies to the program at `addr`. If pages of segments can be among it, `self` must be loaded here.
    ///
    /// # Errors
    /// EFAULT if some of it can't be written; what lies before has been.
    pub fn write(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        from: &[u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < from.len() {
            let left = (from.len() - done) as u64;
            let (virt, phys, len) = self.reach(mem, world, addr, done as u64, left, Access::Write)?;
            let piece = &from[done..done + len as usize];
            if mem.frames.is_ram(phys) {
                direct::write(phys, piece);
            } else {
                direct::write_user(virt, phys, piece);
            }
            done += len as usize;
        }
        Ok(())
    }

    /// Copies from the program at `addr` into RAM at `to`, which is no program's. If pages of segments can be among
    /// it, `self` must be loaded here.
    ///
    /// # Errors
    /// EFAULT if some of it can't be read; how much comes before that has been copied.
    pub fn copy_in(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        to: GuestPhys,
        len: u64,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let (virt, phys, piece) = self.reach(mem, world, addr, done, len - done, Access::Read)?;
            if mem.frames.is_ram(phys) {
                world.copy(to.add(done), phys, piece);
            } else {
                direct::copy_from_user(to.add(done), virt, phys, piece);
            }
            done += piece;
        }
        Ok(())
    }

    /// Copies from RAM at `from`, which is no program's, to the program at `addr`, as [`AddressSpace::copy_in`].
    ///
    /// # Errors
    /// EFAULT if some of it can't be written; what lies before has been.
    pub fn copy_out(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        from: GuestPhys,
        len: u64,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let (virt, phys, piece) = self.reach(mem, world, addr, done, len - done, Access::Write)?;
            if mem.frames.is_ram(phys) {
                world.copy(phys, from.add(done), piece);
            } else {
                direct::copy_to_user(virt, phys, from.add(done), piece);
            }
            done += piece;
        }
        Ok(())
    }

    /// Writes zeros to the program at `addr`: how many, as many as can be.
    ///
    /// # Errors
    /// EFAULT if not even the first byte can be written.
    pub fn clear_out(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        const ZEROS: [u8; 64] = [0; 64];
        let mut done = 0;
        while done < len {
            let reached = self.reach(mem, world, addr, done, len - done, Access::Write);
            let (virt, phys, piece) = match reached {
                Ok(reached) => reached,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            if mem.frames.is_ram(phys) {
                world.zero(&[(phys, piece)]);
                done += piece;
            } else {
                let piece = piece.min(ZEROS.len() as u64);
                direct::write_user(virt, phys, &ZEROS[..piece as usize]);
                done += piece;
            }
        }
        Ok(done)
    }

    /// The first run of memory behind `[addr, addr + len)`, faulted in for `access`: not empty unless `len`
    /// is 0, and as long as it is contiguous.
    ///
    /// # Errors
    /// EFAULT if the first byte can't be accessed.
    pub fn run(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        len: u64,
        access: Access,
    ) -> Result<Run, Errno> {
        if len == 0 {
            return Ok(Run::Segment(0));
        }
        let (_, start, mut found) = self.reach(mem, world, addr, 0, len, access)?;
        let ram = mem.frames.is_ram(start);
        while found < len {
            let Ok((_, phys, more)) = self.reach(mem, world, addr, found, len - found, access) else {
                break;
            };
            // Segments are in no map, so it doesn't matter how they lie.
            if mem.frames.is_ram(phys) != ram || (ram && phys != start.add(found)) {
                break;
            }
            found += more;
        }
        Ok(if ram {
            Run::Ram(start, found)
        } else {
            Run::Segment(found)
        })
    }

    /// What is behind `addr + offset`, and how many bytes from there one leaf serves, `len` at most.
    pub(super) fn reach(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        offset: u64,
        len: u64,
        access: Access,
    ) -> Result<(GuestVirt, GuestPhys, u64), Errno> {
        let virt = addr
            .checked_add(offset)
            .map(GuestVirt::new)
            .ok_or(Errno::EFAULT)?;
        let leaf = lookup(&mem.frames, self.root, virt);
        let (leaf, end) = match leaf {
            // What ring 3 can read its area allows it to read, and no leaf reaches beyond its area.
            Some(leaf) if access == Access::Read && leaf.rights.contains(Rights::USER) => (leaf, u64::MAX),
            _ => self.reach_in_area(mem, world, virt, leaf, access)?,
        };
        let into = virt.get() - leaf.virt.get();
        let most = (leaf.size - into).min(end - virt.get());
        debug_assert!(leaf.size >= PAGE_SIZE);
        Ok((virt, leaf.phys.add(into), most.min(len)))
    }

    /// As [`AddressSpace::reach`], where what is there has to be asked or made: `leaf` is what is at `virt` now. Returns
    /// what is there then, and where the area ends.
    fn reach_in_area(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        virt: GuestVirt,
        leaf: Option<Leaf>,
        access: Access,
    ) -> Result<(Leaf, u64), Errno> {
        let area = self.area_for(mem, world, virt).ok_or(Errno::EFAULT)?;
        if !area.prot.allows(access) {
            return Err(Errno::EFAULT);
        }
        let end = area.end.get();
        match leaf {
            // Copies that are still to be made are made now.
            Some(leaf) if access != Access::Write || leaf.rights.contains(Rights::WRITE) => Ok((leaf, end)),
            _ => {
                let made = self.fault_in(mem, world, virt, access);
                made.map(|leaf| (leaf, end)).map_err(|_| Errno::EFAULT)
            }
        }
    }

    fn fault_in(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        virt: GuestVirt,
        access: Access,
    ) -> Result<Leaf, Fault> {
        self.fault(mem, world, virt, access)?;
        lookup(&mem.frames, self.root, virt).ok_or(Fault::OutOfMemory)
    }
}
