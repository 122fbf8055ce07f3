//! What has been sent and not yet been taken: a set of signals for each task and one for each process, and behind
//! them one table for the guest of what came with them.
//!
//! * A signal below [`REAL_TIME`] is in a set once, however often it was sent; what came first stays.
//! * A real-time signal is in a set as often as it was sent, in that order.
//! * The table is bounded, and so is what each user may have in it (`RLIMIT_SIGPENDING`). Where there is no room a
//!   real-time signal sent with a value is refused; any other is in the set all the same, but has lost what came with
//!   it (signal(7); `__send_signal_locked` in Linux).
//! * The last [`RESERVED`] entries are for faults, of which a task has one at most: their addresses are never lost.
//!
//! The order of taking is Linux's: first what the task itself has brought about, then the task's before the
//! process's, and the lowest number first.

use super::info::{Info, SI_USER};
use super::{LAST, REAL_TIME, SYNCHRONOUS, bit};
use crate::arch::lent::Reserve;
use abi::MAX_TASKS;

/// Entries for everybody.
pub const ORDINARY: usize = 2048;
/// Entries for faults.
const RESERVED: usize = MAX_TASKS;

/// Something sent.
#[derive(Clone, Copy)]
struct Entry {
    info: Info,
    /// On whose account: the receiver's real user.
    uid: u32,
    /// The timer it belongs to, plus 1.
    timer: u16,
    /// The next of its set or of the free ones, plus 1.
    next: u16,
}

static ROOM: Reserve<[Entry; ORDINARY + RESERVED]> = Reserve::new(
    [Entry {
        info: Info::ZERO,
        uid: 0,
        timer: 0,
        next: 0,
    }; ORDINARY + RESERVED],
);

/// The table. Numbers of entries are kept plus 1, so that 0 is none and an empty set all zero.
pub struct Queue {
    entries: &'static mut [Entry],
    /// Entries that have been given back.
    free: u16,
    /// Entries that have ever been used.
    touched: u16,
    /// Entries in use.
    used: u16,
}

/// A set of signals that wait to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pending {
    set: u64,
    first: u16,
    last: u16,
}

/// What the sender is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: if there is no room the signal comes without what came with it.
    None,
    /// All or nothing (sigqueue(3)).
    Whole,
    /// It is a fault of the task's: there is room.
    Reserved,
}

/// There is no room (EAGAIN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A signal that has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What came with it.
    pub info: Info,
    /// The timer that sent it, if one did.
    pub timer: Option<u16>,
}

impl Pending {
    /// Nothing.
    pub const NONE: Pending = Pending {
        set: 0,
        first: 0,
        last: 0,
    };

    /// The signals, bit = number - 1.
    pub fn set(&self) -> u64 {
        self.set
    }
}

/// Which of the signals in `set` is taken first (`next_signal` in Linux): faults, then the lowest.
fn first_of(set: u64) -> Option<u32> {
    let set = if set & SYNCHRONOUS != 0 {
        set & SYNCHRONOUS
    } else {
        set
    };
    (set != 0).then(|| set.trailing_zeros() + 1)
}

impl Queue {
    /// No room, until [`Queue::init`].
    pub const fn empty() -> Queue {
        Queue {
            entries: &mut [],
            free: 0,
            touched: 0,
            used: 0,
        }
    }

    /// Takes the room. Once.
    pub fn init(&mut self) {
        self.entries = ROOM.take().expect("a kernel boots once");
    }

    /// How many entries are on the account of `uid`.
    fn used_by(&self, uid: u32) -> u64 {
        let touched = &self.entries[..usize::from(self.touched)];
        // A free entry is no signal's.
        let count = touched
            .iter()
            .filter(|entry| entry.info.signal != 0 && entry.uid == uid)
            .count();
        count as u64
    }

    fn has_room(&self, info: &Info, uid: u32, limit: u64, claim: Claim) -> bool {
        let used = u64::from(self.used);
        // Linux lets the kernel and kill(2) go beyond the user's limit with signals that don't queue up.
        let exempt = info.signal < REAL_TIME && info.code >= 0;
        match claim {
            Claim::Reserved => usize::from(self.used) < self.entries.len(),
            Claim::None | Claim::Whole => {
                usize::from(self.used) < self.entries.len() - RESERVED
                    // Who counts only where it could matter: counting is dear.
                    && (exempt || used < limit || self.used_by(uid) < limit)
            }
        }
    }

    fn entry(&mut self) -> u16 {
        self.used += 1;
        if self.free == 0 {
            self.touched += 1;
            return self.touched;
        }
        let number = self.free;
        self.free = self.at(number).next;
        number
    }

    fn at(&mut self, number: u16) -> &mut Entry {
        &mut self.entries[usize::from(number) - 1]
    }

    /// Adds what `info` says to `pending`, on the account of `uid`, who may have `limit` entries; `timer` is the timer
    /// that sends it. `Ok(false)` if it was there already and has not been added.
    ///
    /// # Errors
    /// [`Full`], for [`Claim::Whole`] only.
    pub fn add(
        &mut self,
        pending: &mut Pending,
        info: &Info,
        uid: u32,
        limit: u64,
        claim: Claim,
        timer: Option<u16>,
    ) -> Result<bool, Full> {
        debug_assert!((1..=LAST).contains(&info.signal));
        let signal = bit(info.signal);
        if info.signal < REAL_TIME && pending.set & signal != 0 {
            return Ok(false);
        }
        if self.has_room(info, uid, limit, claim) {
            let number = self.entry();
            *self.at(number) = Entry {
                info: *info,
                uid,
                timer: timer.map_or(0, |timer| timer + 1),
                next: 0,
            };
            match pending.last {
                0 => pending.first = number,
                last => self.at(last).next = number,
            }
            pending.last = number;
        } else if claim == Claim::Whole {
            return Err(Full);
        }
        pending.set |= signal;
        Ok(true)
    }

    /// Takes the entry `number`, which follows `before`, out of `pending`.
    fn unlink(&mut self, pending: &mut Pending, before: u16, number: u16) -> Entry {
        let entry = *self.at(number);
        match before {
            0 => pending.first = entry.next,
            before => self.at(before).next = entry.next,
        }
        if pending.last == number {
            pending.last = before;
        }
        let next = core::mem::replace(&mut self.free, number);
        *self.at(number) = Entry {
            info: Info::ZERO,
            uid: 0,
            timer: 0,
            next,
        };
        self.used -= 1;
        entry
    }

    /// The first entry of `pending` that `meant` accepts, and the one before it.
    fn find(&mut self, pending: &Pending, meant: impl Fn(&Entry) -> bool) -> Option<(u16, u16)> {
        let (mut before, mut number) = (0, pending.first);
        while number != 0 {
            let entry = self.at(number);
            if meant(entry) {
                return Some((before, number));
            }
            (before, number) = (number, entry.next);
        }
        None
    }

    /// Takes one `signal`, which is in `pending`, out of it.
    fn collect(&mut self, pending: &mut Pending, signal: u32) -> Taken {
        let taken = match self.find(pending, |entry| entry.info.signal == signal) {
            Some((before, number)) => {
                let entry = self.unlink(pending, before, number);
                Taken {
                    info: entry.info,
                    timer: entry.timer.checked_sub(1),
                }
            }
            None => Taken {
                info: Info::sent(signal, SI_USER, 0, 0),
                timer: None,
            },
        };
        if signal < REAL_TIME || self.find(pending, |entry| entry.info.signal == signal).is_none() {
            pending.set &= !bit(signal);
        }
        taken
    }

    /// Takes the first signal of `pending` that is not among `blocked`.
    pub fn take(&mut self, pending: &mut Pending, blocked: u64) -> Option<Taken> {
        let signal = first_of(pending.set & !blocked)?;
        Some(self.collect(pending, signal))
    }

    /// Takes the first fault of a task's `pending` that is not among `blocked`: these go before everything else.
    pub fn take_fault(&mut self, pending: &mut Pending, blocked: u64) -> Option<Taken> {
        let wanted = pending.set & !blocked & SYNCHRONOUS;
        if wanted == 0 {
            return None;
        }
        let meant = |entry: &Entry| entry.info.is_from_kernel() && bit(entry.info.signal) & wanted != 0;
        let (_, number) = self.find(pending, meant)?;
        let signal = self.at(number).info.signal;
        Some(self.collect(pending, signal))
    }

    /// Forgets those of `signals` that are in `pending`.
    pub fn discard(&mut self, pending: &mut Pending, signals: u64) {
        if pending.set & signals == 0 {
            return;
        }
        pending.set &= !signals;
        while let Some((before, number)) = self.find(pending, |entry| bit(entry.info.signal) & signals != 0) {
            self.unlink(pending, before, number);
        }
    }

    /// Forgets what timer `timer` has sent to `pending`.
    pub fn discard_timer(&mut self, pending: &mut Pending, timer: u16) {
        while let Some((before, number)) = self.find(pending, |entry| entry.timer == timer + 1) {
            let signal = self.unlink(pending, before, number).info.signal;
            if self.find(pending, |entry| entry.info.signal == signal).is_none() {
                pending.set &= !bit(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::signal::{SIGCHLD, SIGSEGV};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const FREE: Entry = Entry {
        info: Info::ZERO,
        uid: 0,
        timer: 0,
        next: 0,
    };

    fn queue() -> Queue {
        Queue {
            entries: vec![FREE; 12 + RESERVED].leak(),
            ..Queue::empty()
        }
    }

    fn send(queue: &mut Queue, pending: &mut Pending, signal: u32, value: u64) -> Result<bool, Full> {
        let mut info = Info::sent(signal, -1, 1, 0);
        info.fields[1] = value;
        queue.add(pending, &info, 0, 100, Claim::Whole, None)
    }

    fn take(queue: &mut Queue, pending: &mut Pending) -> Option<(u32, u64)> {
        let Taken { info, .. } = queue.take(pending, 0)?;
        Some((info.signal, info.fields[1]))
    }

    #[test]
    fn standard_signals_merge_and_real_time_signals_queue_up_in_order() {
        let (mut queue, mut pending) = (queue(), Pending::NONE);
        for (signal, value) in [(40, 1), (10, 2), (34, 3), (10, 4), (34, 5), (SIGSEGV, 6), (2, 7)] {
            let added = (signal, value) != (10, 4);
            assert_eq!(send(&mut queue, &mut pending, signal, value), Ok(added));
        }
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, &mut pending)).collect();
        assert_eq!(order, [(SIGSEGV, 6), (2, 7), (10, 2), (34, 3), (34, 5), (40, 1)]);
        assert_eq!(
            (pending.set, pending.first, pending.last, queue.used),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn blocked_signals_stay() {
        let (mut queue, mut pending) = (queue(), Pending::NONE);
        for signal in [10, 12, 35] {
            assert_eq!(send(&mut queue, &mut pending, signal, 0), Ok(true));
        }
        let blocked = bit(10) | bit(35);
        assert_eq!(
            queue.take(&mut pending, blocked).map(|taken| taken.info.signal),
            Some(12)
        );
        assert_eq!(queue.take(&mut pending, blocked), None);
        assert_eq!(pending.set(), blocked);
    }

    #[test]
    fn a_fault_goes_before_what_others_have_sent() {
        let (mut queue, mut pending) = (queue(), Pending::NONE);
        assert_eq!(send(&mut queue, &mut pending, 4, 0), Ok(true));
        let fault = Info::fault(SIGSEGV, 1, 0x1234);
        assert_eq!(
            queue.add(&mut pending, &fault, 0, 0, Claim::Reserved, None),
            Ok(true)
        );
        assert_eq!(queue.take_fault(&mut pending, bit(SIGSEGV)), None);
        assert_eq!(
            queue.take_fault(&mut pending, 0).map(|taken| taken.info),
            Some(fault)
        );
        assert_eq!(queue.take_fault(&mut pending, 0), None);
        assert_eq!(pending.set(), bit(4));
    }

    #[test]
    fn a_user_may_have_so_many_and_no_more_but_what_cannot_queue_up_always_comes() {
        let (mut queue, mut pending, mut others) = (queue(), Pending::NONE, Pending::NONE);
        let value = |signal| Info::sent(signal, -1, 1, 0);
        let mut add =
            |pending: &mut Pending, info: Info, uid, claim| queue.add(pending, &info, uid, 2, claim, None);
        assert_eq!(add(&mut pending, value(34), 7, Claim::Whole), Ok(true));
        assert_eq!(add(&mut pending, value(34), 7, Claim::Whole), Ok(true));
        assert_eq!(add(&mut pending, value(34), 7, Claim::Whole), Err(Full));
        assert_eq!(add(&mut others, value(34), 8, Claim::Whole), Ok(true));
        // kill(2) of a real-time signal: it comes, but says nothing.
        assert_eq!(
            add(&mut pending, Info::sent(35, SI_USER, 9, 9), 7, Claim::None),
            Ok(true)
        );
        assert_eq!(
            add(&mut pending, Info::sent(SIGCHLD, SI_USER, 9, 9), 7, Claim::None),
            Ok(true)
        );
        let infos: Vec<_> = std::iter::from_fn(|| queue.take(&mut pending, 0))
            .map(|taken| taken.info)
            .collect();
        let lost = Info::sent(35, SI_USER, 0, 0);
        assert_eq!(
            infos,
            [Info::sent(SIGCHLD, SI_USER, 9, 9), value(34), value(34), lost]
        );
    }

    #[test]
    fn a_full_table_has_room_for_a_fault() {
        let (mut queue, mut pending, mut fault) = (queue(), Pending::NONE, Pending::NONE);
        while send(&mut queue, &mut pending, 34, 0).is_ok() {}
        assert_eq!(usize::from(queue.used), queue.entries.len() - RESERVED);
        let info = Info::fault(SIGSEGV, 2, 42);
        assert_eq!(
            queue.add(&mut fault, &info, 0, 0, Claim::Reserved, None),
            Ok(true)
        );
        assert_eq!(queue.take(&mut fault, 0).map(|taken| taken.info), Some(info));
        queue.discard(&mut pending, u64::MAX);
        assert_eq!(
            (pending.set, pending.first, pending.last, queue.used),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn what_a_timer_has_sent_goes_with_it() {
        let (mut queue, mut pending) = (queue(), Pending::NONE);
        let info = Info::timer(36, 0, 0);
        assert_eq!(
            queue.add(&mut pending, &info, 0, 100, Claim::None, Some(0)),
            Ok(true)
        );
        assert_eq!(send(&mut queue, &mut pending, 36, 1), Ok(true));
        queue.discard_timer(&mut pending, 0);
        assert_eq!(take(&mut queue, &mut pending), Some((36, 1)));
        assert_eq!(
            queue.add(&mut pending, &info, 0, 100, Claim::None, Some(0)),
            Ok(true)
        );
        queue.discard_timer(&mut pending, 0);
        assert_eq!(pending.set(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send(usize, u32),
        Take(usize, u64),
        Discard(usize, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let set = 0..2usize;
        let signal = prop_oneof![Just(10u32), Just(11), Just(12), Just(34), Just(35), Just(64)];
        let mask = prop::collection::vec(signal.clone(), 0..4)
            .prop_map(|signals| signals.into_iter().fold(0, |mask, signal| mask | bit(signal)));
        let step = prop_oneof![
            5 => (set.clone(), signal).prop_map(|(set, signal)| Step::Send(set, signal)),
            3 => (set.clone(), mask.clone()).prop_map(|(set, mask)| Step::Take(set, mask)),
            1 => (set, mask).prop_map(|(set, mask)| Step::Discard(set, mask)),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Two sets in one table behave as two lists.
        #[test]
        fn sets_behave_as_lists(steps in steps()) {
            let mut queue = queue();
            let room = queue.entries.len() - RESERVED;
            let mut sets = [Pending::NONE; 2];
            let mut lists: [VecDeque<(u32, u64)>; 2] = Default::default();
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Send(set, signal) => {
                        let merged = signal < REAL_TIME && lists[set].iter().any(|entry| entry.0 == signal);
                        let full = lists.iter().map(VecDeque::len).sum::<usize>() == room;
                        let expected = if merged { Ok(false) } else if full { Err(Full) } else { Ok(true) };
                        prop_assert_eq!(send(&mut queue, &mut sets[set], signal, at as u64), expected);
                        if expected == Ok(true) {
                            lists[set].push_back((signal, at as u64));
                        }
                    }
                    Step::Take(set, blocked) => {
                        let open = |entry: &&(u32, u64)| bit(entry.0) & blocked == 0;
                        let rank = |entry: &&(u32, u64)| (bit(entry.0) & SYNCHRONOUS == 0, entry.0);
                        let expected = lists[set].iter().filter(open).min_by_key(rank).copied();
                        let taken = queue.take(&mut sets[set], blocked);
                        prop_assert_eq!(taken.map(|taken| (taken.info.signal, taken.info.fields[1])), expected);
                        if let Some(expected) = expected {
                            lists[set].retain(|entry| *entry != expected);
                        }
                    }
                    Step::Discard(set, signals) => {
                        queue.discard(&mut sets[set], signals);
                        lists[set].retain(|entry| bit(entry.0) & signals == 0);
                    }
                }
                for (set, list) in sets.iter().zip(&lists) {
                    prop_assert_eq!(set.set(), list.iter().fold(0, |set, entry| set | bit(entry.0)));
                }
            }
        }
    }
}
