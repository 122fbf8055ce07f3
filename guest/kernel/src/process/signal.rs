//! Signals, as far as default actions go: handlers are recorded but not run.

pub mod info;
pub mod queue;
pub mod stack;

use super::exit;
use super::task::{State, Wait};
use crate::arch::apic;
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use abi::Errno;

/// Illegal instruction.
pub const SIGILL: u32 = 4;
/// Breakpoint or single step.
pub const SIGTRAP: u32 = 5;
/// Bad memory access by alignment or hardware.
pub const SIGBUS: u32 = 7;
/// Arithmetic fault.
pub const SIGFPE: u32 = 8;
/// Can't be blocked or ignored.
pub const SIGKILL: u32 = 9;
/// Bad memory access.
pub const SIGSEGV: u32 = 11;
/// A write that nobody will read.
pub const SIGPIPE: u32 = 13;
/// A child has ended.
pub const SIGCHLD: u32 = 17;
const SIGCONT: u32 = 18;
/// Can't be blocked or ignored.
pub const SIGSTOP: u32 = 19;
const SIGTTOU: u32 = 22;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;
/// Bad system call.
const SIGSYS: u32 = 31;
/// The first real-time signal, for the kernel (the C libraries keep two or three for themselves).
pub const REAL_TIME: u32 = 32;
/// The last signal.
pub const LAST: u32 = 64;

/// Signals that instructions bring about (`SYNCHRONOUS_MASK` in Linux).
pub const SYNCHRONOUS: u64 =
    bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS);

/// `signal` in a set: bit = number - 1.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// The handler that means "ignored".
pub const SIG_IGN: u64 = 1;

/// Signals that can't be blocked, bit = number - 1.
pub const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);

/// The signal that exception `vector` means (Linux, arch/x86/kernel/traps.c's table in the manual's words).
pub fn of_exception(vector: u64) -> u32 {
    match vector {
        0 | 16 | 19 => SIGFPE,
        1 | 3 => SIGTRAP,
        6 => SIGILL,
        11 | 12 | 17 => SIGBUS,
        _ => SIGSEGV,
    }
}

/// Does the default action of `signal` end a process? (signal(7); there is no job control, so what would
/// stop a process does nothing.)
fn ends(signal: u32) -> bool {
    !matches!(signal, SIGCHLD | SIGCONT | SIGSTOP..=SIGTTOU | SIGURG | SIGWINCH)
}

/// Whether `signal` would end task `task` if it acted now.
fn is_fatal(kernel: &mut Kernel, task: u16, signal: u32) -> bool {
    let blocked = kernel.tasks[usize::from(task)].blocked & !UNBLOCKABLE & 1 << (signal - 1) != 0;
    let [handler, ..] = kernel.process(task).action(signal);
    !blocked && handler != SIG_IGN && ends(signal)
}

/// Sends `signal` to task `task`. If that ends it, it does so at its next step: at once if it runs here, when
/// it has been interrupted or woken otherwise.
pub fn send(kernel: &mut Kernel, cpu: &Cpu, task: u16, signal: u32) {
    kernel.tasks[usize::from(task)].pending |= 1 << (signal - 1);
    if !is_fatal(kernel, task, signal) {
        return;
    }
    match kernel.tasks[usize::from(task)].state {
        State::Running if cpu.current_task() != Some(task) => {
            apic::send_reschedule(kernel.tasks[usize::from(task)].last_cpu.into());
        }
        // It has lent its memory and can't run; the signal waits for the memory's return.
        State::Parked(Wait::Vfork) => {}
        State::Parked(wait) => {
            if let Wait::Futex { key, .. } = wait {
                kernel.futexes.remove(kernel.tasks, key, task);
            }
            Context::of(task).set_result(Errno::EINTR.to_result());
            kernel.wake(cpu, task);
        }
        State::Running | State::Ready | State::Free => {}
    }
}

/// Acts on the signals that have come for `task` and are not blocked.
pub fn deliver(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let entry = &mut kernel.tasks[usize::from(task)];
    let mut due = entry.pending & (!entry.blocked | UNBLOCKABLE);
    entry.pending &= !due;
    while due != 0 {
        let signal = due.trailing_zeros() + 1;
        due &= due - 1;
        let [handler, ..] = kernel.process(task).action(signal);
        if handler != SIG_IGN && ends(signal) {
            return exit::by_signal(kernel, cpu, task, signal);
        }
    }
}
