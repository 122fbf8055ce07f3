//! Per-vCPU data, one [`Cpu`] in each vCPU's area at [`abi::memory::VCPU_LOCAL`], reached through GS.
//!
//! Fields are atomics where another vCPU or an interrupt handler looks at them, cells otherwise: a `Cpu` is
//! shared by reference, and only its own vCPU writes the cells.
// UNSAFETY: turns the GS base into a reference; talks to the TSS.
#![expect(
    unsafe_code,
    reason = "per-vCPU data lies at an address only the hardware knows"
)]

use super::entry::TrapFrame;
use abi::boot::{TABLES_TSS, TSS_RSP0};
use abi::memory::{VCPU_AREAS, VCPU_LOCAL, VCPU_STACK_TOP, VCPU_STRIDE, VCPU_TABLES};
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What one vCPU keeps for itself.
#[repr(C)]
pub struct Cpu {
    this: Cell<*const Cpu>,
    /// Where the entry code puts the stack pointer.
    stack_top: Cell<u64>,
    /// End of the running task's [`TrapFrame`]: where the SYSCALL entry starts pushing.
    frame_end: Cell<u64>,
    scratch: Cell<u64>,
    /// This vCPU's index, which is also its x2APIC id.
    pub index: Cell<u32>,
    /// The task whose registers are loaded, plus 1; 0 if there is none. See [`Cpu::current_task`].
    current: Cell<u32>,
    /// The task whose state the FPU holds, plus 1; 0 if that is nobody's. See [`Cpu::fpu_of`].
    fpu: Cell<u32>,
    /// It may have changed since it was kept.
    fpu_changed: Cell<bool>,
    /// Root of the page tables loaded.
    pub root: Cell<u64>,
    /// TSC value at which the timer will fire, `u64::MAX` if it is off.
    pub timer_at: Cell<u64>,
    /// TSC value at which the running task has had its turn, if others want to run.
    pub slice_end: Cell<u64>,
    /// How often its turn has begun anew because of a signal's handler.
    pub renewed: Cell<u8>,
    /// Asked by another vCPU to drop all translations; cleared when done.
    pub flush_wanted: AtomicBool,
    /// Sits in HLT with nothing to run.
    pub idle: AtomicBool,
    /// What interrupts have come in since the kernel last looked (bit = vector - 0x20).
    pub interrupts: AtomicU64,
}

/// Offsets the assembly uses.
pub const OFFSET_STACK_TOP: usize = offset_of!(Cpu, stack_top);
/// See [`OFFSET_STACK_TOP`].
pub const OFFSET_FRAME_END: usize = offset_of!(Cpu, frame_end);
/// See [`OFFSET_STACK_TOP`].
pub const OFFSET_SCRATCH: usize = offset_of!(Cpu, scratch);

const _: () = assert!(size_of::<Cpu>() as u64 <= VCPU_TABLES + 0x1000 - VCPU_LOCAL);

/// Start of vCPU `index`'s area.
pub const fn area(index: u32) -> u64 {
    VCPU_AREAS + index as u64 * VCPU_STRIDE
}

impl Cpu {
    /// The running vCPU's data.
    #[inline]
    pub fn current() -> &'static Cpu {
        let this: *const Cpu;
        // SAFETY: while the kernel runs, GS points at this vCPU's Cpu, whose first word is its address
        // (set by `init` before anything else); it is never freed.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly));
            &*this
        }
    }

    /// Any vCPU's data.
    #[inline]
    pub fn of(index: u32) -> &'static Cpu {
        // SAFETY: the VMM maps a zeroed area for every vCPU of the guest, and zero is valid for every field;
        // only atomics are used on a Cpu that isn't one's own.
        unsafe { &*((area(index) + VCPU_LOCAL) as *const Cpu) }
    }

    /// Prepares the running vCPU's data; the first thing every vCPU does.
    pub fn init(index: u32) -> &'static Cpu {
        let cpu = Self::of(index);
        cpu.this.set(cpu);
        cpu.stack_top.set(area(index) + VCPU_STACK_TOP);
        cpu.index.set(index);
        cpu.timer_at.set(u64::MAX);
        cpu
    }

    /// Says where the next entry from ring 3 saves registers.
    pub fn set_frame(&self, frame: *mut TrapFrame) {
        let end = frame.wrapping_add(1).addr() as u64;
        self.frame_end.set(end);
        let rsp0 = area(self.index.get()) + VCPU_TABLES + TABLES_TSS + TSS_RSP0;
        // SAFETY: this vCPU's TSS, laid out by the VMM; the field is 4-aligned only (SDM 3A, figure 9-11).
        unsafe { (rsp0 as *mut u64).write_unaligned(end) }
    }

    /// Index of the task whose registers are loaded, if any.
    #[inline]
    pub fn current_task(&self) -> Option<u16> {
        self.current.get().checked_sub(1).map(|task| task as u16)
    }

    /// Says whose registers are loaded now.
    pub fn set_current_task(&self, task: Option<u16>) {
        self.current.set(task.map_or(0, |task| u32::from(task) + 1));
    }

    /// The task whose state is in the FPU's registers, running or not, if the host keeps those of others; unless it
    /// has run elsewhere since.
    pub fn fpu_of(&self) -> Option<u16> {
        self.fpu.get().checked_sub(1).map(|task| task as u16)
    }

    /// As [`Cpu::fpu_of`], if that is not kept yet.
    pub fn fpu_to_keep(&self) -> Option<u16> {
        self.fpu_of().filter(|_| self.fpu_changed.get())
    }

    /// Task `task` runs with these registers now, or nobody will go on with them.
    pub fn set_fpu(&self, task: Option<u16>) {
        self.fpu.set(task.map_or(0, |task| u32::from(task) + 1));
        self.fpu_changed.set(task.is_some());
    }

    /// The registers are kept.
    pub fn fpu_is_kept(&self) {
        self.fpu_changed.set(false);
    }

    /// This vCPU's bit in masks of vCPUs.
    #[inline]
    pub fn bit(&self) -> u32 {
        1 << self.index.get()
    }

    /// Takes note of an interrupt.
    pub fn note(&self, vector: u64) {
        self.interrupts.fetch_or(1 << (vector & 31), Ordering::Relaxed);
    }
}
