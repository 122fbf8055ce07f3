//! The broker: the only authority on segments.
//!
//! Guests ask for segments by hypercall; what they may do is decided here, by the rules of the `shm` crate, and
//! nowhere else. The broker owns each segment's memory, knows how many attaches each guest holds in which of its windows, splices a segment into a [`Window`] at the first attach there and takes it out at the
//! last. Its answers are [`Errno`]s: nothing a guest sends can make it panic, block or spend another guest's.
//!
//! Key types: [`SegmentService`] is what a machine sees of it, [`Broker`] the implementation, answering in `segments`; `segment` holds
//! one segment's life, `memory` and `large` what it is made of, `attach` what one guest has attached, `rights` what one guest may
//! do at all, `proc` the texts of guests' /proc, `futex` who waits for which word.
//!
//! Locks, always taken in this order: one guest's (`attach::Home`), then that of huge pages' words (`memory::keep`),
//! then the registry's or those of the queues of waiters (`futex::queues` has their order). The registry's lock is never held across a system call that can take long (registering a chunk with KVM, unmapping, freeing memory).

mod attach;
mod futex;
mod large;
mod memory;
mod objects;
mod proc;
mod rights;
mod segment;
mod segments;

pub use futex::{
    FutexRequeue, FutexService, FutexWait, FutexWake, FutexWoken, Inbox, Reach, Shared, SharedWord,
};
pub use large::large_file;
pub use memory::HostPages;
pub use objects::{Listed, Mapped, ObjectLife, ObjectService, ObjectState, Refused, SetObject, Which};
pub use proc::ProcFile;
pub use rights::{Caller, GuestPolicy, GuestRights, Quota};
pub use segment::{SegmentLife, SegmentState};

pub use crate::window::WindowKind;

use crate::window::Window;
use abi::Errno;
use attach::Home;
use futex::{Queues, Sleepers};
use large::LargePages;
use memory::{HugePages, MemoryRule};
use objects::{Deadlines, Directory};
use rights::Made;
use segment::{Backing, History};
use shm::{Registry, Segment, Setting};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

const NS_PER_S: i64 = 1_000_000_000;

/// How large a segment may be to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes, in whole pages.
    pub bytes: u64,
    /// What is said of a larger one.
    pub errno: Errno,
}

/// Where an attached segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Guest-physical address of its first byte, in the window that serves the flags.
    pub gpa: u64,
    /// Its size in bytes as asked for at `shmget`, not rounded.
    pub size: u64,
    /// The key it was made with, whatever has become of that.
    pub key: i32,
}

/// What a machine asks on behalf of its guest. Every method copes with anything a guest may send, from any vCPU.
pub trait SegmentService: FutexService + ObjectService {
    /// `shmget(2)`: the id of the segment with this key, made if `flags` say so.
    ///
    /// # Errors
    /// Linux's, in Linux's order (`shm::Registry::get`).
    fn shmget(&self, guest: u32, caller: &Caller<'_>, key: i32, size: u64, flags: u32) -> Result<u64, Errno>;

    /// The host's half of `shmat(2)`; see [`abi::hypercall::Call::ShmAttach`] for `rooms`, looked at in their order.
    ///
    /// # Errors
    /// EINVAL (id), EACCES (permission, or the guest's policy), a room's, ENOMEM (window full, too many splices).
    fn attach(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        flags: u32,
        rooms: &[Room],
    ) -> Result<Attached, Errno>;

    /// `count` more attaches of what the guest has attached in that window already (fork, a split by mprotect).
    ///
    /// # Errors
    /// EINVAL if it has not, or `count` is 0; ENOMEM beyond 2^32 attaches.
    fn attach_more(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        window: WindowKind,
        count: u64,
    ) -> Result<(), Errno>;

    /// `count` attaches in that window end.
    ///
    /// # Errors
    /// EINVAL if the guest does not hold as many there, or `count` is 0; then nothing changes.
    fn detach(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        window: WindowKind,
        count: u64,
    ) -> Result<(), Errno>;

    /// One attach in that window ends, if the segment is destroyed with it.
    ///
    /// # Errors
    /// EAGAIN if it would not be; EINVAL if the guest does not hold one there. Then nothing changes.
    fn detach_last(&self, guest: u32, caller: &Caller<'_>, id: i32, window: WindowKind) -> Result<(), Errno>;

    /// `len` bytes from `offset` on become zeros, in a segment that the guest has attached read-write, and their memory is
    /// given back.
    ///
    /// # Errors
    /// EINVAL if it has not, or the range is empty, crooked or not within the segment; what the host says to it.
    fn punch(&self, guest: u32, id: i32, offset: u64, len: u64) -> Result<(), Errno>;

    /// `shmctl(2)`. `payload`: a `ShmidDs` in for IPC_SET; the structure out for the commands that return one.
    ///
    /// # Errors
    /// Linux's, in Linux's order.
    fn shmctl(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        command: i32,
        payload: &mut [u8; 256],
    ) -> Result<u64, Errno>;

    /// Reads at most `len` bytes, and at most a page, of a file in /proc. Nothing at the end.
    ///
    /// # Errors
    /// EINVAL if the guest is gone.
    fn proc_read(&self, guest: u32, file: ProcFile, offset: u64, len: u64) -> Result<Vec<u8>, Errno>;

    /// Writes to a setting's file: it holds for the whole group from now on. Returns how many bytes were taken.
    ///
    /// # Errors
    /// EPERM unless the caller is root of the group, EINVAL for what is not a number in range.
    fn proc_write(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        setting: Setting,
        text: &[u8],
    ) -> Result<u64, Errno>;

    /// A task of the guest that may have made segments has ended.
    fn maker_ended(&self, guest: u32, task: u32);

    /// The guest is dead and its vCPUs have been joined: none of its tasks waits any more, robust locks they held are
    /// marked, every attach it held ends, its windows are unmapped. Returns how many ranges of them still showed
    /// something, and objects were still held, together.
    fn guest_gone(&self, guest: u32) -> u64;
}

/// Limits of a group.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLimits {
    /// The System V limits.
    pub shm: shm::Limits,
    /// Destroyed segments that [`Broker::history`] remembers, and gone objects that [`Broker::object_history`] does.
    pub history: usize,
    /// How long a guest's kernel has to let go of the pages of an object that becomes smaller; then it is ended.
    pub answer_within: Duration,
    /// Whether segments of 2 MiB and more may lie on pages of 2 MiB, where the host has such. Then one touched page of a
    /// segment is 512 in memory.
    pub large_pages: bool,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        BrokerLimits {
            shm: shm::Limits::default(),
            history: 10_000,
            answer_within: Duration::from_secs(10),
            large_pages: true,
        }
    }
}

/// The segments of a group and who has attached them.
pub struct Broker {
    members: RwLock<BTreeMap<u32, Arc<Member>>>,
    table: Mutex<Table>,
    queues: Queues<Inbox>,
    memory: MemoryRule,
    huge_pages: HugePages,
    large_pages: LargePages,
    deadlines: Arc<Deadlines>,
    shrinks: AtomicU64,
    started: Instant,
    realtime: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// A guest.
struct Member {
    rights: GuestRights,
    home: Mutex<Home>,
    sleepers: Arc<Sleepers<Inbox>>,
}

/// What the registry's lock guards.
struct Table {
    registry: Registry<Backing>,
    made: Made,
    history: History<SegmentLife>,
    objects: Directory,
    gone_objects: History<ObjectLife>,
}

impl Broker {
    /// A broker without segments or guests. Raises the process's limit of open files to its hard limit: each
    /// segment is one.
    #[must_use]
    pub fn new(limits: BrokerLimits) -> Broker {
        Broker::with_clock(limits, || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            now.tv_sec * NS_PER_S + now.tv_nsec
        })
    }

    /// As [`Broker::new`], with a clock of one's own: nanoseconds since 1970, for atime, dtime and ctime. The guests'
    /// programs compare those with `time(2)`, so it should be the clock the guests have.
    #[must_use]
    pub fn with_clock(limits: BrokerLimits, realtime: impl Fn() -> i64 + Send + Sync + 'static) -> Broker {
        segment::raise_open_file_limit();
        Broker {
            members: RwLock::default(),
            table: Mutex::new(Table {
                registry: Registry::new(limits.shm),
                made: Made::default(),
                history: History::new(limits.history),
                objects: Directory::default(),
                gone_objects: History::new(limits.history),
            }),
            queues: Queues::new(futex::BUCKETS),
            memory: MemoryRule::of_host(),
            huge_pages: HugePages::of_host(),
            large_pages: if limits.large_pages {
                LargePages::default()
            } else {
                LargePages::none()
            },
            deadlines: Deadlines::new(limits.answer_within),
            shrinks: AtomicU64::new(0),
            started: Instant::now(),
            realtime: Box::new(realtime),
        }
    }

    /// Lets guest number `guest` in; its segments appear in `window`, its tasks' wake-ups in `inbox`.
    pub fn add_guest(&self, guest: u32, rights: GuestRights, window: Window, inbox: Inbox) {
        let member = Arc::new(Member {
            rights,
            home: Mutex::new(Home::new(window)),
            sleepers: inbox.sleepers(),
        });
        self.members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(guest, member);
    }

    /// Every segment there is now, by index: what `ipcs -m` shows.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentState> {
        self.table().registry.iter().map(SegmentState::of).collect()
    }

    /// Every segment there ever was, in the order of their destruction, then those that live; at most
    /// [`BrokerLimits::history`] destroyed ones.
    #[must_use]
    pub fn history(&self) -> Vec<SegmentLife> {
        let table = self.table();
        let living = table.registry.iter().map(|segment| segment.backing.life.clone());
        table.history.iter().cloned().chain(living).collect()
    }

    /// How many destroyed segments [`Broker::history`] has forgotten.
    #[must_use]
    pub fn history_dropped(&self) -> u64 {
        self.table().history.dropped()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// A guest that is not, or no longer, known has nothing and gets nothing.
    fn member(&self, guest: u32) -> Result<Arc<Member>, Errno> {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&guest)
            .cloned()
            .ok_or(Errno::EINVAL)
    }

    /// Seconds since 1970.
    fn now(&self) -> i64 {
        (self.realtime)() / NS_PER_S
    }

    /// Nanoseconds since 1970.
    fn now_ns(&self) -> u64 {
        u64::try_from((self.realtime)()).unwrap_or(0)
    }

    /// A number for a shrink.
    fn next_shrink(&self) -> u64 {
        self.shrinks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nanoseconds since the broker was made.
    fn age_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Ends `count` of a guest's attaches. The guest must hold them: its [`Home`] has been asked.
    /// The segment returned, if it was destroyed, is to be dropped without the lock: that frees its memory.
    fn end_attaches(
        &self,
        table: &mut Table,
        guest: u32,
        pid: u32,
        id: i32,
        count: u64,
    ) -> Option<Segment<Backing>> {
        let now = self.now();
        if let Ok(backing) = table.registry.backing_mut(id) {
            backing.count_detach(guest, count);
        }
        let destroyed = match table.registry.detach(id, pid, count, now) {
            Ok(destroyed) => destroyed,
            Err(error) => {
                tracing::error!("segment {id}: {count} attaches of guest {guest} can't be ended: {error}");
                None
            }
        };
        self.record(table, destroyed)
    }

    /// Takes note of what was destroyed, and frees its memory without the lock.
    fn bury(&self, mut table: MutexGuard<'_, Table>, destroyed: Vec<Segment<Backing>>) {
        let noted: Vec<_> = destroyed
            .into_iter()
            .map(|segment| self.record(&mut table, Some(segment)))
            .collect();
        drop(table);
        drop(noted);
    }

    fn record(&self, table: &mut Table, mut destroyed: Option<Segment<Backing>>) -> Option<Segment<Backing>> {
        if let Some(segment) = &mut destroyed {
            let age = self.age_ns();
            let life = &mut segment.backing.life;
            life.removed_ns.get_or_insert(age);
            life.destroyed_ns = Some(age);
            table.history.push(life.clone());
            table
                .made
                .give_back(segment.backing.life.creator_guest, segment.backing.bytes());
            tracing::debug!("segment {} destroyed", segment.id);
        }
        destroyed
    }
}

/// A poisoned lock guards nothing that a panic could have left half-done for another guest: counters are changed
/// in single steps. One guest's thread that panicked must not take the others along.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
