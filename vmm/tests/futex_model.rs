//! The broker's very queues (`vmm/src/broker/futex/queues.rs`), under a model checker: loom runs each of these small
//! programs in every order in which their threads could meet, and finds any in which somebody sleeps for ever.
//!
//! What is modelled around the queues is what a guest does: its tasks sleep until their wake bit is set, and it looks
//! at the bits only when it is interrupted.

mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    // Counting references is not what is modelled.
    pub(crate) use std::sync::{Arc, PoisonError};
}

#[path = "../src/broker/futex/queues.rs"]
#[expect(dead_code, reason = "what only the broker asks")]
mod queues;

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use queues::{Bell, Cancelled, Key, Queues, Refusal, Sleepers, Woken};
use sync::Arc;

/// A guest's memory and its interrupt line.
struct Guest {
    wake_bits: AtomicU64,
    interrupted: Mutex<bool>,
    line: Condvar,
}

impl Bell for Guest {
    fn post(&self, task: usize) -> bool {
        self.wake_bits.fetch_or(1 << task, Ordering::AcqRel) == 0
    }
    fn is_posted(&self, task: usize) -> bool {
        self.wake_bits.load(Ordering::Acquire) & 1 << task != 0
    }
    fn ring(&self, _vcpu: u32) {
        *self.interrupted.lock().unwrap() = true;
        self.line.notify_one();
    }
}

impl Guest {
    fn new() -> Guest {
        Guest {
            wake_bits: AtomicU64::new(0),
            interrupted: Mutex::new(false),
            line: Condvar::new(),
        }
    }

    fn take(&self) -> u64 {
        self.wake_bits.swap(0, Ordering::AcqRel)
    }
}

const WORD: Key = Key {
    segment: 1,
    offset: 0,
};
const OTHER: Key = Key {
    segment: 1,
    offset: 4,
};
const ANY: u32 = u32::MAX;

/// A guest, and where the queues keep its tasks.
type Member = (Arc<Guest>, Arc<Sleepers<Arc<Guest>>>);

/// Guests of two tasks each, and the queues they share.
struct World {
    queues: Queues<Arc<Guest>>,
    guests: Vec<Member>,
    word: AtomicU32,
}

impl Bell for Arc<Guest> {
    fn post(&self, task: usize) -> bool {
        (**self).post(task)
    }
    fn is_posted(&self, task: usize) -> bool {
        (**self).is_posted(task)
    }
    fn ring(&self, vcpu: u32) {
        (**self).ring(vcpu);
    }
}

impl World {
    fn new(guests: usize, buckets: usize) -> Arc<World> {
        let guest = |_| {
            let guest = Arc::new(Guest::new());
            (Arc::clone(&guest), Arc::new(Sleepers::new(guest, 2)))
        };
        Arc::new(World {
            queues: Queues::new(buckets),
            guests: (0..guests).map(guest).collect(),
            word: AtomicU32::new(0),
        })
    }

    fn wait(&self, guest: usize, task: usize, key: Key, expected: u32) -> Result<(), Refusal> {
        let load = || self.word.load(Ordering::Relaxed);
        self.queues
            .wait(&self.guests[guest].1, task, 0, key, ANY, expected, load)
    }

    fn wake(&self, guest: usize, key: Key, count: u64) -> Woken {
        self.queues.wake(Some(&self.guests[guest].1), key, count, ANY)
    }

    fn requeue(&self, guest: usize, counts: (u64, u64), compare: Option<u32>) -> Result<Woken, Refusal> {
        let compare = compare.map(|expected| (expected, || self.word.load(Ordering::Relaxed)));
        self.queues
            .requeue(Some(&self.guests[guest].1), (WORD, OTHER), counts, compare)
    }

    fn cancel(&self, guest: usize, task: usize) -> Result<Cancelled, Refusal> {
        self.queues.cancel(&self.guests[guest].1, task)
    }

    /// The guest sleeps until it is interrupted, as often as it takes for these tasks to be woken.
    fn sleep(&self, guest: usize, tasks: u64) {
        let guest = &self.guests[guest].0;
        let mut missing = tasks;
        while missing != 0 {
            let mut interrupted = guest.interrupted.lock().unwrap();
            while !*interrupted {
                interrupted = guest.line.wait(interrupted).unwrap();
            }
            *interrupted = false;
            drop(interrupted);
            missing &= !guest.take();
        }
    }

    fn is_posted(&self, guest: usize, task: usize) -> bool {
        self.guests[guest].0.is_posted(task)
    }
}

/// Starts a thread of the model.
fn with(world: &Arc<World>, work: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || work(&world))
}

#[test]
fn whoever_waits_sees_the_new_value_or_is_woken() {
    loom::model(|| {
        let world = World::new(2, 1);
        let waker = with(&world, |world| {
            world.word.store(1, Ordering::Relaxed);
            world.wake(1, WORD, 1);
        });
        match world.wait(0, 0, WORD, 0) {
            Ok(()) => world.sleep(0, 1),
            Err(refusal) => assert_eq!(refusal, Refusal::Changed),
        }
        assert_eq!(world.word.load(Ordering::Relaxed), 1);
        waker.join().unwrap();
    });
}

/// The model is able to find what it looks for: with the word read before the lock is taken, somebody sleeps on.
#[test]
#[should_panic(expected = "deadlock")]
fn a_word_that_is_read_without_the_lock_loses_a_wake_up() {
    loom::model(|| {
        let world = World::new(2, 1);
        let waker = with(&world, |world| {
            world.word.store(1, Ordering::Relaxed);
            world.wake(1, WORD, 1);
        });
        let too_early = world.word.load(Ordering::Relaxed);
        let waits = world
            .queues
            .wait(&world.guests[0].1, 0, 0, WORD, ANY, 0, || too_early);
        if waits.is_ok() {
            world.sleep(0, 1);
        }
        waker.join().unwrap();
    });
}

#[test]
fn two_wakers_at_once_reach_both_tasks_of_a_guest() {
    loom::model(|| {
        let world = World::new(3, 1);
        world.wait(0, 0, WORD, 0).unwrap();
        world.wait(0, 1, WORD, 0).unwrap();
        let wakers = [1, 2].map(|guest| {
            with(&world, move |world| {
                assert_eq!(world.wake(guest, WORD, 1).woken, 1);
            })
        });
        world.sleep(0, 0b11);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// A guest that wakes tasks of its own is not interrupted for them, but looks at all its wake bits.
#[test]
fn a_guest_that_wakes_its_own_and_one_that_wakes_it_reach_both_tasks() {
    loom::model(|| {
        let world = World::new(2, 1);
        world.wait(0, 0, WORD, 0).unwrap();
        world.wait(0, 1, WORD, 0).unwrap();
        let other = with(&world, |world| {
            assert_eq!(world.wake(1, WORD, 1).woken, 1);
        });
        let woken = world.wake(0, WORD, 1);
        assert!(woken.own && woken.woken == 1);
        let seen = world.guests[0].0.take();
        world.sleep(0, 0b11 & !seen);
        other.join().unwrap();
    });
}

#[test]
fn two_tasks_that_wait_and_wake_each_other_never_both_sleep() {
    loom::model(|| {
        let world = World::new(2, 1);
        // A lock: 1 is held, and both take it once. Whoever finds it held waits, whoever gives it back wakes.
        let lock = |world: &World, guest: usize| {
            while world.word.swap(1, Ordering::AcqRel) == 1 {
                if world.wait(guest, 0, WORD, 1).is_ok() {
                    world.sleep(guest, 1);
                }
            }
            // An exchange rather than a store, as libraries do: loom does not put a store after the exchanges of others
            // that came before it.
            world.word.swap(0, Ordering::AcqRel);
            world.wake(guest, WORD, 1);
        };
        let other = with(&world, move |world| lock(world, 1));
        lock(&world, 0);
        other.join().unwrap();
    });
}

#[test]
fn a_cancel_and_a_wake_agree_on_who_was_first() {
    loom::model(|| {
        let world = World::new(2, 1);
        world.wait(0, 0, WORD, 0).unwrap();
        let canceller = with(&world, |world| match world.cancel(0, 0) {
            Ok(Cancelled::TakenOut) => assert!(!world.is_posted(0, 0)),
            Ok(Cancelled::Woken) => assert!(world.is_posted(0, 0)),
            Err(refusal) => panic!("{refusal:?}"),
        });
        let woken = world.wake(1, WORD, 1).woken;
        canceller.join().unwrap();
        assert_eq!(woken, u64::from(world.is_posted(0, 0)));
        assert_eq!(world.wake(1, WORD, 1).woken, 0);
    });
}

#[test]
fn a_waiter_that_is_moved_is_woken_by_one_waker_and_can_always_be_cancelled() {
    for buckets in [1, 2] {
        loom::model(move || {
            let world = World::new(3, buckets);
            world.wait(0, 0, WORD, 0).unwrap();
            let mover = with(&world, |world| {
                assert_eq!(world.requeue(1, (0, 1), None).map(|result| result.moved), Ok(1));
            });
            let early = world.wake(2, OTHER, 1).woken;
            mover.join().unwrap();
            assert_eq!(early + world.wake(2, OTHER, 1).woken, 1);
            assert!(world.is_posted(0, 0));
        });
        loom::model(move || {
            let world = World::new(2, buckets);
            world.wait(0, 0, WORD, 0).unwrap();
            let mover = with(&world, |world| {
                assert!(world.requeue(1, (0, 1), None).is_ok());
            });
            assert_eq!(world.cancel(0, 0), Ok(Cancelled::TakenOut));
            mover.join().unwrap();
            assert_eq!(world.wake(1, WORD, 1).woken + world.wake(1, OTHER, 1).woken, 0);
        });
    }
}

#[test]
fn two_that_move_waiters_in_opposite_directions_do_not_block_each_other() {
    loom::model(|| {
        let world = World::new(2, 2);
        world.wait(0, 0, WORD, 0).unwrap();
        let mover = with(&world, |world| {
            let compare: Option<(u32, fn() -> u32)> = None;
            let back = world.queues.requeue(None, (OTHER, WORD), (0, 1), compare);
            assert!(back.is_ok());
        });
        assert!(world.requeue(1, (0, 1), None).is_ok());
        mover.join().unwrap();
        assert_eq!(world.wake(1, WORD, 1).woken + world.wake(1, OTHER, 1).woken, 1);
    });
}

#[test]
fn a_compared_move_and_a_store_with_a_wake_agree_on_who_was_first() {
    loom::model(|| {
        let world = World::new(3, 2);
        world.wait(0, 0, WORD, 0).unwrap();
        let mover = with(&world, |world| {
            let _ = world.requeue(1, (0, 1), Some(0));
        });
        world.word.store(1, Ordering::Relaxed);
        let woken = world.wake(2, WORD, 1).woken;
        mover.join().unwrap();
        // What the waker did not find had been moved when the word still had its old value.
        assert_eq!(woken + world.wake(2, OTHER, 1).woken, 1);
        assert!(world.is_posted(0, 0));
    });
}

#[test]
fn a_wake_up_that_a_dead_guest_did_not_take_goes_to_the_next_who_waits() {
    loom::model(|| {
        let world = World::new(3, 1);
        // The guest that dies came first, with two tasks.
        world.wait(0, 0, WORD, 0).unwrap();
        world.wait(0, 1, WORD, 0).unwrap();
        world.wait(1, 0, WORD, 0).unwrap();
        let undertaker = with(&world, |world| world.queues.leave(&world.guests[0].1));
        assert_eq!(world.wake(2, WORD, 1).woken, 1);
        world.sleep(1, 1);
        undertaker.join().unwrap();
        assert_eq!(world.wait(0, 0, WORD, 0), Err(Refusal::Invalid));
    });
}

#[test]
fn a_guest_that_dies_while_its_waiters_are_moved_leaves_none_behind() {
    loom::model(|| {
        let world = World::new(2, 2);
        world.wait(0, 0, WORD, 0).unwrap();
        let undertaker = with(&world, |world| world.queues.leave(&world.guests[0].1));
        assert!(world.requeue(1, (0, 1), None).is_ok());
        undertaker.join().unwrap();
        assert_eq!(world.wake(1, WORD, 9).woken + world.wake(1, OTHER, 9).woken, 0);
    });
}
