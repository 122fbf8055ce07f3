//! A process becomes two: fork(2), vfork(2), and clone(2) as the libraries use it for them.
//!
//! After fork, memory is copied when written to. After vfork the child uses its parent's memory itself,
//! until it ends or runs another program; the parent waits, so the memory has one user at any time and is
//! simply handed over.

use super::task::{Task, Wait};
use super::{NO_INDEX, NOBODY};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use abi::{Errno, MAX_TASKS};

/// How the child gets its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A copy, made page by page when written to.
    Copied,
    /// The parent's, while the parent waits.
    Lent,
}

/// What clone(2) adds to a fork.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// Stack pointer of the child, 0 for the parent's.
    pub stack: u64,
    /// Where the child's id is written in the parent.
    pub parent_tid: Option<u64>,
    /// Where the child's id is written in the child.
    pub child_tid: Option<u64>,
    /// Where 0 is written when the child ends.
    pub clear_child_tid: u64,
    /// FS base of the child.
    pub tls: Option<u64>,
}

/// Makes a child of the process whose task `task` runs here. Its id; the child's result is 0.
///
/// # Errors
/// EAGAIN when there are [`MAX_TASKS`] tasks, ENOMEM.
pub fn fork(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    task: u16,
    memory: Memory,
    extras: &Extras,
) -> Result<u32, Errno> {
    let slot = free_slot(kernel).ok_or(Errno::EAGAIN)?;
    let parent = kernel.tasks[usize::from(task)].process;
    let pid = kernel.new_pid();
    kernel.inherit_files(parent.into(), slot.into())?;
    let space = match memory {
        Memory::Copied => {
            match kernel.with_space(cpu, task, |space, memory, world| space.fork(memory, world)) {
                Ok(space) => Some(space),
                Err(error) => {
                    kernel.drop_files(cpu, slot.into());
                    return Err(error);
                }
            }
        }
        Memory::Lent => None,
    };
    kernel.inherit(parent, slot, pid);
    kernel.processes[usize::from(slot)].space = space;
    kernel.adopt(parent, slot);
    kernel.alive += 1;

    Context::of(task).save();
    Context::of(slot).copy_for_child(Context::of(task), extras.stack, extras.tls);
    let entry = &kernel.tasks[usize::from(task)];
    kernel.tasks[usize::from(slot)] = Task {
        process: slot,
        id: pid,
        affinity: entry.affinity,
        blocked: entry.blocked,
        alternate_stack: entry.alternate_stack,
        clear_child_tid: extras.clear_child_tid,
        last_cpu: entry.last_cpu,
        ..Task::FREE
    };
    // As on Linux, ids that can't be written are not an error.
    if let Some(at) = extras.parent_tid {
        let _ = write_id(kernel, cpu, parent, at, pid);
    }
    match memory {
        Memory::Copied => {
            if let Some(at) = extras.child_tid {
                let _ = write_id(kernel, cpu, slot, at, pid);
            }
        }
        Memory::Lent => {
            kernel.lend(parent, slot, cpu, task);
            if let Some(at) = extras.child_tid {
                let _ = write_id(kernel, cpu, slot, at, pid);
            }
        }
    }
    kernel.wake(cpu, slot);
    Ok(pid)
}

fn write_id(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, at: u64, id: u32) -> Result<(), Errno> {
    let process = &mut kernel.processes[usize::from(number)];
    let mut world = KernelWorld {
        cpu,
        who: process.requester(),
    };
    let space = process.space.as_mut().ok_or(Errno::EFAULT)?;
    space.write(&mut kernel.memory, &mut world, at, &id.to_le_bytes())
}

/// A number that neither a task nor a process has.
fn free_slot(kernel: &mut Kernel) -> Option<u16> {
    // Starting after the last one found: slots are given back in no order, but seldom all are in use.
    let start = kernel.last_slot;
    let slots = (start..MAX_TASKS as u16).chain(0..start);
    let slot = slots
        .into_iter()
        .find(|&slot| kernel.processes[usize::from(slot)].pid == 0)?;
    kernel.last_slot = slot + 1;
    Some(slot)
}

impl Kernel {
    /// Makes process `child`, a free slot, like `parent` in all that is inherited but memory.
    fn inherit(&mut self, parent: u16, child: u16, pid: u32) {
        let Ok([from, to]) = self
            .processes
            .get_disjoint_mut([usize::from(parent), usize::from(child)])
        else {
            unreachable!("process {child} is free, {parent} is not");
        };
        to.pid = pid;
        to.index = NO_INDEX;
        to.origin = from.origin;
        to.child = NOBODY;
        to.borrowed_from = NOBODY;
        to.ended = None;
        to.group = from.group;
        to.session = from.session;
        to.credentials = from.credentials;
        to.actions_set = from.actions_set;
        let mut set = from.actions_set;
        while set != 0 {
            let at = set.trailing_zeros() as usize;
            set &= set - 1;
            to.actions[at] = from.actions[at];
        }
        to.limits_set = from.limits_set;
        if from.limits_set != 0 {
            to.limits = from.limits;
        }
    }

    /// Gives the memory of `parent`, whose task `task` runs here, to `child`, and parks the parent.
    fn lend(&mut self, parent: u16, child: u16, cpu: &Cpu, task: u16) {
        self.leave(cpu);
        let space = self.processes[usize::from(parent)].space.take();
        let entry = &mut self.processes[usize::from(child)];
        entry.space = space;
        entry.borrowed_from = parent;
        Context::of(task).set_result(i64::from(entry.pid));
        self.park(cpu, task, Wait::Vfork, None);
    }

    /// Process `child` no longer needs memory it has borrowed, and uses it on no vCPU: it goes back, and the
    /// lender goes on. False if it has not borrowed any.
    pub fn give_back(&mut self, cpu: &Cpu, child: u16) -> bool {
        let entry = &mut self.processes[usize::from(child)];
        let lender = core::mem::replace(&mut entry.borrowed_from, NOBODY);
        if lender == NOBODY {
            return false;
        }
        let space = entry.space.take();
        self.processes[usize::from(lender)].space = space;
        self.wake(cpu, lender);
        true
    }
}
