//! Lists as libraries make them, and as an attacker does.

extern crate std;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const HEAD: u64 = 0x1000;
const ME: u32 = 77;
/// From a list's entry to its lock's word, as in a `pthread_mutex_t`.
const OFFSET: i64 = -32;

#[derive(Default)]
struct Fake {
    quads: BTreeMap<u64, u64>,
    words: BTreeMap<u64, u32>,
    unseen: Vec<u64>,
    read_only: Vec<u64>,
    woken: Vec<u64>,
    looks: u32,
    /// Somebody else changes the word before each of so many attempts.
    disturbed: u32,
}

impl Memory for Fake {
    type Place = u64;
    fn load64(&mut self, address: u64) -> Option<u64> {
        self.looks += 1;
        self.quads.get(&address).copied()
    }
    fn find(&mut self, address: u64) -> Option<Word<u64>> {
        if self.unseen.contains(&address) {
            return Some(Word::Unseen);
        }
        self.words.contains_key(&address).then_some(Word::Here(address))
    }
    fn load(&mut self, place: u64) -> u32 {
        self.words[&place]
    }
    fn compare_exchange(&mut self, place: u64, old: u32, new: u32) -> Option<bool> {
        if self.read_only.contains(&place) {
            return None;
        }
        if self.disturbed > 0 {
            self.disturbed -= 1;
            *self.words.get_mut(&place).unwrap() ^= FUTEX_WAITERS;
        }
        let same = self.words[&place] == old;
        if same {
            self.words.insert(place, new);
        }
        Some(same)
    }
    fn wake_one(&mut self, place: u64) {
        self.woken.push(place);
    }
}

fn word(lock: u64) -> u64 {
    lock.wrapping_add_signed(OFFSET)
}

/// Memory with these locks in the list, in order, and their words' values.
fn list(locks: &[(u64, u32)], pending: u64) -> Fake {
    let mut memory = Fake::default();
    let mut at = HEAD;
    for &(lock, value) in locks {
        memory.quads.insert(at, lock);
        memory.words.insert(word(lock & !1), value);
        at = lock & !1;
    }
    memory.quads.insert(at, HEAD);
    memory.quads.insert(HEAD + 8, OFFSET as u64);
    memory.quads.insert(HEAD + 16, pending);
    memory
}

#[test]
fn locks_of_the_dead_are_marked_and_somebody_who_waits_is_woken() {
    let mut memory = list(
        &[
            (0x2000, ME),
            (0x3000, ME | FUTEX_WAITERS),
            (0x4000, 78 | FUTEX_WAITERS),
            (0x5000, 0),
            (0x6001, ME | FUTEX_WAITERS),
            (0x7000, ME | FUTEX_OWNER_DIED),
        ],
        0,
    );
    walk(&mut memory, HEAD, ME);
    let values: Vec<u32> = memory.words.values().copied().collect();
    assert_eq!(
        values,
        [
            FUTEX_OWNER_DIED,
            FUTEX_OWNER_DIED | FUTEX_WAITERS,
            78 | FUTEX_WAITERS,
            0,
            FUTEX_OWNER_DIED | FUTEX_WAITERS,
            FUTEX_OWNER_DIED
        ]
    );
    // Not of the lock with priority inheritance.
    assert_eq!(memory.woken, [word(0x3000)]);
}

#[test]
fn a_pending_lock_comes_last_and_once_and_is_woken_if_it_was_just_given_back() {
    let mut memory = list(&[(0x2000, ME), (0x3000, ME)], 0x2000);
    walk(&mut memory, HEAD, ME);
    assert_eq!(memory.words[&word(0x2000)], FUTEX_OWNER_DIED);
    assert_eq!(memory.woken, []);
    for (value, woken) in [(0, 1), (FUTEX_WAITERS, 1), (78 | FUTEX_WAITERS, 0)] {
        let mut memory = list(&[], 0x9000);
        memory.words.insert(word(0x9000), value);
        walk(&mut memory, HEAD, ME);
        assert_eq!((memory.words[&word(0x9000)], memory.woken.len()), (value, woken));
    }
}

#[test]
fn a_walk_stops_where_nothing_can_be_read_and_passes_what_nobody_sees() {
    let mut memory = list(
        &[
            (0x2000, ME),
            (0x3000, ME),
            (0x4000, ME),
            (0x5000, ME),
            (0x6000, ME),
        ],
        0x6000,
    );
    memory.unseen.push(word(0x3000));
    memory.words.remove(&word(0x5000));
    walk(&mut memory, HEAD, ME);
    let values: Vec<u32> = memory.words.values().copied().collect();
    assert_eq!(values, [FUTEX_OWNER_DIED, ME, FUTEX_OWNER_DIED, ME]);
    // An entry that leads nowhere: its own lock is still dealt with, the pending one is not.
    let mut memory = list(&[(0x2000, ME)], 0x2000);
    memory.quads.insert(HEAD + 16, 0x3000);
    memory.words.insert(word(0x3000), ME);
    memory.quads.remove(&0x2000);
    walk(&mut memory, HEAD, ME);
    assert_eq!(
        (memory.words[&word(0x2000)], memory.words[&word(0x3000)]),
        (FUTEX_OWNER_DIED, ME)
    );
    // No list at all, a lock at a crooked address.
    walk(&mut Fake::default(), 0, ME);
    let mut memory = list(&[(0x2002, ME), (0x3000, ME)], 0);
    walk(&mut memory, HEAD, ME);
    assert_eq!(memory.words[&word(0x3000)], ME);
}

#[test]
fn a_word_that_can_only_be_read_stops_a_walk_if_it_would_have_to_change() {
    for (owner, last) in [(78, FUTEX_OWNER_DIED), (ME, ME)] {
        let mut memory = list(&[(0x2000, owner), (0x3000, ME)], 0);
        memory.read_only.push(word(0x2000));
        walk(&mut memory, HEAD, ME);
        assert_eq!(
            (memory.words[&word(0x2000)], memory.words[&word(0x3000)]),
            (owner, last)
        );
    }
}

#[test]
fn a_list_without_an_end_is_left_after_2048_entries() {
    let mut memory = list(&[(0x2000, ME), (0x3000, ME)], 0x3000);
    memory.quads.insert(0x3000, 0x2000);
    walk(&mut memory, HEAD, ME);
    assert_eq!(memory.looks, LIMIT + 3);
    assert_eq!(memory.words[&word(0x3000)], FUTEX_OWNER_DIED);
}

#[test]
fn a_word_that_changes_meanwhile_is_tried_again_but_not_for_ever() {
    let mut memory = list(&[(0x2000, ME)], 0);
    memory.disturbed = 5;
    walk(&mut memory, HEAD, ME);
    assert_eq!(memory.words[&word(0x2000)] & !FUTEX_WAITERS, FUTEX_OWNER_DIED);
    let mut memory = list(&[(0x2000, ME), (0x3000, ME)], 0);
    memory.disturbed = u32::MAX;
    walk(&mut memory, HEAD, ME);
    assert_eq!(memory.words[&word(0x2000)] & FUTEX_TID_MASK, ME);
}

proptest! {
    #[test]
    fn any_memory_is_walked_in_bounds_and_only_words_of_the_dead_change(
        quads in prop::collection::btree_map((0u64..40).prop_map(|n| HEAD + n * 8), prop_oneof![(0u64..40).prop_map(|n| HEAD + n * 8), any::<u64>()], 0..40),
        words in prop::collection::btree_map((0u64..80).prop_map(|n| HEAD + n * 4), prop_oneof![Just(ME), Just(ME | FUTEX_WAITERS), any::<u32>()], 0..80),
        head in (0u64..40).prop_map(|n| HEAD + n * 8),
    ) {
        let mut memory = Fake { quads, words: words.clone(), ..Fake::default() };
        walk(&mut memory, head, ME);
        prop_assert!(memory.looks <= LIMIT + 3);
        for (place, before) in words {
            let after = memory.words[&place];
            prop_assert!(after == before || before & FUTEX_TID_MASK == ME);
        }
    }
}
