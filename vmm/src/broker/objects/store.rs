//! What an object is made of: a memfd whose size is the object's.
//!
//! It has no name in any file system and is not sealed: the broker alone has it, and windows of guests show it. Bytes
//! move by pread and pwrite, which know where it ends, never through a mapping of this process's own: what has been cut
//! off would be a SIGBUS. The words that futexes compare are read through windows; [`Store::cut`] keeps away from
//! those (`memory::cut`).

use crate::broker::memory;
use abi::Errno;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Largest offset (`MAX_LFS_FILESIZE`).
pub(super) const MOST_BYTES: u64 = i64::MAX as u64;

/// An object's bytes.
#[derive(Debug)]
pub(in crate::broker) struct Store {
    file: File,
    /// A number that no other object or segment ever has.
    pub(in crate::broker) serial: u64,
    /// Held while bytes are written or the size changes, as Linux holds the inode's lock. Taken before the broker's table.
    changing: Mutex<()>,
}

impl Store {
    /// An empty one.
    ///
    /// # Errors
    /// ENFILE when this process or the host has no open file left, else ENOMEM.
    pub(super) fn new() -> Result<Store, Errno> {
        let file = memfd_create("tombolo-object", MemfdFlags::CLOEXEC).map_err(|error| match error {
            rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => Errno::ENFILE,
            _ => Errno::ENOMEM,
        })?;
        Ok(Store {
            file: File::from(file),
            serial: memory::next_serial(),
            changing: Mutex::default(),
        })
    }

    /// Keeps others from writing and from changing the size.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it larger. Memory comes when it is touched.
    ///
    /// # Errors
    /// What the host says.
    pub(super) fn grow(&self, _changing: &MutexGuard<'_, ()>, size: u64) -> Result<(), Errno> {
        ftruncate(&self.file, size).map_err(|error| errno(error.into()))
    }

    /// Makes it smaller. No guest has what is cut off in its page tables, unless it lies.
    pub(super) fn cut(&self, _changing: &MutexGuard<'_, ()>, size: u64) {
        let _nobody_reads_words = memory::cut();
        if let Err(error) = ftruncate(&self.file, size) {
            // Then it is longer than told. It can still be read and written, and is cut the next time.
            tracing::error!("object {} can't be cut to {size} bytes: {error}", self.serial);
        }
    }

    /// Reads bytes: how many, fewer at the end.
    ///
    /// # Errors
    /// What the host says.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < to.len() {
            match self.file.read_at(&mut to[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(error)),
            }
        }
        Ok(done)
    }

    /// Writes bytes, all of them.
    ///
    /// # Errors
    /// What the host says; some may have been written.
    pub(super) fn write(
        &self,
        _changing: &MutexGuard<'_, ()>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        self.file.write_all_at(bytes, offset).map_err(errno)
    }

    /// Bytes of it that are in memory.
    pub(super) fn resident(&self) -> u64 {
        // st_blocks counts 512 bytes (stat(2)).
        fstat(&self.file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }
}

impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn errno(error: std::io::Error) -> Errno {
    match error.raw_os_error() {
        Some(libc::EFBIG | libc::EINVAL) => Errno::EFBIG,
        _ => Errno::ENOSPC,
    }
}
