//! Waiting for words in segments and objects: the broker keeps the queues, this side parks tasks and takes their wake-ups.
//!
//! The broker compares the word and queues the task in one step ([`Host::FutexWait`]), and sets the task's wake bit
//! ([`abi::tasks`]) when it is woken. A task is parked here exactly while the broker has it in a queue or its bit is
//! set: all of this happens under the kernel lock, requests never block, and bits are taken under the lock, too. A wait
//! that ends otherwise is cancelled first, and may turn out to have ended already.

use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::arch::direct;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use crate::process::task::{State, Wait};
use abi::Errno;
use abi::hypercall::{Call as Host, REQUEUE_COMPARE};
use abi::tasks::{NOTICES, TaskRecord, WAKE_WORDS, record, wake_bit, wake_word};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use paging::GuestPhys;

/// Where the [`abi::tasks::TaskPage`] is.
static PAGE: AtomicU64 = AtomicU64::new(0);

/// Takes note of where the [`abi::tasks::TaskPage`] is.
pub fn init(page: u64) {
    PAGE.store(page, Relaxed);
}

fn page(offset: u64) -> GuestPhys {
    GuestPhys::new(PAGE.load(Relaxed) + offset)
}

/// A word in a segment or an object, and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedWord {
    /// The broker's id, or the serial number of an object ([`abi::object::WORD_OF_OBJECT`]).
    pub id: u64,
    /// In bytes.
    pub offset: u64,
}

/// Takes what the host has posted for the kernel itself ([`abi::object::NOTICE_SHRINK`] …).
pub fn take_notices() -> u64 {
    let notices = page(NOTICES);
    if direct::load64(notices) == 0 {
        return 0;
    }
    direct::swap64(notices, 0)
}

fn ask(what: Host, args: &[u64]) -> Result<u64, Errno> {
    hypercall::call(what, Requester::default(), args)
}

impl Kernel {
    /// Has the broker queue task `task` for `word`. The caller parks it then.
    ///
    /// # Errors
    /// EAGAIN if the word is not `expected`; what else the broker says.
    pub fn wait_shared(
        &mut self,
        task: u16,
        word: SharedWord,
        expected: u32,
        bitset: u32,
    ) -> Result<(), Errno> {
        let args = [
            word.id,
            word.offset,
            u64::from(expected),
            u64::from(bitset),
            u64::from(task),
        ];
        ask(Host::FutexWait, &args).map(drop)
    }

    /// Has the broker wake at most `count` of those who wait for `word`. How many.
    ///
    /// # Errors
    /// What the broker says.
    pub fn wake_shared(
        &mut self,
        cpu: &'static Cpu,
        word: SharedWord,
        count: u64,
        bitset: u32,
    ) -> Result<u64, Errno> {
        let args = [word.id, word.offset, count, u64::from(bitset)];
        let woken = ask(Host::FutexWake, &args)?;
        self.take_own(cpu, woken);
        Ok(woken)
    }

    /// Has the broker wake some of those who wait for `from`, and others wait for `to`. How many all in all.
    ///
    /// # Errors
    /// EAGAIN if the first word is not `expected`; what else the broker says.
    pub fn requeue_shared(
        &mut self,
        cpu: &'static Cpu,
        (from, to): (SharedWord, SharedWord),
        (wake, requeue): (u32, u32),
        expected: Option<u32>,
    ) -> Result<u64, Errno> {
        let args = [
            from.id,
            from.offset,
            to.id,
            to.offset,
            u64::from(requeue) << 32 | u64::from(wake),
            expected.map_or(0, |expected| REQUEUE_COMPARE | u64::from(expected)),
        ];
        let woken = ask(Host::FutexRequeue, &args)?;
        self.take_own(cpu, woken);
        Ok(woken)
    }

    /// Takes the wake-ups of this guest's own tasks, if the last answer says that there are any.
    fn take_own(&mut self, cpu: &'static Cpu, woken: u64) {
        if woken != 0 && hypercall::out()[0] != 0 {
            self.take_wake_ups(cpu);
        }
    }

    /// Task `task`, parked for a word in a segment, waits no longer. True if it had been woken.
    pub(super) fn cancel_shared(&mut self, task: u16) -> bool {
        let had_been_woken = ask(Host::FutexCancel, &[u64::from(task)]) == Ok(1);
        if had_been_woken {
            let task = usize::from(task);
            direct::clear64(page(wake_word(task)), wake_bit(task));
        }
        had_been_woken
    }

    /// Makes the tasks ready that the broker has woken: their calls return 0.
    pub fn take_wake_ups(&mut self, cpu: &'static Cpu) {
        for word in 0..WAKE_WORDS {
            let place = page(wake_word(word * 64));
            if direct::load64(place) == 0 {
                continue;
            }
            let mut bits = direct::swap64(place, 0);
            while bits != 0 {
                let task = (word * 64) as u16 + bits.trailing_zeros() as u16;
                bits &= bits - 1;
                if self.tasks[usize::from(task)].state == State::Parked(Wait::SharedFutex) {
                    Context::of(task).set_result(0);
                    self.wake(cpu, task);
                }
            }
        }
    }

    /// Tells the host where task `task`'s robust list is, in case the whole guest dies; that there is none, if it has
    /// none.
    pub fn publish_robust_list(&mut self, task: u16) {
        let entry = &self.tasks[usize::from(task)];
        let place = |offset: usize| page(record(usize::from(task)) + offset as u64);
        if entry.robust_list != 0 {
            let root = self.spaces[entry.space].root().get();
            direct::store64(place(offset_of!(TaskRecord, id)), entry.id.into());
            direct::store64(place(offset_of!(TaskRecord, page_table)), root);
        }
        direct::store64(place(offset_of!(TaskRecord, robust_list)), entry.robust_list);
    }
}
