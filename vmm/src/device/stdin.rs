//! The command's stdin as the first guest reads it: never blocking a vCPU.
//!
//! Bytes are read from the host's descriptor only when a program asks for them, and no more than it asks for, so
//! what the program leaves is there for whoever reads next, as natively. When there is nothing yet the guest gets
//! EAGAIN and a thread waits for the descriptor in its place; when something has come it raises the guest's event
//! interrupt. That thread, and the interrupt's route, are made when first needed: most runs never read.

use super::output::errno;
use crate::error::VmmError;
use crate::hypercall::Buffer;
use crate::kvm::Vm;
use abi::Errno;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::{io, stdio};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What an eventfd is told when it is to become readable.
const ONE: [u8; 8] = 1u64.to_ne_bytes();

/// What a guest's first process reads.
#[derive(Debug)]
pub struct StdinDevice {
    source: Mutex<Source>,
}

#[derive(Debug)]
enum Source {
    /// Nothing: the end at once.
    Empty,
    /// These bytes from `at` on.
    Bytes { bytes: Vec<u8>, at: usize },
    /// The command's own stdin, and who waits for it, if somebody had to.
    Host(Option<Watcher>),
}

impl StdinDevice {
    /// A stdin at its end.
    #[must_use]
    pub fn empty() -> StdinDevice {
        StdinDevice {
            source: Mutex::new(Source::Empty),
        }
    }

    /// A stdin of these bytes.
    #[must_use]
    pub fn bytes(bytes: Vec<u8>) -> StdinDevice {
        StdinDevice {
            source: Mutex::new(Source::Bytes { bytes, at: 0 }),
        }
    }

    /// The command's own.
    #[must_use]
    pub fn host() -> StdinDevice {
        StdinDevice {
            source: Mutex::new(Source::Host(None)),
        }
    }

    /// Whether programs should see a pipe instead of the host's descriptor.
    #[must_use]
    pub fn is_bytes(&self) -> bool {
        matches!(*self.lock(), Source::Bytes { .. })
    }

    /// Bytes for a program: how many, 0 at the end.
    ///
    /// # Errors
    /// EAGAIN if there are none yet: the guest's event interrupt will come. EFAULT if `into` is not RAM. The
    /// host's error otherwise.
    pub fn read(&self, vm: &Vm, into: Buffer) -> Result<u64, Errno> {
        if !vm.ram().contains(into.gpa, into.len) {
            return Err(Errno::EFAULT);
        }
        match &mut *self.lock() {
            Source::Empty => Ok(0),
            Source::Bytes { bytes, at } => {
                let rest = bytes.get(*at..).unwrap_or_default();
                let piece = &rest[..rest.len().min(into.len as usize)];
                vm.ram().write(into.gpa, piece)?;
                *at += piece.len();
                Ok(piece.len() as u64)
            }
            Source::Host(watcher) => {
                if !readable()? {
                    return Err(watch(watcher, vm));
                }
                let mut bytes = vec![0; into.len as usize];
                let count = io::read(stdio::stdin(), &mut bytes[..]).map_err(errno)?;
                vm.ram().write(into.gpa, bytes.get(..count).unwrap_or_default())?;
                Ok(count as u64)
            }
        }
    }

    /// 1 if a read would not have to wait.
    ///
    /// # Errors
    /// As [`StdinDevice::read`].
    pub fn ready(&self, vm: &Vm) -> Result<u64, Errno> {
        match &mut *self.lock() {
            Source::Host(watcher) if !readable()? => Err(watch(watcher, vm)),
            _ => Ok(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether reading the host's stdin returns at once, be it with an error or the end.
fn readable() -> Result<bool, Errno> {
    let stdin = stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    ) {
        Ok(count) => Ok(count > 0),
        Err(io::Errno::INTR) => Ok(false),
        Err(error) => Err(errno(error)),
    }
}

/// Makes the interrupt come when there is something to read; returns what the guest is told meanwhile.
fn watch(watcher: &mut Option<Watcher>, vm: &Vm) -> Errno {
    if watcher.is_none() {
        match Watcher::start(vm) {
            Ok(started) => *watcher = Some(started),
            Err(error) => {
                tracing::error!("waiting for stdin: {error}");
                return Errno::EIO;
            }
        }
    }
    if let Some(watcher) = watcher {
        // Fails only when the counter would overflow, and then the thread has enough reason to look.
        let _ = io::write(&watcher.events.wanted, &ONE);
    }
    Errno::EAGAIN
}

/// The thread that waits in the guest's place. Dropping it ends and joins the thread.
#[derive(Debug)]
struct Watcher {
    events: Arc<Events>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Events {
    /// Somebody wants to read.
    wanted: OwnedFd,
    /// The thread is to end.
    quit: OwnedFd,
    /// Raises the guest's interrupt.
    interrupt: EventFd,
}

impl Watcher {
    fn start(vm: &Vm) -> Result<Watcher, VmmError> {
        let failed = |source| VmmError::Host {
            what: "eventfd for stdin".into(),
            source,
        };
        let event = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))
        };
        let interrupt = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(failed)?;
        let events = Arc::new(Events {
            wanted: event()?,
            quit: event()?,
            interrupt,
        });
        vm.route_event(&events.interrupt)?;
        let theirs = Arc::clone(&events);
        let thread = std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || theirs.watch())
            .map_err(|source| VmmError::Host {
                what: "thread for stdin".into(),
                source,
            })?;
        Ok(Watcher {
            events,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = io::write(&self.events.quit, &ONE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Events {
    fn watch(&self) {
        let stdin = stdio::stdin();
        loop {
            if !self.wait(PollFd::new(&self.wanted, PollFlags::IN)) {
                return;
            }
            let _ = io::read(&self.wanted, &mut [0; 8]);
            if !self.wait(PollFd::new(&stdin, PollFlags::IN)) {
                return;
            }
            let _ = self.interrupt.write(1);
        }
    }

    /// Waits for `what`; false if the thread is to end.
    fn wait(&self, what: PollFd<'_>) -> bool {
        let mut fds = [what, PollFd::new(&self.quit, PollFlags::IN)];
        loop {
            match poll(&mut fds, None) {
                Ok(_) => return fds[1].revents().is_empty(),
                Err(io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
