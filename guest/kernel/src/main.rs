//! The Tombolo guest kernel: ring 0 of every guest.
//!
//! It runs static Linux x86-64 programs in ring 3, edits their page tables, and asks the host's broker for
//! segments. `docs/architecture.md` tells the story; this is the map:
//!
//! | module | what |
//! |---|---|
//! | `arch` | everything privileged, and everything `unsafe` but the two files below |
//! | `kernel` | the state behind the kernel lock; boot; traps |
//! | `mm` | frames, areas, address spaces, user memory |
//! | `process` | tasks, scheduling, loading and ending programs |
//! | `syscall` | the Linux system calls, a file for each family |
//! | `fs` | files, what is open, pipes, `/proc` |
//! | `shm` | shmget, shmat, shmdt, shmctl: the guest's half |
//! | `futex` | who waits for which word |
//! | `robust` | the locks of threads that end |
//! | `hypercall` | asking the host |
//! | `epitaph` | last words |
//! | `timers` | which timer expires next on which vCPU |
//! | `time`, `log` | the clock; the host's log |
#![cfg_attr(target_os = "none", no_std, no_main)]
#![expect(
    unreachable_pub,
    reason = "in a program nothing is reachable; `pub` says what a module offers the others"
)]
#![cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "on the host only unit tests run")
)]

mod arch;
mod epitaph;
mod fs;
mod futex;
mod hypercall;
mod kernel;
mod log;
mod mm;
mod process;
mod robust;
mod shm;
mod syscall;
mod time;
mod timers;

/// Where the entry code brings every vCPU: `boot` is the direct-map address of BootInfo.
pub extern "C" fn kernel_start(boot: u64, index: u64) -> ! {
    kernel::start(boot, index as u32)
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is the Tombolo guest kernel; the command `tombolo` boots it");
}
