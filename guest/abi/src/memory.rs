//! The memory map: where things lie in guest-physical and guest-virtual memory.
//!
//! Guest-physical addresses (GPA), low to high:
//!
//! | GPA | what |
//! |---|---|
//! | 0 .. 2 MiB | never used; catches stray small addresses |
//! | [`KERNEL_GPA`] | the kernel image, then the VMM's boot structures, then the programs, then free RAM |
//! | [`RAM_HOLE_START`] .. [`RAM_HOLE_END`] | no memory: the local APIC's page and what firmware would use |
//! | [`RAM_HOLE_END`] .. | the rest of RAM |
//! | [`WindowLayout::rw_base`] .. | the read-write window: where attached segments appear |
//! | [`WindowLayout::ro_base`] .. | the read-only window: the same for `SHM_RDONLY` |
//!
//! Guest-virtual addresses: programs own everything below [`USER_END`]; the kernel lives in the upper half.

use crate::PAGE_SIZE;

/// Where the kernel image is loaded, guest-physical.
pub const KERNEL_GPA: u64 = 0x20_0000;
/// Where the kernel image is linked: guest-virtual; [`KERNEL_GPA`] is mapped here.
pub const KERNEL_VIRT: u64 = 0xffff_ffff_8020_0000;
/// All of RAM is mapped here, writable and never executable: `virtual = DIRECT_MAP + gpa`.
/// The windows are not part of it: the kernel reaches segments only through the programs' own mappings.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// First guest-virtual address programs can't use: Linux's `TASK_SIZE_MAX` on x86-64.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Lowest address programs may map (Linux's default `vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 0x1_0000;

/// RAM below this GPA is contiguous from 0.
pub const RAM_HOLE_START: u64 = 0xc000_0000;
/// RAM that does not fit below [`RAM_HOLE_START`] continues here.
pub const RAM_HOLE_END: u64 = 0x1_0000_0000;

/// Guest-virtual base of the per-vCPU areas; vCPU `i`'s lies at `VCPU_AREAS + i * VCPU_STRIDE`.
///
/// Each holds, at the offsets below: stacks between unmapped guard pages, the hypercall page, the page
/// with GDT, TSS and the kernel's own per-vCPU data, and the epitaph.
pub const VCPU_AREAS: u64 = 0xffff_ffff_c000_0000;
/// Distance between two vCPUs' areas, in bytes.
pub const VCPU_STRIDE: u64 = 0x1_0000;
/// Offset of the kernel stack in a vCPU's area (below it: a guard page).
pub const VCPU_STACK: u64 = 0x1000;
/// Offset of the kernel stack's top: it grows down from here. Above it: a guard page.
pub const VCPU_STACK_TOP: u64 = 0x8000;
/// Offset of the stack for #DF and NMI (IST 1).
pub const VCPU_IST: u64 = 0x9000;
/// Offset of the top of the stack for #DF and NMI.
pub const VCPU_IST_TOP: u64 = 0xb000;
/// Offset of the page of hypercall slots ([`crate::hypercall::HypercallPage`]).
pub const VCPU_HYPERCALL: u64 = 0xb000;
/// Offset of the page with descriptor tables (see [`crate::boot`]) and, from [`VCPU_LOCAL`], the kernel's own data.
pub const VCPU_TABLES: u64 = 0xc000;
/// Offset of the kernel's per-vCPU data; GS base points here while the kernel runs.
pub const VCPU_LOCAL: u64 = 0xc400;
/// Offset of the epitaph page ([`crate::epitaph::Epitaph`]).
pub const VCPU_EPITAPH: u64 = 0xd000;
/// End of what is mapped of a vCPU's area.
pub const VCPU_END: u64 = 0xe000;

/// Pages a vCPU's area takes from RAM (guard pages take none).
pub const VCPU_PAGES: u64 = (VCPU_STACK_TOP - VCPU_STACK + VCPU_END - VCPU_IST) / PAGE_SIZE;

/// Windows grow by registering KVM memory slots of this size on demand.
pub const WINDOW_CHUNK: u64 = 1 << 30;

/// Where the two windows of a guest lie; told to the kernel in [`crate::boot::BootInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLayout {
    /// GPA of the read-write window, a multiple of its size.
    pub rw_base: u64,
    /// GPA of the read-only window, a multiple of its size.
    pub ro_base: u64,
    /// Size of each window in bytes: a power of two and a multiple of [`WINDOW_CHUNK`].
    pub size: u64,
}

impl WindowLayout {
    /// The layout for a CPU with `phys_bits` bits of physical address in a group of `guests` guests.
    ///
    /// Client CPUs have 39 bits, so RAM gets the lower quarter of what can be addressed, and each window
    /// an eighth. The host must reserve as much of its own 47-bit address space for every guest's windows,
    /// so the whole group shares 2^45 bytes of it.
    #[must_use]
    pub const fn new(phys_bits: u32, guests: usize) -> Self {
        let bits = if phys_bits < 36 {
            36
        } else if phys_bits > 46 {
            46
        } else {
            phys_bits
        };
        let by_cpu = 1u64 << (bits - 3);
        let guests = if guests == 0 { 1 } else { guests as u64 };
        let by_host = (1u64 << 45) / (2 * guests.next_power_of_two());
        let size = if by_cpu < by_host { by_cpu } else { by_host };
        WindowLayout {
            rw_base: 1 << (bits - 2),
            ro_base: (1 << (bits - 2)) + by_cpu,
            size,
        }
    }

    /// Most RAM a guest may have beside these windows, in bytes.
    #[must_use]
    pub const fn max_ram(&self) -> u64 {
        self.rw_base - (RAM_HOLE_END - RAM_HOLE_START)
    }
}
