//! Processes that stop and go on (job control without terminals): SIGSTOP and its kin, SIGCONT, and telling the parent.
//!
//! A stopped process has [`Process::stopped`] set. Each of its threads stops when it would next go to ring 3, parked in
//! [`Wait::Stopped`]; one that waits for something else goes on waiting, and stops when that has come. SIGCONT, sent,
//! not taken, lets them go on; SIGKILL ends them.

use super::info::{CLD_CONTINUED, CLD_STOPPED, Info};
use super::send::{self, Target};
use super::{SA_NOCLDSTOP, SIG_IGN, SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, STOPPING, bit};
use crate::arch::apic;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::process::start::INIT;
use crate::process::task::{NONE, State, Wait};
use crate::process::{NO_INDEX, NOBODY, Process};
use crate::time::{self, NS_PER_S};

/// What of a process's stopping and going on its parent has not been told by waiting (wait4(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum News {
    /// Nothing.
    #[default]
    None,
    /// It has stopped, by this signal.
    Stopped(u8),
    /// It goes on.
    Continued,
}

impl News {
    /// As wait4(2) tells it.
    pub fn status(self) -> Option<u32> {
        match self {
            News::None => None,
            News::Stopped(signal) => Some(u32::from(signal) << 8 | 0x7f),
            News::Continued => Some(0xffff),
        }
    }
}

/// `signal` is being sent to process `number`: what stops takes back what continues, and the other way round, also where
/// they are blocked, caught or ignored (kernel/signal.c, prepare_signal).
pub fn sent(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, signal: u32) {
    if bit(signal) & STOPPING != 0 {
        send::discard(kernel, number, bit(SIGCONT));
    } else if signal == SIGCONT {
        send::discard(kernel, number, STOPPING);
        go_on(kernel, cpu, number);
    } else if signal == SIGKILL {
        kernel.processes[usize::from(number)].stopped = false;
    }
}

/// Lets process `number` go on, if it is stopped.
fn go_on(kernel: &mut Kernel, cpu: &'static Cpu, number: u16) {
    let process = &mut kernel.processes[usize::from(number)];
    if !core::mem::take(&mut process.stopped) {
        return;
    }
    process.news = News::Continued;
    let mut next = process.youngest;
    while next != NONE {
        let task = next;
        let entry = &kernel.tasks[usize::from(task)];
        next = entry.older;
        if entry.state == State::Parked(Wait::Stopped) {
            kernel.wake(cpu, task);
        }
    }
    tell_parent(kernel, cpu, number, CLD_CONTINUED, SIGCONT);
}

/// The running task `task` has taken `signal`, which stops its process.
pub fn stop(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    let number = kernel.tasks[usize::from(task)].process;
    if signal != SIGSTOP && is_orphaned(kernel, number) {
        return;
    }
    let process = &mut kernel.processes[usize::from(number)];
    process.stopped = true;
    process.news = News::Stopped(signal as u8);
    let mut next = process.youngest;
    while next != NONE {
        let entry = &mut kernel.tasks[usize::from(next)];
        entry.attention = true;
        if next != task && entry.state == State::Running {
            apic::send_reschedule(entry.last_cpu.into());
        }
        next = entry.older;
    }
    tell_parent(kernel, cpu, number, CLD_STOPPED, signal);
}

/// Whether nobody in the session of process `number` could let its group go on: then what a terminal stops goes on by
/// itself (setpgid(2)). Whoever starts the VMM's own processes is outside, and counts as somebody who could.
fn is_orphaned(kernel: &Kernel, number: u16) -> bool {
    let Process { group, session, .. } = kernel.processes[usize::from(number)];
    let could = |process: &Process| match process.parent {
        NOBODY => process.index != NO_INDEX && process.group == INIT,
        parent => {
            let parent = &kernel.processes[usize::from(parent)];
            parent.session == session && parent.group != group
        }
    };
    let members = kernel
        .processes
        .iter()
        .filter(|process| process.lives() && process.group == group);
    !members.into_iter().any(could)
}

/// Tells the parent of process `number`, by SIGCHLD and if it waits (kernel/signal.c, do_notify_parent_cldstop).
fn tell_parent(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, code: i32, status: u32) {
    let process = &kernel.processes[usize::from(number)];
    let parent = process.parent;
    if parent == NOBODY {
        return;
    }
    let info = process.told(SIGCHLD, code, status);
    kernel.wake_waiting_parent(cpu, parent);
    let [handler, flags, ..] = kernel.actions_of(parent).get(SIGCHLD);
    if handler != SIG_IGN && flags & SA_NOCLDSTOP == 0 {
        // It is no real-time signal.
        let _ = send::send(kernel, cpu, Target::Process(parent), &info);
    }
}

impl Process {
    /// What its parent is told of it with `signal`.
    pub fn told(&self, signal: u32, code: i32, status: u32) -> Info {
        let ran = time::nanoseconds(self.ran) / (NS_PER_S / 100);
        Info::child(signal, code, self.pid, self.credentials.uid[0], status, ran)
    }
}
