//! Signals, as far as default actions go: handlers are recorded but not run.

use super::exit;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;

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
const SIGCHLD: u32 = 17;
const SIGCONT: u32 = 18;
/// Can't be blocked or ignored.
pub const SIGSTOP: u32 = 19;
const SIGTTOU: u32 = 22;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;
/// The last signal.
pub const LAST: u32 = 64;

const SIG_IGN: u64 = 1;

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

/// Sends `signal` to task `task`, which is running here.
pub fn send(kernel: &mut Kernel, task: u16, signal: u32) {
    kernel.tasks[usize::from(task)].pending |= 1 << (signal - 1);
}

/// Acts on the signals that have come for `task` and are not blocked.
pub fn deliver(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let entry = &mut kernel.tasks[usize::from(task)];
    let mut due = entry.pending & (!entry.blocked | 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1));
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
