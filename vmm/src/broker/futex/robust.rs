//! The locks of a guest that died: what its kernel can no longer do for its threads, the host does for them.
//!
//! When all vCPUs of the guest have been joined, nothing of its memory changes any more but what it shares. Its
//! kernel has told, for each task with a robust list, where the list's head is and by which page tables
//! ([`abi::tasks::TaskRecord`]). The walk itself is [`::futex::robust`], the same that a living guest's kernel does for
//! a thread that ends.
//!
//! Everything read here is hostile: task ids must be of this guest, addresses go through the guest's own tables as ring
//! 3 would go, a list has at most 2048 entries, and only a word in a segment that this guest has attached read-write is
//! ever written, from "locked by the dead" to "its owner died". A guest could have done as much while it lived.

use super::queues::{Bell, Key, Queues};
use crate::broker::WindowKind;
use crate::broker::attach::{Home, Spliced};
use crate::memory::GuestRam;
use crate::window::Word as WindowWord;
use ::futex::FUTEX_BITSET_MATCH_ANY;
use ::futex::robust::{self, Word};
use abi::tasks::{TaskRecord, record};
use abi::{MAX_TASKS, guest_of_pid};
use paging::{GuestPhys, GuestVirt, Leaf, Rights, lookup};
use std::collections::BTreeMap;

/// Marks the locks that guest `guest`'s tasks held in segments, and wakes who waits for them. `tasks` is where its
/// [`abi::tasks::TaskPage`] lies.
pub(super) fn give_back_locks<B: Bell>(
    guest: u32,
    ram: &GuestRam,
    tasks: GuestPhys,
    home: &Home,
    queues: &Queues<B>,
) {
    let segments: BTreeMap<u64, Spliced> = home
        .spliced()
        .map(|spliced| (spliced.gpa.get(), spliced))
        .collect();
    if segments.is_empty() {
        return;
    }
    let _kept = home.keep();
    for task in 0..MAX_TASKS {
        let Ok(task) = ram.read_value::<TaskRecord>(tasks.add(record(task))) else {
            return;
        };
        let Ok(id) = u32::try_from(task.id) else { continue };
        if task.robust_list == 0 || id == 0 || guest_of_pid(id) != guest {
            continue;
        }
        let mut dead = DeadMemory {
            ram,
            root: GuestPhys::new(task.page_table),
            home,
            segments: &segments,
            queues,
        };
        robust::walk(&mut dead, task.robust_list, id);
    }
}

/// The memory of a dead task, as its page tables have it.
struct DeadMemory<'a, B> {
    ram: &'a GuestRam,
    root: GuestPhys,
    home: &'a Home,
    /// What is attached, by guest-physical start.
    segments: &'a BTreeMap<u64, Spliced>,
    queues: &'a Queues<B>,
}

impl<'a, B> DeadMemory<'a, B> {
    /// What maps `address`, if ring 3 may use it.
    fn leaf(&self, address: u64) -> Option<Leaf> {
        lookup(self.ram, self.root, GuestVirt::new(address)).filter(|leaf| leaf.rights.contains(Rights::USER))
    }

    /// The word of a segment at a guest-physical address.
    fn shared(&self, gpa: GuestPhys, rights: Rights) -> Option<SharedWord<'a>> {
        let (_, spliced) = self.segments.range(..=gpa.get()).next_back()?;
        Some(SharedWord {
            key: spliced.key(gpa)?,
            word: self.home.word_at(spliced.which, gpa)?,
            writable: spliced.which == WindowKind::ReadWrite && rights.contains(Rights::WRITE),
        })
    }

    fn load32(&self, address: u64) -> Option<u32> {
        let leaf = self.leaf(address)?;
        let gpa = leaf.phys.add(address - leaf.virt.get());
        if self.ram.contains(gpa, 4) {
            let mut bytes = [0; 4];
            self.ram.read(gpa, &mut bytes).ok()?;
            return Some(u32::from_le_bytes(bytes));
        }
        Some(self.shared(gpa, leaf.rights)?.word.load())
    }
}

/// A word in a segment, as the dead task could reach it.
#[derive(Clone, Copy)]
struct SharedWord<'a> {
    key: Key,
    word: WindowWord<'a>,
    /// Its page could be written to.
    writable: bool,
}

impl<'a, B: Bell> robust::Memory for DeadMemory<'a, B> {
    type Place = SharedWord<'a>;

    fn load64(&mut self, address: u64) -> Option<u64> {
        // Pointers lie at multiples of 8 in any list that a library made.
        if !address.is_multiple_of(4) {
            return None;
        }
        let low = self.load32(address)?;
        let high = self.load32(address.checked_add(4)?)?;
        Some(u64::from(high) << 32 | u64::from(low))
    }

    fn find(&mut self, address: u64) -> Option<Word<Self::Place>> {
        let leaf = self.leaf(address)?;
        let gpa = leaf.phys.add(address - leaf.virt.get());
        // Of the guest's own memory nobody is left who could see it.
        if self.ram.contains(gpa, 4) {
            return Some(Word::Unseen);
        }
        self.shared(gpa, leaf.rights).map(Word::Here)
    }

    fn load(&mut self, shared: Self::Place) -> u32 {
        shared.word.load()
    }

    fn compare_exchange(&mut self, shared: Self::Place, old: u32, new: u32) -> Option<bool> {
        shared.writable.then(|| shared.word.compare_exchange(old, new))
    }

    fn wake_one(&mut self, shared: Self::Place) {
        self.queues.wake(None, shared.key, 1, FUTEX_BITSET_MATCH_ANY);
    }
}
