//! Signals: what they are, and what each does unless a process has said otherwise (signal(7)).
//!
//! | file | what |
//! |---|---|
//! | `info` | what comes with one |
//! | `queue` | those that have been sent and not been taken |
//! | `send` | who gets one, and whose wait it ends |
//! | `deliver` | a thread takes what is due: handlers, ends, stops; the way back from a handler |
//! | `fault` | what a fault in ring 3 is as a signal |
//! | `stop` | processes that stop and go on |
//! | `stack` | the stack a thread has set apart for handlers |
//!
//! A signal is sent to a thread or to a process and waits there, in a [`Pending`](queue::Pending). Whoever sends one
//! that does anything has a thread that does not block it look: it sets [`Task::attention`](super::task::Task), ends the
//! thread's wait or interrupts its vCPU. Before a thread runs on in ring 3 with that flag set, [`deliver::attend`] takes
//! all signals that are due and not blocked. So nothing but one test of that flag lies on the way of a system call, and
//! signals act at the edge of ring 3 only, where the whole state of a thread is in its frame.
//!
//! A call that waits is interrupted by signals that are caught or end the process. What it comes to then is decided by
//! which call it is ([`crate::syscall::interrupted`]).

pub mod deliver;
pub mod fault;
pub mod info;
pub mod queue;
pub mod send;
pub mod stack;
pub mod stop;

use super::actions::{Action, Actions};
use crate::kernel::Kernel;

const SIGQUIT: u32 = 3;
/// Illegal instruction.
pub const SIGILL: u32 = 4;
/// Breakpoint or single step.
pub const SIGTRAP: u32 = 5;
const SIGABRT: u32 = 6;
/// Bad memory access by alignment or hardware.
pub const SIGBUS: u32 = 7;
/// Arithmetic fault.
pub const SIGFPE: u32 = 8;
/// Can't be blocked, caught or ignored.
pub const SIGKILL: u32 = 9;
/// Bad memory access.
pub const SIGSEGV: u32 = 11;
/// A write that nobody will read.
pub const SIGPIPE: u32 = 13;
/// A timer of alarm(2) or setitimer(2).
pub const SIGALRM: u32 = 14;
/// A child has ended, stopped, or goes on.
pub const SIGCHLD: u32 = 17;
/// Go on.
pub const SIGCONT: u32 = 18;
/// Can't be blocked, caught or ignored.
pub const SIGSTOP: u32 = 19;
const SIGTSTP: u32 = 20;
const SIGTTIN: u32 = 21;
const SIGTTOU: u32 = 22;
const SIGURG: u32 = 23;
const SIGXCPU: u32 = 24;
/// A file is about to become larger than its process may make it.
pub const SIGXFSZ: u32 = 25;
/// A timer of setitimer(2) that counts the program's own time.
pub const SIGVTALRM: u32 = 26;
/// A timer of setitimer(2) that counts the time the process runs.
pub const SIGPROF: u32 = 27;
const SIGWINCH: u32 = 28;
const SIGSYS: u32 = 31;
/// The first real-time signal, for the kernel (the C libraries keep two or three for themselves).
pub const REAL_TIME: u32 = 32;
/// The last signal.
pub const LAST: u32 = 64;

/// The handler that means "the default".
pub const SIG_DFL: u64 = 0;
/// The handler that means "ignored".
pub const SIG_IGN: u64 = 1;

/// Don't say so when children stop (sigaction(2)).
pub const SA_NOCLDSTOP: u64 = 1;
/// Don't make zombies of children.
pub const SA_NOCLDWAIT: u64 = 2;
/// The handler wants to know what came with the signal.
pub const SA_SIGINFO: u64 = 4;
/// There is a restorer, which every handler needs here.
pub const SA_RESTORER: u64 = 0x400_0000;
/// The handler runs on the signal stack.
pub const SA_ONSTACK: u64 = 0x800_0000;
/// Calls that can be made again are.
pub const SA_RESTART: u64 = 0x1000_0000;
/// The signal is not blocked while its handler runs.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// The handler is called once.
pub const SA_RESETHAND: u64 = 0x8000_0000;
/// The flags that are kept; others are forgotten, so that programs can tell which mean anything. (The one not named here
/// is SA_EXPOSE_TAGBITS, which means nothing on x86.)
pub const SA_KNOWN: u64 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | 0x800
    | SA_RESTORER
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND;

/// `signal` in a set: bit = number - 1.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals that can't be blocked.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// Signals that instructions bring about (`SYNCHRONOUS_MASK` in Linux).
pub const SYNCHRONOUS: u64 =
    bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS);
/// Signals that stop a process unless it has said otherwise.
pub const STOPPING: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
const IGNORED: u64 = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH);
const DUMPING: u64 = bit(SIGQUIT) | bit(SIGABRT) | bit(SIGXCPU) | bit(SIGXFSZ) | SYNCHRONOUS;

/// What a signal does to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing.
    Ignored,
    /// It ends.
    Ends,
    /// It stops.
    Stops,
    /// Its handler is called.
    Caught(Action),
}

impl Actions {
    /// What `signal`, 1 to 64, does.
    pub fn disposition(&self, signal: u32) -> Disposition {
        let action = self.get(signal);
        match action[0] {
            SIG_IGN => Disposition::Ignored,
            SIG_DFL if bit(signal) & IGNORED != 0 => Disposition::Ignored,
            SIG_DFL if bit(signal) & STOPPING != 0 => Disposition::Stops,
            SIG_DFL => Disposition::Ends,
            _ => Disposition::Caught(action),
        }
    }
}

impl Kernel {
    /// What `signal`, 1 to 64, does to process `number`.
    pub fn disposition(&self, number: u16, signal: u32) -> Disposition {
        self.actions[self.processes[usize::from(number)].actions].disposition(signal)
    }
}

/// Whether `signal` also writes a core file where it ends a process, elsewhere. Those that don't end all threads the
/// moment they are sent.
fn dumps_core(signal: u32) -> bool {
    bit(signal) & DUMPING != 0
}
