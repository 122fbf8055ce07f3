//! Who waits for which word: buckets of parked tasks, in the order they came.
//!
//! A shared word is known by where it is, not by who maps it where ([`FutexKey`]): by segment and offset, so that
//! processes that attach a segment at different addresses, or one of them read-only, mean the same word; by
//! guest-physical address in other shared memory. A private one is known by the address space and its address: after fork
//! two processes have one frame behind it, until one of them writes. Comparing and parking happen under the kernel lock, so no wake-up of
//! this guest is lost.

use crate::process::task::{FutexKey, NONE, State, Tasks, Wait};
use abi::MAX_TASKS;

const BUCKETS: usize = 64;

/// The waiters.
pub struct Futexes {
    heads: [u16; BUCKETS],
}

fn bucket(key: FutexKey) -> usize {
    let (where_from, offset) = match key {
        FutexKey::Segment(id, offset) => (id as u64, offset),
        FutexKey::Shared(gpa) => (0, gpa),
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
    pub fn remove(&mut self, tasks: &mut Tasks, key: FutexKey, task: u16) {
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
    pub fn take(&mut self, tasks: &mut Tasks, key: FutexKey, bitset: u32) -> Option<u16> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::task::Task;

    fn park(tasks: &mut Tasks, futexes: &mut Futexes, task: u16, key: FutexKey, bitset: u32) {
        tasks[usize::from(task)].state = State::Parked(Wait::Futex { key, bitset });
        futexes.add(tasks, key, task);
    }

    #[test]
    fn waiters_of_a_word_are_woken_in_the_order_they_came() {
        let mut tasks = [const { Task::FREE }; MAX_TASKS];
        let mut futexes = Futexes::new();
        let key = FutexKey::Segment(0, 64);
        // The same bucket, another word.
        let other = FutexKey::Segment(0, 64 + ((BUCKETS as u64) << 2) * 1024);
        park(&mut tasks, &mut futexes, 3, key, 1);
        park(&mut tasks, &mut futexes, 9, other, 1);
        park(&mut tasks, &mut futexes, 1, key, 2);
        park(&mut tasks, &mut futexes, 2, key, 1);
        assert_eq!(futexes.take(&mut tasks, key, 2), Some(1));
        assert_eq!(futexes.take(&mut tasks, key, u32::MAX), Some(3));
        futexes.remove(&mut tasks, other, 9);
        assert_eq!(futexes.take(&mut tasks, other, u32::MAX), None);
        assert_eq!(futexes.take(&mut tasks, key, u32::MAX), Some(2));
        assert_eq!(futexes.take(&mut tasks, key, u32::MAX), None);
    }
}
