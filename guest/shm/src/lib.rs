//! The rules of System V shared memory as a pure state machine.
//!
//! [`Registry`] holds every segment of a group by key and by id and answers `shmget`, the bookkeeping half of
//! `shmat` and `shmdt`, and all of `shmctl`, with Linux's results, Linux's errors and Linux's order of errors.
//! What a segment is made of is the caller's business: a segment carries a `B` (its backing) that the caller
//! makes when asked to and gets back when the segment is destroyed. The caller also says who asks
//! ([`Credentials`]) and what time it is.
//!
//! Invariants: an id names at most one segment; a key other than `IPC_PRIVATE` names at most one segment, never
//! one pending removal; a segment with attaches is never destroyed; one pending removal ([`abi::ipc::SHM_DEST`])
//! is destroyed at its last detach. While removal is forced ([`Setting::RmidForced`]) any segment is, and so is one that
//! was never attached when the task that made it ends.
//!
//! Source of every rule: `ipc/shm.c` and `ipc/util.c` of Linux 6.x, shmget(2), shmop(2), shmctl(2);
//! `tests/linux.rs` runs the same sequences against the kernel it is tested on. The broker in `vmm` is the user
//! of this crate. The address rules of `shmat` are not here: they belong to whoever owns the address space.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
mod ids;
mod proc;
mod registry;
mod setting;

pub use control::{Command, Found};
pub use ids::index_of;
pub use proc::{TABLE_HEADER, TableLine};
pub use registry::{Got, NewSegment, Registry, Segment};
pub use setting::{Setting, Written};

/// Who asks: the process's group-wide id and its effective credentials.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Process id, recorded as `cpid` or `lpid`.
    pub pid: u32,
    /// The task of that process: whose end orphans what it has made ([`Registry::makers_ended`]).
    pub task: u32,
    /// Effective user id; 0 stands for every capability.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
}

impl Credentials<'_> {
    /// Whether the caller has CAP_IPC_OWNER, CAP_IPC_LOCK and CAP_SYS_ADMIN.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.uid == 0
    }

    /// Whether `gid` is the caller's effective group or one of the supplementary ones.
    #[must_use]
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Limits of a group of guests; on Linux, of an IPC namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most segments (`kernel.shmmni`; never more than 32768).
    pub mni: u64,
    /// Largest size of a segment in bytes (`kernel.shmmax`).
    pub max: u64,
    /// Most pages of all segments together (`kernel.shmall`).
    pub all: u64,
    /// Bytes each unprivileged user may lock (RLIMIT_MEMLOCK) where the caller does not say its own.
    pub memlock: u64,
}

/// Whose account of locked memory counts, and how much may be on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockAccount {
    /// RLIMIT_MEMLOCK of the process, in bytes.
    pub limit: u64,
    /// The process's real user id, which Linux keeps the account by.
    pub user: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            mni: abi::ipc::SHMMNI,
            max: abi::ipc::SHMMAX,
            all: abi::ipc::SHMMAX,
            memlock: 8 << 20,
        }
    }
}
