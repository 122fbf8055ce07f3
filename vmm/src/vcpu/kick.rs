//! Getting a vCPU's thread out of KVM_RUN, without a moment at which it could be missed.
//!
//! Whoever wants a machine's vCPUs to stop sets a flag, then sends each of their threads a real-time signal. The
//! signal's handler sets `immediate_exit` of that thread's vCPU. So: before KVM_RUN the thread sees the flag; a
//! signal between that look and KVM_RUN makes KVM_RUN return at once; a signal later interrupts it. A thread that
//! is in another system call (a write to a pipe nobody reads) gets EINTR there and asks [`interrupted`].
//!
//! Invariant: a thread is in [`Kick`]'s list exactly while it may be sent signals; both under one lock.
// UNSAFETY: signals to threads; a signal handler that writes to the mapped kvm_run.
#![expect(unsafe_code, reason = "pthread_kill and the handler's write to kvm_run")]

use crate::error::VmmError;
use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, pthread_t, siginfo_t};
use std::cell::{Cell, RefCell};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// Where the handler writes; null outside of [`Running`].
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
    /// The machine whose vCPU this thread runs.
    static MINE: RefCell<Option<Arc<Kick>>> = const { RefCell::new(None) };
}

/// The stop flag of one machine and the threads that must hear of it.
#[derive(Debug, Default)]
pub struct Kick {
    stopping: AtomicBool,
    threads: Mutex<Vec<pthread_t>>,
}

/// A thread that can be kicked; until it is dropped.
pub struct Running {
    kick: Arc<Kick>,
}

impl Kick {
    /// A flag not yet set. Installs the signal handler, once for the process.
    ///
    /// # Errors
    /// [`VmmError::Host`] if the host refuses the handler.
    pub fn new() -> Result<Arc<Kick>, VmmError> {
        static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
        let installed = INSTALLED
            .get_or_init(|| register_signal_handler(SIGRTMIN(), on_kick).map_err(|error| error.errno()));
        installed.map_err(|errno| VmmError::Host {
            what: "handler of the signal that stops vCPUs".into(),
            source: std::io::Error::from_raw_os_error(errno),
        })?;
        Ok(Arc::default())
    }

    /// Whether the vCPUs have been asked to stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Asks all vCPUs to stop. May be called again, for a thread that went back to a blocking call.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
        for thread in self.threads().iter() {
            // SAFETY: the thread is alive: it takes itself off the list, under this lock, before it ends.
            unsafe { libc::pthread_kill(*thread, SIGRTMIN()) };
        }
    }

    /// From now on the calling thread, which runs this vCPU, can be kicked. The result must be dropped on the
    /// same thread, before `vcpu`.
    pub fn enter(self: &Arc<Kick>, vcpu: &mut VcpuFd) -> Running {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        MINE.set(Some(Arc::clone(self)));
        // SAFETY: only asks for the calling thread's own handle.
        self.threads().push(unsafe { libc::pthread_self() });
        Running {
            kick: Arc::clone(self),
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<pthread_t>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(null_mut());
        MINE.set(None);
        // SAFETY: as in `enter`.
        let me = unsafe { libc::pthread_self() };
        self.kick.threads().retain(|thread| *thread != me);
    }
}

/// Whether the calling thread runs a vCPU that has been asked to stop: what to ask after EINTR.
#[must_use]
pub fn interrupted() -> bool {
    MINE.with_borrow(|mine| mine.as_ref().is_some_and(|kick| kick.stopping()))
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: it points into this thread's mapped kvm_run (see `Kick::enter`); KVM only reads the byte.
        unsafe { flag.write_volatile(1) };
    }
}
