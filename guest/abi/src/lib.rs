//! The contract between the VMM, the guest kernel and the programs inside.
//!
//! Everything two sides must agree on is here and nowhere else: the memory map ([`memory`]), what the VMM
//! tells the kernel at boot ([`boot`]), how the kernel asks the host for something ([`hypercall`]), how it
//! dies ([`epitaph`]), what both know of its tasks ([`tasks`]), what shared memory objects are ([`object`]), how both tell the time ([`clock`]), and the Linux x86-64
//! numbers that programs use ([`errno`], [`ipc`]). The crate knows no other crate of the workspace, allocates nothing and holds no
//! code beyond constants, plain structures and their conversions.
//!
//! A change that an old kernel or an old VMM would misread raises [`ABI_VERSION`].
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod clock;
pub mod epitaph;
pub mod errno;
pub mod hypercall;
pub mod ipc;
pub mod memory;
pub mod object;
pub mod tasks;

pub use errno::Errno;

/// Version of everything in this crate. The kernel image carries it in its [`boot::KernelHeader`], the VMM
/// writes it to [`boot::BootInfo`]; either side refuses a mismatch with a clear error.
pub const ABI_VERSION: u32 = 5;

/// Size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Size of a large page, in bytes: what one page-directory entry can map.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Most vCPUs a guest may have.
pub const MAX_VCPUS: usize = 16;

/// Most tasks (processes and threads together) a guest may have at one time.
pub const MAX_TASKS: usize = 256;

/// Most guests in one sharing group.
pub const MAX_GUESTS: usize = 256;

/// How many low bits of a process or thread id number it within its guest; the guest's number is above.
///
/// Linux's ids have 22 bits (`PID_MAX_LIMIT`), and robust and error-checking mutexes keep them in shared
/// words, so an id must name one task in the whole group: 256 guests × 16384 ids.
pub const PID_BITS_IN_GUEST: u32 = 14;

/// The id of the task that is `local` within guest number `guest`.
#[must_use]
pub const fn group_pid(guest: u32, local: u32) -> u32 {
    (guest << PID_BITS_IN_GUEST) | (local & ((1 << PID_BITS_IN_GUEST) - 1))
}

/// The number of the guest that a group-wide process or thread id belongs to.
#[must_use]
pub const fn guest_of_pid(pid: u32) -> u32 {
    pid >> PID_BITS_IN_GUEST
}
