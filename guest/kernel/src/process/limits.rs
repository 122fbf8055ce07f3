//! Resource limits (getrlimit(2)): those that count here. Others are kept and told.

use super::{Process, signal, stack};
use crate::fs::descriptor;
use crate::mm::{Limits, USUALLY_LOCKED};

/// Bytes of a file that is made larger.
pub const FSIZE: usize = 1;
/// Bytes of private memory that can be written to.
pub const DATA: usize = 2;
/// Bytes of the stack.
pub const STACK: usize = 3;
/// Processes and threads of a user.
pub const NPROC: usize = 6;
/// One more than the highest descriptor.
pub const NOFILE: usize = 7;
/// Bytes of memory that is locked.
pub const MEMLOCK: usize = 8;
/// Bytes of address space.
pub const AS: usize = 9;
/// Signals that a user has sent to its processes and they have not taken.
pub const SIGPENDING: usize = 11;
/// How little nice threads may be: 20 less that.
pub const NICE: usize = 13;
/// Priority of threads.
pub const RTPRIO: usize = 14;

/// How many Linux knows.
pub const COUNT: usize = 16;

/// Those that say how much memory there may be.
const OF_MEMORY: u16 = 1 << DATA | 1 << STACK | 1 << AS | 1 << MEMLOCK;

const UNLIMITED: [u64; 2] = [u64::MAX; 2];

/// Those of a new process, current and maximum, by number: as a Linux system has them.
const DEFAULT: [[u64; 2]; COUNT] = {
    let mut limits = [UNLIMITED; COUNT];
    limits[STACK] = [stack::SIZE, u64::MAX];
    limits[4] = [0, u64::MAX];
    limits[NPROC] = [abi::MAX_TASKS as u64; 2];
    limits[NOFILE] = [1024, descriptor::MOST as u64];
    limits[MEMLOCK] = [USUALLY_LOCKED; 2];
    limits[SIGPENDING] = [signal::queue::ORDINARY as u64; 2];
    limits[12] = [819_200; 2];
    limits[NICE] = [0; 2];
    limits[RTPRIO] = [0; 2];
    limits
};

impl Process {
    /// The current and maximum value of limit `which`, below [`COUNT`].
    pub fn limit(&self, which: usize) -> [u64; 2] {
        if self.limits_set & 1 << which != 0 {
            self.limits[which]
        } else {
            DEFAULT[which]
        }
    }

    /// Sets limit `which`, below [`COUNT`].
    pub fn set_limit(&mut self, which: usize, new: [u64; 2]) {
        self.limits[which] = new;
        self.limits_set |= 1 << which;
    }

    /// What its memory is held to, unless that is what is usual.
    pub fn memory_limits(&self) -> Option<Limits> {
        (self.limits_set & OF_MEMORY != 0).then(|| Limits {
            addresses: self.limit(AS)[0],
            data: self.limit(DATA),
            stack: self.limit(STACK)[0],
            locked: self.limit(MEMLOCK)[0],
        })
    }
}
