//! Objects that become smaller: who has to let go of pages first, and what becomes of those who don't.
//!
//! A [`Shrink`] is a promise that all is told of already: everybody who asks hears the new size. It is fulfilled, by
//! cutting the memory, when no guest may have a page past the new end in its tables any more: each has said so
//! (`ObjectAck`), has unmapped the ranges that reach past it, or is gone. [`Deadlines`] ends guests that do none of these.

use crate::broker::futex::{Inbox, Sleepers};
use crate::outcome::GuestFault;
use abi::PAGE_SIZE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An object that becomes smaller.
pub(super) struct Shrink {
    /// By which those who asked for it know it.
    pub(super) number: u64,
    /// The new size in bytes.
    pub(super) to: u64,
    /// Bytes that its maker's quota gets back.
    pub(super) freed: u64,
    /// Guests that may have pages past that in their tables.
    pub(super) waits_for: BTreeSet<u32>,
    /// Guests that are to hear when it is done.
    pub(super) told: BTreeSet<u32>,
}

impl Shrink {
    /// Where pages end that stay: the last one may be a part.
    pub(super) fn cut(&self) -> u64 {
        self.to.next_multiple_of(PAGE_SIZE)
    }

    /// `guest` is not waited for any longer. True if it was, and nobody else is.
    pub(super) fn answered(&mut self, guest: u32) -> bool {
        self.waits_for.remove(&guest) && self.waits_for.is_empty()
    }
}

/// How long the watcher sleeps at most. Time counts up to twice that from one look to the next: where more has passed, this
/// process was stopped (SIGSTOP, a debugger, a host that was paused), and so were its guests.
const LOOK: Duration = Duration::from_millis(100);

/// Until when which guest has to have let go of which object.
pub(in crate::broker) struct Deadlines {
    state: Mutex<State>,
    changed: Condvar,
    within: Duration,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<(u64, u32), Pending>,
    /// A thread looks after them.
    watched: bool,
    /// Time that has counted so far.
    now: Duration,
}

struct Pending {
    /// In time that counts.
    at: Duration,
    guest: Arc<Sleepers<Inbox>>,
}

impl State {
    fn passes(&mut self, time: Duration) {
        self.now += time.min(2 * LOOK);
    }

    /// Takes out those whose time is over.
    fn late(&mut self) -> Vec<((u64, u32), Pending)> {
        let now = self.now;
        self.pending
            .extract_if(.., |_, pending| pending.at <= now)
            .collect()
    }
}

impl Deadlines {
    /// None; guests have this long.
    pub(in crate::broker) fn new(within: Duration) -> Arc<Deadlines> {
        Arc::new(Deadlines {
            state: Mutex::default(),
            changed: Condvar::new(),
            within,
        })
    }

    /// From now on it counts for this guest.
    pub(super) fn add(self: &Arc<Self>, serial: u64, guest: u32, inbox: Arc<Sleepers<Inbox>>) {
        let mut state = self.state();
        let at = state.now + self.within;
        state
            .pending
            .insert((serial, guest), Pending { at, guest: inbox });
        if !state.watched {
            let deadlines = Arc::clone(self);
            let watcher = std::thread::Builder::new().name("shrinking objects".into());
            match watcher.spawn(move || deadlines.watch()) {
                Ok(_) => state.watched = true,
                // The shrink waits longer, that is all.
                Err(error) => tracing::error!("nobody looks after objects that shrink: {error}"),
            }
        }
    }

    /// The guest has let go of the object, or is gone.
    pub(super) fn remove(&self, serial: u64, guest: u32) {
        if self.state().pending.remove(&(serial, guest)).is_some() {
            self.changed.notify_all();
        }
    }

    /// The guest is gone.
    pub(super) fn remove_guest(&self, guest: u32) {
        self.state().pending.retain(|(_, waiting), _| *waiting != guest);
        self.changed.notify_all();
    }

    /// Ends guests that are late, until there is nothing left to watch.
    fn watch(&self) {
        let mut state = self.state();
        while let Some(next) = state.pending.values().map(|pending| pending.at).min() {
            let now = state.now;
            if next > now {
                let slept = Instant::now();
                let woken = self.changed.wait_timeout(state, LOOK.min(next - now));
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                state.passes(slept.elapsed());
                continue;
            }
            let late = state.late();
            drop(state);
            for ((object, guest), pending) in late {
                tracing::warn!("guest {guest} does not let go of shared memory object {object}");
                let waited_ms = self.within.as_millis() as u64;
                pending
                    .guest
                    .bell()
                    .end(GuestFault::NoAnswer { object, waited_ms });
            }
            state = self.state();
        }
        state.watched = false;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut state = State::default();
        state.passes(Duration::from_millis(70));
        assert_eq!(state.now, Duration::from_millis(70));
        state.passes(Duration::from_secs(12));
        assert_eq!(state.now, Duration::from_millis(270));
    }
}
