//! Numbers for processes and threads, which are of one kind: a process has that of its first thread. They rise, so
//! that a number is not used again soon, and go round; each time they do, those still in use are noted, and left out
//! in that round. (What is given within a round can't be met again in it.)

use super::{Process, Processes, task::Tasks};
use crate::kernel::Kernel;
use abi::{PID_BITS_IN_GUEST, group_pid};

const COUNT: u32 = 1 << PID_BITS_IN_GUEST;

/// The numbers of one guest.
pub struct Ids {
    last: u32,
    /// In use when this round began, a bit each.
    taken: [u64; COUNT as usize / 64],
}

impl Ids {
    /// None is in use. 0 and 1 are nobody's: programs take 1 for init.
    pub const fn new() -> Ids {
        Ids {
            last: 1,
            taken: [0; COUNT as usize / 64],
        }
    }

    /// The last one given in this guest.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// The next number that is free. `in_use` is asked for all that are when a round begins.
    fn next<I: Iterator<Item = u32>>(&mut self, in_use: impl Fn() -> I) -> u32 {
        loop {
            self.last += 1;
            if self.last == COUNT {
                self.last = 2;
                self.taken.fill(0);
                for id in in_use().map(|id| id % COUNT) {
                    self.taken[id as usize / 64] |= 1 << (id % 64);
                }
            }
            if self.taken[self.last as usize / 64] & 1 << (self.last % 64) == 0 {
                return self.last;
            }
        }
    }
}

/// Everything that is some process's or thread's number, or once was a process's and names its group or session.
fn in_use(tasks: &Tasks, processes: &Processes) -> impl Iterator<Item = u32> {
    let of_process = |process: &Process| [process.pid, process.group, process.session];
    let of_processes = processes
        .iter()
        .filter(|process| process.pid != 0)
        .flat_map(of_process);
    tasks.iter().map(|task| task.id).chain(of_processes)
}

impl Kernel {
    /// A number in the group that no process or thread has.
    pub fn new_id(&mut self) -> u32 {
        let guest = self.boot().guest;
        let (tasks, processes) = (&*self.tasks, &*self.processes);
        group_pid(guest, self.ids.next(|| in_use(tasks, processes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_go_round_and_leave_out_those_in_use() {
        let mut ids = Ids::new();
        let nobody = || core::iter::empty();
        assert!((2..COUNT).all(|id| ids.next(nobody) == id));
        // In the group, the guest's number is in the bits above.
        let some = || [2, 3, 64, COUNT * 5 + 7].into_iter();
        let second: Vec<u32> = (0..5).map(|_| ids.next(some)).collect();
        assert_eq!(second, [4, 5, 6, 8, 9]);
        assert!(
            (10..COUNT)
                .filter(|id| *id != 64)
                .all(|id| ids.next(nobody) == id)
        );
        assert_eq!(ids.next(nobody), 2);
    }
}
