//! A kernel's last words: message, registers and backtrace, left where the VMM finds them.
//!
//! Nothing here takes a lock, allocates, or trusts the GS base: the dying vCPU is known by its stack.
// UNSAFETY: follows frame pointers, writes the epitaph page.
#![expect(unsafe_code, reason = "reads a stack that may be broken, within its bounds")]

use crate::arch::cpu::area;
use crate::arch::entry::TrapFrame;
use abi::MAX_VCPUS;
use abi::boot::VECTORS;
use abi::epitaph::{BACKTRACE_LEN, Epitaph, MESSAGE_LEN};
use abi::hypercall::EXIT_PANIC;
use abi::memory::{
    KERNEL_VIRT, VCPU_AREAS, VCPU_EPITAPH, VCPU_IST, VCPU_IST_TOP, VCPU_STACK, VCPU_STACK_TOP, VCPU_STRIDE,
};
use core::fmt::Write;

/// Which vCPU's stack `rsp` is on; 0 if it is on none.
fn vcpu_of_stack(rsp: u64) -> u32 {
    let index = rsp.wrapping_sub(VCPU_AREAS) / VCPU_STRIDE;
    if index < MAX_VCPUS as u64 { index as u32 } else { 0 }
}

fn on_stack(vcpu: u32, address: u64) -> bool {
    let offset = address.wrapping_sub(area(vcpu));
    address.is_multiple_of(8)
        && ((VCPU_STACK..VCPU_STACK_TOP - 8).contains(&offset)
            || (VCPU_IST..VCPU_IST_TOP - 8).contains(&offset))
}

struct Message<'a>(&'a mut Epitaph);

impl Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for &byte in text.as_bytes() {
            let at = self.0.message_len as usize;
            if at == MESSAGE_LEN {
                return Ok(());
            }
            self.0.message[at] = byte;
            self.0.message_len += 1;
        }
        Ok(())
    }
}

/// The epitaph page of the vCPU whose stack this is.
fn page(vcpu: u32) -> &'static mut Epitaph {
    // SAFETY: the VMM maps this page for every vCPU; only a dying vCPU writes its own, once.
    unsafe { &mut *((area(vcpu) + VCPU_EPITAPH) as *mut Epitaph) }
}

fn backtrace(epitaph: &mut Epitaph, vcpu: u32, mut frame_pointer: u64) {
    while (epitaph.backtrace_len as usize) < BACKTRACE_LEN && on_stack(vcpu, frame_pointer) {
        // SAFETY: both words lie on this vCPU's mapped stack.
        let (next, return_address) = unsafe {
            (
                *(frame_pointer as *const u64),
                *((frame_pointer + 8) as *const u64),
            )
        };
        if return_address < KERNEL_VIRT {
            break;
        }
        epitaph.backtrace[epitaph.backtrace_len as usize] = return_address;
        epitaph.backtrace_len += 1;
        if next <= frame_pointer {
            break;
        }
        frame_pointer = next;
    }
}

/// The end by an exception in ring 0.
pub fn write_for_fault(frame: &TrapFrame, cr2: u64) -> ! {
    let vcpu = vcpu_of_stack(core::ptr::from_ref(frame).addr() as u64);
    let epitaph = page(vcpu);
    epitaph.registers = [
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbp,
        frame.rsp,
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
        frame.rip,
        frame.rflags,
        cr2,
        crate::arch::machine::page_table(),
        frame.error,
        frame.vector,
    ];
    epitaph.has_registers = 1;
    let what = match frame.vector {
        2 => "non-maskable interrupt",
        8 => "double fault",
        13 => "general protection fault",
        14 => "page fault",
        _ => "exception",
    };
    let _ = write!(
        Message(epitaph),
        "{what} in the kernel (vector {}, of {VECTORS} known)",
        frame.vector
    );
    epitaph.backtrace[0] = frame.rip;
    epitaph.backtrace_len = 1;
    backtrace(epitaph, vcpu, frame.rbp);
    crate::hypercall::exit(EXIT_PANIC)
}

/// The end by a panic.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (frame_pointer, stack_pointer): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        core::arch::asm!("mov {}, rbp", "mov {}, rsp", out(reg) frame_pointer, out(reg) stack_pointer, options(nostack, nomem));
    }
    let vcpu = vcpu_of_stack(stack_pointer);
    let epitaph = page(vcpu);
    let _ = write!(Message(epitaph), "{}", info.message());
    if let Some(place) = info.location() {
        let _ = write!(Message(epitaph), " at {}:{}", place.file(), place.line());
    }
    backtrace(epitaph, vcpu, frame_pointer);
    crate::hypercall::exit(EXIT_PANIC)
}
