//! One becomes two: a new process (fork(2), vfork(2), clone(2)) or a new thread of the same process (clone(2)).
//!
//! After fork, memory is copied when written to. With CLONE_VM both use the same; after vfork the thread that made the
//! child waits until that one has memory of its own or has ended.

use super::alarm::Countdown;
use super::signal::queue::Pending;
use super::signal::stack::SignalStack;
use super::signal::stop::News;
use super::task::{NONE, Task, Wait};
use super::{Fate, NO_INDEX, NOBODY, actions, limits};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use abi::Errno;
use abi::memory::USER_END;

/// How a child gets its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A copy, made page by page when written to.
    Copied,
    /// The same.
    Shared,
}

/// What a thread does after it has made a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// It goes on.
    GoesOn,
    /// It waits until the child no longer uses its memory.
    Waits,
}

/// Whose child it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Of the process that makes it.
    Maker,
    /// Of that one's parent (CLONE_PARENT).
    MakersParent,
}

/// What a new task does about what its maker has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptors {
    /// It has the same open, and goes on by itself.
    Copied,
    /// They open and close for each other.
    Shared,
}

/// What becomes of its parent's signal actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actions {
    /// It has the same.
    Copied,
    /// One sets them for both.
    Shared,
    /// It has none (CLONE_CLEAR_SIGHAND); what is ignored stays so.
    Cleared,
}

/// What kind of process to make.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// How it gets its memory.
    pub memory: Memory,
    /// Whose child it is.
    pub parent: Parent,
    /// Its signal actions.
    pub actions: Actions,
    /// The signal that says it has ended; only SIGCHLD is told from others, by those who wait. With
    /// [`Parent::MakersParent`] it is the maker's.
    pub exit_signal: u8,
}

/// What clone(2) can have different in a new process or thread.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    /// Its stack pointer, 0 for the maker's.
    pub stack: u64,
    /// Where its id is written in the maker's memory.
    pub parent_tid: Option<u64>,
    /// Where its id is written in its own memory.
    pub child_tid: Option<u64>,
    /// Where 0 is written when it ends.
    pub clear_child_tid: u64,
    /// Its FS base.
    pub tls: Option<u64>,
    /// What it has open.
    pub descriptors: Descriptors,
    /// What its maker does.
    pub maker: Maker,
}

/// Makes a child of the process whose task `task` runs here. Its id; the child's result is 0. With [`Maker::Waits`] the
/// task is parked, and has its result.
///
/// # Errors
/// EAGAIN when there are as many tasks or processes as there may be, EPERM for an FS base that is not the program's,
/// ENOMEM, what the broker says to an attach more.
pub fn process(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    task: u16,
    child: Child,
    extras: &Extras,
) -> Result<u32, Errno> {
    may_make(kernel, task, extras)?;
    let slot = kernel.task_slots.take().ok_or(Errno::EAGAIN)?;
    let Some(number) = kernel.process_slots.take() else {
        kernel.task_slots.give(slot);
        return Err(Errno::EAGAIN);
    };
    let maker = kernel.tasks[usize::from(task)].process;
    let descriptors = kernel.descriptors_for(task, extras.descriptors);
    let space = descriptors.and_then(|descriptors| {
        kernel.space_for(cpu, task, child.memory).inspect_err(|_| {
            kernel.drop_descriptors(cpu, descriptors);
        })
    });
    let (descriptors, space) = match (descriptors, space) {
        (Ok(descriptors), Ok(space)) => (descriptors, space),
        (_, Err(error)) | (Err(error), _) => {
            kernel.process_slots.give(number);
            kernel.task_slots.give(slot);
            return Err(error);
        }
    };
    let id = kernel.new_id();
    kernel.inherit(maker, number, id);
    kernel.inherit_files(maker.into(), number.into());
    kernel.processes[usize::from(maker)].exceeds = false;
    let new = &mut kernel.processes[usize::from(number)];
    new.exit_signal = child.exit_signal;
    let actions = new.actions;
    new.actions = match child.actions {
        Actions::Shared => {
            kernel.actions.share(actions);
            actions
        }
        Actions::Copied | Actions::Cleared => actions::copy(&mut kernel.actions, actions),
    };
    if child.actions == Actions::Cleared {
        kernel.actions_of(number).clear_handlers();
    }
    let mut parent = maker;
    if child.parent == Parent::MakersParent {
        let maker = &kernel.processes[usize::from(maker)];
        parent = maker.parent;
        kernel.processes[usize::from(number)].exit_signal = maker.exit_signal;
    }
    if parent != NOBODY {
        kernel.adopt(parent, number);
    }
    kernel.alive += 1;

    let signal_stack = match (child.memory, extras.maker) {
        // Two that run at once in the same memory can't share a stack (Linux, sas_ss_reset).
        (Memory::Shared, Maker::GoesOn) => SignalStack::GIVEN_UP,
        _ => kernel.tasks[usize::from(task)].signal_stack,
    };
    let new = Task {
        process: number,
        space,
        descriptors,
        id,
        signal_stack,
        ..Task::FREE
    };
    begin(kernel, cpu, task, slot, extras, new);
    Ok(id)
}

/// Makes a thread of the process whose task `task` runs here. Its id; the new one's result is 0. As for
/// [`process`], the task may be parked.
///
/// # Errors
/// EAGAIN when there are as many tasks as there may be, EPERM for an FS base that is not the program's, ENOMEM.
pub fn thread(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, extras: &Extras) -> Result<u32, Errno> {
    may_make(kernel, task, extras)?;
    let slot = kernel.task_slots.take().ok_or(Errno::EAGAIN)?;
    let descriptors = match kernel.descriptors_for(task, extras.descriptors) {
        Ok(descriptors) => descriptors,
        Err(error) => {
            kernel.task_slots.give(slot);
            return Err(error);
        }
    };
    let id = kernel.new_id();
    kernel.process(task).exceeds = false;
    let new = Task {
        process: kernel.tasks[usize::from(task)].process,
        space: kernel.share_space(task),
        descriptors,
        id,
        signal_stack: SignalStack::GIVEN_UP,
        ..Task::FREE
    };
    begin(kernel, cpu, task, slot, extras, new);
    Ok(id)
}

/// Whether task `task` may make another one.
///
/// # Errors
/// EAGAIN at its user's limit; EPERM for a wrong FS base; EINTR if it is itself about to end.
fn may_make(kernel: &mut Kernel, task: u16, extras: &Extras) -> Result<(), Errno> {
    let process = kernel.process(task);
    if !matches!(process.fate, Fate::None) {
        return Err(Errno::EINTR);
    }
    // Unless it has been set, the limit is as large as the tables. Root has none (kernel/fork.c, copy_process).
    let user = process.credentials.uid[0];
    if process.limits_set & 1 << limits::NPROC != 0 && user != 0 && !process.credentials.is_privileged() {
        let [most, _] = process.limit(limits::NPROC);
        if kernel.tasks_of(user) >= most {
            return Err(Errno::EAGAIN);
        }
    }
    if extras.tls.is_some_and(|tls| tls >= USER_END) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Lets `new`, made by the running task `task`, run in `slot`.
fn begin(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, slot: u16, extras: &Extras, new: Task) {
    Context::copy_of_running(slot, task, extras.stack, extras.tls);
    let maker = &kernel.tasks[usize::from(task)];
    let id = new.id;
    let new = Task {
        awaited_by: (extras.maker == Maker::Waits).then_some(task),
        affinity: maker.affinity,
        last_cpu: maker.last_cpu,
        blocked: maker.blocked,
        last_fault: maker.last_fault,
        name: maker.name,
        policy: maker.policy,
        priority: maker.priority,
        nice: maker.nice,
        no_new_privileges: maker.no_new_privileges,
        personality: maker.personality,
        slack: maker.slack,
        slack_at_first: maker.slack,
        clear_child_tid: extras.clear_child_tid,
        ..new
    };
    kernel.add_task(slot, new);
    // As on Linux, ids that can't be written are not an error.
    for (at, whose) in [(extras.parent_tid, task), (extras.child_tid, slot)] {
        if let Some(at) = at {
            let _ = kernel.with_space(cpu, whose, |space, memory, world| {
                space.write(memory, world, at, &id.to_le_bytes())
            });
        }
    }
    kernel.wake(cpu, slot);
    if extras.maker == Maker::Waits {
        Context::of(task).set_result(i64::from(id));
        kernel.park(cpu, task, Wait::Vfork(slot), None);
    }
}

impl Kernel {
    /// The descriptors of a task that `task` makes.
    fn descriptors_for(&mut self, task: u16, which: Descriptors) -> Result<u16, Errno> {
        let own = self.tasks[usize::from(task)].descriptors;
        match which {
            Descriptors::Copied => self.copy_descriptors(own),
            Descriptors::Shared => {
                self.descriptors.share(own);
                Ok(own)
            }
        }
    }

    /// The address space of a process that `task` makes.
    fn space_for(&mut self, cpu: &'static Cpu, task: u16, memory: Memory) -> Result<u16, Errno> {
        match memory {
            Memory::Copied => {
                let space = self.with_space(cpu, task, |space, memory, world| space.fork(memory, world))?;
                Ok(self.spaces.add(space))
            }
            Memory::Shared => Ok(self.share_space(task)),
        }
    }

    /// How many processes and threads user `user` has. One that has ended counts until it has been waited for.
    pub fn tasks_of(&self, user: u32) -> u64 {
        let processes = self.processes.iter();
        let theirs = processes.filter(|process| process.pid != 0 && process.credentials.uid[0] == user);
        theirs.map(|process| u64::from(process.threads.max(1))).sum()
    }

    /// The address space of task `task`, which one task more uses.
    fn share_space(&mut self, task: u16) -> u16 {
        let space = self.tasks[usize::from(task)].space;
        self.spaces.share(space);
        space
    }

    /// Makes process `child`, a free slot, like `parent` in all that is inherited. Of `parent`'s actions it has the number
    /// only.
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
        (to.parent, to.child, to.sibling) = (NOBODY, NOBODY, NOBODY);
        (to.youngest, to.threads) = (NONE, 0);
        to.fate = Fate::None;
        to.ended = None;
        to.group = from.group;
        to.session = from.session;
        to.credentials = from.credentials;
        to.pending = Pending::NONE;
        (to.stopped, to.news) = (false, News::None);
        (to.timers, to.next_timer_id) = (None, 0);
        to.countdowns = [Countdown::OFF; 2];
        (to.ran, to.children_ran) = (0, 0);
        to.wants_barriers = from.wants_barriers;
        to.subreaper = false;
        to.actions = from.actions;
        to.exceeds = from.exceeds;
        (to.oom_adjustment, to.oom_least) = (from.oom_adjustment, from.oom_least);
        to.limits_set = from.limits_set;
        if from.limits_set != 0 {
            to.limits = from.limits;
        }
    }
}
