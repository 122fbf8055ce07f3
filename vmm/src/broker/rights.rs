//! What one guest may do: whom its claims make it, which segments it may write, how much it may make.

use super::attach::own_pid;
use crate::window::WindowKind;
use abi::Errno;
use shm::{Credentials, LockAccount};
use std::collections::BTreeMap;

/// The process on whose behalf a guest asks. What the guest says: the broker maps a `pid` outside the guest's range
/// to the guest's first process, and holds the ids to what [`GuestRights`] allow.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Group-wide process id, 0 for the guest's kernel itself.
    pub pid: u32,
    /// The task of that process, 0 for its first: who has made a segment ends when that does.
    pub task: u32,
    /// Effective user id; 0 has every capability.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
    /// Whose account of locked memory counts; `None` for the effective user's, with the group's limit
    /// ([`shm::Limits::memlock`]).
    pub memlock: Option<LockAccount>,
}

/// What a guest may do with the group's segments; whatever it says, its configuration decides.
#[derive(Clone, Debug, Default)]
pub struct GuestRights {
    /// Which segments it may only read.
    pub policy: GuestPolicy,
    /// The user its processes start as. 0: root of the guest is root of the group, and may become anyone. Any other
    /// user can't become another on Linux, so every claim of such a guest counts as this user.
    pub uid: u32,
    /// The group its processes start with; unless `uid` is 0, every claim counts as this group and no other.
    pub gid: u32,
    /// How much it may make.
    pub quota: Quota,
}

/// How much a guest may have made at one time, counted from shmget until the segment is destroyed; objects' bytes, as many
/// as they have, count as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Segments; one more is ENOSPC.
    pub segments: u64,
    /// Bytes of all of them and of all objects, each rounded up to its pages; more is ENOMEM, of an object ENOSPC.
    pub bytes: u64,
}

impl Default for Quota {
    /// No limit but the group's.
    fn default() -> Self {
        Quota {
            segments: u64::MAX,
            bytes: u64::MAX,
        }
    }
}

/// Which segments a guest may only read: a read-write `shmat` of one is EACCES, whatever its mode says and whoever
/// made it; SHM_RDONLY is not affected. A segment is known by the key it was made with, also after its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GuestPolicy {
    /// None: only permissions count.
    #[default]
    Unrestricted,
    /// Those made with one of these keys; 0 stands for every IPC_PRIVATE segment.
    ReadOnlyKeys(Vec<i32>),
    /// All, also IPC_PRIVATE ones and those this guest made itself: such a guest can write to no segment.
    ReadOnlyAll,
}

impl GuestPolicy {
    /// Whether objects, which have no keys, may be written to.
    pub(super) fn allows_objects(&self) -> bool {
        *self != GuestPolicy::ReadOnlyAll
    }

    pub(super) fn allows(&self, key: i32, window: WindowKind) -> bool {
        window == WindowKind::ReadOnly
            || match self {
                GuestPolicy::Unrestricted => true,
                GuestPolicy::ReadOnlyKeys(keys) => !keys.contains(&key),
                GuestPolicy::ReadOnlyAll => false,
            }
    }
}

impl GuestRights {
    /// Whose account of locked memory a claim counts on.
    pub(super) fn account(&self, caller: &Caller<'_>) -> Option<LockAccount> {
        let account = caller.memlock?;
        let user = if self.uid == 0 { account.user } else { self.uid };
        Some(LockAccount { user, ..account })
    }

    /// Who the process is, as far as the guest is believed.
    pub(super) fn credentials<'a>(&self, guest: u32, caller: &Caller<'a>) -> Credentials<'a> {
        let pid = own_pid(guest, caller.pid);
        let task = match caller.task {
            0 => pid,
            task => own_pid(guest, task),
        };
        if self.uid == 0 {
            return Credentials {
                pid,
                task,
                uid: caller.euid,
                gid: caller.egid,
                groups: caller.groups,
            };
        }
        Credentials {
            pid,
            task,
            uid: self.uid,
            gid: self.gid,
            groups: &[],
        }
    }
}

/// What each guest has made that is still there; no zeros.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<u32, Quota>);

impl Made {
    /// Whether guest `guest` may make `bytes` bytes more.
    ///
    /// # Errors
    /// ENOMEM if it may not.
    pub(super) fn check_bytes(&self, guest: u32, quota: &Quota, bytes: u64) -> Result<(), Errno> {
        match self.of(guest).bytes.checked_add(bytes) {
            Some(total) if total <= quota.bytes => Ok(()),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// Whether guest `guest` may make one segment more.
    ///
    /// # Errors
    /// ENOSPC if it may not.
    pub(super) fn check_segments(&self, guest: u32, quota: &Quota) -> Result<(), Errno> {
        if self.of(guest).segments < quota.segments {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }

    pub(super) fn of(&self, guest: u32) -> Quota {
        self.0.get(&guest).copied().unwrap_or(Quota {
            segments: 0,
            bytes: 0,
        })
    }

    pub(super) fn add(&mut self, guest: u32, bytes: u64) {
        let mut made = self.of(guest);
        made.segments += 1;
        made.bytes = made.bytes.saturating_add(bytes);
        self.0.insert(guest, made);
    }

    pub(super) fn give_back(&mut self, guest: u32, bytes: u64) {
        self.change(guest, 1, bytes);
    }

    /// An object has grown.
    pub(super) fn add_bytes(&mut self, guest: u32, bytes: u64) {
        if bytes > 0 {
            let mut made = self.of(guest);
            made.bytes = made.bytes.saturating_add(bytes);
            self.0.insert(guest, made);
        }
    }

    /// An object has shrunk, or is gone.
    pub(super) fn give_back_bytes(&mut self, guest: u32, bytes: u64) {
        self.change(guest, 0, bytes);
    }

    fn change(&mut self, guest: u32, segments: u64, bytes: u64) {
        let mut made = self.of(guest);
        made.segments = made.segments.saturating_sub(segments);
        made.bytes = made.bytes.saturating_sub(bytes);
        if made.segments == 0 && made.bytes == 0 {
            self.0.remove(&guest);
        } else {
            self.0.insert(guest, made);
        }
    }
}
