//! Ctrl-C and its kin: the first signal stops the run in good order, which takes as long as the report needs to be
//! written. One that comes meanwhile changes nothing and says so, so that who sends it twice loses neither message nor
//! report; only the third, should the end not come, ends the command at once.
//!
//! The signals are blocked in every thread (so call [`Signals::block`] before there is a second one) and taken by one
//! that waits for nothing else. A signal that was ignored when the command started (nohup, a background job) stays
//! ignored.
// UNSAFETY: sigaction, pthread_sigmask and sigwait have no safe form in the crates used.
#![expect(unsafe_code, reason = "signal masks")]

use super::tell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

/// What stops a run in good order.
type OnSignal = Box<dyn Fn(i32) + Send>;

/// The signals that end a run.
const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A thread that waits for signals.
pub(super) struct Signals {
    on_first: Arc<Mutex<Option<OnSignal>>>,
}

impl Signals {
    /// Blocks the signals and waits for them. One that comes before [`Signals::on_first`] ends the command at once.
    ///
    /// # Errors
    /// The host's, should it have no thread left.
    pub(super) fn block() -> io::Result<Self> {
        let on_first: Arc<Mutex<Option<OnSignal>>> = Arc::default();
        let taken = Arc::clone(&on_first);
        let set = blocked_set()?;
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut ending = 0;
                loop {
                    let signal = wait_for(&set);
                    let name = name(signal.unsigned_abs());
                    let first = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
                    match first {
                        Some(stop) => {
                            ending = 1;
                            stop(signal);
                        }
                        None if ending == 1 => {
                            ending = 2;
                            tell(format_args!(
                                "{name} again: the end is under way; one more ends it at once"
                            ));
                        }
                        None => {
                            tell(format_args!("ended at once by {name}"));
                            std::process::exit(128 + signal);
                        }
                    }
                }
            })?;
        Ok(Signals { on_first })
    }

    /// Sets what the first signal does.
    pub(super) fn on_first(&self, stop: impl Fn(i32) + Send + 'static) {
        *self.on_first.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stop));
    }
}

/// Blocks those of [`SIGNALS`] that are not ignored, in this thread and those it will start.
fn blocked_set() -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set it is given.
    let mut set: libc::sigset_t = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in SIGNALS {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action sigaction only fills the old one, which is plain data.
        let action = unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        if action.sa_sigaction != libc::SIG_IGN {
            // SAFETY: an initialized set and a valid signal number.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
    }
    // SAFETY: an initialized set; the old mask is not wanted.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(set),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn wait_for(set: &libc::sigset_t) -> i32 {
    let mut signal = 0;
    loop {
        // SAFETY: an initialized set; the number is written to `signal`.
        if unsafe { libc::sigwait(set, &raw mut signal) } == 0 {
            return signal;
        }
        // Only if the set is empty or odd, which POSIX calls EINVAL; don't burn the CPU for it.
        std::thread::park_timeout(std::time::Duration::from_secs(1));
    }
}

/// The name of a signal on x86-64 Linux, such as `SIGSEGV`; see signal(7).
pub(super) fn name(signal: u32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match (signal as usize)
        .checked_sub(1)
        .and_then(|index| NAMES.get(index))
    {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_libc_numbers_them_by() {
        for (signal, expected) in [
            (libc::SIGINT, "SIGINT"),
            (libc::SIGSEGV, "SIGSEGV"),
            (libc::SIGSTKFLT, "SIGSTKFLT"),
            (libc::SIGCHLD, "SIGCHLD"),
            (libc::SIGSYS, "SIGSYS"),
        ] {
            assert_eq!(name(signal as u32), expected);
        }
        assert_eq!((name(0), name(40)), ("signal 0".into(), "signal 40".into()));
    }
}
