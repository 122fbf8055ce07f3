//! An attached segment. Its bytes change under the program's hands, so there is never a reference to them: words
//! are atomics, bytes are read and written one at a time, volatile.
// UNSAFETY: raw accesses to shared memory, each checked against the segment's bounds.
#![expect(unsafe_code, reason = "shared memory is reached through raw pointers")]

use crate::clock::tsc;
use crate::sys;
use abi::Errno;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A segment attached at an address the kernel chose. Goes when the program ends, or by [`Attached::detach`].
///
/// A store through a read-only attach ends the program with SIGSEGV. A place outside the segment is a panic.
#[derive(Debug)]
pub struct Attached {
    base: *mut u8,
    size: usize,
}

// SAFETY: an attach belongs to the process, not to a thread.
unsafe impl Send for Attached {}
// SAFETY: every access is one that others, in this process or elsewhere, may make at the same time.
unsafe impl Sync for Attached {}

impl Attached {
    /// As an attach, but of a shared file: its first `size` bytes, which it must have. Goes when the program ends.
    ///
    /// # Errors
    /// mmap's.
    pub fn file(descriptor: i32, size: usize) -> Result<Self, Errno> {
        Ok(Attached {
            base: sys::map_shared(descriptor, size)?,
            size,
        })
    }

    /// Asks for pages of 4 KiB. A system that has no others says EINVAL, and that is as good.
    pub fn want_small_pages(&self) {
        let _ = sys::want_small_pages(self.base, self.size);
    }

    /// Attaches segment `id`, of which the first `size` bytes will be used.
    ///
    /// # Errors
    /// shmat's, and EINVAL if the segment is smaller.
    pub fn new(id: u64, size: usize, flags: u32) -> Result<Self, Errno> {
        if sys::shm_stat(id)?.segsz < size as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(Attached {
            base: sys::shmat(id, flags)?,
            size,
        })
    }

    /// As [`Attached::new`]; also how many ticks of the time-stamp counter `shmat` itself took.
    ///
    /// # Errors
    /// As [`Attached::new`].
    pub fn timed(id: u64, size: usize) -> Result<(Self, u64), Errno> {
        if sys::shm_stat(id)?.segsz < size as u64 {
            return Err(Errno::EINVAL);
        }
        let began = tsc();
        let base = sys::shmat(id, 0)?;
        Ok((Attached { base, size }, tsc() - began))
    }

    /// As [`Attached::new`], at an address of one's own, which must be free.
    ///
    /// # Errors
    /// As [`Attached::new`].
    pub fn at(id: u64, address: u64, size: usize, flags: u32) -> Result<Self, Errno> {
        if sys::shm_stat(id)?.segsz < size as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(Attached {
            base: sys::shmat_at(id, address, flags)?,
            size,
        })
    }

    /// Detaches it.
    ///
    /// # Errors
    /// shmdt's.
    pub fn detach(self) -> Result<(), Errno> {
        // SAFETY: `self` is the only way to the address, and it ends here.
        unsafe { sys::shmdt(self.base) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset < self.size && self.size - offset >= 8,
            "word at {offset}"
        );
        // SAFETY: aligned and inside the segment, which stays attached while `self` lives; all processes
        // access words as atomics.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    /// Reads the word at `offset` bytes.
    #[inline(always)]
    pub fn load(&self, offset: usize, order: Ordering) -> u64 {
        self.word(offset).load(order)
    }

    /// Writes the word at `offset` bytes.
    #[inline(always)]
    pub fn store(&self, offset: usize, value: u64, order: Ordering) {
        self.word(offset).store(value, order);
    }

    /// Where the 32-bit word at `offset` bytes is: inside the segment and aligned, for as long as the attach is borrowed.
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.size && self.size - offset >= 4,
            "word at {offset}"
        );
        // SAFETY: as in `word`. (A word is accessed either in 32 or in 64 bits.)
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast()) }
    }

    /// Where `len` bytes from `offset` on are, for code that copies.
    pub(crate) fn range(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.size && len <= self.size - offset,
            "{len} bytes at {offset}"
        );
        self.base.wrapping_add(offset)
    }

    /// Adds one to the word at `offset` bytes and returns what it was.
    pub fn count(&self, offset: usize) -> u64 {
        self.word(offset).fetch_add(1, Ordering::AcqRel)
    }

    /// Reads the byte at `offset`.
    pub fn byte(&self, offset: usize) -> u8 {
        assert!(offset < self.size, "byte at {offset}");
        // SAFETY: inside the segment; volatile, because others write.
        unsafe { self.base.add(offset).read_volatile() }
    }

    /// Writes the byte at `offset`.
    pub fn set_byte(&self, offset: usize, value: u8) {
        assert!(offset < self.size, "byte at {offset}");
        // SAFETY: inside the segment; volatile, because others read.
        unsafe { self.base.add(offset).write_volatile(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::ipc::{IPC_PRIVATE, SHM_RDONLY};

    /// A private segment of the machine the tests run on, removed at once so that it can't be left behind.
    fn attached_twice() -> (u64, Attached, Attached) {
        let id = sys::shmget(IPC_PRIVATE, 8192, 0o600).unwrap();
        let writer = Attached::new(id, 8192, 0).unwrap();
        let reader = Attached::new(id, 8192, SHM_RDONLY).unwrap();
        sys::shm_remove(id).unwrap();
        (id, writer, reader)
    }

    #[test]
    fn two_attaches_of_a_segment_are_the_same_bytes() {
        let (id, writer, reader) = attached_twice();
        writer.store(8184, 7, Ordering::Release);
        writer.set_byte(0, 9);
        assert_eq!((reader.load(8184, Ordering::Acquire), reader.byte(0)), (7, 9));
        assert_eq!((writer.count(8184), writer.count(8184)), (7, 8));
        assert_eq!(sys::shm_stat(id).unwrap().nattch, 2);
        reader.detach().unwrap();
        assert_eq!(sys::shm_stat(id).unwrap().nattch, 1);
        writer.detach().unwrap();
        assert_eq!(sys::shm_stat(id), Err(Errno::EINVAL));
    }

    #[test]
    fn a_shared_file_is_used_like_an_attach() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::FileExt;
        let path = std::env::temp_dir().join(format!("tombolo-shared-{}", std::process::id()));
        let file = std::fs::File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(8192).unwrap();
        let mapped = Attached::file(file.as_raw_fd(), 8192).unwrap();
        mapped.want_small_pages();
        mapped.store(4096, 7, Ordering::Release);
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 4096).unwrap();
        assert_eq!(u64::from_ne_bytes(word), 7);
    }

    #[test]
    #[should_panic(expected = "word at 8192")]
    fn a_word_beyond_the_end_is_a_panic() {
        attached_twice().1.load(8192, Ordering::Relaxed);
    }

    #[test]
    #[should_panic(expected = "byte at 8192")]
    fn a_byte_beyond_the_end_is_a_panic() {
        attached_twice().1.set_byte(8192, 1);
    }
}
