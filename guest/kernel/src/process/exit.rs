//! The end of a thread; with the last one that of its process; with the last process the guest's.
//!
//! A thread that ends by itself (exit(2)) runs here, and goes at once. When its process ends (exit_group(2), a signal)
//! or runs another program (execve(2)), the other threads have to go, too: those that wait or are ready go at once, in
//! the name of the one that says so, which has their memory loaded. One that runs on another vCPU is interrupted, and
//! goes when it comes into the kernel ([`super::signal::deliver`]). What becomes of the process then is its [`Fate`].

use super::signal::send;
use super::signal::stop::News;
use super::task::{NONE, State, Task};
use super::{Fate, NO_INDEX, exec};
use crate::arch::apic;
use crate::arch::cpu::Cpu;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use crate::{robust, shm};
use abi::hypercall::{Call, EXIT_DONE};

/// Ends the process of the running task `task`, with `status` as waitpid gives it. If it has been said before what
/// becomes of it, only the task ends.
pub fn group(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) {
    let process = kernel.process(task);
    if let Fate::None = process.fate {
        process.fate = Fate::Ends(status);
        end_others(kernel, cpu, task);
    }
    go(kernel, cpu, task, status);
}

/// Ends all threads of the process of the running task `task` but itself. Those that run on other vCPUs are still there
/// when this returns, but not for long.
pub fn end_others(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let number = kernel.tasks[usize::from(task)].process;
    if kernel.processes[usize::from(number)].threads == 1 {
        return;
    }
    for_each_other(kernel, number, task, |kernel, other| {
        let entry = &mut kernel.tasks[usize::from(other)];
        if entry.state == State::Running {
            entry.attention = true;
            apic::send_reschedule(entry.last_cpu.into());
        } else {
            kernel.leave_wait(cpu, other);
            let_go_of_memory(kernel, cpu, other, 1);
        }
    });
    // Only now: some have just been woken by others, for whose end they waited.
    kernel.sched.remove_process(kernel.tasks, number);
    for_each_other(kernel, number, task, |kernel, other| {
        if kernel.tasks[usize::from(other)].state != State::Running {
            retire(kernel, cpu, other, 0);
        }
    });
}

/// Does `work` with each task of process `number` but `task`; it may end that one.
fn for_each_other(kernel: &mut Kernel, number: u16, task: u16, mut work: impl FnMut(&mut Kernel, u16)) {
    let mut next = kernel.processes[usize::from(number)].youngest;
    while next != NONE {
        let other = next;
        next = kernel.tasks[usize::from(other)].older;
        if other != task {
            work(kernel, other);
        }
    }
}

/// Ends the running task `task`, which may have begun to wait, alone. With `status` its process ends if it is the last
/// and nobody has said another one for all of them (kernel/exit.c, synchronize_group_exit).
pub fn go(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) {
    debug_assert!(
        cpu.current_task() == Some(task),
        "a task ends itself on the vCPU it runs on"
    );
    kernel.leave_wait(cpu, task);
    let_go_of_memory(kernel, cpu, task, 1);
    kernel.abandon(cpu);
    let number = kernel.tasks[usize::from(task)].process;
    retire(kernel, cpu, task, status);
    let process = &kernel.processes[usize::from(number)];
    if process.threads == 1 && matches!(process.fate, Fate::Runs(_)) {
        exec::commit(kernel, cpu, number);
    }
}

/// Task `task` will not touch its memory again, which is loaded here: says so to those who wait for that (`mm_release`
/// in Linux). `going` of the tasks that use that memory, itself included, will not see it.
pub fn let_go_of_memory(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, going: u16) {
    let entry = &mut kernel.tasks[usize::from(task)];
    let space = entry.space;
    let clear = core::mem::take(&mut entry.clear_child_tid);
    robust::walk(kernel, cpu, task);
    if clear != 0 && kernel.spaces.users(space) > going {
        clear_and_wake(kernel, cpu, task, clear);
    }
    if let Some(waiter) = kernel.tasks[usize::from(task)].awaited_by.take() {
        kernel.wake(cpu, waiter);
    }
}

/// The word at `address` becomes 0, and one that waits for that is woken (`CLONE_CHILD_CLEARTID` in clone(2): as
/// FUTEX_WAKE without the private flag).
fn clear_and_wake(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, address: u64) {
    let written = kernel.with_space(cpu, task, |space, memory, world| {
        space.write(memory, world, address, &0u32.to_le_bytes())
    });
    if written.is_ok() {
        kernel.wake_word(cpu, task, address);
    }
}

/// Frees task `task`, which is on no vCPU and in no list; with the last one its process ends.
fn retire(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) {
    if kernel.ends_with(task) {
        end_guest(kernel, cpu, task, status);
    }
    let Task {
        process: number,
        space,
        descriptors,
        ran,
        id,
        made_segments,
        ..
    } = kernel.tasks[usize::from(task)];
    let process = &mut kernel.processes[usize::from(number)];
    process.ran += ran;
    let who = process.requester();
    kernel.drop_space(cpu, who, space);
    // Before its parent can look, and after its attaches have ended (do_exit in Linux).
    if made_segments {
        shm::maker_ended(id);
    }
    kernel.drop_descriptors(cpu, descriptors);
    kernel.remove_task(task);
    let left = &kernel.processes[usize::from(number)];
    match (left.threads, left.fate) {
        (0, Fate::Ends(status)) => end_process(kernel, cpu, number, status),
        (0, _) => end_process(kernel, cpu, number, status),
        // A signal to the process may have been about to be taken by this thread.
        _ if left.pending.set() != 0 => send::find_taker(kernel, cpu, number, u64::MAX),
        _ => {}
    }
}

/// The end of the last task, and so of the guest: others are told what they can see of it, that is that its attaches
/// have ended. The host frees the rest, with the guest's memory and all that it holds at the broker's.
fn end_guest(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) -> ! {
    let entry = &kernel.tasks[usize::from(task)];
    let process = &kernel.processes[usize::from(entry.process)];
    let (who, index, fate) = (process.requester(), process.index, process.fate);
    let (space, id, made_segments) = (entry.space, entry.id, entry.made_segments);
    if let Some(space) = kernel.spaces.release(space) {
        space.end_attaches(&kernel.memory, &mut KernelWorld { cpu, who });
    }
    if made_segments {
        shm::maker_ended(id);
    }
    let status = match fate {
        Fate::Ends(status) => status,
        _ => status,
    };
    tell_end(who, index, status);
    hypercall::exit(EXIT_DONE)
}

/// Tells the host that a process it started has ended.
fn tell_end(who: Requester, index: u32, status: u32) {
    if index != NO_INDEX {
        // The host can't refuse an index it gave itself.
        let _ = hypercall::call(Call::ProcessExit, who, &[u64::from(index), u64::from(status)]);
    }
}

/// Takes process `number` away, which has no thread any more.
pub fn end_process(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, status: u32) {
    let process = &kernel.processes[usize::from(number)];
    let (who, index) = (process.requester(), process.index);
    kernel.drop_files(number.into());
    kernel.end_timers(number);
    let process = &mut kernel.processes[usize::from(number)];
    kernel.signals.discard(&mut process.pending, u64::MAX);
    (process.stopped, process.news) = (false, News::None);
    // There is nothing to end: nobody's actions stay as they are.
    let _ = kernel.actions.release(process.actions);
    kernel.orphan_children(cpu, number);
    kernel.alive -= 1;
    tell_end(who, index, status);
    kernel.bury(cpu, number, status);
    if kernel.alive == 0 {
        kernel.report_end();
        hypercall::exit(EXIT_DONE);
    }
}

impl Kernel {
    /// One task less, of the process `who`, uses address space `space`. No vCPU has it loaded for that task. The last
    /// one ends it.
    pub fn drop_space(&mut self, cpu: &'static Cpu, who: Requester, space: u16) {
        if let Some(mut space) = self.spaces.release(space) {
            space.destroy(&mut self.memory, &mut KernelWorld { cpu, who });
            self.sweep_files();
        }
    }
}
