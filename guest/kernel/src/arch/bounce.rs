//! One page of the kernel's own for bytes on their way between a segment and the host.
// UNSAFETY: a static buffer.
#![expect(
    unsafe_code,
    reason = "a static buffer whose physical address the host is told"
)]

use abi::memory::{KERNEL_GPA, KERNEL_VIRT};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);
// SAFETY: `with` lets one user in at a time.
unsafe impl Sync for Page {}

static PAGE: Page = Page(UnsafeCell::new([0; 4096]));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Lets `work` use the page: it gets its bytes and its guest-physical address. Not to be nested.
pub fn with<R>(work: impl FnOnce(&mut [u8; 4096], u64) -> R) -> R {
    assert!(
        !TAKEN.swap(true, Ordering::Acquire),
        "the bounce page is in use: the kernel lock was not held"
    );
    // SAFETY: TAKEN keeps everyone else out.
    let page = unsafe { &mut *PAGE.0.get() };
    let gpa = core::ptr::from_ref(page).addr() as u64 - KERNEL_VIRT + KERNEL_GPA;
    let result = work(page, gpa);
    TAKEN.store(false, Ordering::Release);
    result
}
