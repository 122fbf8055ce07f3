//! The way into the kernel and out of it: trap stubs, the SYSCALL entry, and the one way back to ring 3.
//!
//! Whatever brings a vCPU from ring 3 into the kernel, the interrupted program's registers land in the
//! [`TrapFrame`] of its own task: RSP0 (and the per-vCPU word the SYSCALL path loads) points at that frame's
//! end, so a task switch moves no registers, only two pointers. The code below then switches to the vCPU's
//! kernel stack and calls [`super::trap::trap_from_user`], which answers with the frame to resume: the same
//! one, or another task's.
//!
//! The stubs lie at a fixed stride, so that the VMM can lay out the IDT from [`abi::boot::KernelHeader`]
//! before the first instruction runs. Interrupts are off from here until the return, except in the idle
//! loop's HLT; an interrupt there comes in on the kernel stack, and is told from the rest by its code
//! segment.
//!
//! Sources: SDM 3A 6.12–6.14 (exception and interrupt handling in 64-bit mode), AMD APM 2 section 8.9.
// UNSAFETY: the entry paths are assembly.
#![expect(unsafe_code, reason = "exports the symbols the assembly and the VMM refer to")]

use abi::boot::{HEADER_MAGIC, KernelHeader};

/// A program's registers while it is not running. The order is the order in which the entry code and the
/// CPU push them; [`TrapFrame::vector`] says what brought the program here.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Interrupt vector, or [`VECTOR_SYSCALL`].
    pub vector: u64,
    /// The exception's error code, 0 where it has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// All zero.
    pub const ZERO: TrapFrame = TrapFrame {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        rbp: 0,
        rbx: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rax: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        vector: 0,
        error: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    };
}

/// What [`TrapFrame::vector`] holds after a SYSCALL that arrived in ring 0.
pub const VECTOR_SYSCALL: u64 = 0x100;

const STUB_STRIDE: u32 = 16;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    include_str!("entry.s"),
    trap_from_user = sym super::trap::trap_from_user,
    interrupt_in_kernel = sym super::trap::interrupt_in_kernel,
    fault_in_kernel = sym super::trap::fault_in_kernel,
    kernel_start = sym crate::kernel_start,
    vectors = const abi::boot::VECTORS,
    stride = const STUB_STRIDE,
    first_interrupt = const abi::boot::VECTOR_TIMER,
    user_cs = const abi::boot::selector::USER_CODE,
    user_ss = const abi::boot::selector::USER_DATA,
    syscall_vector = const VECTOR_SYSCALL,
    stack_top = const super::cpu::OFFSET_STACK_TOP,
    frame_end = const super::cpu::OFFSET_FRAME_END,
    scratch = const super::cpu::OFFSET_SCRATCH,
    options(att_syntax)
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    static trap_stubs: u8;
    static syscall_entry: u8;
    fn resume_frame(frame: *mut TrapFrame) -> !;
}

/// What the VMM reads from the image before it starts it.
#[cfg(target_os = "none")]
#[unsafe(link_section = ".tombolo.header")]
#[used]
static HEADER: HeaderOfImage = HeaderOfImage {
    magic: HEADER_MAGIC,
    abi_version: abi::ABI_VERSION,
    stub_stride: STUB_STRIDE,
    trap_stubs: &raw const trap_stubs,
    syscall_entry: &raw const syscall_entry,
};

/// [`KernelHeader`] with its addresses as the pointers the linker can fill in.
#[repr(C)]
struct HeaderOfImage {
    magic: u64,
    abi_version: u32,
    stub_stride: u32,
    trap_stubs: *const u8,
    syscall_entry: *const u8,
}

const _: () = assert!(size_of::<HeaderOfImage>() == size_of::<KernelHeader>());
const _: () = assert!(size_of::<TrapFrame>() == 22 * 8);

// SAFETY: never changed; the pointers are only compared.
unsafe impl Sync for HeaderOfImage {}

/// Where SYSCALL arrives (LSTAR).
pub fn syscall_entry_address() -> u64 {
    #[cfg(target_os = "none")]
    return (&raw const syscall_entry).addr() as u64;
    #[cfg(not(target_os = "none"))]
    return HEADER_MAGIC;
}

/// Leaves the kernel: loads the registers from `frame` and goes to ring 3.
///
/// # Safety
/// `frame` must be a ring-3 frame whose selectors and flags were made by the kernel, in memory that stays,
/// and whose address space is loaded on this vCPU.
pub unsafe fn resume(frame: *mut TrapFrame) -> ! {
    #[cfg(target_os = "none")]
    // SAFETY: the caller's promise.
    unsafe {
        resume_frame(frame)
    }
    #[cfg(not(target_os = "none"))]
    unreachable!("ring 3 from {frame:?} on the host");
}
