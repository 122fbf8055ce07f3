//! Signals, as far as default actions go: handlers are recorded but not run.
//!
//! A signal is sent to a thread or to a process, and waits there until it is acted on: at once if it ends the process,
//! else when a thread that does not block it comes by. Whoever sends one has such a thread look ([`attend`]).

use super::task::{State, Wait, threads_of};
use super::{Fate, exit};
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
/// The last signal.
pub const LAST: u32 = 64;

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

/// Whether it also writes a core file, elsewhere. Those that don't end all threads the moment they are sent.
fn dumps_core(signal: u32) -> bool {
    const SIGQUIT: u32 = 3;
    const SIGABRT: u32 = 6;
    const SIGXCPU: u32 = 24;
    const SIGXFSZ: u32 = 25;
    const SIGSYS: u32 = 31;
    matches!(
        signal,
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS
    )
}

/// The set of `signal` alone.
fn set_of(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// The signals of `set` that task `task` does not block.
fn unblocked(kernel: &Kernel, task: u16, set: u64) -> u64 {
    set & (!kernel.tasks[usize::from(task)].blocked | UNBLOCKABLE)
}

/// Whether `signal` ends processes like that of task `task`, if it acts.
fn is_fatal(kernel: &mut Kernel, task: u16, signal: u32) -> bool {
    let [handler, ..] = kernel.process(task).action(signal);
    handler != SIG_IGN && ends(signal)
}

/// Sends `signal` to task `task`. If that ends it, it does so at its next step: at once if it runs here, when it has
/// been interrupted or woken otherwise.
pub fn send(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    kernel.tasks[usize::from(task)].pending |= set_of(signal);
    if unblocked(kernel, task, set_of(signal)) != 0 {
        take(kernel, cpu, task, signal);
    }
}

/// Sends `signal` to process `number`: any of its threads that does not block it takes it, the first one if it can.
pub fn send_to_process(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, signal: u32) {
    kernel.processes[usize::from(number)].pending |= set_of(signal);
    if let Some(task) = taker(kernel, number, signal) {
        take(kernel, cpu, task, signal);
    }
}

/// Finds somebody to take what is pending for process `number`: who was to take it has gone, or blocks it now.
pub fn find_taker(kernel: &mut Kernel, cpu: &'static Cpu, number: u16) {
    let mut pending = kernel.processes[usize::from(number)].pending;
    while pending != 0 {
        let signal = pending.trailing_zeros() + 1;
        pending &= pending - 1;
        if let Some(task) = taker(kernel, number, signal) {
            take(kernel, cpu, task, signal);
        }
    }
}

/// Who of process `number` can take `signal`: its oldest thread that does not block it, if possible one that does not
/// wait for a vfork child, for that one can't be disturbed by every signal.
fn taker(kernel: &Kernel, number: u16, signal: u32) -> Option<u16> {
    let only = match kernel.processes[usize::from(number)].fate {
        Fate::Runs(program) => Some(program.task),
        Fate::None | Fate::Ends(_) => None,
    };
    let can =
        |task: &u16| only.is_none_or(|only| only == *task) && unblocked(kernel, *task, set_of(signal)) != 0;
    let waits = |task: u16| {
        matches!(
            kernel.tasks[usize::from(task)].state,
            State::Parked(Wait::Vfork(_))
        )
    };
    threads_of(kernel.tasks, kernel.processes, number)
        .filter(can)
        .reduce(|best, task| if waits(task) && !waits(best) { best } else { task })
}

/// Has task `task` look at `signal`, which it does not block.
fn take(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    kernel.tasks[usize::from(task)].attention = true;
    if !is_fatal(kernel, task, signal) {
        return;
    }
    match kernel.tasks[usize::from(task)].state {
        State::Running if cpu.current_task() != Some(task) => {
            apic::send_reschedule(kernel.tasks[usize::from(task)].last_cpu.into());
        }
        State::Parked(Wait::Vfork(_)) if dumps_core(signal) => {}
        State::Parked(_) => {
            let result = if kernel.leave_wait(cpu, task) {
                0
            } else {
                Errno::EINTR.to_result()
            };
            Context::of(task).set_result(result);
            kernel.wake(cpu, task);
        }
        State::Running | State::Ready | State::Free => {}
    }
}

/// Task `task` blocks other signals than before: looks at those that have come.
pub fn mask_changed(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let number = kernel.tasks[usize::from(task)].process;
    let for_all = kernel.processes[usize::from(number)].pending;
    let pending = kernel.tasks[usize::from(task)].pending | for_all;
    kernel.tasks[usize::from(task)].attention |= unblocked(kernel, task, pending) != 0;
    if for_all != 0 {
        find_taker(kernel, cpu, number);
    }
}

/// Does what the running task `task` has been asked to look at: ends if its process does, acts on signals that have come
/// and are not blocked, goes elsewhere if it may no longer run here.
pub fn attend(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let number = usize::from(kernel.tasks[usize::from(task)].process);
    match kernel.processes[number].fate {
        Fate::Ends(status) => return exit::go(kernel, cpu, task, status),
        Fate::Runs(program) if program.task != task => return exit::go(kernel, cpu, task, 0),
        Fate::None | Fate::Runs(_) => {}
    }
    let pending = kernel.tasks[usize::from(task)].pending | kernel.processes[number].pending;
    let mut due = unblocked(kernel, task, pending);
    let state = kernel.tasks[usize::from(task)].state;
    while due != 0 {
        let signal = due.trailing_zeros() + 1;
        due &= due - 1;
        let fatal = is_fatal(kernel, task, signal);
        if fatal && matches!(state, State::Parked(Wait::Vfork(_))) && dumps_core(signal) {
            // Looks again when its child lets it go on.
            return;
        }
        kernel.tasks[usize::from(task)].pending &= !set_of(signal);
        kernel.processes[number].pending &= !set_of(signal);
        if fatal {
            kernel.leave_wait(cpu, task);
            return exit::group(kernel, cpu, task, signal);
        }
    }
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.attention = false;
    if state == State::Running && entry.affinity & cpu.bit() == 0 {
        kernel.give_away(cpu, task);
    }
}
