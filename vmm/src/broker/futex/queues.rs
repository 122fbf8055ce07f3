//! Who waits for which word: the queues themselves, and nothing of guests, windows or KVM.
//!
//! [`Queues`] are buckets of waiters, each under its own lock; a word's bucket is worked out from its [`Key`]. A guest
//! is known as a [`Sleepers`]: for each of its tasks, what it waits for. A waiter is in the bucket of the key that its
//! guest's entry names, exactly while that entry is [`Wait::Queued`].
//!
//! Why no wake-up is lost (docs/waiting.md has the whole argument): whoever waits looks at the word *while it holds
//! the bucket's lock*; whoever wakes has changed the word before it takes that lock. So either the waker comes first,
//! and the waiter sees the new value, or the waiter comes first, and the waker finds it in the queue. A wake-up is
//! handed over (the entry becomes [`Wait::Woken`], the guest's wake bit is set) under the same lock and the guest's, so that there is
//! no moment at which it is neither in a queue nor with the guest; and one that a guest did not take before it died
//! goes to somebody else ([`Queues::leave`]).
//!
//! Locks, in this order: buckets (two of them in the order of their numbers), then one guest's [`Sleepers`]. Interrupts
//! are raised without any.
//!
//! This file names its locks through `super::sync`, so that a test includes it with the types of a model checker in
//! their place (`vmm/tests/futex_model.rs`).

use super::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;

/// A word in a segment or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The number of either, which no other ever has.
    pub(crate) segment: u64,
    /// Bytes from its start.
    pub(crate) offset: u64,
}

/// How a guest hears that its tasks have been woken.
pub(crate) trait Bell {
    /// Sets the wake bit of task `task`; true if the guest has to be interrupted to look: it has not been already.
    fn post(&self, task: usize) -> bool;
    /// Whether the wake bit of task `task` is set: the guest has not taken it.
    fn is_posted(&self, task: usize) -> bool;
    /// Interrupts vCPU `vcpu`.
    fn ring(&self, vcpu: u32);
}

/// What a task does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing.
    Idle,
    /// It waits for this word.
    Queued(Key),
    /// It was woken from this one, by a wake-up for these bits.
    Woken(Key, u32),
}

/// The tasks of one guest.
pub(crate) struct Sleepers<B> {
    bell: B,
    state: Mutex<State>,
}

struct State {
    gone: bool,
    tasks: Vec<Wait>,
}

/// One task that waits.
struct Waiter<B> {
    key: Key,
    bitset: u32,
    guest: Arc<Sleepers<B>>,
    task: usize,
    /// Where it waited: the vCPU to interrupt.
    vcpu: u32,
}

/// Why a task is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The word has another value.
    Changed,
    /// The task waits already, does not exist, or its guest is gone.
    Invalid,
}

/// What a cancel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The task waited; it does no longer.
    TakenOut,
    /// The task had been woken.
    Woken,
}

/// What became of waiters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// How many were woken.
    pub(crate) woken: u64,
    /// How many wait for another word now.
    pub(crate) moved: u64,
    /// Whether tasks of the guest that asked are among those woken: it is not interrupted, but must look.
    pub(crate) own: bool,
}

impl<B: Bell> Sleepers<B> {
    /// A guest with so many tasks, none of which waits.
    pub(crate) fn new(bell: B, tasks: usize) -> Sleepers<B> {
        let tasks = vec![Wait::Idle; tasks];
        Sleepers {
            bell,
            state: Mutex::new(State { gone: false, tasks }),
        }
    }

    /// How it hears of wake-ups.
    pub(crate) fn bell(&self) -> &B {
        &self.bell
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_of(&self, task: usize) -> Option<Wait> {
        self.state().tasks.get(task).copied()
    }
}

/// Interrupts that are due: one for each guest, to the vCPU of the first task woken there.
struct Rings<'a, B> {
    /// The guest that asked.
    asker: Option<&'a Arc<Sleepers<B>>>,
    due: Vec<(Arc<Sleepers<B>>, u32)>,
}

impl<B: Bell> Rings<'_, B> {
    fn ring(self) {
        for (guest, vcpu) in self.due {
            guest.bell.ring(vcpu);
        }
    }
}

type Bucket<B> = VecDeque<Waiter<B>>;

/// Everybody who waits.
pub(crate) struct Queues<B> {
    buckets: Vec<Mutex<Bucket<B>>>,
}

impl<B: Bell> Queues<B> {
    /// Nobody waits. There is at least one bucket.
    pub(crate) fn new(buckets: usize) -> Queues<B> {
        let buckets = (0..buckets.max(1)).map(|_| Mutex::new(VecDeque::new()));
        Queues {
            buckets: buckets.collect(),
        }
    }

    /// Queues `task` of `guest` for the word `key`, if the word has the value `expected`: `load` reads it, under the
    /// bucket's lock.
    #[expect(clippy::too_many_arguments, reason = "what futex(2) takes, and who asks")]
    pub(crate) fn wait(
        &self,
        guest: &Arc<Sleepers<B>>,
        task: usize,
        vcpu: u32,
        key: Key,
        bitset: u32,
        expected: u32,
        load: impl FnOnce() -> u32,
    ) -> Result<(), Refusal> {
        let mut bucket = self.lock(self.number(key));
        if load() != expected {
            return Err(Refusal::Changed);
        }
        let mut state = guest.state();
        if state.gone {
            return Err(Refusal::Invalid);
        }
        let wait = state.tasks.get_mut(task).ok_or(Refusal::Invalid)?;
        if matches!(wait, Wait::Queued(_)) {
            return Err(Refusal::Invalid);
        }
        *wait = Wait::Queued(key);
        bucket.push_back(Waiter {
            key,
            bitset,
            guest: Arc::clone(guest),
            task,
            vcpu,
        });
        Ok(())
    }

    /// Wakes at most `count` of those who wait for `key` with a bit of `bitset`, in the order they came. `asker` is the
    /// guest that asks.
    pub(crate) fn wake(&self, asker: Option<&Arc<Sleepers<B>>>, key: Key, count: u64, bitset: u32) -> Woken {
        let mut result = Woken::default();
        let mut rings = Rings {
            asker,
            due: Vec::new(),
        };
        let mut bucket = self.lock(self.number(key));
        let mut at = 0;
        while result.woken < count
            && let Some(waiter) = bucket.get(at)
        {
            if waiter.key != key || waiter.bitset & bitset == 0 {
                at += 1;
            } else if let Some(waiter) = bucket.remove(at) {
                hand_over(waiter, bitset, &mut rings, &mut result);
            }
        }
        drop(bucket);
        rings.ring();
        result
    }

    /// Wakes at most `wake` of those who wait for `from`, and has at most `requeue` of the others wait for `to`, after
    /// those who do already. With `compare`, a value and what reads the first word, only if the word has that value.
    pub(crate) fn requeue(
        &self,
        asker: Option<&Arc<Sleepers<B>>>,
        (from, to): (Key, Key),
        (wake, requeue): (u64, u64),
        compare: Option<(u32, impl FnOnce() -> u32)>,
    ) -> Result<Woken, Refusal> {
        let mut result = Woken::default();
        let mut rings = Rings {
            asker,
            due: Vec::new(),
        };
        let (mut source, mut target) = self.lock_two(self.number(from), self.number(to));
        if let Some((expected, load)) = compare
            && load() != expected
        {
            return Err(Refusal::Changed);
        }
        let mut at = 0;
        // Waiters that have been moved within one bucket must not be met again.
        let mut left = source.len();
        while left > 0
            && let Some(waiter) = source.get(at)
        {
            left -= 1;
            if waiter.key != from {
                at += 1;
            } else if result.woken < wake {
                if let Some(waiter) = source.remove(at) {
                    hand_over(waiter, u32::MAX, &mut rings, &mut result);
                }
            } else if result.moved == requeue {
                break;
            } else if from == to {
                // As Linux: it stays where it is, and counts.
                result.moved += 1;
                at += 1;
            } else if let Some(mut waiter) = source.remove(at) {
                waiter.key = to;
                if let Some(wait) = waiter.guest.state().tasks.get_mut(waiter.task) {
                    *wait = Wait::Queued(to);
                }
                target.as_mut().unwrap_or(&mut source).push_back(waiter);
                result.moved += 1;
            }
        }
        drop((source, target));
        rings.ring();
        Ok(result)
    }

    /// `task` of `guest` no longer waits.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if it has not waited, or there is no such task.
    pub(crate) fn cancel(&self, guest: &Arc<Sleepers<B>>, task: usize) -> Result<Cancelled, Refusal> {
        loop {
            match guest.wait_of(task) {
                None | Some(Wait::Idle) => return Err(Refusal::Invalid),
                Some(Wait::Woken(..)) => return Ok(Cancelled::Woken),
                Some(Wait::Queued(key)) => {
                    if self.take_out(guest, task, key) {
                        return Ok(Cancelled::TakenOut);
                    }
                    // It was moved to another word or woken in between: look again.
                }
            }
        }
    }

    /// Takes `task` of `guest` out of the queue for `key`, if it is there.
    fn take_out(&self, guest: &Arc<Sleepers<B>>, task: usize, key: Key) -> bool {
        let mut bucket = self.lock(self.number(key));
        let mut state = guest.state();
        let Some(wait) = state
            .tasks
            .get_mut(task)
            .filter(|wait| **wait == Wait::Queued(key))
        else {
            return false;
        };
        *wait = Wait::Idle;
        let found = bucket
            .iter()
            .position(|waiter| waiter.task == task && Arc::ptr_eq(&waiter.guest, guest));
        found.is_some_and(|at| bucket.remove(at).is_some())
    }

    /// `guest` is gone, and runs no more: nobody of it waits any longer, or ever again, and a wake-up that it was given
    /// but has not taken goes to the next who waits.
    pub(crate) fn leave(&self, guest: &Arc<Sleepers<B>>) {
        let tasks = {
            let mut state = guest.state();
            state.gone = true;
            state.tasks.len()
        };
        // First all leave the queues, so that none of them is the next.
        let mut not_taken = Vec::new();
        for task in 0..tasks {
            while let Some(Wait::Queued(key)) = guest.wait_of(task) {
                self.take_out(guest, task, key);
            }
            if let Some(Wait::Woken(key, bitset)) = guest.wait_of(task)
                && guest.bell.is_posted(task)
            {
                not_taken.push((key, bitset));
            }
        }
        for (key, bitset) in not_taken {
            self.wake(None, key, 1, bitset);
        }
    }

    /// The bucket of a word: any function of the key will do; this one spreads neighbours.
    fn number(&self, key: Key) -> usize {
        let mixed = (key.offset >> 2)
            .wrapping_add(key.segment.wrapping_mul(0x9e37_79b9))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % self.buckets.len()
    }

    fn lock(&self, number: usize) -> MutexGuard<'_, Bucket<B>> {
        // `number` is one that `Queues::number` has given. A poisoned lock guards nothing half-done.
        self.buckets[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Two buckets; the second is `None` if it is the first.
    fn lock_two(
        &self,
        first: usize,
        second: usize,
    ) -> (MutexGuard<'_, Bucket<B>>, Option<MutexGuard<'_, Bucket<B>>>) {
        match first.cmp(&second) {
            std::cmp::Ordering::Equal => (self.lock(first), None),
            std::cmp::Ordering::Less => {
                let locked = self.lock(first);
                (locked, Some(self.lock(second)))
            }
            std::cmp::Ordering::Greater => {
                let other = self.lock(second);
                (self.lock(first), Some(other))
            }
        }
    }
}

/// Gives a wake-up to a waiter that has just been taken out of its bucket, which is still locked.
fn hand_over<B: Bell>(waiter: Waiter<B>, bitset: u32, rings: &mut Rings<'_, B>, result: &mut Woken) {
    let Waiter {
        key,
        guest,
        task,
        vcpu,
        ..
    } = waiter;
    let must_ring = {
        let mut state = guest.state();
        if let Some(wait) = state.tasks.get_mut(task) {
            *wait = Wait::Woken(key, bitset);
        }
        // Under the lock: whoever finds the entry changed finds the bit set.
        guest.bell.post(task)
    };
    result.woken += 1;
    if rings.asker.is_some_and(|asker| Arc::ptr_eq(asker, &guest)) {
        result.own = true;
    } else if must_ring && !rings.due.iter().any(|(known, _)| Arc::ptr_eq(known, &guest)) {
        rings.due.push((guest, vcpu));
    }
}
