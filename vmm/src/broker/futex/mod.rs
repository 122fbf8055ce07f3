//! Waiting for words in segments, across guests: futex(2)'s other half.
//!
//! A guest's kernel serves futex(2) itself for words that only its own programs can reach. For a word in a segment it
//! asks here, and here only, also if nobody else has attached the segment: one rule, one queue.
//!
//! | file | what |
//! |---|---|
//! | `queues` | who waits for which word; the part that a model checker runs |
//! | `robust` | the locks of a guest that died |
//!
//! [`FutexService`] is what a machine sees of it. Nothing here ever blocks, and nothing a guest asks can make anything
//! grow: a guest has [`MAX_TASKS`] tasks, and each waits once. The value of a word is read through the guest's own
//! window, which stays as it is while its lock ([`Home`](super::attach::Home)) is held.

mod queues;
mod robust;

/// The locks that `queues` uses; a test gives it others.
mod sync {
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}

pub(super) use queues::{Key, Queues, Sleepers};

use super::{Broker, Member, lock};
use crate::memory::GuestRam;
use crate::outcome::GuestFault;
use abi::tasks::{NOTICES, wake_bit, wake_word};
use abi::{Errno, MAX_TASKS};
use paging::GuestPhys;
use queues::{Bell, Cancelled, Refusal, Woken};
use std::sync::Arc;

/// Buckets of waiters: enough that the vCPUs of a large host seldom meet in one.
pub(super) const BUCKETS: usize = 256;

/// Memory that guests share, as they name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A segment, by its identifier.
    Segment(i32),
    /// An object, by its serial number.
    Object(u64),
}

/// A word in a segment or an object, as guests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedWord {
    /// Where.
    pub of: Shared,
    /// Bytes from its start.
    pub offset: u64,
}

/// A task that wants to wait ([`abi::hypercall::Call::FutexWait`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexWait {
    /// For what.
    pub word: SharedWord,
    /// The value the word must have.
    pub expected: u32,
    /// Which wakers are meant.
    pub bitset: u32,
    /// The task's slot.
    pub task: u32,
}

/// Tasks to wake ([`abi::hypercall::Call::FutexWake`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexWake {
    /// Who waits for this word.
    pub word: SharedWord,
    /// At most so many.
    pub count: u64,
    /// Which waiters are meant.
    pub bitset: u32,
}

/// Tasks to wake, and others that are to wait for another word ([`abi::hypercall::Call::FutexRequeue`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexRequeue {
    /// Who waits for this word.
    pub from: SharedWord,
    /// The other word.
    pub to: SharedWord,
    /// How many to wake at most.
    pub wake: u32,
    /// How many others to move at most.
    pub requeue: u32,
    /// The value the first word must have, if that matters.
    pub expected: Option<u32>,
}

/// What a wake-up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexWoken {
    /// Tasks woken, and moved.
    pub count: u64,
    /// Whether the asking guest must look at its own wake bits.
    pub own: bool,
}

/// What a machine asks about words on behalf of its guest. Every method copes with anything a guest may send, from any
/// vCPU, and never blocks.
pub trait FutexService: Send + Sync {
    /// A task of `guest`, on vCPU `vcpu`, waits for a word.
    ///
    /// # Errors
    /// EAGAIN if the word has another value. EINVAL if the guest has not attached the segment, or the task waits
    /// already; EFAULT if the word can't be read.
    fn futex_wait(&self, guest: u32, vcpu: u32, wait: &FutexWait) -> Result<(), Errno>;

    /// Wakes tasks that wait for a word, in the order they came.
    ///
    /// # Errors
    /// EINVAL if the guest has not attached the segment; EFAULT if the word does not lie in it.
    fn futex_wake(&self, guest: u32, wake: &FutexWake) -> Result<FutexWoken, Errno>;

    /// Wakes some of those who wait for a word, and has others wait for another one.
    ///
    /// # Errors
    /// As the two above.
    fn futex_requeue(&self, guest: u32, requeue: &FutexRequeue) -> Result<FutexWoken, Errno>;

    /// A task waits no longer. True if it had been woken.
    ///
    /// # Errors
    /// EINVAL if it never waited, or the guest is gone.
    fn futex_cancel(&self, guest: u32, task: u32) -> Result<bool, Errno>;
}

/// How the broker reaches a guest.
pub trait Reach: Send + Sync {
    /// The guest's RAM.
    fn ram(&self) -> &GuestRam;
    /// Raises [`abi::boot::VECTOR_WAKE`] on a vCPU, which the guest may not have.
    fn interrupt(&self, vcpu: u32);
}

/// Where a guest hears of its tasks' wake-ups.
pub struct Inbox {
    machine: Arc<dyn Reach>,
    end: Box<dyn Fn(GuestFault) + Send + Sync>,
    /// Its [`abi::tasks::TaskPage`].
    tasks: GuestPhys,
}

impl Inbox {
    /// The inbox of the guest that `machine` reaches, whose [`abi::tasks::TaskPage`] lies at `tasks`. `end` ends the
    /// guest, and returns at once.
    #[must_use]
    pub fn new(
        machine: Arc<dyn Reach>,
        tasks: GuestPhys,
        end: Box<dyn Fn(GuestFault) + Send + Sync>,
    ) -> Inbox {
        Inbox { machine, end, tasks }
    }

    /// Posts notices ([`abi::object::NOTICE_SHRINK`] …).
    pub(super) fn notice(&self, bits: u64) {
        let ram = self.machine.ram();
        // Can't fail: the VMM has laid the page out itself, in RAM.
        if ram.fetch_or(self.tasks.add(NOTICES), bits) == Ok(0) {
            self.machine.interrupt(0);
        }
    }

    /// Ends the guest.
    pub(super) fn end(&self, fault: GuestFault) {
        (self.end)(fault);
    }

    pub(super) fn sleepers(self) -> Arc<Sleepers<Inbox>> {
        Arc::new(Sleepers::new(self, MAX_TASKS))
    }
}

impl Bell for Inbox {
    fn post(&self, task: usize) -> bool {
        let word = self.tasks.add(wake_word(task));
        self.machine
            .ram()
            .fetch_or(word, wake_bit(task))
            // Can't be: the VMM has laid the page out itself, in RAM.
            .is_ok_and(|before| before == 0)
    }

    fn is_posted(&self, task: usize) -> bool {
        let word = self.tasks.add(wake_word(task));
        self.machine
            .ram()
            .fetch_or(word, 0)
            .is_ok_and(|bits| bits & wake_bit(task) != 0)
    }

    fn ring(&self, vcpu: u32) {
        self.machine.interrupt(vcpu);
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        match refusal {
            Refusal::Changed => Errno::EAGAIN,
            Refusal::Invalid => Errno::EINVAL,
        }
    }
}

impl From<Woken> for FutexWoken {
    fn from(woken: Woken) -> FutexWoken {
        FutexWoken {
            count: woken.woken + woken.moved,
            own: woken.own,
        }
    }
}

impl FutexService for Broker {
    fn futex_wait(&self, guest: u32, vcpu: u32, wait: &FutexWait) -> Result<(), Errno> {
        let member = self.member(guest)?;
        let home = lock(&member.home);
        let found = home.word(wait.word)?;
        let (task, load) = (wait.task as usize, || found.word.load());
        let sleepers = &member.sleepers;
        let (bitset, expected) = (wait.bitset, wait.expected);
        Ok(self
            .queues
            .wait(sleepers, task, vcpu, found.key, bitset, expected, load)?)
    }

    fn futex_wake(&self, guest: u32, wake: &FutexWake) -> Result<FutexWoken, Errno> {
        let member = self.member(guest)?;
        let key = lock(&member.home).key(wake.word)?;
        let asker = Some(&member.sleepers);
        Ok(self.queues.wake(asker, key, wake.count, wake.bitset).into())
    }

    fn futex_requeue(&self, guest: u32, requeue: &FutexRequeue) -> Result<FutexWoken, Errno> {
        let member = self.member(guest)?;
        let home = lock(&member.home);
        let from = home.word(requeue.from)?;
        let to = home.key(requeue.to)?;
        let compare = requeue.expected.map(|expected| (expected, || from.word.load()));
        let counts = (u64::from(requeue.wake), u64::from(requeue.requeue));
        let asker = Some(&member.sleepers);
        Ok(self
            .queues
            .requeue(asker, (from.key, to), counts, compare)?
            .into())
    }

    fn futex_cancel(&self, guest: u32, task: u32) -> Result<bool, Errno> {
        let member = self.member(guest)?;
        let cancelled = self.queues.cancel(&member.sleepers, task as usize)?;
        Ok(cancelled == Cancelled::Woken)
    }
}

impl Broker {
    /// The guest is dead: none of it waits any more, and the locks its tasks held are free for others to recover.
    pub(super) fn forget_waiters(&self, guest: u32, member: &Member) {
        // Its waiters leave first: a wake-up of one that is dead would be lost.
        self.queues.leave(&member.sleepers);
        let Inbox { machine, tasks, .. } = member.sleepers.bell();
        let home = lock(&member.home);
        robust::give_back_locks(guest, machine.ram(), *tasks, &home, &self.queues);
    }
}
