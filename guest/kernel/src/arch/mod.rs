//! Everything that is privileged or knows this CPU: the only part of the kernel with such instructions.
//!
//! | file | what |
//! |---|---|
//! | `entry` | assembly: into the kernel, out of it; [`entry::TrapFrame`] |
//! | `trap` | what brought us here: calls, faults, interrupts |
//! | `cpu` | per-vCPU data, reached through GS |
//! | `context` | what of a task is the CPU's: registers, FPU state, segment bases |
//! | `signal_frame` | what a signal handler finds on its stack, and gives back |
//! | `signal_fpu` | the FPU's part of that |
//! | `probe` | how SYSCALL arrives, and whether ring 0 is emulated |
//! | `apic` | x2APIC: timer, interrupts between vCPUs |
//! | `switch` | giving a vCPU to a program, or to none |
//! | `tlb` | flushing stale translations, here and on other vCPUs |
//! | `shm` | `up_shmat` and `up_shmdt`, NuttX's two functions |
//! | `direct` | guest-physical memory through the direct map |
//! | `given` | what the VMM put into RAM, as typed references |
//! | `lent` | buffers lent to one user at a time |
//! | `lock` | the big kernel lock |
//! | `machine` | single instructions: ports, MSRs, TSC, HLT |

pub mod apic;
pub mod context;
pub mod cpu;
pub mod direct;
pub mod entry;
pub mod given;
pub mod lent;
pub mod lock;
pub mod machine;
pub mod probe;
pub mod shm;
pub mod signal_fpu;
pub mod signal_frame;
pub mod switch;
pub mod tlb;
pub mod trap;
