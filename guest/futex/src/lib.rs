//! What Linux says of futex words (futex(2), `linux/futex.h`), as pure code that kernel and host share: the numbers of
//! operations, what FUTEX_WAKE_OP does to its second word ([`WakeOp`]), and what becomes of the locks of a thread that
//! dies ([`robust`]). Who waits for which word is not here: the kernel and the broker keep their own queues.
#![no_std]
#![forbid(unsafe_code)]

pub mod robust;
mod wake_op;

pub use wake_op::WakeOp;

/// Wait while the word has a value; the time-out is relative.
pub const FUTEX_WAIT: u64 = 0;
/// Wake waiters.
pub const FUTEX_WAKE: u64 = 1;
/// Wake some waiters, let others wait for another word.
pub const FUTEX_REQUEUE: u64 = 3;
/// As [`FUTEX_REQUEUE`], if the word has a value.
pub const FUTEX_CMP_REQUEUE: u64 = 4;
/// Change a second word, wake waiters of the first, and of the second if it had a value.
pub const FUTEX_WAKE_OP: u64 = 5;
/// As [`FUTEX_WAIT`], for some wakers only; the time-out is absolute.
pub const FUTEX_WAIT_BITSET: u64 = 9;
/// As [`FUTEX_WAKE`], some waiters only.
pub const FUTEX_WAKE_BITSET: u64 = 10;
/// The word is this process's own.
pub const FUTEX_PRIVATE_FLAG: u64 = 128;
/// The time-out is by the wall clock.
pub const FUTEX_CLOCK_REALTIME: u64 = 256;
/// The bitset that every waiter and waker matches.
pub const FUTEX_BITSET_MATCH_ANY: u32 = u32::MAX;

/// In a lock's word: somebody waits for it.
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
/// In a lock's word: its owner has died.
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// In a lock's word: its owner's thread id.
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
