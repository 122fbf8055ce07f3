//! Who may run at the same time as whom. The tests of one executable are threads of one process: what one of them starts
//! must not be taken for something that another has left behind, and guests that have to share the host's CPUs with others
//! wait for each other rather than test anything.
//!
//! A run takes a place for each of its vCPUs; there are as many places as the host has CPUs, and they are given out in the
//! order of asking. Whenever all are free again, nothing may be there that was not there before.

use crate::footprint::Footprint;
use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

struct Places {
    /// Who has come so far, and who of them is the next to be let in.
    came: u64,
    next: u64,
    taken: usize,
    /// What was there when the first of those came that are in now; `None` if they may leave something.
    before: Option<Footprint>,
}

static PLACES: Mutex<Places> = Mutex::new(Places {
    came: 0,
    next: 0,
    taken: 0,
    before: None,
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// Places that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// How many places there are.
fn all() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Runs `what` while no other test of this executable runs, opens or compiles anything. It may leave something behind. May
/// be nested.
pub fn alone<T>(what: impl FnOnce() -> T) -> T {
    take(usize::MAX, None, what)
}

/// As [`alone`], and nothing may be left behind, or the message calls it `name`.
pub(crate) fn alone_and_tidy<T>(name: &str, what: impl FnOnce() -> T) -> T {
    take(usize::MAX, Some(name), what)
}

/// Runs `what`, which is called `name` and keeps `cpus` CPUs busy, beside what others run on the rest. Nothing may be left
/// behind. Within [`alone`] it is alone.
pub(crate) fn beside_others<T>(cpus: usize, name: &str, what: impl FnOnce() -> T) -> T {
    take(cpus, Some(name), what)
}

fn take<T>(places: usize, tidy: Option<&str>, what: impl FnOnce() -> T) -> T {
    if HELD.get() > 0 {
        // Beside others nobody can tell whose a thing is: that is found out when the outer one leaves.
        let Some(name) = tidy.filter(|_| HELD.get() == all()) else {
            return what();
        };
        let before = Footprint::now();
        let result = what();
        before.check_nothing_new(name);
        return result;
    }
    let held = Held::new(places, tidy.is_some());
    let result = what();
    held.leave(tidy.unwrap_or_default());
    result
}

/// Places that are given back.
struct Held(usize);

impl Held {
    fn new(places: usize, tidy: bool) -> Held {
        let places = places.clamp(1, all());
        let mut state = lock();
        let ticket = state.came;
        state.came += 1;
        while state.next != ticket || state.taken + places > all() {
            state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.taken == 0 {
            state.before = tidy.then(Footprint::now);
        }
        state.next += 1;
        state.taken += places;
        drop(state);
        CHANGED.notify_all();
        HELD.set(places);
        Held(places)
    }

    fn leave(self, name: &str) {
        let mut state = lock();
        if state.taken == self.0
            && let Some(before) = state.before.take()
        {
            before.check_nothing_new(name);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(0);
        lock().taken -= self.0;
        CHANGED.notify_all();
    }
}

/// A test that failed has spoilt nothing: its places are free again.
fn lock() -> MutexGuard<'static, Places> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}
