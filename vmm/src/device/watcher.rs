//! Waits in a guest's place: hypercalls never block, so a guest that is told EAGAIN gets its event interrupt when
//! a descriptor of the host has become ready.
//!
//! The thread that waits, and the interrupt's route, are made when first needed: most runs never wait.

use crate::error::VmmError;
use crate::kvm::Vm;
use abi::Errno;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What an eventfd is told when it is to become readable.
const ONE: [u8; 8] = 1u64.to_ne_bytes();

/// What a guest waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Something to read.
    Input,
    /// Room for what its programs write to this descriptor.
    Room(u32),
}

/// Waits for one guest. Dropping it ends and joins the thread.
#[derive(Debug, Default)]
pub struct Watcher {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    events: Arc<Events>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Events {
    /// What is waited for, each once.
    awaited: Mutex<Vec<(Awaited, Arc<OwnedFd>)>>,
    /// There is more to wait for.
    more: OwnedFd,
    /// The thread is to end.
    quit: OwnedFd,
    /// Raises the guest's interrupt.
    interrupt: EventFd,
}

impl Watcher {
    /// Makes the guest's event interrupt come once `fd` is ready for `awaited`; returns what the guest is told
    /// meanwhile: EAGAIN, or EIO if that can't be done.
    pub fn watch(&self, vm: &Vm, awaited: Awaited, fd: OwnedFd) -> Errno {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *running {
            Some(running) => running,
            none => match Running::start(vm) {
                Ok(started) => none.insert(started),
                Err(error) => {
                    tracing::error!("waiting for a descriptor: {error}");
                    return Errno::EIO;
                }
            },
        };
        let events = &running.events;
        let mut list = events.lock();
        if !list.iter().any(|(known, _)| *known == awaited) {
            list.push((awaited, Arc::new(fd)));
            // Fails only when the counter would overflow, and then the thread has enough reason to look.
            let _ = io::write(&events.more, &ONE);
        }
        Errno::EAGAIN
    }
}

impl Running {
    fn start(vm: &Vm) -> Result<Running, VmmError> {
        let failed = |source| VmmError::Host {
            what: "eventfd for a guest that waits".into(),
            source,
        };
        let event = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))
        };
        let interrupt = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(failed)?;
        let events = Arc::new(Events {
            awaited: Mutex::default(),
            more: event()?,
            quit: event()?,
            interrupt,
        });
        vm.route_event(&events.interrupt)?;
        let theirs = Arc::clone(&events);
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || theirs.watch())
            .map_err(|source| VmmError::Host {
                what: "thread for a guest that waits".into(),
                source,
            })?;
        Ok(Running {
            events,
            thread: Some(thread),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = io::write(&self.events.quit, &ONE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Vec<(Awaited, Arc<OwnedFd>)>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        loop {
            let list = self.lock().clone();
            let mut fds = vec![
                PollFd::new(&self.quit, PollFlags::IN),
                PollFd::new(&self.more, PollFlags::IN),
            ];
            fds.extend(list.iter().map(|(awaited, fd)| {
                let flags = match awaited {
                    Awaited::Input => PollFlags::IN,
                    Awaited::Room(_) => PollFlags::OUT,
                };
                PollFd::new(&**fd, flags)
            }));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(io::Errno::INTR) => continue,
                Err(_) => return,
            }
            if !fds[0].revents().is_empty() {
                return;
            }
            if !fds[1].revents().is_empty() {
                let _ = io::read(&self.more, &mut [0; 8]);
            }
            // Errors and hang-ups are told as well: the guest's next request says which.
            let ready: Vec<Awaited> = list
                .iter()
                .zip(&fds[2..])
                .filter(|(_, fd)| !fd.revents().is_empty())
                .map(|((awaited, _), _)| *awaited)
                .collect();
            if !ready.is_empty() {
                // Out of the list before the interrupt: the guest may ask for it again at once.
                self.lock().retain(|(awaited, _)| !ready.contains(awaited));
                let _ = self.interrupt.write(1);
            }
        }
    }
}
