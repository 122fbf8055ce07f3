//! What a kernel leaves behind when it dies: written to the vCPU's epitaph page, then announced by
//! [`crate::hypercall::PORT_EXIT`] with [`crate::hypercall::EXIT_PANIC`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of message kept.
pub const MESSAGE_LEN: usize = 1024;
/// Return addresses kept.
pub const BACKTRACE_LEN: usize = 32;

/// Message, registers and backtrace of a dead kernel. The VMM copies it once, checks lengths, escapes the
/// message and names the addresses from the kernel image's symbols.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Epitaph {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 … r15, rip, rflags, cr2, cr3, error code, vector; zero if
    /// the end was not an exception ([`Epitaph::has_registers`] is 0).
    pub registers: [u64; 22],
    /// Return addresses, innermost first.
    pub backtrace: [u64; BACKTRACE_LEN],
    /// How many of [`Epitaph::backtrace`] are set.
    pub backtrace_len: u32,
    /// Bytes of [`Epitaph::message`] that are set.
    pub message_len: u32,
    /// 1 if [`Epitaph::registers`] is set.
    pub has_registers: u32,
    /// Id of the process that ran on this vCPU, 0 if none.
    pub pid: u32,
    /// UTF-8 text, nothing promised.
    pub message: [u8; MESSAGE_LEN],
}

/// The names of [`Epitaph::registers`], in order.
pub const REGISTER_NAMES: [&str; 22] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip", "rflags", "cr2", "cr3", "error", "vector",
];
