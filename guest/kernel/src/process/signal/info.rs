//! [`Info`]: what comes with a signal (`siginfo_t`; sigaction(2)).

use super::{SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a program's `siginfo_t`. What follows an [`Info`] there is zero.
pub const USER_SIZE: usize = 128;
/// Bytes of it that no [`Info`] has.
pub const REST: usize = USER_SIZE - size_of::<Info>();

/// Sent by kill(2).
pub const SI_USER: i32 = 0;
/// Sent by the kernel, for no reason that has a code of its own.
pub const SI_KERNEL: i32 = 0x80;
/// A timer of timer_create(2) has expired.
pub const SI_TIMER: i32 = -2;
/// Sent by tkill(2) or tgkill(2).
pub const SI_TKILL: i32 = -6;

/// SIGSEGV: nothing is mapped there.
pub const SEGV_MAPERR: i32 = 1;
/// SIGSEGV: what is mapped there doesn't allow it.
pub const SEGV_ACCERR: i32 = 2;
/// SIGBUS: alignment.
pub const BUS_ADRALN: i32 = 1;
/// SIGBUS: beyond the end of what is mapped.
pub const BUS_ADRERR: i32 = 2;
/// SIGILL: illegal operand, which is what Linux says for every #UD.
pub const ILL_ILLOPN: i32 = 2;
/// SIGFPE: integer division by zero, or its overflow.
pub const FPE_INTDIV: i32 = 1;
/// SIGFPE: division by zero.
pub const FPE_FLTDIV: i32 = 3;
/// SIGFPE: overflow.
pub const FPE_FLTOVF: i32 = 4;
/// SIGFPE: underflow, or a denormal operand.
pub const FPE_FLTUND: i32 = 5;
/// SIGFPE: inexact result.
pub const FPE_FLTRES: i32 = 6;
/// SIGFPE: invalid operation.
pub const FPE_FLTINV: i32 = 7;
/// SIGTRAP: ICEBP.
pub const TRAP_BRKPT: i32 = 1;
/// SIGTRAP: single step.
pub const TRAP_TRACE: i32 = 2;

/// SIGCHLD: the child has exited.
pub const CLD_EXITED: i32 = 1;
/// SIGCHLD: a signal has ended the child.
pub const CLD_KILLED: i32 = 2;
/// SIGCHLD: a signal has stopped the child.
pub const CLD_STOPPED: i32 = 5;
/// SIGCHLD: the child runs again.
pub const CLD_CONTINUED: i32 = 6;

/// As much of `siginfo_t` as ever means anything: Linux's kernel keeps these 48 bytes too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Info {
    /// Which signal.
    pub signal: u32,
    /// Always 0, unless the sender said otherwise.
    pub errno: i32,
    /// Why: one of the constants above. From 1 on it is the kernel's word.
    pub code: i32,
    pad: u32,
    /// Depends on signal and code.
    pub fields: [u64; 4],
}

const _: () = assert!(size_of::<Info>() == 48);

/// Two 32-bit fields as they lie in memory.
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl Info {
    /// All zero: what a program's `siginfo_t` is cleared with.
    pub const ZERO: Info = Info::with(0, 0, [0; 4]);

    const fn with(signal: u32, code: i32, fields: [u64; 4]) -> Info {
        Info {
            signal,
            errno: 0,
            code,
            pad: 0,
            fields,
        }
    }

    /// From the kernel, without further facts.
    pub const fn kernel(signal: u32) -> Info {
        Info::with(signal, SI_KERNEL, [0; 4])
    }

    /// From the process `pid` of user `uid`, by the call that `code` stands for.
    pub const fn sent(signal: u32, code: i32, pid: u32, uid: u32) -> Info {
        Info::with(signal, code, [pair(pid, uid), 0, 0, 0])
    }

    /// What the instruction at or the access to `address` has brought about.
    pub const fn fault(signal: u32, code: i32, address: u64) -> Info {
        Info::with(signal, code, [address, 0, 0, 0])
    }

    /// Of child `pid`, whose real user is `uid`: `status` is what `code` says, an exit status or a signal; the times
    /// it ran are in hundredths of a second.
    pub const fn child(signal: u32, code: i32, pid: u32, uid: u32, status: u32, ran: u64) -> Info {
        Info::with(signal, code, [pair(pid, uid), pair(status, 0), ran, 0])
    }

    /// Timer `id` of the process has expired; its owner wants `value` to be told. How often it has expired since is
    /// added by [`Info::with_overrun`].
    pub const fn timer(signal: u32, id: u32, value: u64) -> Info {
        Info::with(signal, SI_TIMER, [pair(id, 0), value, 0, 0])
    }

    /// A timer's, which has expired `overrun` times more.
    #[must_use]
    pub const fn with_overrun(mut self, overrun: u32) -> Info {
        self.fields[0] = pair(self.fields[0] as u32, overrun);
        self
    }

    /// Whether the kernel itself says so (`SI_FROMKERNEL`).
    pub const fn is_from_kernel(&self) -> bool {
        self.code > 0
    }

    /// Whether Linux knows what signal and code mean, and so that nothing follows (`known_siginfo_layout`).
    pub fn is_known(&self) -> bool {
        /// The last code of SI_USER's kind that is used, and one by itself.
        const SI_DETHREAD: i32 = -7;
        const SI_ASYNCNL: i32 = -60;
        /// Codes of signals that have none of their own are SIGPOLL's.
        const OTHERS: i32 = 6;
        let last = match self.signal {
            SIGILL => 11,
            SIGFPE => 15,
            SIGSEGV => 10,
            SIGBUS => 5,
            SIGTRAP | SIGCHLD => 6,
            SIGSYS => 2,
            _ => OTHERS,
        };
        match self.code {
            SI_KERNEL | SI_ASYNCNL => true,
            1.. => self.code <= last,
            _ => self.code >= SI_DETHREAD,
        }
    }

    /// As a program's memory has it.
    pub fn to_user(self) -> [u8; USER_SIZE] {
        let mut bytes = [0; USER_SIZE];
        bytes[..size_of::<Info>()].copy_from_slice(self.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
    }

    #[test]
    fn fields_lie_where_siginfo_has_them() {
        let child = Info::child(17, CLD_KILLED, 7, 1001, 9, 250).to_user();
        assert_eq!([0, 4, 8].map(|at| word(&child, at)), [17, 0, 2]);
        // si_pid, si_uid, si_status, si_utime, si_stime
        assert_eq!(
            [16, 20, 24, 32, 40].map(|at| word(&child, at)),
            [7, 1001, 9, 250, 0]
        );
        let timer = Info::timer(14, 3, 0x1_0000_0002).with_overrun(5).to_user();
        // si_timerid, si_overrun, si_value
        assert_eq!(
            [8, 16, 20, 24, 28].map(|at| word(&timer, at)),
            [-2i32 as u32, 3, 5, 2, 1]
        );
        assert!(timer[48..].iter().all(|&byte| byte == 0));
    }
}
