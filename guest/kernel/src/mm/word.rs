//! Single words of programs' memory, as futex(2) and robust lists use them: found once, then read and changed by
//! atomic accesses, because other programs change them at the same time.

use super::fault::Access;
use super::{AddressSpace, Memory, World};
use crate::arch::direct;
use abi::Errno;
use paging::{GuestPhys, GuestVirt};

/// An aligned 32-bit word of a program's memory. Good as long as the address space it was found in does not change, and,
/// if it lies in a segment, is loaded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    virt: GuestVirt,
    phys: GuestPhys,
    is_ram: bool,
}

impl Word {
    /// Its value.
    pub fn load(self) -> u32 {
        if self.is_ram {
            direct::load32(self.phys)
        } else {
            direct::load_user32(self.virt, self.phys)
        }
    }

    /// Changes it from `old` to `new` in one step; false if it is not `old`. The word was found for writing.
    pub fn compare_exchange(self, old: u32, new: u32) -> bool {
        if self.is_ram {
            direct::exchange32(self.phys, old, new)
        } else {
            direct::exchange_user32(self.virt, self.phys, old, new)
        }
    }
}

impl AddressSpace {
    /// The word at `addr`, a multiple of 4, faulted in for `access`.
    ///
    /// # Errors
    /// EFAULT if it can't be accessed so.
    pub fn word(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        access: Access,
    ) -> Result<Word, Errno> {
        let (virt, phys, _) = self.reach(mem, world, addr, 0, size_of::<u32>() as u64, access)?;
        Ok(Word {
            virt,
            phys,
            is_ram: mem.frames.is_ram(phys),
        })
    }
}
