//! Areas: ranges of a program's addresses, with what they allow and what is behind them (Linux's VMAs).

use super::contents::FileId;
use super::fault::Access;
use super::shared;
use abi::PAGE_SIZE;
use abi::hypercall::{WINDOW_RO, WINDOW_RW};
use bitflags::bitflags;
use paging::{GuestPhys, GuestVirt, Rights};

bitflags! {
    /// What a program may do in an area: `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// Read.
        const READ = 1;
        /// Write.
        const WRITE = 2;
        /// Execute.
        const EXECUTE = 4;
    }
}

impl Prot {
    /// Whether `access` is allowed. As the hardware has it, every right brings that of reading.
    pub fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => !self.is_empty(),
            Access::Write => self.contains(Prot::WRITE),
            Access::Execute => self.contains(Prot::EXECUTE),
        }
    }

    /// The rights of a leaf. Without any, a page stays but ring 3 can't use it.
    pub fn rights(self) -> Rights {
        let mut rights = Rights::empty();
        rights.set(Rights::USER, !self.is_empty());
        rights.set(Rights::WRITE, self.contains(Prot::WRITE));
        rights.set(Rights::EXECUTE, self.contains(Prot::EXECUTE));
        rights
    }
}

/// Which of a guest's windows a segment appears in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Window {
    /// The read-write window.
    ReadWrite = WINDOW_RW as u8,
    /// The read-only window.
    ReadOnly = WINDOW_RO as u8,
}

impl Window {
    /// The number hypercalls use: [`WINDOW_RW`] or [`WINDOW_RO`].
    pub const fn raw(self) -> u64 {
        self as u64
    }
}

/// A part of a segment in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// The broker's id.
    pub id: i32,
    /// Where it appears.
    pub window: Window,
    /// Which attach of this guest it is a part of, also in a child that inherited it; 0 as long as there is none yet.
    /// Parts of different attaches have nothing to do with each other, even side by side: Linux gives each shmat a
    /// file of its own, and compares these.
    pub attach: u32,
    /// The key it was made with, whatever has become of that.
    pub key: i32,
    /// Guest-physical address of the segment's first byte.
    pub gpa: GuestPhys,
    /// The segment's size in bytes, as the program asked for.
    pub size: u64,
    /// Where this part starts, in bytes from the segment's start: a multiple of the page size.
    pub offset: u64,
}

impl SegmentRef {
    /// The segment's size in whole pages, in bytes.
    pub const fn mapped_size(&self) -> u64 {
        (self.size + PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
    }

    /// Guest-physical address of this part's first byte.
    pub const fn start(&self) -> GuestPhys {
        self.gpa.add(self.offset)
    }

    /// Bytes of the segment from this part's start on, in whole pages.
    pub const fn left(&self) -> u64 {
        self.mapped_size().saturating_sub(self.offset)
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The file.
    pub file: FileId,
    /// Where this part starts, in bytes from the file's start: a multiple of the page size.
    pub offset: u64,
    /// Whether what is written there is written to the file.
    pub shared: bool,
}

impl FilePart {
    /// The number of the file's page `by` bytes from this part's start.
    pub const fn page(&self, by: u64) -> u64 {
        (self.offset + by) / PAGE_SIZE
    }
}

/// What is behind an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Backing {
    /// Zeros, private.
    Anonymous,
    /// A file in RAM: shown in place or copied, private.
    Image {
        /// The file's byte at the area's start, page-aligned.
        phys: GuestPhys,
        /// How many bytes from there are the file's; zeros follow.
        len: u64,
    },
    /// A part of a shared segment.
    Segment(SegmentRef),
    /// A part of a file in the tree.
    File(FilePart),
    /// Zeros at first; what fork shares rather than copies (`MAP_SHARED | MAP_ANONYMOUS`).
    SharedAnonymous {
        /// Which memory: the number of the area's first byte among all such bytes there have ever been. By it a word is
        /// known to all who share it, and to nobody else, whatever becomes of the frame.
        byte: u64,
        /// The number of the memory's first byte.
        first: u64,
        /// How many bytes from the area's start on there are: no more than when it was mapped, for how long the area may
        /// be. What comes after is SIGBUS.
        len: u64,
    },
}

impl Backing {
    /// What is behind the address `by` bytes further.
    #[must_use]
    pub fn advanced(self, by: u64) -> Backing {
        match self {
            Backing::Anonymous => self,
            Backing::SharedAnonymous { byte, first, len } => Backing::SharedAnonymous {
                byte: byte + by,
                first,
                len: len.saturating_sub(by),
            },
            Backing::Image { phys, len } => Backing::Image {
                phys: phys.add(by),
                len: len.saturating_sub(by),
            },
            Backing::Segment(part) => Backing::Segment(SegmentRef {
                offset: part.offset + by,
                ..part
            }),
            Backing::File(part) => Backing::File(FilePart {
                offset: part.offset + by,
                ..part
            }),
        }
    }
}

bitflags! {
    /// What madvise(2) and mlock(2) have said of an area. Areas with different advice are different areas, as Linux has it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Advice: u16 {
        /// A forked child has a hole there (`MADV_DONTFORK`).
        const LEFT_OUT = 1;
        /// A forked child has zeros there (`MADV_WIPEONFORK`; private anonymous memory only).
        const WIPED = 2;
        /// Touched in no order (`MADV_RANDOM`). Without effect.
        const RANDOM = 4;
        /// Touched in order (`MADV_SEQUENTIAL`). Without effect.
        const SEQUENTIAL = 8;
        /// Not for core dumps (`MADV_DONTDUMP`). Without effect.
        const UNDUMPED = 16;
        /// Rather in large pages (`MADV_HUGEPAGE`). Without effect.
        const LARGE = 32;
        /// Never in large pages (`MADV_NOHUGEPAGE`; and `MAP_STACK`, as Linux since 6.7: little of a stack is used).
        const SMALL = 64;
        /// Nobody's advice: it is a stack, and grows down when what is below it is touched.
        const GROWS = 128;
        /// Its pages are there and stay (mlock(2)). A child does not inherit it.
        const LOCKED = 256;
        /// As LOCKED, but only those that have been touched (`MLOCK_ONFAULT`).
        const ON_FAULT = 512;
    }
}

impl Advice {
    /// What mlock(2) says.
    pub const LOCKS: Advice = Advice::LOCKED.union(Advice::ON_FAULT);
}

/// A range of addresses, page-aligned and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub start: GuestVirt,
    /// First address after it.
    pub end: GuestVirt,
    /// What it allows now.
    pub prot: Prot,
    /// The most that mprotect may grant.
    pub may: Prot,
    /// What is behind it.
    pub backing: Backing,
    /// What a child gets of it.
    pub advice: Advice,
}

impl Area {
    /// Its length in bytes.
    pub const fn len(&self) -> u64 {
        self.end.get() - self.start.get()
    }

    /// The end of what it claims: behind a whole segment, what its links take ([`super::shared`]).
    pub fn claimed_end(&self) -> GuestVirt {
        let whole = self
            .segment()
            .filter(|part| part.offset == 0 && part.left() <= self.len());
        whole.map_or(self.end, |part| {
            let claim = shared::claim(self.start, part.left() / PAGE_SIZE);
            self.end.max(self.start.add(claim))
        })
    }

    /// The segment behind it.
    pub fn segment(&self) -> Option<&SegmentRef> {
        match &self.backing {
            Backing::Segment(part) => Some(part),
            _ => None,
        }
    }

    /// The part of a file behind it.
    pub fn file(&self) -> Option<&FilePart> {
        match &self.backing {
            Backing::File(part) => Some(part),
            _ => None,
        }
    }

    /// Whether processes that have it after a fork see each other's writes.
    pub const fn is_shared(&self) -> bool {
        match self.backing {
            Backing::Segment(_) | Backing::SharedAnonymous { .. } => true,
            Backing::File(part) => part.shared,
            Backing::Anonymous | Backing::Image { .. } => false,
        }
    }

    /// Where what is behind it ends, if that is before its own end: beyond is SIGBUS. (Of files, which grow and shrink, it
    /// is asked anew each time.)
    pub fn backed_end(&self) -> GuestVirt {
        let len = match &self.backing {
            Backing::Segment(part) => part.left(),
            Backing::SharedAnonymous { len, .. } => *len,
            Backing::Anonymous | Backing::Image { .. } | Backing::File(_) => return self.end,
        };
        self.start.add(len.min(self.len()))
    }

    /// The part of it in `[start, end)`, which it contains.
    #[must_use]
    pub fn part(&self, start: GuestVirt, end: GuestVirt) -> Area {
        let backing = self.backing.advanced(start.get() - self.start.get());
        Area {
            start,
            end,
            backing,
            ..*self
        }
    }

    /// Whether `next`, which follows it directly, says the same of what comes after.
    pub fn continues_in(&self, next: &Area) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.may == next.may
            && self.advice == next.advice
            && match self.backing {
                Backing::Image { .. } => false,
                backing => backing.advanced(self.len()) == next.backing,
            }
    }
}
