//! [`Timers`]: the guest's timers, which send signals, and for each vCPU a list of those it ends, by deadline.
//!
//! One for each process is setitimer(2)'s ITIMER_REAL, by the process's number; the others are given out by
//! timer_create(2) and linked from their process, or by timerfd_create(2) and found by their open file. What happens when one expires is in [`crate::process::alarm`]; this is
//! the table and the lists, which know neither signals nor time.

use crate::arch::lent::Reserve;
use abi::{MAX_TASKS, MAX_VCPUS};

/// Timers of timer_create(2) and timerfd_create(2).
const MADE: usize = 256;
const ALL: usize = MAX_TASKS + MADE;
const _: () = assert!(ALL < NONE as usize);

/// No timer, in links.
pub const NONE: u16 = u16::MAX;

/// Whom a timer tells that it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Notify {
    /// Nobody.
    Nobody,
    /// Its process.
    Process,
    /// The thread with this id.
    Thread(u32),
    /// Whoever reads it (timerfd_create(2)).
    Readers,
}

/// One timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// Number of the process it belongs to.
    pub process: u16,
    /// Its process's next timer.
    pub sibling: Option<u16>,
    /// The id its process knows it by.
    pub id: u32,
    /// Whom it tells.
    pub notify: Notify,
    /// By which signal.
    pub signal: u32,
    /// With which value.
    pub value: u64,
    /// The clock by which points in time are given.
    pub clock: u8,
    /// TSC value at which it expires next, or has expired while its signal waits; 0 if it is off.
    pub deadline: u64,
    /// How long after that it expires again, nanoseconds; 0 if never.
    pub period: u64,
    /// How often it expired while its last signal waited.
    pub overrun: u32,
    /// The vCPU in whose list it is.
    cpu: Option<u8>,
    next: u16,
}

impl Timer {
    /// Off. All bytes zero, so that the room for timers stays in BSS.
    pub const OFF: Timer = Timer {
        process: 0,
        sibling: None,
        id: 0,
        notify: Notify::Nobody,
        signal: 0,
        value: 0,
        clock: 0,
        deadline: 0,
        period: 0,
        overrun: 0,
        cpu: None,
        next: 0,
    };
}

static ROOM: Reserve<[Timer; ALL]> = Reserve::new([Timer::OFF; ALL]);

/// All timers of the guest.
pub struct Timers {
    entries: &'static mut [Timer],
    /// Which of those that are made are taken, a bit each.
    taken: [u64; MADE / 64],
    /// For each vCPU, the timer that expires next.
    heads: [u16; MAX_VCPUS],
}

impl Timers {
    /// No room for any, until [`Timers::init`].
    pub const fn empty() -> Timers {
        Timers {
            entries: &mut [],
            taken: [0; MADE / 64],
            heads: [NONE; MAX_VCPUS],
        }
    }

    /// Takes the room. Once.
    pub fn init(&mut self) {
        self.entries = ROOM.take().expect("a kernel boots once");
    }

    /// Takes a timer, if one is free; it is off.
    pub fn make(&mut self) -> Option<u16> {
        let word = self.taken.iter().position(|&word| word != u64::MAX)?;
        let bit = self.taken[word].trailing_ones();
        self.taken[word] |= 1 << bit;
        let timer = (MAX_TASKS + word * 64) as u16 + bit as u16;
        self.entries[usize::from(timer)] = Timer::OFF;
        Some(timer)
    }

    /// Gives `timer`, which [`Timers::make`] has given out and which is in no list, back.
    pub fn free(&mut self, timer: u16) {
        let made = usize::from(timer) - MAX_TASKS;
        self.taken[made / 64] &= !(1 << (made % 64));
    }

    /// Timer number `timer`.
    pub fn get(&mut self, timer: u16) -> &mut Timer {
        &mut self.entries[usize::from(timer)]
    }

    /// Whether `timer` is in a list: it has not expired.
    pub fn is_running(&self, timer: u16) -> bool {
        self.entries[usize::from(timer)].cpu.is_some()
    }

    /// TSC value at which the first timer of vCPU `cpu` expires; `u64::MAX` if it has none.
    pub fn next(&self, cpu: usize) -> u64 {
        match self.heads[cpu] {
            NONE => u64::MAX,
            head => self.entries[usize::from(head)].deadline,
        }
    }

    /// Puts `timer`, which is in no list, into that of vCPU `cpu`, to expire at `deadline`.
    pub fn start(&mut self, timer: u16, cpu: u32, deadline: u64) {
        let mut before = NONE;
        let mut at = self.heads[cpu as usize];
        while at != NONE && self.entries[usize::from(at)].deadline <= deadline {
            before = at;
            at = self.entries[usize::from(at)].next;
        }
        let entry = &mut self.entries[usize::from(timer)];
        entry.deadline = deadline;
        entry.cpu = Some(cpu as u8);
        entry.next = at;
        match before {
            NONE => self.heads[cpu as usize] = timer,
            before => self.entries[usize::from(before)].next = timer,
        }
    }

    /// Takes `timer` out of the list it is in, if it is in one, and returns whose.
    pub fn stop(&mut self, timer: u16) -> Option<u8> {
        let cpu = self.entries[usize::from(timer)].cpu.take()?;
        let after = self.entries[usize::from(timer)].next;
        let mut at = self.heads[usize::from(cpu)];
        if at == timer {
            self.heads[usize::from(cpu)] = after;
            return Some(cpu);
        }
        while at != NONE {
            let next = self.entries[usize::from(at)].next;
            if next == timer {
                self.entries[usize::from(at)].next = after;
                break;
            }
            at = next;
        }
        Some(cpu)
    }

    /// Takes the first timer out of the list of vCPU `cpu`, if it has expired at `now`.
    pub fn expired(&mut self, cpu: usize, now: u64) -> Option<u16> {
        let head = self.heads[cpu];
        if head == NONE || self.entries[usize::from(head)].deadline > now {
            return None;
        }
        self.stop(head);
        Some(head)
    }
}

/// When something that expired at `deadline` and does so every `period` after that expires next, later than `now`; and how
/// often it has expired since, `deadline` not counted. All in one unit.
pub fn next_after(deadline: u64, period: u64, now: u64) -> (u64, u64) {
    let late = now.saturating_sub(deadline);
    let missed = late / period;
    (deadline + (missed + 1) * period, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers() -> Timers {
        Timers {
            entries: vec![Timer::OFF; ALL].leak(),
            ..Timers::empty()
        }
    }

    #[test]
    fn timers_expire_by_deadline_on_the_vcpu_they_were_started_on() {
        let mut timers = timers();
        let made: Vec<u16> = (0..4).filter_map(|_| timers.make()).collect();
        for (&timer, deadline) in made.iter().zip([30, 10, 20, 10]) {
            timers.start(timer, 1, deadline);
        }
        timers.start(7, 0, 5);
        assert_eq!(
            (timers.next(0), timers.next(1), timers.next(2)),
            (5, 10, u64::MAX)
        );
        assert_eq!(timers.stop(made[2]), Some(1));
        assert_eq!(timers.stop(made[2]), None);
        let expired: Vec<u16> = std::iter::from_fn(|| timers.expired(1, 29)).collect();
        assert_eq!(expired, [made[1], made[3]]);
        assert!(timers.is_running(made[0]) && !timers.is_running(made[1]));
        assert_eq!(timers.expired(1, 30), Some(made[0]));
    }

    #[test]
    fn there_are_so_many_timers_to_be_made_and_no_more() {
        let mut timers = timers();
        let made: Vec<u16> = std::iter::from_fn(|| timers.make()).collect();
        assert_eq!(made.len(), MADE);
        assert!(made.iter().all(|&timer| usize::from(timer) >= MAX_TASKS));
        timers.free(made[70]);
        assert_eq!(timers.make(), Some(made[70]));
        assert_eq!(timers.make(), None);
    }

    #[test]
    fn what_was_missed_is_counted() {
        assert_eq!(next_after(100, 10, 100), (110, 0));
        assert_eq!(next_after(100, 10, 109), (110, 0));
        assert_eq!(next_after(100, 10, 110), (120, 1));
        assert_eq!(next_after(100, 10, 155), (160, 5));
        assert_eq!(next_after(100, 10, 50), (110, 0));
    }
}
