//! The boot probe: how SYSCALL arrives here, and whether ring 0 is emulated.
//!
//! vCPU 0 goes to ring 3 once, to a page where the VMM has put `syscall; ud2`. On hardware that arrives at
//! LSTAR in ring 0. On the software KVM the CPU arrives at LSTAR still in ring 3, and fetching the
//! supervisor-only page faults; only there is such a fault a system call, elsewhere it is a program's error.
// UNSAFETY: goes to ring 3; reads the TSC around instructions.
#![expect(unsafe_code, reason = "goes to ring 3")]

use super::context::RFLAGS_INITIAL;
use super::cpu::Cpu;
use super::entry::{self, TrapFrame, VECTOR_SYSCALL};
use super::machine::{page_fault_address, tsc};
use abi::boot::selector::{USER_CODE, USER_DATA};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Vector of the page fault.
pub const PAGE_FAULT: u64 = 14;

static ARRIVES_IN_RING_3: AtomicBool = AtomicBool::new(false);

struct ProbeFrame(UnsafeCell<TrapFrame>);
// SAFETY: used by vCPU 0 only, before any other code runs in ring 3.
unsafe impl Sync for ProbeFrame {}
static FRAME: ProbeFrame = ProbeFrame(UnsafeCell::new(TrapFrame::ZERO));

/// True if a fault at LSTAR is how a system call arrives.
#[inline]
pub fn arrives_in_ring_3() -> bool {
    ARRIVES_IN_RING_3.load(Relaxed)
}

/// Goes to ring 3 at `address`; the kernel continues in [`super::trap::trap_from_user`].
pub fn start(cpu: &Cpu, address: u64) -> ! {
    let frame = FRAME.0.get();
    // SAFETY: the frame is vCPU 0's own; the boot tables are loaded and map the probe page for ring 3.
    unsafe {
        *frame = TrapFrame {
            rip: address,
            rsp: address,
            cs: u64::from(USER_CODE),
            ss: u64::from(USER_DATA),
            // Interrupts stay off in the probe: nothing is ready to take one.
            rflags: RFLAGS_INITIAL & !0x200,
            ..TrapFrame::ZERO
        };
        cpu.set_frame(frame);
        entry::resume(frame)
    }
}

/// Draws the conclusion from how the probe came back.
///
/// # Errors
/// The vector, if it came back in a way nobody knows.
pub fn conclude(frame: &TrapFrame) -> Result<(), u64> {
    match frame.vector {
        VECTOR_SYSCALL => Ok(()),
        PAGE_FAULT
            if frame.rip == entry::syscall_entry_address()
                && page_fault_address() == entry::syscall_entry_address() =>
        {
            ARRIVES_IN_RING_3.store(true, Relaxed);
            Ok(())
        }
        other => Err(other),
    }
}

/// Measures whether ring-0 instructions are emulated: a dozen of them take over a thousand ticks then, and
/// a few dozen ticks otherwise. The least of three, because an interrupt of the host may come in between.
pub fn ring_0_is_emulated() -> bool {
    let mut least = u64::MAX;
    for _ in 0..3 {
        let before = tsc();
        // SAFETY: does nothing.
        unsafe {
            core::arch::asm!(
                ".rept 12",
                "nop",
                ".endr",
                options(nostack, nomem, preserves_flags)
            )
        }
        least = least.min(tsc().wrapping_sub(before));
    }
    least > 2000
}
