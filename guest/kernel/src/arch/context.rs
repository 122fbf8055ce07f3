//! What of a task belongs to the CPU: its [`TrapFrame`], its FPU state and its segment bases, one [`Context`]
//! for each task of the kernel's table.
//!
//! A context belongs to the vCPU that runs its task, and to whoever holds the kernel lock otherwise. The
//! entry code writes the frame of a running task without any lock, so contexts lie outside what the kernel
//! lock guards and are reached through raw pointers.
//!
//! FPU state is saved when a task leaves a vCPU and loaded when one comes, never on the way of a system call
//! (the kernel is compiled without floating point). FXSAVE64 is enough on both kinds of KVM: the VMM hides XSAVE
//! and what is encoded with VEX or EVEX, and CR4.OSXSAVE stays 0, so programs keep to SSE
//! (docs/decisions/0005-avx-is-not-offered.md).
// UNSAFETY: raw access to contexts; FPU and segment-base instructions.
#![expect(unsafe_code, reason = "saves and loads what only the CPU knows")]

use super::entry::TrapFrame;
use super::machine::{MSR_FS_BASE, MSR_KERNEL_GS_BASE, read_msr, write_msr};
use abi::MAX_TASKS;
use abi::boot::selector::{USER_CODE, USER_DATA};
use core::cell::UnsafeCell;

/// Bytes of an FXSAVE area (SDM 1, 10.5).
const FPU_LEN: usize = 512;
/// FCW after FNINIT, and MXCSR after reset: what Linux gives a new program.
const INITIAL_FCW: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

#[repr(C, align(16))]
struct Fpu([u8; FPU_LEN]);

#[repr(C)]
struct Saved {
    fpu: Fpu,
    frame: TrapFrame,
    fs_base: u64,
    gs_base: u64,
}

/// The CPU's part of one task.
pub struct Context(UnsafeCell<Saved>);

// SAFETY: see the module's text: one owner at a time, handed over under the kernel lock.
unsafe impl Sync for Context {}

static CONTEXTS: [Context; MAX_TASKS] = [const {
    Context(UnsafeCell::new(Saved {
        fpu: Fpu([0; FPU_LEN]),
        frame: TrapFrame::ZERO,
        fs_base: 0,
        gs_base: 0,
    }))
}; MAX_TASKS];

impl Context {
    /// Task `task`'s context.
    pub fn of(task: u16) -> &'static Context {
        &CONTEXTS[usize::from(task) % MAX_TASKS]
    }

    /// Where its registers are while it is not running.
    pub fn frame(&self) -> *mut TrapFrame {
        // SAFETY: only computes an address inside the cell.
        unsafe { &raw mut (*self.0.get()).frame }
    }

    /// Makes it that of a program about to execute its first instruction at `rip`.
    pub fn reset(&self, rip: u64, rsp: u64) {
        // SAFETY: the task does not run yet, and the caller holds the kernel lock.
        unsafe {
            let saved = self.0.get();
            (*saved).fs_base = 0;
            (*saved).gs_base = 0;
            (*saved).frame = TrapFrame {
                rip,
                rsp,
                cs: u64::from(USER_CODE),
                ss: u64::from(USER_DATA),
                rflags: RFLAGS_INITIAL,
                ..TrapFrame::ZERO
            };
            let fpu = &raw mut (*saved).fpu.0;
            fpu.cast::<u64>().write_bytes(0, FPU_LEN / 8);
            fpu.cast::<u16>().write(INITIAL_FCW);
            fpu.byte_add(24).cast::<u32>().write(INITIAL_MXCSR);
        }
    }

    /// Makes it that of a task made by `maker`, which runs here: the same registers, but the call that made it returns
    /// 0; with another stack pointer (0 is none) or FS base if given.
    pub fn copy_of_running(&self, maker: &Context, stack: u64, tls: Option<u64>) {
        self.save();
        // SAFETY: the new task does not run yet, the maker's registers are this vCPU's; the caller holds the kernel
        // lock.
        unsafe {
            let (from, to) = (maker.0.get(), self.0.get());
            if let Some(tls) = tls {
                (*to).fs_base = tls;
            }
            (*to).frame = (*from).frame;
            (*to).frame.rax = 0;
            if stack != 0 {
                (*to).frame.rsp = stack;
            }
        }
    }

    /// Sets what the interrupted system call returns.
    pub fn set_result(&self, value: i64) {
        // SAFETY: the task is parked, and the caller holds the kernel lock.
        unsafe { (*self.frame()).rax = value as u64 }
    }

    /// Sets FS base of the running task, which this must be.
    pub fn set_fs_base(&self, value: u64) {
        write_msr(MSR_FS_BASE, value);
    }

    /// Sets GS base of the running task, which this must be.
    pub fn set_gs_base(&self, value: u64) {
        write_msr(MSR_KERNEL_GS_BASE, value);
    }

    /// Takes the CPU's state of the task that runs here.
    pub fn save(&self) {
        // SAFETY: the context is that of the task this vCPU runs, or of one that does not run yet; the area is 16-aligned
        // and large enough.
        unsafe {
            let saved = self.0.get();
            let fpu = (&raw mut (*saved).fpu).cast::<u8>();
            core::arch::asm!("fxsave64 [{}]", in(reg) fpu, options(nostack, preserves_flags));
            (*saved).fs_base = read_msr(MSR_FS_BASE);
            (*saved).gs_base = read_msr(MSR_KERNEL_GS_BASE);
        }
    }

    /// Gives the CPU this task's state; [`super::entry::resume`] does the rest.
    pub fn load(&self) {
        // SAFETY: the task is about to run here, so the context is this vCPU's own. Its image was made by
        // `reset` or `save`, so it is one that the CPU accepts.
        unsafe {
            let saved = self.0.get();
            let fpu = (&raw mut (*saved).fpu).cast::<u8>();
            core::arch::asm!("fxrstor64 [{}]", in(reg) fpu, options(nostack, preserves_flags));
            write_msr(MSR_FS_BASE, (*saved).fs_base);
            write_msr(MSR_KERNEL_GS_BASE, (*saved).gs_base);
        }
    }
}

/// IF and the bit that is always 1.
pub const RFLAGS_INITIAL: u64 = 0x202;
/// The flags a program may change (CF PF AF ZF SF TF DF OF NT AC ID), as Linux's POPF in ring 3.
pub const RFLAGS_USER: u64 = 0x24_4dd5;

/// Works on the registers of the task that has just been loaded on `cpu`, which its entry code does not touch
/// before the kernel returns to it.
pub fn with_frame_of_running<R>(
    cpu: &super::cpu::Cpu,
    task: u16,
    work: impl FnOnce(&mut TrapFrame) -> R,
) -> R {
    assert!(
        cpu.current_task() == Some(task),
        "task {task} is not the one on this vCPU"
    );
    // SAFETY: the context is this vCPU's own, and this vCPU is in the kernel.
    work(unsafe { &mut *Context::of(task).frame() })
}

/// FS base of the running task.
pub fn fs_base() -> u64 {
    read_msr(MSR_FS_BASE)
}

/// GS base of the running task.
pub fn gs_base() -> u64 {
    read_msr(MSR_KERNEL_GS_BASE)
}
