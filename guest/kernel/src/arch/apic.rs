//! The local APIC in x2APIC mode: a one-shot timer and interrupts between vCPUs.
//!
//! Registers are MSRs 0x800 to 0x83f (SDM 3A, table 11-6). KVM's APIC bus clock is 1 GHz unless told
//! otherwise (KVM_CAP_X86_APIC_BUS_CYCLES_NS), so with a divider of 1 the timer counts nanoseconds.

use super::cpu::Cpu;
use super::machine::{tsc, write_msr};
use crate::time;
use abi::boot::{VECTOR_FLUSH, VECTOR_RESCHEDULE, VECTOR_SPURIOUS, VECTOR_TIMER};

const EOI: u32 = 0x80b;
const SPURIOUS: u32 = 0x80f;
const COMMAND: u32 = 0x830;
const TIMER: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const DIVIDE: u32 = 0x83e;

/// Turns this vCPU's APIC on, timer in one-shot mode with divider 1.
pub fn init() {
    write_msr(SPURIOUS, 0x100 | u64::from(VECTOR_SPURIOUS));
    write_msr(DIVIDE, 0b1011);
    write_msr(TIMER, u64::from(VECTOR_TIMER));
}

/// Says that an interrupt has been taken care of.
pub fn end_of_interrupt() {
    write_msr(EOI, 0);
}

/// Makes the timer fire at TSC value `at`, or as late as it can; it may fire early, never twice.
pub fn arm_timer(cpu: &Cpu, at: u64) {
    if cpu.timer_at.get() == at {
        return;
    }
    cpu.timer_at.set(at);
    let ns = time::nanoseconds(at.saturating_sub(tsc()));
    // The count register has 32 bits: later deadlines are armed again on the way. 0 would turn it off.
    write_msr(INITIAL_COUNT, ns.clamp(1, u64::from(u32::MAX)));
}

/// Turns the timer off.
pub fn disarm_timer(cpu: &Cpu) {
    if cpu.timer_at.get() != u64::MAX {
        cpu.timer_at.set(u64::MAX);
        write_msr(INITIAL_COUNT, 0);
    }
}

/// Makes vCPU `index` look at its run queue.
pub fn send_reschedule(index: u32) {
    write_msr(COMMAND, u64::from(index) << 32 | u64::from(VECTOR_RESCHEDULE));
}

/// Makes vCPU `index` answer a flush request.
pub fn send_flush(index: u32) {
    write_msr(COMMAND, u64::from(index) << 32 | u64::from(VECTOR_FLUSH));
}
