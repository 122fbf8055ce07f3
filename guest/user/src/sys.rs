//! Linux system calls, raw: numbers and registers as in the x86-64 System V ABI, appendix A.2.
// UNSAFETY: executes `syscall`.
#![expect(unsafe_code, reason = "the syscall instruction")]

use abi::Errno;
use abi::ipc::ShmidDs;
use core::sync::atomic::AtomicU32;
use core::time::Duration;

const WRITE: u64 = 1;
const MMAP: u64 = 9;
const MADVISE: u64 = 28;
const SHMGET: u64 = 29;
const SHMAT: u64 = 30;
const SHMCTL: u64 = 31;
const NANOSLEEP: u64 = 35;
const EXIT: u64 = 60;
const SHMDT: u64 = 67;
const SCHED_SETAFFINITY: u64 = 203;
const CLOCK_GETTIME: u64 = 228;
const GETPPID: u64 = 110;
const FUTEX: u64 = 202;
const EXIT_GROUP: u64 = 231;

const CLOCK_MONOTONIC: u64 = 1;

/// One system call.
///
/// # Safety
/// Addresses among the arguments must be good for what the call does with them.
unsafe fn call(number: u64, a: u64, b: u64, c: u64) -> Result<u64, Errno> {
    // SAFETY: the caller's promise; the kernel ignores what the call has no parameter for.
    unsafe { call6(number, [a, b, c, 0, 0, 0]) }
}

/// One system call with up to six arguments.
///
/// # Safety
/// As [`call`].
unsafe fn call6(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Result<u64, Errno> {
    let result: i64;
    // SAFETY: the kernel preserves all registers but rax, rcx and r11; memory is up to the caller.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    Errno::check(result)
}

/// `write(2)`: how many of `bytes` were taken.
///
/// # Errors
/// The descriptor's, such as EPIPE.
pub fn write(descriptor: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads `bytes` and writes nothing.
    unsafe {
        call(
            WRITE,
            descriptor as u64,
            bytes.as_ptr() as u64,
            bytes.len() as u64,
        )
    }
    .map(|taken| taken as usize)
}

/// `exit_group(2)`.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: no addresses.
        let _ = unsafe { call(EXIT_GROUP, status as u64, 0, 0) };
    }
}

/// `exit(2)` as the kernel has it: ends the calling thread only.
pub(crate) fn exit_thread() -> ! {
    loop {
        // SAFETY: no addresses.
        let _ = unsafe { call(EXIT, 0, 0, 0) };
    }
}

/// `mmap(2)`: `len` bytes of fresh memory, zero, to be read and written. They stay until the program ends.
///
/// # Errors
/// As in the manual page.
pub fn map_memory(len: usize) -> Result<*mut u8, Errno> {
    const PROT_READ_WRITE: u64 = 3;
    const MAP_PRIVATE_ANONYMOUS: u64 = 0x22;
    // SAFETY: without an address the kernel takes a free one, so nothing that is mapped changes.
    let at = unsafe {
        call6(
            MMAP,
            [0, len as u64, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, u64::MAX, 0],
        )
    };
    at.map(|address| address as *mut u8)
}

/// `mmap(2)`: the first `len` bytes of a file, shared, to be read and written. They stay until the program ends.
///
/// # Errors
/// As in the manual page.
pub fn map_shared(descriptor: i32, len: usize) -> Result<*mut u8, Errno> {
    const PROT_READ_WRITE: u64 = 3;
    const MAP_SHARED: u64 = 1;
    // SAFETY: as in `map_memory`.
    let at = unsafe {
        call6(
            MMAP,
            [0, len as u64, PROT_READ_WRITE, MAP_SHARED, descriptor as u64, 0],
        )
    };
    at.map(|address| address as *mut u8)
}

/// `madvise(2)`, MADV_NOHUGEPAGE.
///
/// # Errors
/// EINVAL where there are no large pages; ENOMEM where nothing is mapped.
pub fn want_small_pages(address: *mut u8, len: usize) -> Result<(), Errno> {
    const MADV_NOHUGEPAGE: u64 = 15;
    // SAFETY: changes no byte and no mapping.
    unsafe { call(MADVISE, address as u64, len as u64, MADV_NOHUGEPAGE) }.map(|_| ())
}

/// [`map_memory`] as words, all 0; nobody else has them.
///
/// # Errors
/// As [`map_memory`].
pub fn map_words(count: usize) -> Result<&'static mut [u64], Errno> {
    let start = map_memory(count * size_of::<u64>())?;
    // SAFETY: fresh memory of that size, aligned to a page, initialized to 0, never unmapped, and given to one only.
    Ok(unsafe { core::slice::from_raw_parts_mut(start.cast(), count) })
}

/// The call that does least: `getppid(2)`.
#[inline(always)]
pub fn least_call() {
    // SAFETY: no addresses.
    let _ = unsafe { call(GETPPID, 0, 0, 0) };
}

/// `futex(2)`, FUTEX_WAIT without a time-out, shared between processes: sleeps while the word is `value`.
///
/// # Errors
/// EAGAIN if it was not, EINTR.
pub fn futex_wait(word: &AtomicU32, value: u32) -> Result<(), Errno> {
    const FUTEX_WAIT: u64 = 0;
    // SAFETY: the kernel reads the word, which is shared and atomic; there is no time-out structure.
    unsafe {
        call6(
            FUTEX,
            [word.as_ptr() as u64, FUTEX_WAIT, u64::from(value), 0, 0, 0],
        )
    }
    .map(|_| ())
}

/// `futex(2)`, FUTEX_WAKE of at most `count` waiters: how many there were.
///
/// # Errors
/// As in the manual page.
pub fn futex_wake(word: &AtomicU32, count: u32) -> Result<u64, Errno> {
    const FUTEX_WAKE: u64 = 1;
    // SAFETY: the kernel looks for waiters of the address and does not touch what is there.
    unsafe {
        call6(
            FUTEX,
            [word.as_ptr() as u64, FUTEX_WAKE, u64::from(count), 0, 0, 0],
        )
    }
}

/// `sched_setaffinity(2)` of the calling thread: from now on it runs on `cpu` only.
///
/// # Errors
/// EINVAL if there is no such CPU.
pub fn run_on(cpu: usize) -> Result<(), Errno> {
    let mut mask = [0u64; 16];
    *mask.get_mut(cpu / 64).ok_or(Errno::EINVAL)? = 1 << (cpu % 64);
    // SAFETY: the kernel reads `mask`, of which it is told the size.
    unsafe {
        call(
            SCHED_SETAFFINITY,
            0,
            size_of_val(&mask) as u64,
            mask.as_ptr() as u64,
        )
    }
    .map(|_| ())
}

/// `nanosleep(2)`; cut short by a signal, it simply returns.
pub fn sleep(time: Duration) {
    let timespec = [time.as_secs(), u64::from(time.subsec_nanos())];
    // SAFETY: the kernel reads `timespec`; there is no second structure.
    let _ = unsafe { call(NANOSLEEP, timespec.as_ptr() as u64, 0, 0) };
}

/// `clock_gettime(CLOCK_MONOTONIC)`, in nanoseconds; 0 should it fail, which it can't.
pub fn monotonic_ns() -> u64 {
    let mut timespec = [0u64; 2];
    // SAFETY: the kernel writes 16 bytes to `timespec`.
    let done = unsafe { call(CLOCK_GETTIME, CLOCK_MONOTONIC, timespec.as_mut_ptr() as u64, 0) };
    if done.is_err() {
        0
    } else {
        timespec[0] * 1_000_000_000 + timespec[1]
    }
}

/// `shmget(2)`: a segment's id.
///
/// # Errors
/// As in the manual page.
pub fn shmget(key: i32, size: u64, flags: u32) -> Result<u64, Errno> {
    // SAFETY: no addresses.
    unsafe { call(SHMGET, key as u64, size, u64::from(flags)) }
}

/// `shmat(2)` at an address the kernel chooses: where the segment is.
///
/// # Errors
/// As in the manual page.
pub fn shmat(id: u64, flags: u32) -> Result<*mut u8, Errno> {
    // SAFETY: without an address the kernel takes a free one, so nothing that is mapped changes.
    unsafe { call(SHMAT, id, 0, u64::from(flags)) }.map(|address| address as *mut u8)
}

/// `shmat(2)` at `address`, which must be free: with anything mapped there the kernel refuses.
///
/// # Errors
/// As in the manual page.
pub fn shmat_at(id: u64, address: u64, flags: u32) -> Result<*mut u8, Errno> {
    let flags = flags & !abi::ipc::SHM_REMAP;
    // SAFETY: without SHM_REMAP nothing that is mapped changes.
    unsafe { call(SHMAT, id, address, u64::from(flags)) }.map(|address| address as *mut u8)
}

/// `shmdt(2)`.
///
/// # Safety
/// Nothing may use the segment through this address afterwards.
///
/// # Errors
/// As in the manual page.
pub unsafe fn shmdt(address: *mut u8) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(SHMDT, address as u64, 0, 0) }.map(|_| ())
}

/// `shmctl(IPC_STAT)`.
///
/// # Errors
/// As in the manual page.
pub fn shm_stat(id: u64) -> Result<ShmidDs, Errno> {
    let mut state = ShmidDs::default();
    // SAFETY: the kernel writes one `ShmidDs` there.
    unsafe { call(SHMCTL, id, abi::ipc::IPC_STAT as u64, &raw mut state as u64) }?;
    Ok(state)
}

/// `shmctl(IPC_RMID)`.
///
/// # Errors
/// As in the manual page.
pub fn shm_remove(id: u64) -> Result<(), Errno> {
    // SAFETY: no addresses.
    unsafe { call(SHMCTL, id, abi::ipc::IPC_RMID as u64, 0) }.map(|_| ())
}
