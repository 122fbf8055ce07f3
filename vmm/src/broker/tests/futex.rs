//! Waiting for words and waking, with windows that no VM stands behind; and the locks of guests that died.

use super::*;
use crate::broker::{FutexRequeue, FutexWait, FutexWake, FutexWoken, Shared, SharedWord};
use crate::memory::GuestRam;
use crate::outcome::GuestFault;
use ::futex::{FUTEX_OWNER_DIED, FUTEX_WAITERS};
use abi::MAX_TASKS;
use abi::ipc::SHM_HUGETLB;
use abi::tasks::{TaskRecord, record, wake_bit, wake_word};
use paging::{GuestVirt, Rights, TableMemory, TableMemoryMut, map};
use proptest::prelude::*;
use std::cell::Cell;

/// Where a guest's task page lies in its RAM, and where its page tables start.
pub(super) const TASKS: GuestPhys = GuestPhys::new(0x10_0000);
const TABLES: u64 = 0x11_0000;

/// A guest's RAM, and the interrupts it got.
pub(super) struct FakeMachine {
    ram: GuestRam,
    interrupts: Mutex<Vec<u32>>,
    /// Why it was ended.
    pub(super) ended: Mutex<Vec<GuestFault>>,
}

impl FakeMachine {
    pub(super) fn new() -> FakeMachine {
        FakeMachine {
            ram: GuestRam::new(2 << 20).unwrap(),
            interrupts: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// The tasks woken since the last look, and the vCPUs that were interrupted.
    fn take(&self) -> (Vec<usize>, Vec<u32>) {
        let posted = |task: &usize| {
            let word: u64 = self.ram.read_value(TASKS.add(wake_word(*task))).unwrap();
            word & wake_bit(*task) != 0
        };
        let tasks = (0..MAX_TASKS).filter(posted).collect();
        self.ram.zero(TASKS, record(0)).unwrap();
        (tasks, std::mem::take(&mut lock(&self.interrupts)))
    }

    fn put_record(&self, task: usize, id: u32, page_table: u64, robust_list: u64) {
        let told = TaskRecord {
            id: id.into(),
            page_table,
            robust_list,
        };
        self.ram.write(TASKS.add(record(task)), told.as_bytes()).unwrap();
    }

    /// Gives a task a list with one robust lock, 16 bytes into what lies at `gpa` of the guest's window: the link, and
    /// 8 bytes further the lock, which that task has.
    pub(super) fn put_robust_lock(&self, gpa: u64) {
        let mut tables = Tables::new(self);
        tables.map(HEAD, 0x8_0000, 1, Rights::USER | Rights::WRITE);
        tables.map(SEGMENT, gpa, 1, Rights::USER | Rights::WRITE);
        self.put(0x8_0000, &[SEGMENT + 16, 8, 0]);
        self.put_record(17, TID, TABLES, HEAD);
    }

    fn put(&self, gpa: u64, words: &[u64]) {
        self.ram.write(GuestPhys::new(gpa), words.as_bytes()).unwrap();
    }
}

impl Reach for FakeMachine {
    fn ram(&self) -> &GuestRam {
        &self.ram
    }
    fn interrupt(&self, vcpu: u32) {
        lock(&self.interrupts).push(vcpu);
    }
}

/// Page tables in a guest's RAM.
struct Tables<'a> {
    ram: &'a GuestRam,
    next: Cell<u64>,
}

impl Tables<'_> {
    fn new(machine: &FakeMachine) -> Tables<'_> {
        Tables {
            ram: &machine.ram,
            next: Cell::new(TABLES + 4096),
        }
    }
    fn map(&mut self, virt: u64, phys: u64, pages: u64, rights: Rights) {
        let (virt, phys) = (GuestVirt::new(virt), GuestPhys::new(phys));
        map(self, GuestPhys::new(TABLES), virt, phys, pages, rights).unwrap();
    }
}

impl TableMemory for Tables<'_> {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        TableMemory::load(self.ram, table, index)
    }
}

impl TableMemoryMut for Tables<'_> {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        self.ram.store(table.add(index as u64 * 8), value).unwrap();
    }
    fn allocate(&mut self) -> Option<GuestPhys> {
        Some(GuestPhys::new(self.next.replace(self.next.get() + 4096)))
    }
    fn retire(&mut self, _: GuestPhys) {}
}

impl Group {
    pub(super) fn wait(&self, guest: u32, task: u32, word: SharedWord, expected: u32) -> Result<(), Errno> {
        let wait = FutexWait {
            word,
            expected,
            bitset: 1 << (task % 32),
            task,
        };
        self.broker.futex_wait(guest, 10 + task, &wait)
    }

    pub(super) fn wake(
        &self,
        guest: u32,
        word: SharedWord,
        count: u64,
        bitset: u32,
    ) -> Result<(u64, bool), Errno> {
        let wake = FutexWake { word, count, bitset };
        let FutexWoken { count, own } = self.broker.futex_wake(guest, &wake)?;
        Ok((count, own))
    }

    fn requeue(
        &self,
        guest: u32,
        from: SharedWord,
        to: SharedWord,
        counts: (u32, u32),
        expected: Option<u32>,
    ) -> Result<(u64, bool), Errno> {
        let (wake, requeue) = counts;
        let requeue = FutexRequeue {
            from,
            to,
            wake,
            requeue,
            expected,
        };
        let FutexWoken { count, own } = self.broker.futex_requeue(guest, &requeue)?;
        Ok((count, own))
    }

    fn set(&self, gpa: u64, value: u32) {
        // SAFETY: the tests write only to what is attached read-write.
        unsafe { self.vms[0].host(gpa).cast::<u32>().write_volatile(value) }
    }

    fn get(&self, gpa: u64) -> u32 {
        // SAFETY: the tests read only what is attached.
        unsafe { self.vms[0].host(gpa).cast::<u32>().read_volatile() }
    }
}

const fn word(id: i32, offset: u64) -> SharedWord {
    SharedWord {
        of: Shared::Segment(id),
        offset,
    }
}

const ANY: u32 = u32::MAX;

#[test]
fn a_word_means_the_same_to_every_guest_and_through_both_windows() {
    let group = group(3);
    let id = group.make(0, 1, 8192);
    let a = group.attach(0, id, 0).unwrap();
    group.attach(1, id, SHM_RDONLY).unwrap();
    group.attach(2, id, 0).unwrap();
    group.attach(2, id, SHM_RDONLY).unwrap();
    group.set(a.gpa + 4096, 5);
    assert_eq!(group.wait(1, 0, word(id, 4096), 4), Err(Errno::EAGAIN));
    for (guest, task) in [(1, 0), (2, 70), (0, 9), (1, 255)] {
        assert_eq!(group.wait(guest, task, word(id, 4096), 5), Ok(()));
    }
    assert_eq!(group.wake(0, word(id, 4100), 9, ANY), Ok((0, false)));
    // In the order they came; the interrupt goes where the task waited.
    assert_eq!(group.wake(0, word(id, 4096), 1, ANY), Ok((1, false)));
    assert_eq!(group.machines[1].take(), (vec![0], vec![10]));
    assert_eq!(group.wake(0, word(id, 4096), 9, ANY), Ok((3, true)));
    assert_eq!(group.machines[1].take(), (vec![255], vec![265]));
    assert_eq!(group.machines[2].take(), (vec![70], vec![80]));
    // The waker's own task: it has been told, and is not interrupted.
    assert_eq!(group.machines[0].take(), (vec![9], vec![]));
    assert_eq!(group.wake(2, word(id, 4096), 9, ANY), Ok((0, false)));
}

#[test]
fn a_guest_is_interrupted_once_for_all_that_it_has_not_looked_at() {
    let group = group(2);
    let id = group.make(0, 1, 4096);
    group.attach(0, id, 0).unwrap();
    group.attach(1, id, 0).unwrap();
    for task in [3, 4, 5, 6, 100] {
        group.wait(1, task, word(id, 0), 0).unwrap();
    }
    assert_eq!(group.wake(0, word(id, 0), 2, ANY), Ok((2, false)));
    assert_eq!(group.wake(0, word(id, 0), 1, ANY), Ok((1, false)));
    // Another word of wake bits, so another interrupt.
    assert_eq!(group.wake(0, word(id, 0), 2, ANY), Ok((2, false)));
    assert_eq!(group.machines[1].take(), (vec![3, 4, 5, 6, 100], vec![13, 110]));
    group.wait(1, 3, word(id, 0), 0).unwrap();
    assert_eq!(group.wake(0, word(id, 0), 1, ANY), Ok((1, false)));
    assert_eq!(group.machines[1].take(), (vec![3], vec![13]));
}

#[test]
fn bits_choose_waiters_and_moved_ones_keep_theirs() {
    let group = group(2);
    let id = group.make(0, 1, 4096);
    let other = group.make(0, 2, 4096);
    let a = group.attach(0, id, 0).unwrap();
    group.attach(1, id, 0).unwrap();
    group.attach(0, other, 0).unwrap();
    for task in 0..6 {
        group.wait(1, task, word(id, 0), 0).unwrap();
    }
    assert_eq!(group.wake(0, word(id, 0), 9, 0b10100), Ok((2, false)));
    assert_eq!(group.machines[1].take().0, [2, 4]);
    group.set(a.gpa, 7);
    let (from, to) = (word(id, 0), word(other, 8));
    assert_eq!(group.requeue(0, from, to, (1, 9), Some(0)), Err(Errno::EAGAIN));
    assert_eq!(group.requeue(0, from, to, (1, 2), Some(7)), Ok((3, false)));
    assert_eq!(group.machines[1].take().0, [0]);
    assert_eq!(group.requeue(0, from, from, (0, 9), None), Ok((1, false)));
    assert_eq!(group.wake(0, to, 9, 1 << 3), Ok((1, false)));
    assert_eq!(group.machines[1].take().0, [3]);
    // Whoever was moved can still be taken out.
    assert_eq!(group.broker.futex_cancel(1, 1), Ok(false));
    assert_eq!(group.wake(0, to, 9, ANY), Ok((0, false)));
    assert_eq!(group.wake(0, from, 9, ANY), Ok((1, false)));
    assert_eq!(group.broker.futex_cancel(1, 5), Ok(true));
    assert_eq!(group.broker.futex_cancel(1, 1), Err(Errno::EINVAL));
}

#[test]
fn what_a_guest_must_not_ask_is_refused_and_changes_nothing() {
    let group = group(2);
    let id = group.make(0, 1, 5000);
    group.attach(0, id, 0).unwrap();
    let here = word(id, 0);
    // Not attached, not there, not in it, crooked.
    assert_eq!(group.wait(1, 0, here, 0), Err(Errno::EINVAL));
    assert_eq!(group.wake(1, here, 1, ANY), Err(Errno::EINVAL));
    for other in [id + 1, -1, i32::MIN] {
        assert_eq!(group.wait(0, 0, word(other, 0), 0), Err(Errno::EINVAL));
        assert_eq!(
            group.requeue(0, here, word(other, 0), (1, 1), None),
            Err(Errno::EINVAL)
        );
    }
    for offset in [8192, 8190, 1, 2, u64::MAX, u64::MAX - 3, 1 << 63] {
        assert_eq!(group.wait(0, 0, word(id, offset), 0), Err(Errno::EFAULT));
        assert_eq!(group.wake(0, word(id, offset), 1, ANY), Err(Errno::EFAULT));
    }
    // One wait a task, tasks there are.
    assert_eq!(group.wait(0, 0, here, 0), Ok(()));
    assert_eq!(group.wait(0, 0, here, 0), Err(Errno::EINVAL));
    assert_eq!(group.wait(0, 0, word(id, 8), 0), Err(Errno::EINVAL));
    assert_eq!(group.wait(0, MAX_TASKS as u32, here, 0), Err(Errno::EINVAL));
    assert_eq!(group.broker.futex_cancel(0, u32::MAX), Err(Errno::EINVAL));
    assert_eq!(group.broker.futex_cancel(7, 0), Err(Errno::EINVAL));
    assert_eq!(group.wake(0, here, u64::MAX, ANY), Ok((1, true)));
    assert_eq!(group.wake(0, word(id, 8), u64::MAX, ANY), Ok((0, false)));
}

/// A page that is not there would be a SIGBUS for the whole process. (Where the host has no huge pages at all, as most
/// have, nobody can attach such a segment.)
#[test]
fn a_word_that_the_host_has_no_huge_page_for_any_more_is_efault() {
    let group = group(2);
    let make = || {
        let flags = IPC_CREAT | SHM_HUGETLB | 0o600;
        group.broker.shmget(0, &ROOT, IPC_PRIVATE, 2 << 20, flags)
    };
    let Ok(id) = make().map(|id| id as i32) else {
        return;
    };
    group.attach(0, id, 0).unwrap();
    assert_eq!(group.wait(0, 0, word(id, 8), 1), Err(Errno::EAGAIN));
    group.broker.punch(0, id, 0, 2 << 20).unwrap();
    assert_eq!(group.wait(0, 0, word(id, 8), 1), Err(Errno::EAGAIN));
    group.broker.punch(0, id, 0, 2 << 20).unwrap();
    // Others take all there are.
    let others: Vec<i32> = std::iter::from_fn(|| make().ok().map(|id| id as i32)).collect();
    assert_eq!(group.wait(0, 0, word(id, 8), 1), Err(Errno::EFAULT));
    for id in others.into_iter().chain([id]) {
        group.remove(id).unwrap();
    }
}

#[test]
fn a_dead_guests_waiters_go_and_what_it_did_not_hear_is_heard_by_the_next() {
    let group = group(3);
    let id = group.make(0, 1, 4096);
    for guest in 0..3 {
        group.attach(guest, id, 0).unwrap();
    }
    let here = word(id, 0);
    for (guest, task) in [(1, 0), (1, 1), (1, 2), (2, 0), (1, 3), (2, 1), (2, 2)] {
        group.wait(guest, task, here, 0).unwrap();
    }
    // One wake-up is taken, two are not: one of them with bits that only one waiter has.
    assert_eq!(group.wake(0, here, 1, ANY), Ok((1, false)));
    group.machines[1].take();
    assert_eq!(group.wake(0, here, 1, ANY), Ok((1, false)));
    assert_eq!(group.wake(0, here, 1, 0b100), Ok((1, false)));
    assert_eq!(group.machines[2].take(), (vec![], vec![]));
    group.broker.guest_gone(1);
    assert_eq!(group.machines[2].take(), (vec![0, 2], vec![10]));
    assert_eq!(group.wake(0, here, 9, ANY), Ok((1, false)));
    assert_eq!(group.wait(1, 7, here, 0), Err(Errno::EINVAL));
    assert_eq!(Arc::strong_count(&group.machines[1]), 1, "nobody holds on to it");
}

/// A guest whose task has robust locks in a segment: its list's head lies in its own memory.
struct Owner {
    segment: Attached,
    id: i32,
}

pub(super) const HEAD: u64 = 0x40_0000;
const SEGMENT: u64 = 0x7000_0000;
const READ_ONLY: u64 = 0x7800_0000;
pub(super) const TID: u32 = abi::group_pid(1, 33);

impl Owner {
    /// `locks`: offsets in the segment; a lock's word follows its link by 8 bytes.
    fn new(group: &Group, locks: &[u64], pending: u64) -> Owner {
        let id = group.make(0, 1, 3 * 4096);
        let segment = group.attach(0, id, 0).unwrap();
        let own = group.attach(1, id, 0).unwrap();
        let readable = group.attach(1, id, SHM_RDONLY).unwrap();
        let machine = &group.machines[1];
        let mut tables = Tables::new(machine);
        let user = Rights::USER;
        tables.map(HEAD, 0x8_0000, 1, user | Rights::WRITE);
        tables.map(SEGMENT, own.gpa, 3, user | Rights::WRITE);
        tables.map(READ_ONLY, readable.gpa, 3, user | Rights::WRITE);
        let at = |offset: &u64| SEGMENT + offset;
        machine.put(0x8_0000, &[locks.first().map_or(HEAD, at), 8, pending]);
        for (index, lock) in locks.iter().enumerate() {
            let next = locks.get(index + 1).map_or(HEAD, at);
            group.set(segment.gpa + lock, next as u32);
            group.set(segment.gpa + lock + 4, (next >> 32) as u32);
        }
        machine.put_record(17, TID, TABLES, HEAD);
        Owner { segment, id }
    }

    fn word(&self, group: &Group, lock: u64) -> u32 {
        group.get(self.segment.gpa + lock + 8)
    }

    fn set(&self, group: &Group, lock: u64, value: u32) {
        group.set(self.segment.gpa + lock + 8, value);
    }
}

#[test]
fn locks_of_a_dead_guest_are_marked_and_a_waiter_of_another_guest_wakes() {
    let group = group(3);
    group.attach(2, group.make(0, 1, 3 * 4096), 0).unwrap();
    let owner = Owner::new(&group, &[0x100, 0x1ff8, 0x2000, 0x2100], 0);
    owner.set(&group, 0x100, TID | FUTEX_WAITERS);
    owner.set(&group, 0x1ff8, TID);
    owner.set(&group, 0x2000, abi::group_pid(2, 33) | FUTEX_WAITERS);
    owner.set(&group, 0x2100, abi::group_pid(1, 34) | FUTEX_WAITERS);
    let waited_for = owner.word(&group, 0x100);
    group.wait(1, 5, word(owner.id, 0x108), waited_for).unwrap();
    group.wait(2, 6, word(owner.id, 0x108), waited_for).unwrap();
    group.broker.guest_gone(1);
    assert_eq!(owner.word(&group, 0x100), FUTEX_OWNER_DIED | FUTEX_WAITERS);
    assert_eq!(owner.word(&group, 0x1ff8), FUTEX_OWNER_DIED);
    assert_eq!(owner.word(&group, 0x2000), abi::group_pid(2, 33) | FUTEX_WAITERS);
    assert_eq!(owner.word(&group, 0x2100), abi::group_pid(1, 34) | FUTEX_WAITERS);
    // Not the dead guest's own waiter, although it came first.
    assert_eq!(group.machines[2].take(), (vec![6], vec![16]));
}

#[test]
fn a_lock_that_was_being_given_back_is_woken_if_it_is_free() {
    let group = group(3);
    group.attach(2, group.make(0, 1, 3 * 4096), 0).unwrap();
    let owner = Owner::new(&group, &[], SEGMENT + 0x40);
    group.wait(2, 6, word(owner.id, 0x48), 0).unwrap();
    group.broker.guest_gone(1);
    assert_eq!(owner.word(&group, 0x40), 0);
    assert_eq!(group.machines[2].take(), (vec![6], vec![16]));
}

#[test]
fn what_the_dead_could_not_have_written_stays_as_it_is() {
    // The same lock by way of: a read-only attach; a page without the right to write; one that is not ring 3's.
    for case in 0..4 {
        let group = group(2);
        let owner = Owner::new(&group, &[0x100], 0);
        owner.set(&group, 0x100, TID);
        let machine = &group.machines[1];
        let gpa = group.broker.member(1).map(|member| {
            let home = lock(&member.home);
            let spliced = home.spliced().find(|s| s.which == WindowKind::ReadWrite);
            spliced.unwrap().gpa.get()
        });
        let mut tables = Tables::new(machine);
        tables.next.set(TABLES + 64 * 4096);
        match case {
            0 => {}
            1 => machine.put(0x8_0000, &[READ_ONLY + 0x100, 8, 0]),
            2 => {
                tables.map(0x6000_0000, gpa.unwrap(), 1, Rights::USER);
                machine.put(0x8_0000, &[0x6000_0100, 8, 0]);
            }
            _ => {
                tables.map(0x6000_0000, gpa.unwrap(), 1, Rights::WRITE);
                machine.put(0x8_0000, &[0x6000_0100, 8, 0]);
            }
        }
        group.broker.guest_gone(1);
        let expected = if case == 0 { FUTEX_OWNER_DIED } else { TID };
        assert_eq!(owner.word(&group, 0x100), expected, "case {case}");
    }
}

#[test]
fn a_record_that_names_another_guests_task_is_not_believed() {
    let group = group(2);
    let owner = Owner::new(&group, &[0x100], 0);
    let other = abi::group_pid(0, 33);
    owner.set(&group, 0x100, other);
    for (task, id) in [(17, other), (18, 0), (19, u32::MAX)] {
        group.machines[1].put_record(task, id, TABLES, HEAD);
    }
    group.machines[1]
        .ram
        .write(TASKS.add(record(20)), &[0xff; 24])
        .unwrap();
    group.broker.guest_gone(1);
    assert_eq!(owner.word(&group, 0x100), other);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a dead guest has left in its RAM, the walk ends, and in the segment only words change that held an id
    /// of that guest.
    #[test]
    fn garbage_in_a_dead_guests_memory_harms_nobody(
        garbage in prop::collection::vec((0u64..0x20_0000 / 8, prop_oneof![
            any::<u64>(),
            (0u64..16).prop_map(|n| HEAD + n * 8),
            (0u64..512).prop_map(|n| SEGMENT + n * 8),
            (0u64..64).prop_map(|n| TABLES + n * 4096 + 7),
            Just((1 << 36) | 7),
        ]), 0..400),
        head in prop::collection::vec(prop_oneof![any::<u64>(), (0u64..512).prop_map(|n| SEGMENT + n * 8)], 3),
        links in prop::collection::vec((0u64..512).prop_map(|n| SEGMENT + n * 8), 512),
    ) {
        let group = group(2);
        let owner = Owner::new(&group, &[], 0);
        let machine = &group.machines[1];
        for (index, value) in garbage {
            machine.put(index * 8, &[value]);
        }
        machine.put_record(17, TID, TABLES, HEAD);
        machine.put(0x8_0000, &head);
        for (index, link) in links.iter().enumerate() {
            let at = owner.segment.gpa + index as u64 * 8;
            group.set(at, *link as u32);
            group.set(at + 4, (*link >> 32) as u32);
        }
        for offset in (4096..2 * 4096).step_by(4) {
            group.set(owner.segment.gpa + offset, TID ^ (offset as u32 % 3));
        }
        let words = |group: &Group| -> Vec<u32> {
            (0..3 * 4096).step_by(4).map(|offset| group.get(owner.segment.gpa + offset)).collect()
        };
        let before = words(&group);
        group.broker.guest_gone(1);
        for (before, after) in before.into_iter().zip(words(&group)) {
            prop_assert!(before == after || abi::guest_of_pid(before & ::futex::FUTEX_TID_MASK) == 1);
        }
    }
}
