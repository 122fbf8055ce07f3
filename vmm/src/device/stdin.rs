//! The command's stdin as the first guest reads it: never blocking a vCPU.
//!
//! Bytes are read from the host's descriptor only when a program asks for them, and no more than it asks for, so
//! what the program leaves is there for whoever reads next, as natively. When there is nothing yet the guest gets
//! EAGAIN and [`super::watcher`] waits for the descriptor in its place.

use super::output::{errno, is_ready};
use super::watcher::{Awaited, Watcher};
use crate::hypercall::Buffer;
use crate::kvm::Vm;
use abi::Errno;
use rustix::event::PollFlags;
use rustix::{io, stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// The command's own stdin.
    Host,
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
            source: Mutex::new(Source::Host),
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
    pub fn read(&self, vm: &Vm, watcher: &Watcher, into: Buffer) -> Result<u64, Errno> {
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
            Source::Host => {
                if !readable()? {
                    return Err(watch(vm, watcher));
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
    pub fn ready(&self, vm: &Vm, watcher: &Watcher) -> Result<u64, Errno> {
        match &*self.lock() {
            Source::Host if !readable()? => Err(watch(vm, watcher)),
            _ => Ok(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether reading the host's stdin returns at once, be it with an error or the end.
fn readable() -> Result<bool, Errno> {
    is_ready(stdio::stdin(), PollFlags::IN)
}

/// Makes the interrupt come when there is something to read; returns what the guest is told meanwhile.
fn watch(vm: &Vm, watcher: &Watcher) -> Errno {
    match stdio::stdin().try_clone_to_owned() {
        Ok(fd) => watcher.watch(vm, Awaited::Input, fd),
        Err(error) => {
            tracing::error!("waiting for stdin: {error}");
            Errno::EIO
        }
    }
}
