//! Who waits for which word: of this guest's own words here, of words in segments with the broker ([`shared`]);
//! which of them an address is, `place` says.
//!
//! A word that only this guest can reach is known by where it is, not by who maps it where ([`FutexKey`]): by
//! guest-physical address in files, by number in shared anonymous memory; a private one by its address space and its address, because after
//! fork two processes have one frame behind it, until one of them writes. Here are buckets of parked tasks, in the order
//! they came. Comparing and parking happen under the kernel lock, so no wake-up is lost.

pub mod place;
pub mod shared;

use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::process::task::{FutexKey, NONE, State, Tasks, Wait};
use abi::MAX_TASKS;

const BUCKETS: usize = 64;

/// The waiters.
pub struct Futexes {
    heads: [u16; BUCKETS],
}

fn bucket(key: FutexKey) -> usize {
    let (where_from, offset) = match key {
        FutexKey::Shared(gpa) => (0, gpa),
        FutexKey::Anonymous(byte) => (1, byte),
        FutexKey::Private { space, address, .. } => (u64::from(space), address),
    };
    ((offset >> 2) ^ (offset >> 12) ^ where_from) as usize % BUCKETS
}

fn waits(tasks: &Tasks, task: u16) -> Option<(FutexKey, u32)> {
    match tasks[usize::from(task) % MAX_TASKS].state {
        State::Parked(Wait::Futex { key, bitset }) => Some((key, bitset)),
        _ => None,
    }
}

impl Futexes {
    /// Nobody waits.
    pub const fn new() -> Futexes {
        Futexes {
            heads: [NONE; BUCKETS],
        }
    }

    /// Adds `task`, which is parked for `key`, at the end.
    pub fn add(&mut self, tasks: &mut Tasks, key: FutexKey, task: u16) {
        tasks[usize::from(task)].next = NONE;
        let head = &mut self.heads[bucket(key)];
        if *head == NONE {
            *head = task;
            return;
        }
        let mut at = *head;
        while tasks[usize::from(at)].next != NONE {
            at = tasks[usize::from(at)].next;
        }
        tasks[usize::from(at)].next = task;
    }

    /// Takes `task` out, wherever in the bucket of `key` it is.
    fn remove(&mut self, tasks: &mut Tasks, key: FutexKey, task: u16) {
        let next = tasks[usize::from(task)].next;
        let mut at = self.heads[bucket(key)];
        if at == task {
            self.heads[bucket(key)] = next;
            return;
        }
        while at != NONE {
            let after = tasks[usize::from(at)].next;
            if after == task {
                tasks[usize::from(at)].next = next;
                return;
            }
            at = after;
        }
    }

    /// Takes out the first task that waits for `key` with a bit of `bitset`.
    fn take(&mut self, tasks: &mut Tasks, key: FutexKey, bitset: u32) -> Option<u16> {
        let mut at = self.heads[bucket(key)];
        while at != NONE {
            if let Some((its_key, its_bits)) = waits(tasks, at)
                && its_key == key
                && its_bits & bitset != 0
            {
                self.remove(tasks, key, at);
                return Some(at);
            }
            at = tasks[usize::from(at)].next;
        }
        None
    }

    /// Has at most `count` of those who wait for `from` wait for `to`, after those who do already. How many.
    pub fn requeue(&mut self, tasks: &mut Tasks, from: FutexKey, to: FutexKey, count: u64) -> u64 {
        let mut moved = 0;
        if from == to {
            // As Linux: they stay where they are, and count.
            let mut at = self.heads[bucket(from)];
            while at != NONE && moved < count {
                moved += u64::from(waits(tasks, at).is_some_and(|(key, _)| key == from));
                at = tasks[usize::from(at)].next;
            }
            return moved;
        }
        while moved < count
            && let Some(task) = self.take(tasks, from, u32::MAX)
        {
            if let State::Parked(Wait::Futex { key, .. }) = &mut tasks[usize::from(task)].state {
                *key = to;
            }
            self.add(tasks, to, task);
            moved += 1;
        }
        moved
    }
}

impl Kernel {
    /// Wakes at most `count` of those who wait for `key` with a bit of `bitset`, in the order they came. How many.
    pub fn wake_futex(&mut self, cpu: &Cpu, key: FutexKey, count: u64, bitset: u32) -> u64 {
        let mut woken = 0;
        while woken < count
            && let Some(task) = self.futexes.take(self.tasks, key, bitset)
        {
            Context::of(task).set_result(0);
            self.wake(cpu, task);
            woken += 1;
        }
        woken
    }

    /// Task `task`, parked, is about to be woken by something else, or to end: if it waits for a word it does so no
    /// longer. True if it had been woken already: then its call returns 0.
    pub fn leave_futex(&mut self, task: u16) -> bool {
        match self.tasks[usize::from(task)].state {
            State::Parked(Wait::Futex { key, .. }) => {
                self.futexes.remove(self.tasks, key, task);
                false
            }
            State::Parked(Wait::SharedFutex) => self.cancel_shared(task),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::task::Task;

    fn park(tasks: &mut Tasks, futexes: &mut Futexes, task: u16, key: FutexKey, bitset: u32) {
        tasks[usize::from(task)].state = State::Parked(Wait::Futex { key, bitset });
        futexes.add(tasks, key, task);
    }

    const KEY: FutexKey = FutexKey::Shared(64);
    /// In the same bucket.
    const OTHER: FutexKey = FutexKey::Shared(64 + ((BUCKETS as u64) << 2) * 1024);

    #[test]
    fn waiters_of_a_word_are_woken_in_the_order_they_came() {
        let mut tasks = [const { Task::FREE }; MAX_TASKS];
        let mut futexes = Futexes::new();
        park(&mut tasks, &mut futexes, 3, KEY, 1);
        park(&mut tasks, &mut futexes, 9, OTHER, 1);
        park(&mut tasks, &mut futexes, 1, KEY, 2);
        park(&mut tasks, &mut futexes, 2, KEY, 1);
        assert_eq!(futexes.take(&mut tasks, KEY, 2), Some(1));
        assert_eq!(futexes.take(&mut tasks, KEY, u32::MAX), Some(3));
        futexes.remove(&mut tasks, OTHER, 9);
        assert_eq!(futexes.take(&mut tasks, OTHER, u32::MAX), None);
        assert_eq!(futexes.take(&mut tasks, KEY, u32::MAX), Some(2));
        assert_eq!(futexes.take(&mut tasks, KEY, u32::MAX), None);
    }

    #[test]
    fn waiters_that_are_moved_come_after_those_who_wait_there() {
        let mut tasks = [const { Task::FREE }; MAX_TASKS];
        for elsewhere in [OTHER, FutexKey::Shared(68)] {
            let mut futexes = Futexes::new();
            for task in 1..5 {
                park(&mut tasks, &mut futexes, task, KEY, 1 << task);
            }
            park(&mut tasks, &mut futexes, 5, elsewhere, 1);
            assert_eq!(futexes.requeue(&mut tasks, KEY, KEY, 3), 3);
            assert_eq!(futexes.requeue(&mut tasks, KEY, KEY, 9), 4);
            assert_eq!(futexes.requeue(&mut tasks, KEY, elsewhere, 2), 2);
            for task in [5, 1, 2] {
                assert_eq!(futexes.take(&mut tasks, elsewhere, u32::MAX), Some(task));
            }
            assert_eq!(futexes.requeue(&mut tasks, KEY, elsewhere, 9), 2);
            // The bits go with the waiter.
            assert_eq!(futexes.take(&mut tasks, elsewhere, 1 << 4), Some(4));
            assert_eq!(futexes.take(&mut tasks, KEY, u32::MAX), None);
        }
    }
}
