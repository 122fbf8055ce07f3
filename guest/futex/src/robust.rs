//! What becomes of the locks that a thread held when it died: its robust list (get_robust_list(2), Linux's
//! Documentation/locking/robust-futexes.rst; `exit_robust_list` and `handle_futex_death`).
//!
//! A thread that takes a robust lock links it into a list in its own memory, and says beforehand, in a word of the
//! list's head, which lock it is about to take or give back. When it dies, somebody walks that list for it: the
//! guest's kernel if the guest lives on, the host if the whole guest is dead. Both use [`walk`]. What it reads is a
//! program's memory, and may be anything: a walk looks at [`LIMIT`] entries and no more.

use crate::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// Entries that are looked at: `ROBUST_LIST_LIMIT`.
pub const LIMIT: u32 = 2048;

/// Bytes of `struct robust_list_head`.
pub const HEAD_LEN: u64 = 24;

/// How often a word that changes all the time is tried before the walk gives it up. (Linux tries for ever, and can
/// be interrupted.)
const TRIES: u32 = 1000;

/// A word of a lock, as whoever walks the list may reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<T> {
    /// It is there.
    Here(T),
    /// Nobody who lives can see it, so it does not matter.
    Unseen,
}

/// The dead thread's memory.
pub trait Memory {
    /// How a lock's word is known once it has been found.
    type Place: Copy;

    /// The 8 bytes at `address`; `None` if it could not read them.
    fn load64(&mut self, address: u64) -> Option<u64>;

    /// The lock's word at `address`, a multiple of 4; `None` if it could not have read it.
    fn find(&mut self, address: u64) -> Option<Word<Self::Place>>;

    /// The word's value.
    fn load(&mut self, place: Self::Place) -> u32;

    /// Changes the word from `old` to `new` in one step; false if it is not `old`, `None` if the thread could not have
    /// written it.
    fn compare_exchange(&mut self, place: Self::Place, old: u32, new: u32) -> Option<bool>;

    /// Wakes one of those who wait for the word.
    fn wake_one(&mut self, place: Self::Place);
}

/// How a lock comes to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// It is in the list.
    Held,
    /// The thread was about to take it or to give it back.
    Pending,
}

/// A link of the list: where it leads, and whether the lock there has priority inheritance (its low bit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    to: u64,
    inherits: bool,
}

fn link(memory: &mut impl Memory, at: u64) -> Option<Link> {
    let raw = memory.load64(at)?;
    Some(Link {
        to: raw & !1,
        inherits: raw & 1 != 0,
    })
}

/// Marks every lock of the list whose head is at `head` that thread `tid` still owns, and wakes somebody who waits for
/// it. Stops at the first thing that the thread could not have read or written.
pub fn walk(memory: &mut impl Memory, head: u64, tid: u32) {
    let at = |offset: u64| head.wrapping_add(offset);
    let (Some(mut entry), Some(offset), Some(pending)) =
        (link(memory, head), memory.load64(at(8)), link(memory, at(16)))
    else {
        return;
    };
    for _ in 0..LIMIT {
        if entry.to == head {
            break;
        }
        // Read before the lock is marked: from then on its next owner may change it.
        let next = link(memory, entry.to);
        if entry.to != pending.to {
            let word = entry.to.wrapping_add(offset);
            if release(memory, word, tid, entry, Listed::Held).is_none() {
                return;
            }
        }
        let Some(next) = next else { return };
        entry = next;
    }
    if pending.to != 0 {
        let word = pending.to.wrapping_add(offset);
        let _ = release(memory, word, tid, pending, Listed::Pending);
    }
}

/// `None` if the word can't be reached.
fn release(memory: &mut impl Memory, address: u64, tid: u32, link: Link, listed: Listed) -> Option<()> {
    if !address.is_multiple_of(4) {
        return None;
    }
    let Word::Here(place) = memory.find(address)? else {
        return Some(());
    };
    for _ in 0..TRIES {
        let value = memory.load(place);
        let owner = value & FUTEX_TID_MASK;
        // Given back, but whoever was to be woken may not have been; or woken, and dead before it took the lock.
        if listed == Listed::Pending && !link.inherits && owner == 0 {
            memory.wake_one(place);
            return Some(());
        }
        if owner != tid & FUTEX_TID_MASK {
            return Some(());
        }
        if memory.compare_exchange(place, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)? {
            if !link.inherits && value & FUTEX_WAITERS != 0 {
                memory.wake_one(place);
            }
            return Some(());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
