//! What of a task belongs to the CPU: its [`TrapFrame`], its FPU state and its segment bases, one [`Context`]
//! for each task of the kernel's table.
//!
//! A context belongs to the vCPU that runs its task, and to whoever holds the kernel lock otherwise. The
//! entry code writes the frame of a running task without any lock, so contexts lie outside what the kernel
//! lock guards and are reached through raw pointers.
//!
//! FPU state is saved when a task leaves a vCPU and loaded when one comes, never on the way of a system call
//! (the kernel is compiled without floating point). There are two ways. Where CPUID says what the VMM wants it to,
//! programs keep to x87 and SSE, and FXSAVE64 saves all of that (docs/decisions/0005-avx-is-not-offered.md). On the
//! software KVM programs see the host's own CPU and may use all of it, but ring 0 has no XSAVE: there the host keeps
//! the registers, whole, and is asked as seldom as possible. A vCPU's registers stay a task's after it has left, until
//! another one comes ([`Cpu::fpu_of`]); only a vCPU that lets go of the kernel lock with none on it has them kept then
//! ([`settle`]), because another vCPU may take that task over.
// UNSAFETY: raw access to contexts; FPU and segment-base instructions.
#![expect(unsafe_code, reason = "saves and loads what only the CPU knows")]

use super::cpu::Cpu;
use super::entry::TrapFrame;
use super::machine::{MSR_FS_BASE, MSR_KERNEL_GS_BASE, read_msr, write_msr};
use crate::hypercall::{self, Requester};
use abi::MAX_TASKS;
use abi::boot::selector::{USER_CODE, USER_DATA};
use abi::hypercall::{Call, FPU_INITIAL, FPU_NONE, FPU_TASKS};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of an FXSAVE area (SDM 1, 10.5).
pub const FPU_LEN: usize = 512;
/// FCW after FNINIT, and MXCSR after reset: what Linux gives a new program.
const INITIAL_FCW: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

#[repr(C, align(16))]
struct Fpu([u8; FPU_LEN]);

/// Where a task's FPU state is, if the host keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Whereabouts {
    /// Nowhere: it has not run yet, and begins with the initial one.
    Initial,
    /// With the host.
    Kept,
    /// In the registers of this vCPU, if that still says so; and with the host, if it runs nowhere.
    OnCpu(u8),
}

#[repr(C)]
struct Saved {
    fpu: Fpu,
    frame: TrapFrame,
    fs_base: u64,
    gs_base: u64,
    whereabouts: Whereabouts,
}

static HOST_KEEPS_FPU: AtomicBool = AtomicBool::new(false);

/// Whether the host keeps FPU state (ring 0 is emulated).
pub fn set_host_keeps_fpu(on: bool) {
    HOST_KEEPS_FPU.store(on, Relaxed);
}

/// See [`set_host_keeps_fpu`].
pub fn host_keeps_fpu() -> bool {
    HOST_KEEPS_FPU.load(Relaxed)
}

/// Has the host keep what is in this vCPU's registers as `keep`'s, and load `load`'s.
fn switch_fpu(keep: u64, load: u64) {
    if let Err(error) = hypercall::call(Call::SwitchFpu, Requester::default(), &[keep, load]) {
        panic!("the host refuses to switch FPU state from {keep} to {load}: {error}");
    }
}

fn state_of(task: u16) -> u64 {
    FPU_TASKS + u64::from(task)
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
        whereabouts: Whereabouts::Initial,
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
            (*saved).whereabouts = Whereabouts::Initial;
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

    /// Makes task `task`'s that of a task made by `maker`, which runs here: the same registers, but the call that made it returns
    /// 0; with another stack pointer (0 is none) or FS base if given.
    pub fn copy_of_running(task: u16, maker: u16, stack: u64, tls: Option<u64>) {
        let (new, maker) = (Context::of(task), Context::of(maker));
        new.save_bases();
        if HOST_KEEPS_FPU.load(Relaxed) {
            switch_fpu(state_of(task), FPU_NONE);
        } else {
            new.save_fpu();
        }
        // SAFETY: the new task does not run yet, the maker's registers are this vCPU's; the caller holds the kernel
        // lock.
        unsafe {
            let (from, to) = (maker.0.get(), new.0.get());
            (*to).whereabouts = Whereabouts::Kept;
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

    /// Takes the CPU's state of task `task`, which runs here.
    pub fn save(task: u16) {
        let context = Context::of(task);
        context.save_bases();
        if !HOST_KEEPS_FPU.load(Relaxed) {
            context.save_fpu();
        }
    }

    /// Gives the CPU task `task`'s state; [`super::entry::resume`] does the rest.
    pub fn load(cpu: &Cpu, task: u16) {
        let context = Context::of(task);
        if HOST_KEEPS_FPU.load(Relaxed) {
            context.load_from_host(cpu, task);
        } else {
            context.load_fpu();
        }
        // SAFETY: the task is about to run here, so the context is this vCPU's own.
        unsafe {
            let saved = context.0.get();
            write_msr(MSR_FS_BASE, (*saved).fs_base);
            write_msr(MSR_KERNEL_GS_BASE, (*saved).gs_base);
        }
    }

    fn save_bases(&self) {
        // SAFETY: the context is that of the task this vCPU runs, or of one that does not run yet.
        unsafe {
            let saved = self.0.get();
            (*saved).fs_base = read_msr(MSR_FS_BASE);
            (*saved).gs_base = read_msr(MSR_KERNEL_GS_BASE);
        }
    }

    fn save_fpu(&self) {
        // SAFETY: as for `save_bases`; the area is 16-aligned and large enough.
        unsafe {
            let fpu = (&raw mut (*self.0.get()).fpu).cast::<u8>();
            core::arch::asm!("fxsave64 [{}]", in(reg) fpu, options(nostack, preserves_flags));
        }
    }

    fn load_fpu(&self) {
        // SAFETY: as for `load`; the image was made by `reset` or `save_fpu`, so it is one that the CPU accepts.
        unsafe {
            let fpu = (&raw mut (*self.0.get()).fpu).cast::<u8>();
            core::arch::asm!("fxrstor64 [{}]", in(reg) fpu, options(nostack, preserves_flags));
        }
    }

    fn load_from_host(&self, cpu: &Cpu, task: u16) {
        let here = Whereabouts::OnCpu(cpu.index.get() as u8);
        // SAFETY: as for `load`.
        let was = unsafe { (&raw mut (*self.0.get()).whereabouts).replace(here) };
        if was != here || cpu.fpu_of() != Some(task) {
            let load = match was {
                Whereabouts::Initial => FPU_INITIAL,
                Whereabouts::Kept | Whereabouts::OnCpu(_) => state_of(task),
            };
            switch_fpu(cpu.fpu_to_keep().map_or(FPU_NONE, state_of), load);
        }
        cpu.set_fpu(Some(task));
    }
}

/// This vCPU is about to let go of the kernel lock with no task on it: what is in its FPU is kept.
pub fn settle(cpu: &Cpu) {
    if let Some(task) = cpu.fpu_to_keep() {
        switch_fpu(state_of(task), FPU_NONE);
        cpu.fpu_is_kept();
    }
}

/// IF and the bit that is always 1.
pub const RFLAGS_INITIAL: u64 = 0x202;
/// The flags a program may change (CF PF AF ZF SF TF DF OF NT AC ID), as Linux's POPF in ring 3.
pub const RFLAGS_USER: u64 = 0x24_4dd5;

/// Works on the registers of the task that has just been loaded on `cpu`, which its entry code does not touch
/// before the kernel returns to it.
pub fn with_frame_of_running<R>(cpu: &Cpu, task: u16, work: impl FnOnce(&mut TrapFrame) -> R) -> R {
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
