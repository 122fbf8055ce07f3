//! What a fault in ring 3 means: which signal, and what comes with it (arch/x86/kernel/traps.c and arch/x86/mm/fault.c of
//! Linux; siginfo in sigaction(2)).

use super::info::{self, Info};
use super::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, send};
use crate::arch::entry::TrapFrame;
use crate::arch::signal_fpu;
use crate::arch::signal_frame::{LastFault, is_reachable};
use crate::kernel::Kernel;
use crate::mm::Fault;
use abi::memory::USER_END;

const DEBUG: u64 = 1;
const PAGE_FAULT: u64 = 14;
const GENERAL_PROTECTION: u64 = 13;
const FLAG_TRAP: u64 = 1 << 8;
/// Bits of a page fault's error code (SDM 3A 4.7): the page is there; it was fetched from; the program did it.
const PRESENT: u64 = 1;
const USER: u64 = 4;
const FETCH: u64 = 0x10;
/// Those a program is told: these, and whether it wrote. (Where ring 0 is emulated there is one for reserved bits, too, in
/// tables that are not ours.)
const TOLD: u64 = PRESENT | USER | FETCH | 2;

/// The exception in `frame`, other than a page fault, of task `task`, which runs here.
pub fn exception(kernel: &mut Kernel, task: u16, frame: &TrapFrame) {
    let at = frame.rip;
    let info = match frame.vector {
        0 => Info::fault(SIGFPE, info::FPE_INTDIV, at),
        DEBUG if frame.rflags & FLAG_TRAP != 0 => Info::fault(SIGTRAP, info::TRAP_TRACE, at),
        DEBUG => Info::fault(SIGTRAP, info::TRAP_BRKPT, at),
        3 => Info::kernel(SIGTRAP),
        6 => Info::fault(SIGILL, info::ILL_ILLOPN, at),
        11 | 12 => Info::kernel(SIGBUS),
        vector @ (16 | 19) => {
            let (x87, mxcsr) = signal_fpu::status();
            let raised = if vector == 16 { x87 } else { unmasked_of_sse(mxcsr) };
            match floating_point_code(raised) {
                // Linux takes it for spurious, and lets the program try again.
                None => return,
                Some(code) => Info::fault(SIGFPE, code, at),
            }
        }
        17 => Info::fault(SIGBUS, info::BUS_ADRALN, 0),
        _ => Info::kernel(SIGSEGV),
    };
    report(kernel, task, frame.vector, frame.error, None, &info);
}

/// A page fault of task `task` at `address` that can't be put right.
pub fn page_fault(kernel: &mut Kernel, task: u16, address: u64, error: u64, why: Fault) {
    let info = match why {
        Fault::NotMapped => Info::fault(SIGSEGV, info::SEGV_MAPERR, address),
        Fault::NotAllowed => Info::fault(SIGSEGV, info::SEGV_ACCERR, address),
        Fault::BeyondEnd | Fault::OutOfMemory => Info::fault(SIGBUS, info::BUS_ADRERR, address),
    };
    // Whether anything is at the kernel's addresses is not the program's business.
    let hidden = if address >= USER_END { PRESENT } else { 0 };
    let error = error & TOLD;
    report(
        kernel,
        task,
        PAGE_FAULT,
        error | USER | hidden,
        Some(address),
        &info,
    );
}

/// Task `task` is to go on at `rip`. If no program can be there that is a fault, the same that jumping there would be, but
/// without trying: the way back to ring 3 would fault itself. Returns whether it is one.
pub fn at_address(kernel: &mut Kernel, task: u16, rip: u64) -> bool {
    if is_reachable(rip) {
        return false;
    }
    if (rip as i64) << 16 >> 16 == rip as i64 {
        page_fault(kernel, task, rip, FETCH, Fault::NotMapped);
    } else {
        report(kernel, task, GENERAL_PROTECTION, 0, None, &Info::kernel(SIGSEGV));
    }
    true
}

fn report(kernel: &mut Kernel, task: u16, vector: u64, error: u64, address: Option<u64>, info: &Info) {
    let last = &mut kernel.tasks[usize::from(task)].last_fault;
    *last = LastFault {
        vector,
        error,
        address: address.unwrap_or(last.address),
    };
    send::force(kernel, task, info);
}

/// The exceptions that MXCSR says have come and are not masked (SDM 1, 10.2.3).
fn unmasked_of_sse(mxcsr: u32) -> u32 {
    mxcsr & !(mxcsr >> 7) & 0x3f
}

/// What the floating-point exceptions in `raised` are called; where there are several, the first by Linux's order.
fn floating_point_code(raised: u32) -> Option<i32> {
    [
        (1, info::FPE_FLTINV),
        (4, info::FPE_FLTDIV),
        (8, info::FPE_FLTOVF),
        (0x12, info::FPE_FLTUND),
        (0x20, info::FPE_FLTRES),
    ]
    .into_iter()
    .find(|&(bits, _)| raised & bits != 0)
    .map(|(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exceptions_that_are_not_masked_have_a_code() {
        assert_eq!(floating_point_code(unmasked_of_sse(0x1f80 | 0x3f)), None);
        assert_eq!(
            floating_point_code(unmasked_of_sse(0x1f80 & !0x200 | 0x3f)),
            Some(info::FPE_FLTDIV)
        );
        assert_eq!(
            floating_point_code(unmasked_of_sse(0x1f80 & !0x100 | 2)),
            Some(info::FPE_FLTUND)
        );
        assert_eq!(floating_point_code(0x30), Some(info::FPE_FLTUND));
        assert_eq!(floating_point_code(0x20), Some(info::FPE_FLTRES));
    }
}
