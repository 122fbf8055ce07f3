//! Threads, as clone(2) makes them: no library, no thread-local storage, a stack from mmap(2).
// UNSAFETY: starts threads, and hands them a pointer to what they run.
#![expect(
    unsafe_code,
    reason = "clone, and the way from a new thread's stack to its function"
)]

use crate::sys;
use abi::Errno;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

/// Bytes of a thread's stack.
const STACK: usize = 64 << 10;
/// Sleep between looks whether the others have ended.
const NAP: Duration = Duration::from_micros(200);

const CLONE: i64 = 56;
/// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, as the C libraries have it.
const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;

/// What all threads of one [`together`] share.
struct Job<'a> {
    run: &'a (dyn Fn(usize) + Sync),
    /// Threads that have not ended yet.
    left: AtomicUsize,
}

/// Runs `run(0)` on this thread and `run(1)` to `run(count - 1)` on new ones, and returns when all have returned.
///
/// # Errors
/// clone's or mmap's. Then the program should end: threads that were started may still run `run`, whose borrows must
/// outlive them, so this does not return before they have returned either.
pub fn together(count: usize, run: &(dyn Fn(usize) + Sync)) -> Result<(), Errno> {
    let job = Job {
        run,
        left: AtomicUsize::new(0),
    };
    let mut started = Ok(());
    for index in 1..count {
        job.left.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `job` stays where it is until `left` is 0 again, below.
        started = unsafe { start(&raw const job, index) };
        if started.is_err() {
            job.left.fetch_sub(1, Ordering::Relaxed);
            break;
        }
    }
    if started.is_ok() {
        run(0);
    }
    while job.left.load(Ordering::Acquire) > 0 {
        sys::sleep(NAP);
    }
    started
}

/// # Safety
/// `job` is good until the thread has counted itself off [`Job::left`].
unsafe fn start(job: *const Job<'_>, index: usize) -> Result<(), Errno> {
    let stack = sys::map_memory(STACK)?;
    let result: i64;
    // SAFETY: the new thread has a stack of its own, all other registers as here (r8 and r9 are parameters of clone that
    // these flags leave unused), and calls `begin`, which never returns. In this thread nothing but the result changes.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "mov rsi, r9",
            "call {begin}",
            "ud2",
            "2:",
            begin = sym begin,
            inlateout("rax") CLONE => result,
            in("rdi") FLAGS,
            // A multiple of 16 before the call, as the ABI wants it.
            in("rsi") stack.wrapping_add(STACK),
            in("rdx") 0,
            in("r10") 0,
            in("r8") job,
            in("r9") index,
            out("rcx") _,
            out("r11") _,
        );
    }
    Errno::check(result).map(|_| ())
}

extern "C" fn begin(job: *const Job<'_>, index: usize) -> ! {
    // SAFETY: `start`'s promise: it is there until `left` is counted down, and it is not used after that.
    let job = unsafe { &*job };
    (job.run)(index);
    job.left.fetch_sub(1, Ordering::Release);
    sys::exit_thread()
}
