//! One becomes two: a new process (fork(2), vfork(2), clone(2)) or a new thread of the same process (clone(2)).
//!
//! After fork, memory is copied when written to. With CLONE_VM both use the same; after vfork the thread that made the
//! child waits until that one has memory of its own or has ended.

use super::task::{NONE, Task, Wait};
use super::{Fate, NO_INDEX, NOBODY, Process};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use abi::Errno;
use abi::memory::USER_END;

/// The limit of processes and threads of a user (getrlimit(2)).
const RLIMIT_NPROC: usize = 6;

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

/// What becomes of its parent's signal handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handlers {
    /// It has the same.
    Copied,
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
    /// Its signal handlers.
    pub handlers: Handlers,
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
    if let Err(error) = kernel.inherit_files(maker.into(), number.into()) {
        kernel.process_slots.give(number);
        kernel.task_slots.give(slot);
        return Err(error);
    }
    let space = match child.memory {
        Memory::Copied => {
            match kernel.with_space(cpu, task, |space, memory, world| space.fork(memory, world)) {
                Ok(space) => kernel.spaces.add(space),
                Err(error) => {
                    kernel.drop_files(cpu, number.into());
                    kernel.process_slots.give(number);
                    kernel.task_slots.give(slot);
                    return Err(error);
                }
            }
        }
        Memory::Shared => kernel.share_space(task),
    };
    let id = kernel.new_id();
    kernel.inherit(maker, number, id);
    let new = &mut kernel.processes[usize::from(number)];
    new.exit_signal = child.exit_signal;
    if child.handlers == Handlers::Cleared {
        new.clear_handlers();
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

    let alternate_stack = match (child.memory, extras.maker) {
        // Two that run at once in the same memory can't share a stack (Linux, sas_ss_reset).
        (Memory::Shared, Maker::GoesOn) => [0; 3],
        _ => kernel.tasks[usize::from(task)].alternate_stack,
    };
    let new = Task {
        process: number,
        space,
        id,
        alternate_stack,
        ..Task::FREE
    };
    begin(kernel, cpu, task, slot, extras, new);
    Ok(id)
}

/// Makes a thread of the process whose task `task` runs here. Its id; the new one's result is 0. As for
/// [`process`], the task may be parked.
///
/// # Errors
/// EAGAIN when there are as many tasks as there may be, EPERM for an FS base that is not the program's.
pub fn thread(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, extras: &Extras) -> Result<u32, Errno> {
    may_make(kernel, task, extras)?;
    let slot = kernel.task_slots.take().ok_or(Errno::EAGAIN)?;
    let id = kernel.new_id();
    let new = Task {
        process: kernel.tasks[usize::from(task)].process,
        space: kernel.share_space(task),
        id,
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
    if process.limits_set & 1 << RLIMIT_NPROC != 0 && user != 0 && !process.credentials.is_privileged() {
        let [most, _] = process.limit(RLIMIT_NPROC);
        let processes = &kernel.processes;
        let of_user = |process: &Process| process.pid != 0 && process.credentials.uid[0] == user;
        // One that has ended counts until it has been waited for.
        let count = |process: &Process| u64::from(process.threads.max(1));
        let there: u64 = processes
            .iter()
            .filter(|process| of_user(process))
            .map(count)
            .sum();
        if there >= most {
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
    Context::of(slot).copy_of_running(Context::of(task), extras.stack, extras.tls);
    let maker = &kernel.tasks[usize::from(task)];
    let id = new.id;
    let new = Task {
        awaited_by: (extras.maker == Maker::Waits).then_some(task),
        affinity: maker.affinity,
        last_cpu: maker.last_cpu,
        blocked: maker.blocked,
        name: maker.name,
        policy: maker.policy,
        priority: maker.priority,
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
    /// The address space of task `task`, which one task more uses.
    fn share_space(&mut self, task: u16) -> u16 {
        let space = self.tasks[usize::from(task)].space;
        self.spaces.share(space);
        space
    }

    /// Makes process `child`, a free slot, like `parent` in all that is inherited.
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
        to.pending = 0;
        (to.ran, to.children_ran) = (0, 0);
        to.wants_barriers = from.wants_barriers;
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
}
