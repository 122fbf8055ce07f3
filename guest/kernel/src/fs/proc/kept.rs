//! What an open file in `/proc` keeps from one read to the next, as Linux's seq_file does (Documentation/filesystems/
//! seq_file.rst): a text is made at the first read, and who reads on is given the rest of that text, whatever has changed
//! meanwhile. Read from its start, or from where nobody has read to, it is made anew.
//!
//! Texts that grow with what they tell of (mappings, segments) are made of records, a few at a time: each is whole, and
//! the next ones follow on what was told, not on how long that was.
//!
//! Kept are the rest of what was made, in a frame of its own, and the [`Cursor`] after it. When nothing is left, only how
//! far it was read. So an open file has a frame at most, and none once its text has been read.

use super::text::ROOM;
use crate::arch::direct;
use crate::mm::Frames;
use crate::mm::frames::FrameRun;
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Which record comes next; what it counts is the file's own affair.
pub type Cursor = u64;
/// The first record.
pub const START: Cursor = 0;
/// There are no more.
pub const END: Cursor = u64::MAX;

/// What an open file keeps: the address of a frame, or where its text ended (an odd number), or nothing (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(u64);

/// What is at the start of the frame; the rest of the text follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    /// Where in the text the rest begins.
    at: u64,
    cursor: Cursor,
    /// Where the rest lies.
    from: u32,
    end: u32,
}

const HEADER: u64 = size_of::<Header>() as u64;
const _: () = assert!(HEADER as usize + ROOM <= PAGE_SIZE as usize);

/// Where a reader of a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// How far the text has been read.
    pub at: u64,
    /// What has been made of it ends before this record.
    pub cursor: Cursor,
    /// The frame that has what was made and not read: from which byte on, and to which.
    rest: (u32, u32),
    frame: Option<GuestPhys>,
}

impl Kept {
    /// Nothing.
    pub const NOTHING: Kept = Kept(0);

    fn frame(self) -> Option<GuestPhys> {
        (self.0 != 0 && self.0 & 1 == 0).then(|| GuestPhys::new(self.0))
    }

    /// Where who has kept this is.
    pub fn reader(self) -> Reader {
        let mut reader = Reader {
            at: self.0 >> 1,
            cursor: END,
            rest: (0, 0),
            frame: self.frame(),
        };
        if self.0 == 0 {
            reader.cursor = START;
        }
        if let Some(frame) = reader.frame {
            let mut header = Header::EMPTY;
            direct::read(frame, header.as_mut_bytes());
            (reader.at, reader.cursor) = (header.at, header.cursor);
            reader.rest = (header.from, header.end);
        }
        reader
    }

    /// The open file is gone.
    pub fn free(self, frames: &mut Frames) {
        if let Some(frame) = self.frame() {
            frames.give_back(run(frame));
        }
    }
}

impl Header {
    const EMPTY: Header = Header {
        at: 0,
        cursor: START,
        from: 0,
        end: 0,
    };
}

impl Reader {
    /// Copies the rest of what was made to the start of `to`: how long it is.
    pub fn rest(&self, to: &mut [u8]) -> usize {
        let (from, end) = self.rest;
        let len = (end - from) as usize;
        if let Some(frame) = self.frame.filter(|_| len > 0) {
            direct::read(frame.add(HEADER + u64::from(from)), &mut to[..len]);
        }
        len
    }

    /// Begins again.
    pub fn start(&mut self) {
        (self.at, self.cursor, self.rest) = (0, START, (0, 0));
    }

    /// It has read up to `at`, what was made ends before `cursor`, and `rest` of that is left: `fresh` if it was made
    /// by this read. What is to be kept.
    ///
    /// # Errors
    /// ENOMEM; then what was kept stays.
    pub fn keep(
        self,
        frames: &mut Frames,
        (at, cursor): (u64, Cursor),
        rest: &[u8],
        fresh: bool,
    ) -> Result<Kept, Errno> {
        if rest.is_empty() && cursor == END {
            if let Some(frame) = self.frame {
                frames.give_back(run(frame));
            }
            return Ok(Kept(at << 1 | 1));
        }
        let frame = match self.frame {
            Some(frame) => frame,
            None => frames.take(1).ok_or(Errno::ENOMEM)?.start,
        };
        let (from, end) = if fresh {
            direct::write(frame.add(HEADER), rest);
            (0, rest.len() as u32)
        } else {
            (self.rest.1 - rest.len() as u32, self.rest.1)
        };
        let header = Header {
            at,
            cursor,
            from,
            end,
        };
        direct::write(frame, header.as_bytes());
        Ok(Kept(frame.get()))
    }
}

/// The frame of an open file, which no table has ever shown.
fn run(frame: GuestPhys) -> FrameRun {
    FrameRun {
        start: frame,
        count: 1,
        dirty: true,
    }
}
