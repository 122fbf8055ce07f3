//! Tasks: what the scheduler runs. A task is one thread of control of a process; its registers are in
//! [`crate::arch::context`], its number in that table is its number here.

use super::Processes;
use super::signal::queue::Pending;
use super::signal::stack::SignalStack;
use crate::arch::lent::Reserve;
use crate::arch::machine::tsc;
use crate::arch::signal_frame::LastFault;
use crate::kernel::Kernel;
use abi::MAX_TASKS;

/// No task, in links.
pub const NONE: u16 = u16::MAX;

/// Bytes of a task's name (`TASK_COMM_LEN`).
pub const NAME: usize = 16;

/// What a parked task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its deadline, nothing else.
    Sleep,
    /// A futex wake-up by this kernel.
    Futex {
        /// What the word is, wherever it is mapped.
        key: FutexKey,
        /// Which wakers are meant.
        bitset: u32,
    },
    /// A futex wake-up by the broker: the word lies in a segment.
    SharedFutex,
    /// Something to read from the host, or room for what it is to take; the call is made again when it says so.
    Input,
    /// Something in the pipe of this number, or room in it; the call is made again when that changes.
    Pipe(u16),
    /// Any of several descriptors, or a lock on a file; the call is made again when any pipe or lock changes, or the
    /// host says something.
    Poll,
    /// The end of a child; the call is made again then.
    Child,
    /// This task, which vfork has made, until it no longer uses the same memory.
    Vfork(u16),
    /// The end of the other threads; then its process runs another program.
    Exec,
    /// A signal, whatever it is.
    Pause,
    /// One of these signals; the call is made again then.
    Signal(u64),
    /// Other guests, to let go of an object's pages; the call is made again then. They have a deadline, and the waiter
    /// none: what it has begun can't be undone.
    Object,
    /// Its process is stopped.
    Stopped,
}

/// What a futex word is that only this guest can reach, independent of who maps it where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutexKey {
    /// A word in a file that is mapped shared, by guest-physical address.
    Shared(u64),
    /// A word in shared anonymous memory, by the number of its first byte
    /// ([`Backing::SharedAnonymous`](crate::mm::area::Backing)).
    Anonymous(u64),
    /// A word only those who use this memory mean, by address; and whether the caller has said so
    /// (`FUTEX_PRIVATE_FLAG`): on Linux those are two words.
    Private {
        /// The address space's number.
        space: u16,
        /// Where the word is.
        address: u64,
        /// With the flag.
        flagged: bool,
    },
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot is free.
    Free,
    /// In the run queue.
    Ready,
    /// On a vCPU.
    Running,
    /// Waiting; whoever ends the wait delivers the result.
    Parked(Wait),
}

/// One task.
pub struct Task {
    /// Where it is in its life.
    pub state: State,
    /// Its process's number in the process table.
    pub process: u16,
    /// The number of the address space it uses.
    pub space: u16,
    /// The number of the descriptors it uses.
    pub descriptors: u16,
    /// The threads of its process that came before and after it.
    pub older: u16,
    /// See `older`.
    pub younger: u16,
    /// Next in the run queue or in a futex bucket.
    pub next: u16,
    /// Next in a vCPU's list of deadlines.
    pub sleep_next: u16,
    /// In the list of deadlines of this vCPU, if it has a deadline.
    pub sleep_cpu: Option<u8>,
    /// The vCPU it ran on last.
    pub last_cpu: u8,
    /// Its system call is to be made again when it runs next.
    pub retry: bool,
    /// A signal has ended its wait: what its call comes to is decided when it has looked at its signals.
    pub interrupted: bool,
    /// Its deadline passed while it waited; the call made again finds this set.
    pub expired: bool,
    /// How much a call that waits has moved already.
    pub moved: u64,
    /// It has to look whether there are signals for it, whether it is to end, whether it may run where it does: before
    /// it runs on, [`super::signal::deliver::attend`] does so.
    pub attention: bool,
    /// Who waits for it in [`Wait::Vfork`].
    pub awaited_by: Option<u16>,
    /// Group-wide thread id.
    pub id: u32,
    /// vCPUs it may run on.
    pub affinity: u32,
    /// TSC value at which its wait ends.
    pub deadline: u64,
    /// Ticks it has run, without the current turn.
    pub ran: u64,
    /// TSC value at which its current turn began.
    pub since: u64,
    /// TSC value at which it began.
    pub born: u64,
    /// Blocked signals, bit = number - 1.
    pub blocked: u64,
    /// What it blocked before a call that blocks others while it waits.
    pub saved_mask: Option<u64>,
    /// Signals that were sent to it and have not been acted on; those sent to its process are there.
    pub pending: Pending,
    /// The stack it has set apart for handlers.
    pub signal_stack: SignalStack,
    /// Its last fault.
    pub last_fault: LastFault,
    /// Its name, ended by zeros (prctl(2)).
    pub name: [u8; NAME],
    /// How it is to run (sched(7)): kept, without effect.
    pub policy: u8,
    /// See `policy`.
    pub priority: u8,
    /// How nice it is (setpriority(2)): kept, without effect.
    pub nice: i8,
    /// The signal it gets when its parent ends, or 0.
    pub death_signal: u8,
    /// It can't come by more rights (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// As what kind of system it wants this one to behave (personality(2)).
    pub personality: u32,
    /// Nanoseconds its timers may be late, 0 for what is usual: now, and when it began.
    pub slack: u64,
    /// See `slack`.
    pub slack_at_first: u64,
    /// `set_tid_address`.
    pub clear_child_tid: u64,
    /// `set_robust_list`.
    pub robust_list: u64,
    /// It may have made segments, and the host wants to know when it ends.
    pub made_segments: bool,
}

impl Task {
    /// A free slot: all bytes zero, so that the room for tasks stays in BSS.
    pub const FREE: Task = Task {
        state: State::Free,
        process: 0,
        space: 0,
        descriptors: 0,
        older: 0,
        younger: 0,
        next: 0,
        sleep_next: 0,
        sleep_cpu: None,
        last_cpu: 0,
        retry: false,
        interrupted: false,
        expired: false,
        moved: 0,
        attention: false,
        awaited_by: None,
        id: 0,
        affinity: 0,
        deadline: 0,
        ran: 0,
        since: 0,
        born: 0,
        blocked: 0,
        saved_mask: None,
        pending: Pending::NONE,
        signal_stack: SignalStack::NONE,
        last_fault: LastFault::NONE,
        name: [0; NAME],
        policy: 0,
        priority: 0,
        nice: 0,
        death_signal: 0,
        no_new_privileges: false,
        personality: 0,
        slack: 0,
        slack_at_first: 0,
        clear_child_tid: 0,
        robust_list: 0,
        made_segments: false,
    };
}

/// The name of a task that runs the program in the file `path`.
pub fn name_of(path: &[u8]) -> [u8; NAME] {
    let base = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let mut name = [0; NAME];
    for (to, from) in name[..NAME - 1]
        .iter_mut()
        .zip(base.iter().take_while(|&&byte| byte != 0))
    {
        *to = *from;
    }
    name
}

impl Kernel {
    /// Makes `task`, which has taken slot `slot`, the youngest of its process.
    pub fn add_task(&mut self, slot: u16, task: Task) {
        let process = &mut self.processes[usize::from(task.process)];
        let older = core::mem::replace(&mut process.youngest, slot);
        process.threads += 1;
        let born = tsc();
        if older == NONE {
            process.born = born;
        } else {
            self.tasks[usize::from(older)].younger = slot;
        }
        self.tasks[usize::from(slot)] = Task {
            older,
            younger: NONE,
            born,
            ..task
        };
    }

    /// Takes task `slot` away from its process, and frees its slot.
    pub fn remove_task(&mut self, slot: u16) {
        let Task {
            process,
            older,
            younger,
            ..
        } = self.tasks[usize::from(slot)];
        self.signals
            .discard(&mut self.tasks[usize::from(slot)].pending, u64::MAX);
        let process = &mut self.processes[usize::from(process)];
        process.threads -= 1;
        match younger {
            NONE => process.youngest = older,
            younger => self.tasks[usize::from(younger)].older = older,
        }
        if older != NONE {
            self.tasks[usize::from(older)].younger = younger;
        }
        self.tasks[usize::from(slot)] = Task::FREE;
        self.task_slots.give(slot);
    }
}

/// The threads of process `number`, youngest first.
pub fn threads_of(tasks: &Tasks, processes: &Processes, number: u16) -> impl Iterator<Item = u16> {
    let youngest = processes[usize::from(number)].youngest;
    let some = |task: u16| (task != NONE).then_some(task);
    core::iter::successors(some(youngest), move |&task| some(tasks[usize::from(task)].older))
}

/// All tasks of the guest.
pub type Tasks = [Task];

/// Room for them.
pub static ROOM: Reserve<[Task; MAX_TASKS]> = Reserve::new([Task::FREE; MAX_TASKS]);
