//! What brought a vCPU into the kernel, told apart: system calls, faults, interrupts.
//!
//! System calls arrive in one of two ways (see [`super::probe`]); either way all state a program could have
//! chosen freely is laundered before it is used for the return: flags, and the address to return to.

use super::context::{RFLAGS_INITIAL, RFLAGS_USER};
use super::cpu::Cpu;
use super::entry::{TrapFrame, VECTOR_SYSCALL, syscall_entry_address};
use super::machine::page_fault_address;
use super::probe::{PAGE_FAULT, arrives_in_ring_3};
use super::{apic, tlb};
use abi::boot::{VECTOR_FLUSH, VECTOR_SPURIOUS, VECTOR_TIMER};

const FIRST_INTERRUPT: u64 = VECTOR_TIMER as u64;
const FLUSH: u64 = VECTOR_FLUSH as u64;
const SPURIOUS: u64 = VECTOR_SPURIOUS as u64;

/// Why a program stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// It made a system call; its registers hold number and arguments.
    Call,
    /// A page fault at `address`.
    PageFault {
        /// What it accessed.
        address: u64,
        /// The error code (SDM 3A 4.7).
        error: u64,
    },
    /// Another exception; the frame says which.
    Exception,
    /// The outside wants something: [`Cpu::interrupts`] says what.
    Interrupt,
}

/// Called by the entry code with the frame of the program that ran; answers with the frame to resume.
pub extern "C" fn trap_from_user(frame: &mut TrapFrame) -> *mut TrapFrame {
    let cpu = Cpu::current();
    let trap = if frame.vector == VECTOR_SYSCALL {
        launder(frame);
        Trap::Call
    } else if frame.vector == PAGE_FAULT {
        let address = page_fault_address();
        if address == frame.rip && arrives_in_ring_3() && address == syscall_entry_address() {
            launder(frame);
            Trap::Call
        } else {
            Trap::PageFault {
                address,
                error: frame.error,
            }
        }
    } else if frame.vector >= FIRST_INTERRUPT {
        if frame.vector != SPURIOUS {
            apic::end_of_interrupt();
        }
        if frame.vector == FLUSH {
            tlb::answer(cpu);
            return frame;
        }
        cpu.note(frame.vector);
        Trap::Interrupt
    } else {
        Trap::Exception
    };
    crate::kernel::trapped(cpu, frame, trap)
}

/// SYSCALL puts the return address in RCX and the flags in R11; but a program can also jump to the entry
/// with anything in them, so only flags a program may set are taken. [`crate::kernel`] refuses addresses that
/// IRET would fault on.
fn launder(frame: &mut TrapFrame) {
    frame.rip = frame.rcx;
    frame.rflags = (frame.r11 & RFLAGS_USER) | RFLAGS_INITIAL;
}

/// An interrupt in the idle loop's HLT. The loop looks at what is noted.
pub extern "C" fn interrupt_in_kernel(vector: u64) {
    let cpu = Cpu::current();
    if vector != SPURIOUS {
        apic::end_of_interrupt();
    }
    if vector == FLUSH {
        tlb::answer(cpu);
    } else {
        cpu.note(vector);
    }
}

/// An exception in ring 0, #DF or NMI: the kernel is broken, and says so.
pub extern "C" fn fault_in_kernel(frame: &TrapFrame) -> ! {
    crate::epitaph::write_for_fault(frame, page_fault_address())
}
