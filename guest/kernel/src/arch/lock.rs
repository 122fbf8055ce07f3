//! The big kernel lock: one vCPU at a time is in the kernel proper.
//!
//! System calls are short (what is long belongs to the host or is done in pieces), the data path has no
//! kernel in it, and one lock means that everything behind it is plain, safe, single-threaded Rust. A vCPU
//! that waits for the lock answers flush requests, because the vCPU that holds it may be waiting for that
//! answer: this is the only lock of the kernel, so there is no lock order to get wrong.
// UNSAFETY: hands out the exclusive reference the lock guards.
#![expect(unsafe_code, reason = "implements a lock")]

use super::{cpu::Cpu, tlb};
use crate::hypercall;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A spin lock whose waiters keep answering TLB flush requests.
pub struct BigLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands its value to one vCPU at a time.
unsafe impl<T: Send> Sync for BigLock<T> {}

/// How often a waiter looks before it lets the host run something else.
const SPINS: u32 = 64;

/// Spinning, as long as there is a point in it: with more vCPUs than CPUs the one that is waited for may not be
/// running.
pub struct Patience(u32);

impl Patience {
    /// None spent yet.
    pub const fn new() -> Patience {
        Patience(0)
    }

    /// One more look was in vain.
    pub fn spin(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(SPINS) {
            hypercall::yield_now();
        } else {
            core::hint::spin_loop();
        }
    }
}

/// Proof of holding the lock.
pub struct Held<'a, T> {
    lock: &'a BigLock<T>,
}

impl<T> BigLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        BigLock {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock. Must not be called by the vCPU that holds it.
    pub fn lock(&self, cpu: &Cpu) -> Held<'_, T> {
        let mut patience = Patience::new();
        while self.taken.swap(true, Ordering::Acquire) {
            while self.taken.load(Ordering::Relaxed) {
                tlb::answer(cpu);
                patience.spin();
            }
        }
        Held { lock: self }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: holding the guard means holding the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: holding the guard means holding the lock, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}
