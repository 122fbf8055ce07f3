//! Lines for the host's log. The text is made only when the host wants it ([`BootFlags::LOG_DEBUG`]):
//! formatting is thousands of instructions.

use crate::arch::lent::{Lent, gpa_of};
use crate::hypercall;
use abi::boot::BootFlags;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

const DEBUG: u64 = 4;
const LINE: usize = 256;

static BUFFER: Lent<[u8; LINE]> = Lent::new([0; LINE]);
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
    BUFFER.with(|buffer| {
        let gpa = gpa_of(buffer);
        let mut line = Line { buffer, len: 0 };
        let _ = line.write_fmt(text);
        hypercall::log(DEBUG, gpa, line.len as u64);
    });
}
