//! The vDSO in a process: its image, and the clock page behind it (vdso(7); the image is `guest/vdso`).
//!
//! They are one area, shown in place: the same pages in all processes, until one has made its own writable and gets
//! copies. A program may unmap and move it, as on Linux. It is the topmost of what the kernel chooses a place for, as
//! on Linux without randomisation.

use crate::mm::area::{Backing, Prot};
use crate::mm::space::MMAP_BASE;
use crate::mm::{AddressSpace, Memory, Placement, World};
use abi::Errno;
use abi::boot::BootInfo;
use paging::{GuestPhys, GuestVirt};

/// Maps both into `space`, and returns the image's address.
///
/// # Errors
/// ENOMEM.
pub fn map(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    boot: &BootInfo,
) -> Result<u64, Errno> {
    let len = boot.vdso.len;
    let phys = GuestPhys::new(boot.vdso.start);
    let place = Placement::FixedNoReplace(GuestVirt::new(MMAP_BASE - len));
    let prot = Prot::READ | Prot::EXECUTE;
    let at = space.map(
        memory,
        world,
        place,
        len,
        prot,
        Prot::all(),
        Backing::Image { phys, len },
    )?;
    Ok(at.get())
}
