//! Seals of files (memfd_create(2), F_ADD_SEALS in fcntl(2)): what can never be done to a file again.

use abi::Errno;
use abi::PAGE_SIZE;
use bitflags::bitflags;

bitflags! {
    /// Which seals a file has.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Seals: u32 {
        /// No seal can be added.
        const SEAL = 1;
        /// It can't become shorter.
        const SHRINK = 2;
        /// It can't become longer.
        const GROW = 4;
        /// It can't be written to.
        const WRITE = 8;
        /// It can't be written to but by mappings there are.
        const FUTURE_WRITE = 16;
        /// Whether it may be executed can't be changed.
        const EXECUTE = 32;
    }
}

impl Seals {
    /// What makes writing impossible.
    pub const WRITING: Seals = Seals::WRITE.union(Seals::FUTURE_WRITE);

    /// How many of `len` bytes can be written at `offset` of a file that is `size` bytes long. As in Linux, which goes page
    /// by page, a page that reaches beyond the end of what may not grow is not begun.
    ///
    /// # Errors
    /// EPERM if none.
    pub fn may_write(self, size: u64, offset: u64, len: u64) -> Result<u64, Errno> {
        if len == 0 {
            return Ok(0);
        }
        if self.intersects(Seals::WRITING) {
            return Err(Errno::EPERM);
        }
        if !self.contains(Seals::GROW) || offset.saturating_add(len) <= size {
            return Ok(len);
        }
        match (size & !(PAGE_SIZE - 1)).saturating_sub(offset) {
            0 => Err(Errno::EPERM),
            room => Ok(room),
        }
    }

    /// Whether a file of `size` bytes may become `new` bytes long.
    ///
    /// # Errors
    /// EPERM if not.
    pub fn may_resize(self, size: u64, new: u64) -> Result<(), Errno> {
        let refused = new < size && self.contains(Seals::SHRINK) || new > size && self.contains(Seals::GROW);
        if refused { Err(Errno::EPERM) } else { Ok(()) }
    }
}
