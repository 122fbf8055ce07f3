//! Lines for the host's log. The text is made only when the host wants it ([`BootFlags::LOG_DEBUG`]):
//! formatting is thousands of instructions.
// UNSAFETY: a line buffer in a static, guarded by the kernel lock.
#![expect(
    unsafe_code,
    reason = "a static buffer whose physical address the host is told"
)]

use crate::hypercall;
use abi::boot::BootFlags;
use abi::memory::{KERNEL_GPA, KERNEL_VIRT};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

const DEBUG: u64 = 4;
const LINE: usize = 256;

struct Buffer(UnsafeCell<[u8; LINE]>);
// SAFETY: used under the kernel lock only (`debug` takes proof of it).
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; LINE]));
static WANTED: AtomicBool = AtomicBool::new(false);

/// Whether the host wants debug messages.
pub fn init(flags: BootFlags) {
    WANTED.store(flags.contains(BootFlags::LOG_DEBUG), Relaxed);
}

struct Line<'a> {
    buffer: &'a mut [u8; LINE],
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.buffer[self.len..];
        let take = text.len().min(room.len());
        room[..take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Gives the host a debug message. The kernel is the proof that the lock is held.
pub fn debug(_held: &mut crate::kernel::Kernel, text: fmt::Arguments<'_>) {
    if !WANTED.load(Relaxed) {
        return;
    }
    // SAFETY: an exclusive borrow of the kernel means that this vCPU holds the lock, and nothing below
    // comes back here.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let gpa = buffer.as_ptr().addr() as u64 - KERNEL_VIRT + KERNEL_GPA;
    let mut line = Line { buffer, len: 0 };
    let _ = line.write_fmt(text);
    hypercall::log(DEBUG, gpa, line.len as u64);
}
