//! Tasks: what the scheduler runs. A task is one thread of control of a process; its registers are in
//! [`crate::arch::context`], its number in that table is its number here.

use crate::arch::lent::Reserve;
use abi::MAX_TASKS;

/// No task, in links.
pub const NONE: u16 = u16::MAX;

/// What a parked task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its deadline, nothing else.
    Sleep,
    /// A futex wake-up.
    Futex {
        /// What the word is, wherever it is mapped.
        key: FutexKey,
        /// Which wakers are meant.
        bitset: u32,
    },
    /// Something to read from the host, or room for what it is to take; the call is made again when it says so.
    Input,
    /// Something in the pipe of this number, or room in it; the call is made again when that changes.
    Pipe(u16),
    /// Any of several descriptors; the call is made again when any pipe changes, or the host says something.
    Poll,
    /// The end of a child; the call is made again then.
    Child,
    /// A vfork child that has its memory.
    Vfork,
}

/// What a futex word is, independent of who maps it where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutexKey {
    /// A word in a segment: the segment's id, and the offset in it.
    Segment(i32, u64),
    /// A word in shared anonymous memory, by guest-physical address.
    Shared(u64),
    /// A word only this process means, by address; and whether the caller has said so (`FUTEX_PRIVATE_FLAG`): on
    /// Linux those are two words.
    Private {
        /// The process's number.
        process: u16,
        /// Where the word is.
        address: u64,
        /// With the flag.
        flagged: bool,
    },
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Its deadline passed while it waited; the call made again finds this set.
    pub expired: bool,
    /// How much a call that waits has moved already.
    pub moved: u64,
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
    /// Blocked signals, bit = number - 1.
    pub blocked: u64,
    /// Signals that came while blocked.
    pub pending: u64,
    /// `sigaltstack` as set: address, flags, size.
    pub alternate_stack: [u64; 3],
    /// `set_tid_address`.
    pub clear_child_tid: u64,
    /// `set_robust_list`.
    pub robust_list: u64,
}

impl Task {
    /// A free slot: all bytes zero, so that the room for tasks stays in BSS.
    pub const FREE: Task = Task {
        state: State::Free,
        process: 0,
        next: 0,
        sleep_next: 0,
        sleep_cpu: None,
        last_cpu: 0,
        retry: false,
        expired: false,
        moved: 0,
        id: 0,
        affinity: 0,
        deadline: 0,
        ran: 0,
        since: 0,
        blocked: 0,
        pending: 0,
        alternate_stack: [0; 3],
        clear_child_tid: 0,
        robust_list: 0,
    };
}

/// All tasks of the guest.
pub type Tasks = [Task];

/// Room for them.
pub static ROOM: Reserve<[Task; MAX_TASKS]> = Reserve::new([Task::FREE; MAX_TASKS]);
