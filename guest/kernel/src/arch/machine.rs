//! Single privileged instructions, each wrapped once.
// UNSAFETY: privileged instructions.
#![expect(unsafe_code, reason = "privileged instructions")]

use x86_64::registers::model_specific::Msr;

/// `IA32_FS_BASE`.
pub const MSR_FS_BASE: u32 = 0xc000_0100;
/// `IA32_KERNEL_GS_BASE`: the program's GS base while the kernel runs.
pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Reads the time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no effect but its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads the time-stamp counter after all loads before it are done: the program's, too, that asks for the time.
pub fn tsc_ordered() -> u64 {
    // SAFETY: LFENCE has no effect but its order.
    unsafe { core::arch::x86_64::_mm_lfence() };
    tsc()
}

/// Writes 32 bits to a port; the host may change RAM that this vCPU has shared with it meanwhile.
pub fn out32(port: u16, value: u32) {
    // SAFETY: ports lead to the VMM only, which touches nothing but what a request names. No `nomem`: the host
    // reads and writes the request while the instruction runs.
    unsafe {
        core::arch::asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register.
pub fn read_msr(msr: u32) -> u64 {
    // SAFETY: the callers in arch name registers every x86-64 CPU has.
    unsafe { Msr::new(msr).read() }
}

/// Writes a model-specific register.
pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: the callers in arch write values that keep the kernel's own state valid.
    unsafe { Msr::new(msr).write(value) }
}

/// The faulting address of the last page fault on this vCPU.
pub fn page_fault_address() -> u64 {
    x86_64::registers::control::Cr2::read_raw()
}

/// The root of the page tables in use on this vCPU.
pub fn page_table() -> u64 {
    x86_64::registers::control::Cr3::read_raw()
        .0
        .start_address()
        .as_u64()
}

/// Loads the root of another set of page tables, which flushes all translations of programs.
///
/// # Safety
/// `root` must map the kernel as the boot tables do, and stay until another root is loaded here.
pub unsafe fn load_page_table(root: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
}

/// Drops the translation of one page on this vCPU.
pub fn flush_page(virt: u64) {
    // SAFETY: dropping a translation is always sound.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) virt, options(nostack, preserves_flags)) }
}

/// Turns interrupts on, waits for one, turns them off again.
pub fn wait_for_interrupt() {
    // SAFETY: the handlers of interrupts from ring 0 touch only per-vCPU flags. STI takes effect after the
    // next instruction, so no interrupt is lost between the two (SDM 2B, STI).
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) }
}

/// Stops this vCPU for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: HLT with interrupts off ends nothing but this vCPU's work.
        unsafe { core::arch::asm!("cli", "hlt", options(nostack, nomem)) }
    }
}
