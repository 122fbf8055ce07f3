//! The vDSO: code that the kernel maps into every process and the C libraries call instead of the kernel, so that
//! reading a clock takes no system call (vdso(7)).
//!
//! It is a shared object; AT_SYSINFO_EHDR in the auxiliary vector says where it lies. Behind it, at `clock_page`, the
//! program can read the group's [`ClockPage`]. What can't be answered from there is left to
//! the system call. As on Linux, an address that can't be written is the caller's SIGSEGV rather than EFAULT.
//!
//! The same code in ring 3 of both kinds of KVM: RDTSC shows the host's counter (offset 0), and LSL the limit of the
//! descriptor in which Linux hides the number of the CPU. On hardware that is the guest's own descriptor, one for each
//! vCPU; the software KVM does not show guests' descriptors to ring 3, but has one there with the vCPU's number
//! itself. (RDTSCP and RDPID would tell the host's CPU there.)
// UNSAFETY: writes where its callers point, reads the page the kernel maps beside it, and executes RDTSC, LSL and
// SYSCALL.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![expect(unsafe_code, reason = "a C interface, and three instructions")]

use abi::boot::selector;
use abi::clock::ClockPage;
use core::arch::asm;

const SYS_CLOCK_GETTIME: u64 = 228;
const SYS_CLOCK_GETRES: u64 = 229;
const SYS_GETCPU: u64 = 309;
const NS_PER_S: u64 = 1_000_000_000;
/// How many low bits of the limit that LSL tells are the CPU's number; the node's is above.
const CPU_BITS: u32 = 12;

/// `struct timespec`; with microseconds, `struct timeval`.
#[repr(C)]
pub struct Timespec {
    seconds: u64,
    fraction: u64,
}

impl Timespec {
    fn new(ns: u64) -> Timespec {
        Timespec {
            seconds: ns / NS_PER_S,
            fraction: ns % NS_PER_S,
        }
    }
}

/// The clock page, which the kernel maps where vdso.ld ends the image.
fn page() -> &'static ClockPage {
    let page: *const ClockPage;
    // SAFETY: it is there in every process, and holds atomics. The address is computed here because that of an
    // `extern` static would be loaded from a table that somebody had to fill in.
    unsafe {
        asm!("lea {}, [rip + clock_page]", out(reg) page, options(nostack, nomem, preserves_flags));
        &*page
    }
}

/// The time-stamp counter, read after all loads before it in the program are done: a time that was read and passed on
/// is never later than the receiver's own.
#[inline(always)]
fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions are there on every x86-64 CPU and touch only the registers named. No `nomem`: the
    // compiler moves no access to memory over them either.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags));
    }
    low | high << 32
}

fn system_call(number: u64, args: [u64; 3]) -> i32 {
    let result: u64;
    // SAFETY: the calls made here write only where the caller of the vDSO's function lets it write.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result as i32
}

/// clock_gettime(2): 0, or a negated error number.
///
/// # Safety
/// `to` can be written.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: i32, to: *mut Timespec) -> i32 {
    match page().read(clock as u64, tsc()) {
        Some(ns) => {
            // SAFETY: the caller's promise.
            unsafe { to.write_unaligned(Timespec::new(ns)) };
            0
        }
        None => system_call(SYS_CLOCK_GETTIME, [clock as u64, to as u64, 0]),
    }
}

/// clock_getres(2): 0, or a negated error number.
///
/// # Safety
/// `to` is null or can be written.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn __vdso_clock_getres(clock: i32, to: *mut Timespec) -> i32 {
    match page().resolution(clock as u64) {
        Some(ns) => {
            if !to.is_null() {
                // SAFETY: the caller's promise.
                unsafe { to.write_unaligned(Timespec::new(ns)) };
            }
            0
        }
        None => system_call(SYS_CLOCK_GETRES, [clock as u64, to as u64, 0]),
    }
}

/// gettimeofday(2). The time zone is Greenwich.
///
/// # Safety
/// `time` and `zone` are each null or can be written.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn __vdso_gettimeofday(time: *mut Timespec, zone: *mut [u32; 2]) -> i32 {
    if !time.is_null() {
        let mut now = Timespec::new(page().realtime(tsc()));
        now.fraction /= 1000;
        // SAFETY: the caller's promise.
        unsafe { time.write_unaligned(now) };
    }
    if !zone.is_null() {
        // SAFETY: the caller's promise.
        unsafe { zone.write_unaligned([0; 2]) };
    }
    0
}

/// time(2).
///
/// # Safety
/// `to` is null or can be written.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn __vdso_time(to: *mut u64) -> u64 {
    let now = page().realtime(tsc()) / NS_PER_S;
    if !to.is_null() {
        // SAFETY: the caller's promise.
        unsafe { to.write_unaligned(now) };
    }
    now
}

/// getcpu(2): 0, or a negated error number. What was once a cache is not used.
///
/// # Safety
/// `cpu` and `node` are each null or can be written.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, _cache: u64) -> i32 {
    let (limit, known): (u32, u8);
    // SAFETY: LSL only looks at a descriptor (SDM 2A), and says by ZF whether it may.
    unsafe {
        asm!(
            "lsl {limit:e}, {selector:e}", "setz {known}",
            selector = in(reg) u32::from(selector::CPU_NUMBER),
            limit = inout(reg) 0 => limit,
            known = lateout(reg_byte) known,
            options(nostack, nomem),
        );
    }
    if known == 0 {
        return system_call(SYS_GETCPU, [cpu as u64, node as u64, 0]);
    }
    for (to, value) in [(cpu, limit & ((1 << CPU_BITS) - 1)), (node, limit >> CPU_BITS)] {
        if !to.is_null() {
            // SAFETY: the caller's promise.
            unsafe { to.write_unaligned(value) };
        }
    }
    0
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics; the linker drops this.
    loop {}
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is the Tombolo vDSO; guest kernels map it into programs");
}
