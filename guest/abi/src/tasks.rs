//! What kernel and host share about tasks: which of them the host has woken, and what the host must know of each to
//! give back its locks if the whole guest dies.
//!
//! One [`TaskPage`] a guest, in RAM, laid out by the VMM, named in [`crate::boot::BootInfo::tasks`]. The host never
//! trusts it. Both sides reach it by volatile and atomic accesses only; the offsets below are for that.
//!
//! * **Wake bits.** When another task's FutexWake wakes task `t` of this guest, the host sets bit `t % 64` of word
//!   `t / 64` ([`TaskPage::woken`]) by an atomic "or". If the word was 0 before, it then raises
//!   [`crate::boot::VECTOR_WAKE`], unless the waker is this guest itself: that kernel is told in the answer. The kernel
//!   takes the bits by exchanging the word with 0, and looks at all words whenever it looks. There is one bit a task,
//!   and a task has at most one wait, so nothing overflows.
//! * **Notices.** The same for [`TaskPage::notices`]: bits are set, and if the word was 0 before, the interrupt comes to
//!   vCPU 0. What they mean is said in [`crate::object`].
//! * **Records.** The kernel writes a task's [`TaskRecord`] when the task registers a robust list, and clears its
//!   `robust_list` when that list no longer counts. The host reads them once, when the guest is dead.

use crate::MAX_TASKS;
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Tasks of a guest, as kernel and host see them.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TaskPage {
    /// A bit for each task that the host has woken.
    pub woken: [u64; WAKE_WORDS],
    /// A record for each.
    pub tasks: [TaskRecord; MAX_TASKS],
    /// What the host wants the kernel to look after ([`crate::object::NOTICE_SHRINK`] …), a bit each.
    pub notices: u64,
}

/// Offset of [`TaskPage::notices`].
pub const NOTICES: u64 = offset_of!(TaskPage, notices) as u64;

/// Words of wake bits.
pub const WAKE_WORDS: usize = MAX_TASKS / 64;

/// One task, for the host to find its robust list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TaskRecord {
    /// Its group-wide thread id.
    pub id: u64,
    /// Guest-physical address of its top-level page table.
    pub page_table: u64,
    /// Guest-virtual address of its `struct robust_list_head`; 0 if it has none.
    pub robust_list: u64,
}

/// Offset of the word with the wake bit of task `task` in the [`TaskPage`].
#[must_use]
pub const fn wake_word(task: usize) -> u64 {
    (task / 64 * 8) as u64
}

/// The wake bit of task `task` in its word.
#[must_use]
pub const fn wake_bit(task: usize) -> u64 {
    1 << (task % 64)
}

/// Offset of the record of task `task` in the [`TaskPage`].
#[must_use]
pub const fn record(task: usize) -> u64 {
    (offset_of!(TaskPage, tasks) + task * size_of::<TaskRecord>()) as u64
}
