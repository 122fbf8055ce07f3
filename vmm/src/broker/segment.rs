//! One segment's life: its memory ([`Memory`]), who made it, who attached it when.

use super::memory::{HostPages, Memory};
use abi::PAGE_SIZE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use shm::{Credentials, NewSegment, Segment};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Once};

/// Each segment is an open file, so as many as the host lets this process have.
pub(super) fn raise_open_file_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limit = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        ) {
            tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
        }
    });
}

/// What the broker keeps with each segment.
#[derive(Debug)]
pub(super) struct Backing {
    memory: Arc<Memory>,
    pub(super) life: SegmentLife,
    /// Attaches of each guest now; no zeros.
    nattch: BTreeMap<u32, u64>,
}

impl Backing {
    /// A new segment's, by the process `who` of guest `guest`.
    pub(super) fn new(
        guest: u32,
        who: &Credentials<'_>,
        flags: u32,
        new: &NewSegment,
        memory: Memory,
        age_ns: u64,
    ) -> Backing {
        Backing {
            life: SegmentLife {
                host_pages: memory.host_pages,
                // Known once the registry has given it.
                id: 0,
                key: new.key,
                size: new.size,
                mode: flags & 0o777,
                creator_guest: guest,
                creator_pid: who.pid,
                creator_uid: who.uid,
                created_ns: age_ns,
                removed_ns: None,
                destroyed_ns: None,
                peak_nattch: 0,
                attaches: BTreeMap::new(),
            },
            nattch: BTreeMap::new(),
            memory: Arc::new(memory),
        }
    }

    /// Bytes it counts for in its maker's quota.
    pub(super) fn bytes(&self) -> u64 {
        self.memory.pages * PAGE_SIZE
    }

    pub(super) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// Pages in memory: those that have been touched.
    pub(super) fn resident_pages(&self) -> u64 {
        self.memory.resident() / PAGE_SIZE
    }

    pub(super) fn count_attach(&mut self, guest: u32, count: u64) {
        *self.nattch.entry(guest).or_default() += count;
        let total = self.life.attaches.entry(guest).or_default();
        *total = total.saturating_add(count);
        self.life.peak_nattch = self.life.peak_nattch.max(self.nattch.values().sum());
    }

    pub(super) fn count_detach(&mut self, guest: u32, count: u64) {
        if let Some(held) = self.nattch.get_mut(&guest) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.nattch.remove(&guest);
            }
        }
    }
}

/// A segment as it is at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentState {
    /// Identifier.
    pub id: i32,
    /// Key, 0 for IPC_PRIVATE and once removed.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Permission bits, and whether it is locked or to be destroyed.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Attaches.
    pub nattch: u64,
    /// Attaches of each guest that has any.
    pub nattch_per_guest: BTreeMap<u32, u64>,
    /// Process that created it.
    pub cpid: u32,
    /// Process that attached or detached last, 0 if none did.
    pub lpid: u32,
    /// Last attach, seconds since 1970, 0 if none.
    pub atime: i64,
    /// Last detach, seconds since 1970, 0 if none.
    pub dtime: i64,
    /// Creation or last IPC_SET, seconds since 1970.
    pub ctime: i64,
    /// Whether it waits for its last detach.
    pub removed: bool,
}

impl SegmentState {
    pub(super) fn of(segment: &Segment<Backing>) -> SegmentState {
        SegmentState {
            id: segment.id,
            key: segment.key,
            uid: segment.uid,
            gid: segment.gid,
            mode: segment.mode,
            size: segment.size,
            nattch: segment.nattch,
            nattch_per_guest: segment.backing.nattch.clone(),
            cpid: segment.cpid,
            lpid: segment.lpid,
            atime: segment.atime,
            dtime: segment.dtime,
            ctime: segment.ctime,
            removed: segment.is_removed(),
        }
    }
}

/// A segment's life, for the report. Times are nanoseconds since the broker was made.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentLife {
    /// Identifier.
    pub id: i32,
    /// The key it was made with.
    pub key: i32,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits it was made with.
    pub mode: u32,
    /// What pages of the host it lies on.
    pub host_pages: HostPages,
    /// Guest whose process created it.
    pub creator_guest: u32,
    /// That process.
    pub creator_pid: u32,
    /// Its user.
    pub creator_uid: u32,
    /// When it was made.
    pub created_ns: u64,
    /// When IPC_RMID came, if it did.
    pub removed_ns: Option<u64>,
    /// When it was destroyed, if it was.
    pub destroyed_ns: Option<u64>,
    /// Most attaches at one time.
    pub peak_nattch: u64,
    /// Attaches of each guest, all in all.
    pub attaches: BTreeMap<u32, u64>,
}

/// The lives of destroyed segments, or objects, the oldest forgotten first.
#[derive(Debug)]
pub(super) struct History<L> {
    lives: VecDeque<L>,
    most: usize,
    dropped: u64,
}

impl<L> History<L> {
    pub(super) fn new(most: usize) -> History<L> {
        History {
            lives: VecDeque::new(),
            most,
            dropped: 0,
        }
    }

    pub(super) fn push(&mut self, life: L) {
        self.lives.push_back(life);
        while self.lives.len() > self.most {
            self.lives.pop_front();
            self.dropped += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &L> {
        self.lives.iter()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
