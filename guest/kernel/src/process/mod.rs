//! Processes: what owns an address space, credentials and signal actions; and how they run and end.
//!
//! | file | what |
//! |---|---|
//! | `task` | what the scheduler runs; a process has one |
//! | `sched` | run queue, deadlines, switching, idling |
//! | `load` | a static ELF file becomes an address space |
//! | `stack` | argc, argv, environment and auxiliary vector as the ABI has them |
//! | `start` | the processes the VMM asks for |
//! | `exit` | the end of a process |
//! | `signal` | default actions |

pub mod exit;
pub mod load;
pub mod sched;
pub mod signal;
pub mod stack;
pub mod start;
pub mod task;

use crate::hypercall::Requester;
use crate::mm::AddressSpace;
use abi::MAX_TASKS;

/// Number of a process that the VMM does not know by index.
pub const NO_INDEX: u32 = u32::MAX;

/// User and group ids: real, effective, saved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials {
    /// Real, effective and saved user id.
    pub uid: [u32; 3],
    /// Real, effective and saved group id.
    pub gid: [u32; 3],
}

/// A signal's action as `rt_sigaction` records it (`struct kernel_sigaction`: handler, flags, restorer, mask).
pub type Action = [u64; 4];

/// One process.
pub struct Process {
    /// Group-wide id; 0 in a free slot.
    pub pid: u32,
    /// Its number in [`abi::boot::BootProcess`].
    pub index: u32,
    /// Which of the guest's files it runs.
    pub file: u32,
    /// Which of descriptors 0 to 2 it has closed, a bit each.
    pub closed: u8,
    /// Its memory; `None` only in a free slot.
    pub space: Option<AddressSpace>,
    /// Who it is.
    pub credentials: Credentials,
    /// Which of `actions` are not the default, bit = number - 1: a new process need not clear them all.
    pub actions_set: u64,
    /// Actions of signals 1 to 64, where set.
    pub actions: [Action; 64],
    /// Which of `limits` are set, a bit each; the others are [`DEFAULT_LIMITS`].
    pub limits_set: u16,
    /// Limits, current and maximum, where set.
    pub limits: [[u64; 2]; LIMITS],
}

/// How many resource limits Linux knows.
pub const LIMITS: usize = 16;
const UNLIMITED: [u64; 2] = [u64::MAX; 2];
/// Limits of a new process, current and maximum, by number (getrlimit(2)): as a Linux system has them.
pub const DEFAULT_LIMITS: [[u64; 2]; LIMITS] = {
    let mut limits = [UNLIMITED; LIMITS];
    limits[3] = [stack::SIZE, u64::MAX];
    limits[4] = [0, u64::MAX];
    limits[6] = [abi::MAX_TASKS as u64; 2];
    limits[7] = [1024, 4096];
    limits[8] = [8 << 20; 2];
    limits[11] = [abi::MAX_TASKS as u64; 2];
    limits[12] = [819_200; 2];
    limits[13] = [0; 2];
    limits[14] = [0; 2];
    limits
};

impl Process {
    /// A free slot.
    pub const FREE: Process = Process {
        pid: 0,
        index: 0,
        file: 0,
        closed: 0,
        space: None,
        credentials: Credentials {
            uid: [0; 3],
            gid: [0; 3],
        },
        actions_set: 0,
        actions: [[0; 4]; 64],
        limits_set: 0,
        limits: [[0; 2]; LIMITS],
    };

    /// The process as the host sees it in a request.
    pub fn requester(&self) -> Requester {
        Requester {
            pid: self.pid,
            euid: self.credentials.uid[1],
            egid: self.credentials.gid[1],
        }
    }

    /// The action of `signal`, 1 to 64.
    pub fn action(&self, signal: u32) -> Action {
        let at = signal as usize - 1;
        if self.actions_set & 1 << at != 0 {
            self.actions[at]
        } else {
            [0; 4]
        }
    }

    /// Sets the action of `signal`, 1 to 64.
    pub fn set_action(&mut self, signal: u32, action: Action) {
        let at = signal as usize - 1;
        self.actions_set |= 1 << at;
        self.actions[at] = action;
    }

    /// The current and maximum value of limit `which`, below [`LIMITS`].
    pub fn limit(&self, which: usize) -> [u64; 2] {
        if self.limits_set & 1 << which != 0 {
            self.limits[which]
        } else {
            DEFAULT_LIMITS[which]
        }
    }
}

/// All processes of the guest.
pub type Processes = [Process; MAX_TASKS];
