//! What the VMM and the kernel tell each other before the first instruction runs.
//!
//! The kernel image says what it needs in a [`KernelHeader`]; the VMM lays out everything else — page
//! tables, GDT, IDT, TSSs, stacks, [`BootInfo`] — so that the kernel's first instruction is already useful
//! (a loop in ring 0 is dear on the software KVM). Every vCPU starts in 64-bit mode at the image's entry
//! with interrupts off, on its own stack ([`crate::memory::VCPU_STACK_TOP`]), GS base at its
//! [`crate::memory::VCPU_LOCAL`], `rdi` = direct-map address of [`BootInfo`], `rsi` = its index.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Section of the kernel image that holds the [`KernelHeader`].
pub const HEADER_SECTION: &str = ".tombolo.header";
/// First field of [`KernelHeader`]: "TOMBOLOK".
pub const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"TOMBOLOK");
/// First field of [`BootInfo`]: "TOMBOLOB".
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"TOMBOLOB");

/// Interrupt vectors that have a stub: 32 exceptions and the kernel's own.
pub const VECTORS: usize = 48;
/// Vector of the local APIC timer.
pub const VECTOR_TIMER: u8 = 0x20;
/// Vector of the inter-processor interrupt "look at your run queue".
pub const VECTOR_RESCHEDULE: u8 = 0x21;
/// Vector of the inter-processor interrupt "flush your TLB".
pub const VECTOR_FLUSH: u8 = 0x22;
/// Vector by which the host says "look at your events" (irqfd, MSI route).
pub const VECTOR_EVENT: u8 = 0x23;
/// Vector by which the host says "some of your tasks have been woken" ([`crate::tasks`]).
pub const VECTOR_WAKE: u8 = 0x24;
/// The local APIC's spurious vector.
pub const VECTOR_SPURIOUS: u8 = 0x2f;

/// Selectors, the same as Linux's where programs can see them. There is no 32-bit code segment.
pub mod selector {
    /// Ring-0 code.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Ring-0 data and stack.
    pub const KERNEL_DATA: u16 = 0x18;
    /// STAR\[63:48\]: SYSRET takes SS from +8 and CS from +16.
    pub const SYSRET_BASE: u16 = 0x23;
    /// Ring-3 data and stack.
    pub const USER_DATA: u16 = 0x2b;
    /// Ring-3 code.
    pub const USER_CODE: u16 = 0x33;
    /// The task state segment (two entries).
    pub const TSS: u16 = 0x40;
    /// Where ring 3 may ask (LSL) for the number of the vCPU it runs on: the segment's limit, as on Linux
    /// (`GDT_ENTRY_CPUNODE`).
    pub const CPU_NUMBER: u16 = 0x7b;
}

/// Offset of the GDT in a vCPU's tables page ([`crate::memory::VCPU_TABLES`]).
pub const TABLES_GDT: u64 = 0x000;
/// Bytes of the GDT: entries up to and with that of [`selector::CPU_NUMBER`].
pub const GDT_LEN: u64 = (selector::CPU_NUMBER & !7) as u64 + 8;
/// Offset of the TSS in a vCPU's tables page. Its I/O map base lies beyond its limit: every port access of
/// ring 3 is #GP.
pub const TABLES_TSS: u64 = 0x100;
/// Bytes of the TSS.
pub const TSS_LEN: u64 = 0x68;
/// Offset of RSP0 within the TSS (SDM 3A, figure 9-11).
pub const TSS_RSP0: u64 = 4;
/// Offset of IST1 within the TSS.
pub const TSS_IST1: u64 = 36;

/// What `IA32_FMASK` is set to: RFLAGS bits that SYSCALL clears (TF, IF, DF, IOPL, NT, RF, AC, ID).
pub const SYSCALL_FLAG_MASK: u64 = 0x0025_7700;

/// What a kernel image says of itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelHeader {
    /// [`HEADER_MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`] the kernel was built with.
    pub abi_version: u32,
    /// Bytes between two trap stubs.
    pub stub_stride: u32,
    /// Guest-virtual address of vector 0's stub; vector `v`'s is `trap_stubs + v * stub_stride`.
    pub trap_stubs: u64,
    /// Guest-virtual address for `IA32_LSTAR`.
    pub syscall_entry: u64,
}

bitflags! {
    /// Switches in [`BootInfo::flags`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BootFlags: u64 {
        /// Fault injection for tests: map `SHM_RDONLY` attaches writable in the guest's own page tables, so
        /// that a store reaches the hypervisor's check.
        const TEST_WRITABLE_READ_ONLY = 1 << 0;
        /// Fault injection for tests: panic when a program calls `getpid`.
        const TEST_PANIC_ON_GETPID = 1 << 1;
        /// Send debug messages to the host's log; without it the kernel does not even make them.
        const LOG_DEBUG = 1 << 2;
        /// For tests: count free frames and what is in use in the kernel's tables when the kernel is up and at the end
        /// ([`crate::hypercall::Call::Usage`], [`crate::hypercall::Call::Tables`]). Everything is freed for it at the end,
        /// which else is left to the host.
        const TEST_COUNT_TABLES = 1 << 3;
        /// The command was started with stdin closed: programs find descriptor 0 closed.
        const CLOSED_STDIN = 1 << 4;
        /// The same of stdout, descriptor 1.
        const CLOSED_STDOUT = 1 << 5;
        /// The same of stderr, descriptor 2.
        const CLOSED_STDERR = 1 << 6;
    }
}

impl BootFlags {
    /// That this one of the first three descriptors is closed.
    pub const CLOSED: [BootFlags; 3] = [
        BootFlags::CLOSED_STDIN,
        BootFlags::CLOSED_STDOUT,
        BootFlags::CLOSED_STDERR,
    ];
}

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GpaRange {
    /// First byte.
    pub start: u64,
    /// Length in bytes; 0 means there is none.
    pub len: u64,
}

/// Most files that travel with a guest, its programs and the directories made for all of them included. The kernel has room
/// for a third more, for what programs make.
pub const MAX_FILES: usize = 3072;
/// Most units of their names, of which a name has one for each [`NAME_UNIT`] bytes begun. As with the files.
pub const MAX_FILE_NAMES: usize = 6144;
/// Bytes of one unit of a name.
pub const NAME_UNIT: usize = 43;

/// A file that travels with the guest: page-aligned in RAM, zero-filled to the page's end.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootFile {
    /// Where its bytes lie.
    pub contents: GpaRange,
    /// Where its absolute name in the guest lies (no NUL at the end).
    pub name: GpaRange,
}

/// A process to start.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootProcess {
    /// NUL-terminated strings, one after the other: arguments, then environment.
    pub strings: GpaRange,
    /// How many of them are arguments.
    pub argc: u32,
    /// How many of them are environment.
    pub envc: u32,
    /// Which of the [`BootFile`]s to run.
    pub file: u32,
    /// Its number within the guest: TOMBOLO_PROC, and the number in [`crate::hypercall`]'s PROCESS_EXIT.
    pub index: u32,
}

/// What the VMM tells the kernel. Lies at a page boundary in RAM.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// This guest's number in its group, from 0.
    pub guest: u32,
    /// Guests in the group.
    pub guests: u32,
    /// vCPUs of this guest, all started.
    pub vcpus: u32,
    /// [`BootFlags`].
    pub flags: u64,
    /// RAM below and above the hole (memory.rs). The frames from [`BootInfo::free_start`] to the end of the
    /// first range, and all of the second, are free and zero.
    pub ram: [GpaRange; 2],
    /// First free frame; everything below belongs to the image, the boot structures and the files.
    pub free_start: u64,
    /// Zeroed room for the kernel's table of frames: 4 bytes for each frame of RAM (both ranges, in order).
    pub frame_table: GpaRange,
    /// Physical address of the kernel's own (boot) top-level page table.
    pub page_table: u64,
    /// The read-write window.
    pub window_rw: GpaRange,
    /// The read-only window.
    pub window_ro: GpaRange,
    /// TSC frequency in kHz.
    pub tsc_khz: u64,
    /// GPA of the [`crate::clock::ClockPage`], the last page of [`BootInfo::vdso`].
    pub clock: u64,
    /// GPA of the array of [`BootFile`].
    pub files: u64,
    /// Length of that array.
    pub file_count: u32,
    /// Length of the array of processes.
    pub process_count: u32,
    /// GPA of the array of [`BootProcess`].
    pub processes: u64,
    /// Guest-virtual address (low half, user-accessible, in the boot page tables) of the probe page:
    /// `syscall; ud2`. The kernel runs it once in ring 3 to learn how SYSCALL arrives.
    pub probe: u64,
    /// Seed for the kernel's random numbers, fresh for every guest.
    pub seed: [u64; 4],
    /// Real, effective and saved user id of the processes.
    pub uid: u32,
    /// Real, effective and saved group id of the processes.
    pub gid: u32,
    /// `st_dev` and `st_ino` of the directories every guest of a group agrees on start here.
    pub tree_id: u64,
    /// GPA of the [`crate::tasks::TaskPage`], zeroed, at a page boundary.
    pub tasks: u64,
    /// What all programs can see: the vDSO's image, whole pages, and behind it the clock page.
    pub vdso: GpaRange,
}
