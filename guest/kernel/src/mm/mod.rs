//! Memory: frames, areas, address spaces.
//!
//! | file | what |
//! |---|---|
//! | [`frames`] | [`Frames`]: who has which page of RAM |
//! | [`area`] | [`Area`](area::Area): a range of a program's addresses, what it allows and what is behind it |
//! | [`pool`] | the nodes of all trees of areas |
//! | [`tree`] | a process's areas in order, and free gaps between them |
//! | [`space`] | [`AddressSpace`]: making and ending one, mmap, brk |
//! | `unmap`, `protect`, `remap`, `rearrange`, `advise` | munmap, mprotect, mremap, remap_file_pages, madvise |
//! | [`residence`] | mincore, mlock: what is there, and stays |
//! | `fault` | pages appear when they are touched |
//! | [`limits`] | how much of it there may be, and how stacks grow |
//! | `fork` | two processes share what they had in common, until one writes |
//! | `attach` | shmat and shmdt |
//! | [`shared`] | tables that several processes link |
//! | [`contents`] | what is in files: their pages |
//! | `file` | areas that show files |
//! | [`object`] | areas that show objects: files whose pages are the host's |
//! | `usage` | how much there is, and where: for `/proc` |
//! | `user` | copies between a program and the kernel |
//! | `word` | single words, for futexes |
//! | `world` | [`World`] as the kernel has it |
//!
//! Two layers say what a program has: the areas are the truth, the page tables a part of it that has been
//! used so far. Invariants:
//! * A leaf's rights are those of its area, but for the right to write to private pages that a fork has shared;
//!   a leaf lies in exactly one area.
//! * A leaf gives the right to write only to a frame that [`Frames`] owns, which then belongs to this leaf
//!   alone or is shared (anonymous memory, pages of a file), or to a page of a segment attached read-write.
//! * A shared table ([`shared`]) lies below one area of a process, which shows all of its piece; before that area is
//!   cut or protected, or another one comes to lie in what the link claims, the process gets entries of its own
//!   ([`AddressSpace::own_tables`]).
//! * A frame that more than one leaf maps has a count of them, and they say so; see [`frames`].
//! * Each fragment of an attach, that is each area with a segment behind it, counts once with the broker: the
//!   calls of [`World::attached_more`] and [`World::detached`] are made where areas come and go, nowhere else.
//!   Each is Linux's `shm_open` or `shm_close`, call for call, for they say who was the last to do something to a
//!   segment, and when: what is cut out of an area is first split off (one more at each end), and then gone; what
//!   moves is one more at its new place, unless it joins a neighbour there, and then gone at the old one.
//! * Change tables, flush, release frames, tell the broker: in this order. Nothing is reused while a vCPU may
//!   still translate to it.
//! * What can fail comes first: an operation that fails has changed nothing (where Linux's does, it is said).
//!
//! Everything runs under the kernel's one lock.

mod advise;
pub mod area;
mod attach;
pub mod contents;
mod fault;
mod file;
mod fork;
pub mod frames;
mod limits;
mod object;
pub mod pool;
mod protect;
mod rearrange;
mod remap;
pub mod residence;
pub mod shared;
pub mod space;
#[cfg(test)]
pub(crate) mod tests;
pub mod tree;
mod unmap;
mod usage;
mod user;
mod word;
pub mod world;

pub use attach::Place;
pub use contents::FileId;
pub use fault::{Access, Fault};
pub use file::Taken;
pub use frames::Frames;
pub use limits::{Limits, USUALLY_LOCKED};
pub use pool::AreaPool;
pub use space::{AddressSpace, Placement};
pub use usage::{Layout, MemoryUse};
pub use user::{Run, is_below_end};
pub use word::Word;

use abi::Errno;
use abi::boot::{BootFlags, BootInfo};
use area::{SegmentRef, Window};
use contents::Contents;
use object::Ranges;
use paging::{Flush, GuestPhys};

/// The guest's memory, shared by all address spaces.
pub struct Memory {
    /// Pages of RAM.
    pub frames: Frames,
    /// Nodes for areas.
    pub areas: AreaPool,
    /// What is in files.
    pub contents: Contents,
    /// Where objects are in the windows.
    pub ranges: Ranges,
    /// The last attach's number.
    attaches: u32,
    /// For tests ([`BootFlags::TEST_WRITABLE_READ_ONLY`]): read-only attaches are writable in the tables.
    pub writable_read_only: bool,
}

impl Memory {
    /// No memory at all, until [`Memory::init`].
    pub const fn empty() -> Memory {
        Memory {
            frames: Frames::empty(),
            areas: AreaPool::empty(),
            contents: Contents::empty(),
            ranges: Ranges::empty(),
            attaches: 0,
            writable_read_only: false,
        }
    }

    /// Takes over the RAM the VMM has left free. Once.
    pub fn init(&mut self, boot: &BootInfo) {
        self.frames.init(boot);
        self.areas.init();
        self.contents.init();
        self.ranges.init();
        let flags = BootFlags::from_bits_truncate(boot.flags);
        self.writable_read_only = flags.contains(BootFlags::TEST_WRITABLE_READ_ONLY);
    }
}

/// What address spaces need of the world around them.
pub trait World {
    /// Drops what `flush` names on the vCPUs in `loaded` (a bit each); returns when none holds it any more.
    fn flush(&mut self, loaded: u32, flush: &Flush);
    /// Zeroes runs of RAM: first byte and length of each.
    fn zero(&mut self, runs: &[(GuestPhys, u64)]);
    /// Copies within RAM.
    fn copy(&mut self, to: GuestPhys, from: GuestPhys, len: u64);
    /// A fragment of an attach is gone, in the tables and in every vCPU.
    fn detached(&mut self, segment: &SegmentRef);
    /// A fragment of an attach is gone, if the segment was destroyed with it; whether it was.
    fn detached_last(&mut self, segment: &SegmentRef) -> bool;
    /// An attach is about to have one fragment more.
    ///
    /// # Errors
    /// What the broker says; then nothing is split.
    fn attached_more(&mut self, segment: &SegmentRef) -> Result<(), Errno>;
    /// Makes `len` bytes of a segment, from the start of this part on, zeros for everyone, and their memory free.
    ///
    /// # Errors
    /// What the broker says.
    fn punch(&mut self, segment: &SegmentRef, len: u64) -> Result<(), Errno>;
    /// Has `len` bytes of object `serial` from `offset` on, all in whole pages, appear in a window: where, and the object's
    /// size.
    ///
    /// # Errors
    /// What the broker says.
    fn map_object(
        &mut self,
        serial: u64,
        window: Window,
        offset: u64,
        len: u64,
    ) -> Result<(GuestPhys, u64), Errno>;
    /// How long object `serial` is.
    fn object_size(&mut self, serial: u64) -> u64;
    /// Copies bytes of object `serial` to RAM, as far as there are any.
    ///
    /// # Errors
    /// What the broker says.
    fn read_object(&mut self, serial: u64, offset: u64, to: GuestPhys, len: u64) -> Result<(), Errno>;
}
