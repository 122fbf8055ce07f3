//! Which of stdin, stdout and stderr the command was started without. Rust opens `/dev/null` in their place before `main`
//! (`std::rt`), and a program that was given that may write to it: so this is found out earlier, as the C library sets
//! the process up.
// UNSAFETY: a function in `.init_array`, and fcntl on descriptors that may not be open.
#![expect(unsafe_code, reason = "to look before Rust's own start does")]

use abi::boot::BootFlags;
use std::sync::atomic::{AtomicU64, Ordering};

/// [`BootFlags`], as a number.
static CLOSED: AtomicU64 = AtomicU64::new(0);

// SAFETY: what lies in this section are pointers to functions that the C library calls once, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Uses nothing of Rust's library that has to be set up first.
extern "C" fn look() {
    for (fd, flag) in (0..).zip(BootFlags::CLOSED) {
        // SAFETY: asks for the flags of a descriptor; one that is not open is EBADF.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(flag.bits(), Ordering::Relaxed);
        }
    }
}

/// Which were closed when the command was started.
pub(super) fn closed() -> BootFlags {
    BootFlags::from_bits_truncate(CLOSED.load(Ordering::Relaxed))
}
