//! What the VMM has put into RAM for the kernel to read, as typed references: boot information, clock page,
//! files, strings. Nobody changes it while the guest runs (the clock page holds atomics), and programs are
//! shown files by read-only mappings only, so shared references are sound.
// UNSAFETY: turns guest-physical addresses from the VMM into references.
#![expect(unsafe_code, reason = "the VMM's promises in abi::boot")]

use abi::boot::{BOOT_MAGIC, BootFile, BootInfo, BootProcess, GpaRange};
use abi::clock::ClockPage;
use abi::memory::DIRECT_MAP;

/// The boot information at direct-map address `address`.
pub fn boot_info(address: u64) -> &'static BootInfo {
    // SAFETY: the VMM passes the address of one; the caller is the entry point.
    let boot = unsafe { &*(address as *const BootInfo) };
    assert!(boot.magic == BOOT_MAGIC, "no boot information at {address:#x}");
    assert!(
        boot.abi_version == abi::ABI_VERSION,
        "the VMM speaks ABI version {}, this kernel {}",
        boot.abi_version,
        abi::ABI_VERSION
    );
    boot
}

/// The clock page at guest-physical address `gpa`.
pub fn clock_page(gpa: u64) -> &'static ClockPage {
    // SAFETY: BootInfo::clock, in RAM for the guest's life.
    unsafe { &*((DIRECT_MAP + gpa) as *const ClockPage) }
}

/// The bytes of `range`.
pub fn bytes(range: GpaRange) -> &'static [u8] {
    // SAFETY: a range the VMM laid out in RAM, never written again.
    unsafe { core::slice::from_raw_parts((DIRECT_MAP + range.start) as *const u8, range.len as usize) }
}

/// The files that travel with the guest.
pub fn files(boot: &BootInfo) -> &'static [BootFile] {
    // SAFETY: as for `bytes`.
    unsafe {
        core::slice::from_raw_parts(
            (DIRECT_MAP + boot.files) as *const BootFile,
            boot.file_count as usize,
        )
    }
}

/// The processes to start.
pub fn processes(boot: &BootInfo) -> &'static [BootProcess] {
    // SAFETY: as for `bytes`.
    unsafe {
        core::slice::from_raw_parts(
            (DIRECT_MAP + boot.processes) as *const BootProcess,
            boot.process_count as usize,
        )
    }
}
