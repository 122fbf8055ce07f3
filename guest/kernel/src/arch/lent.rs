//! Buffers of the kernel's own, lent to one user at a time: for bytes on their way between a segment and the
//! host, for the arguments of a program about to run, for a line of the log. And [`Reserve`]: large tables that
//! one owner takes for good, so that they can stay in BSS although what holds them is not all zero.
// UNSAFETY: statics that are handed out by exclusive reference.
#![expect(unsafe_code, reason = "implements a lock that never waits")]

use abi::memory::{KERNEL_GPA, KERNEL_VIRT};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value in a static that has one user at a time.
#[repr(C, align(64))]
pub struct Lent<T> {
    value: UnsafeCell<T>,
    taken: AtomicBool,
}

// SAFETY: `with` lets one user in at a time.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// Holds `value`, lent to nobody.
    pub const fn new(value: T) -> Self {
        Lent {
            value: UnsafeCell::new(value),
            taken: AtomicBool::new(false),
        }
    }

    /// Lets `work` use the value. Users hold the kernel lock and do not nest, so it is always free.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        assert!(
            !self.taken.swap(true, Ordering::Acquire),
            "a kernel buffer is in use: the lock was not held"
        );
        // SAFETY: `taken` keeps everyone else out.
        let result = work(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

/// A static that one owner takes for good.
pub struct Reserve<T>(Lent<T>);

impl<T> Reserve<T> {
    /// A reserve that holds `value`.
    pub const fn new(value: T) -> Self {
        Reserve(Lent::new(value))
    }

    /// The value, to whom asks first.
    #[expect(clippy::mut_from_ref, reason = "one caller gets it, ever")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.0.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: the swap lets one caller through, ever.
        Some(unsafe { &mut *self.0.value.get() })
    }
}

/// Where a static of the kernel's image lies in guest-physical memory.
pub fn gpa_of<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).addr() as u64 - KERNEL_VIRT + KERNEL_GPA
}
