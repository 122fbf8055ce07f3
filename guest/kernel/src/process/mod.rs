//! Processes: what owns credentials and limits, and has threads that run in one memory; and how all of them begin and
//! end.
//!
//! | file | what |
//! |---|---|
//! | `task` | what the scheduler runs: threads |
//! | `spaces`, `actions`, `descriptors` | what they have alone or in common: memory, what to do about signals, open files |
//! | `shared` | tables for that |
//! | `ids`, `slots` | numbers programs see; places in the kernel's tables |
//! | `sched` | run queue, deadlines, switching, idling |
//! | `load` | a static ELF file becomes an address space |
//! | `stack` | argc, argv, environment and auxiliary vector as the ABI has them |
//! | `vdso` | the vDSO and the clock page in its address space |
//! | `start` | the processes the VMM asks for |
//! | `fork` | a process or a thread becomes two |
//! | `exec` | a process runs another program |
//! | `files` | what a process has of files |
//! | `family` | parents, children, groups; waiting for the end of a child |
//! | `limits` | resource limits |
//! | `exit` | the end of a thread, and of a process |
//! | `signal` | signals: sending them, and what they do |
//! | `alarm` | timers that send signals |

pub mod actions;
pub mod alarm;
pub mod descriptors;
pub mod exec;
pub mod exit;
pub mod family;
pub mod files;
pub mod fork;
pub mod ids;
pub mod limits;
pub mod load;
pub mod sched;
pub mod shared;
pub mod signal;
pub mod slots;
pub mod spaces;
pub mod stack;
pub mod start;
pub mod task;
pub mod vdso;

use crate::arch::lent::Reserve;
use crate::fs::{FileId, Node};
use crate::hypercall::Requester;
use abi::MAX_TASKS;
use abi::hypercall::MAX_GROUPS;
use alarm::Countdown;
use signal::queue::Pending;
use signal::stop::News;

/// Number of a process that the VMM does not know by index.
pub const NO_INDEX: u32 = u32::MAX;
/// No process, in links between them. A parent that is none is outside: init, which waits for everyone.
pub const NOBODY: u16 = u16::MAX;

/// User and group ids: real, effective, saved.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// Real, effective and saved user id.
    pub uid: [u32; 3],
    /// Real, effective and saved group id.
    pub gid: [u32; 3],
    /// User and group id for files.
    pub fs: [u32; 2],
    /// How many of `groups` are set.
    pub group_count: u32,
    /// Supplementary groups.
    pub groups: [u32; MAX_GROUPS],
}

impl Credentials {
    /// Nobody's; root's, that is.
    pub const ROOT: Credentials = Credentials {
        uid: [0; 3],
        gid: [0; 3],
        fs: [0; 2],
        group_count: 0,
        groups: [0; MAX_GROUPS],
    };

    /// Whether it has every capability. On Linux capabilities follow the effective user id in the same way as
    /// long as nobody sets them one by one (capabilities(7)).
    pub fn is_privileged(&self) -> bool {
        self.uid[1] == 0
    }

    /// The supplementary groups.
    pub fn groups(&self) -> &[u32] {
        &self.groups[..self.group_count as usize % (MAX_GROUPS + 1)]
    }
}

/// What becomes of a process some of whose threads have still to end.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Fate {
    /// Nothing: it goes on.
    None,
    /// It ends, with this wait status.
    Ends(u32),
    /// It runs another program.
    Runs(exec::Program),
}

/// One process.
pub struct Process {
    /// Group-wide id; 0 in a free slot.
    pub pid: u32,
    /// Its number in [`abi::boot::BootProcess`], if the VMM asked for it.
    pub index: u32,
    /// That of the ancestor the VMM asked for: whose output it writes, whose input it reads.
    pub origin: u32,
    /// Who started it.
    pub parent: u16,
    /// Its youngest child.
    pub child: u16,
    /// Its parent's next older child.
    pub sibling: u16,
    /// Its youngest thread; [`task::NONE`] when the last one has gone.
    pub youngest: u16,
    /// How many threads it has.
    pub threads: u16,
    /// What is to become of it when its other threads have gone.
    pub fate: Fate,
    /// The signal that is to say it has ended.
    pub exit_signal: u8,
    /// How it ended (a wait status), until its parent has waited for it.
    pub ended: Option<u32>,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// The file it runs.
    pub exe: FileId,
    /// Its working directory.
    pub directory: Node,
    /// Permissions that what it makes does not get.
    pub umask: u16,
    /// Who it is.
    pub credentials: Credentials,
    /// Signals that were sent to it, not to one of its threads, and have not been acted on.
    pub pending: Pending,
    /// A signal has stopped it, and none has let it go on.
    pub stopped: bool,
    /// What of that its parent has still to be told.
    pub news: News,
    /// The youngest timer it has made (timer_create(2)).
    pub timers: Option<u16>,
    /// The id its next one gets.
    pub next_timer_id: u32,
    /// ITIMER_VIRTUAL and ITIMER_PROF.
    pub countdowns: [Countdown; 2],
    /// TSC value at which it began.
    pub born: u64,
    /// Ticks that threads of it ran which have ended.
    pub ran: u64,
    /// Ticks that children of it ran which have been waited for, and theirs.
    pub children_ran: u64,
    /// It has said that it will ask for barriers (membarrier(2)).
    pub wants_barriers: bool,
    /// What its descendants leave behind becomes its own (`PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// The number of its signal actions in their table.
    pub actions: u16,
    /// When it became its user's, that one had more processes than it may have (`PF_NPROC_EXCEEDED` in Linux).
    pub exceeds: bool,
    /// How readily it would be ended for its memory, by its own word (proc_pid_oom_score_adj(5)).
    pub oom_adjustment: i16,
    /// The least of that which a process that is not root's may set.
    pub oom_least: i16,
    /// Which of `limits` are set, a bit each; the others are what is usual ([`limits`]).
    pub limits_set: u16,
    /// Limits, current and maximum, where set.
    pub limits: [[u64; 2]; limits::COUNT],
}

impl Process {
    /// A free slot: all bytes zero, so that the room for processes stays in BSS. Whoever takes it sets every
    /// field.
    pub const FREE: Process = Process {
        pid: 0,
        index: 0,
        origin: 0,
        parent: 0,
        child: 0,
        sibling: 0,
        youngest: 0,
        threads: 0,
        fate: Fate::None,
        exit_signal: 0,
        ended: None,
        group: 0,
        session: 0,
        exe: FileId(0),
        directory: Node::File(FileId(0)),
        umask: 0,
        credentials: Credentials::ROOT,
        pending: Pending::NONE,
        stopped: false,
        news: News::None,
        timers: None,
        next_timer_id: 0,
        countdowns: [Countdown::OFF; 2],
        born: 0,
        ran: 0,
        children_ran: 0,
        wants_barriers: false,
        subreaper: false,
        actions: 0,
        exceeds: false,
        oom_adjustment: 0,
        oom_least: 0,
        limits_set: 0,
        limits: [[0; 2]; limits::COUNT],
    };

    /// Whether it still runs: neither a free slot nor one that waits to be waited for.
    pub fn lives(&self) -> bool {
        self.pid != 0 && self.ended.is_none()
    }

    /// The process as the host sees it in a request.
    pub fn requester(&self) -> Requester {
        Requester {
            pid: self.pid,
            euid: self.credentials.uid[1],
            egid: self.credentials.gid[1],
        }
    }

    /// Whether one of its countdowns is on.
    pub fn counts(&self) -> bool {
        self.countdowns[0].at | self.countdowns[1].at != 0
    }
}

/// All processes of the guest.
pub type Processes = [Process];

/// Room for them.
pub static ROOM: Reserve<[Process; MAX_TASKS]> = Reserve::new([const { Process::FREE }; MAX_TASKS]);
