//! The vDSO in a process: its image, and the clock page behind it (vdso(7); the image is `guest/vdso`).
//!
//! Both are shown in place, the same pages in all processes; a program may unmap, move and, of the image, change them
//! as its own, as on Linux. No place is drawn by lot: they lie above the stack, where its page table reaches.

use super::stack;
use crate::mm::area::{Backing, Prot};
use crate::mm::{AddressSpace, Memory, Placement, World};
use abi::boot::BootInfo;
use abi::{Errno, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt};

/// Where the image starts. A page that is in use neither here nor there parts it from the stack.
const BASE: u64 = stack::TOP + PAGE_SIZE;

/// Maps image and clock page into `space`, and returns the image's address.
///
/// # Errors
/// ENOMEM.
pub fn map(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    boot: &BootInfo,
) -> Result<u64, Errno> {
    let code = Prot::READ | Prot::EXECUTE;
    let image = (boot.vdso.start, boot.vdso.len, code, Prot::all());
    let clock = (boot.clock, PAGE_SIZE, Prot::READ, Prot::READ);
    let mut at = BASE;
    for (start, len, prot, may) in [image, clock] {
        let place = Placement::FixedNoReplace(GuestVirt::new(at));
        let phys = GuestPhys::new(start);
        space.map(memory, world, place, len, prot, may, Backing::Image { phys, len })?;
        at += len;
    }
    Ok(BASE)
}
