//! Sending signals: where they wait, who is to take them, whose wait they end.

use super::info::{Info, SI_USER};
use super::queue::Claim;
use super::{Disposition, REAL_TIME, SIGCONT, SIGKILL, SIGSEGV, UNBLOCKABLE, bit, dumps_core, stop};
use crate::arch::apic;
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::process::task::{NONE, State, Task, Wait, threads_of};
use crate::process::{Fate, Process, limits};
use abi::Errno;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This task.
    Task(u16),
    /// Any task of this process that does not block it, the first one if it can.
    Process(u16),
}

impl Process {
    /// May it send `signal` to `target`, another one? (kill(2): the sender's real or effective user id is the target's real
    /// or saved one. SIGCONT may be sent to everyone in one's session.)
    pub fn may_send(&self, target: &Process, signal: u32) -> bool {
        let [real, _, saved] = target.credentials.uid;
        let own = &self.credentials.uid[..2];
        self.credentials.is_privileged()
            || own.iter().any(|&id| id == real || id == saved)
            || signal == SIGCONT && target.session == self.session
    }
}

/// Sends what `info` says. What is ignored is dropped at once, unless it is blocked: then the process may still think
/// better of it.
///
/// # Errors
/// EAGAIN: it can't be sent without what comes with it, and there is no room for that.
pub fn send(kernel: &mut Kernel, cpu: &'static Cpu, target: Target, info: &Info) -> Result<(), Errno> {
    send_for(kernel, cpu, target, info, None).map(|_| ())
}

/// As [`send`], for timer number `timer`. Returns whether there is one more signal now.
///
/// # Errors
/// As [`send`].
pub fn send_for(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    target: Target,
    info: &Info,
    timer: Option<u16>,
) -> Result<bool, Errno> {
    let signal = info.signal;
    let (number, first) = match target {
        Target::Task(task) => (kernel.tasks[usize::from(task)].process, Some(task)),
        Target::Process(number) => (number, threads_of(kernel.tasks, kernel.processes, number).last()),
    };
    let Some(first) = first else {
        return Ok(false);
    };
    stop::sent(kernel, cpu, number, signal);
    let ignored = kernel.disposition(number, signal) == Disposition::Ignored;
    if ignored && !blocks(&kernel.tasks[usize::from(first)], signal) {
        return Ok(false);
    }
    let process = &kernel.processes[usize::from(number)];
    let claim = if signal >= REAL_TIME && info.code != SI_USER && timer.is_none() {
        Claim::Whole
    } else {
        Claim::None
    };
    let uid = process.credentials.uid[0];
    let [limit, _] = process.limit(limits::SIGPENDING);
    let pending = match target {
        Target::Task(task) => &mut kernel.tasks[usize::from(task)].pending,
        Target::Process(number) => &mut kernel.processes[usize::from(number)].pending,
    };
    let added = kernel
        .signals
        .add(pending, info, uid, limit, claim, timer)
        .map_err(|_| Errno::EAGAIN)?;
    if added && kernel.files.signal_readers > 0 {
        kernel.wake_pollers(cpu);
    }
    if added {
        let taker = match target {
            Target::Task(task) => takes(&kernel.tasks[usize::from(task)], signal).then_some(task),
            Target::Process(number) => taker(kernel, number, signal),
        };
        if let Some(task) = taker {
            look(kernel, cpu, task, signal);
        }
    }
    Ok(added)
}

/// Whether `task` has said that `signal` is to wait: it is blocked, or waited for by sigtimedwait(2).
fn blocks(task: &Task, signal: u32) -> bool {
    task.blocked & bit(signal) != 0 || waits_for(task, signal)
}

fn waits_for(task: &Task, signal: u32) -> bool {
    matches!(task.state, State::Parked(Wait::Signal(set)) if set & bit(signal) != 0)
}

/// Whether `task` can take `signal`.
fn takes(task: &Task, signal: u32) -> bool {
    task.blocked & bit(signal) & !UNBLOCKABLE == 0 || waits_for(task, signal)
}

/// Finds somebody to take those of `signals` that are pending for process `number`: who was to take them has gone, or
/// blocks them now.
pub fn find_taker(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, signals: u64) {
    let mut pending = kernel.processes[usize::from(number)].pending.set() & signals;
    while pending != 0 {
        let signal = pending.trailing_zeros() + 1;
        pending &= pending - 1;
        if let Some(task) = taker(kernel, number, signal) {
            look(kernel, cpu, task, signal);
        }
    }
}

/// Who of process `number` is to take `signal`: its oldest thread that does not block it, if possible one that does not
/// wait for a vfork child, for that one can't be disturbed by every signal.
fn taker(kernel: &Kernel, number: u16, signal: u32) -> Option<u16> {
    let only = match kernel.processes[usize::from(number)].fate {
        Fate::Runs(program) => Some(program.task),
        Fate::None | Fate::Ends(_) => None,
    };
    let can = |task: &u16| {
        only.is_none_or(|only| only == *task) && takes(&kernel.tasks[usize::from(*task)], signal)
    };
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

/// Has task `task`, which can take `signal`, look at it: at once if it runs here, else when it has been interrupted or
/// woken.
fn look(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    let number = kernel.tasks[usize::from(task)].process;
    let ends = kernel.disposition(number, signal) == Disposition::Ends;
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.attention = true;
    match entry.state {
        State::Running if cpu.current_task() != Some(task) => apic::send_reschedule(entry.last_cpu.into()),
        State::Parked(Wait::Stopped) if signal != SIGKILL => {}
        // Only the end of all threads is worth it, which signals that dump core don't bring about at once.
        State::Parked(Wait::Vfork(_) | Wait::Exec | Wait::Object) if !ends || dumps_core(signal) => {}
        State::Parked(wait) => kernel.interrupt(cpu, task, wait),
        State::Running | State::Ready | State::Free => {}
    }
}

impl Kernel {
    /// Ends the wait of task `task`, which is parked in `wait`, without a result: what becomes of its call is decided
    /// when it has looked at its signals.
    fn interrupt(&mut self, cpu: &'static Cpu, task: u16, wait: Wait) {
        if self.leave_wait(cpu, task) {
            Context::of(task).set_result(0);
        } else {
            let entry = &mut self.tasks[usize::from(task)];
            match wait {
                // Nothing but the signal has happened.
                Wait::Sleep | Wait::Futex { .. } | Wait::SharedFutex | Wait::Pause => {
                    entry.interrupted = true
                }
                // What it waits for may be there.
                Wait::Input | Wait::Pipe(_) | Wait::Poll | Wait::Child | Wait::Signal(_) => {
                    entry.retry = true;
                }
                // It ends, or has waited for nothing but to go on.
                Wait::Vfork(_) | Wait::Exec | Wait::Object | Wait::Stopped => {}
            }
        }
        self.wake(cpu, task);
    }
}

/// Task `task` blocks other signals than before, which were `before`: looks at those that have come, and leaves to others
/// what it can no longer take.
pub fn mask_changed(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, before: u64) {
    let entry = &mut kernel.tasks[usize::from(task)];
    let (number, blocked) = (entry.process, entry.blocked);
    let for_all = kernel.processes[usize::from(number)].pending.set();
    entry.attention |= (entry.pending.set() | for_all) & !blocked != 0;
    let newly = blocked & !before;
    if for_all & newly != 0 {
        find_taker(kernel, cpu, number, newly);
    }
}

/// The running task `task` has brought about what `info` says: it is acted on before the task goes on. Where that can't
/// be, because the signal is blocked or ignored, the process ends.
pub fn force(kernel: &mut Kernel, task: u16, info: &Info) {
    let signal = info.signal;
    let entry = &kernel.tasks[usize::from(task)];
    let blocked = entry.blocked & bit(signal) != 0;
    if blocked || kernel.disposition(entry.process, signal) == Disposition::Ignored {
        end_by_default(kernel, task, signal);
    }
    let Kernel {
        signals,
        tasks,
        processes,
        ..
    } = kernel;
    let entry = &mut tasks[usize::from(task)];
    let uid = processes[usize::from(entry.process)].credentials.uid[0];
    // There is room for it.
    let _ = signals.add(&mut entry.pending, info, uid, 0, Claim::Reserved, None);
    entry.attention = true;
}

/// `signal` gets its default action, and is not blocked.
fn end_by_default(kernel: &mut Kernel, task: u16, signal: u32) {
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.blocked &= !bit(signal);
    let number = entry.process;
    kernel.actions_of(number).reset(signal);
}

/// The handler of `signal` can't be called: that is a fault too, and if it was that of SIGSEGV there is no way on.
pub fn force_fault(kernel: &mut Kernel, task: u16, signal: u32) {
    if signal == SIGSEGV {
        end_by_default(kernel, task, SIGSEGV);
    }
    force(kernel, task, &Info::kernel(SIGSEGV));
}

/// Forgets those of `signals` that are pending for process `number` or one of its threads.
pub fn discard(kernel: &mut Kernel, number: u16, signals: u64) {
    let Kernel {
        signals: queue,
        tasks,
        processes,
        ..
    } = kernel;
    queue.discard(&mut processes[usize::from(number)].pending, signals);
    let mut next = processes[usize::from(number)].youngest;
    while next != NONE {
        let entry = &mut tasks[usize::from(next)];
        queue.discard(&mut entry.pending, signals);
        next = entry.older;
    }
}
