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
    /// How much of what was made is left.
    pub fn left(&self) -> u64 {
        (self.rest.1 - self.rest.0).into()
    }

    /// Leaves out `count` bytes, or all that is left.
    pub fn skip(&mut self, count: u64) {
        let count = count.min(self.left());
        self.at += count;
        self.rest.0 += count as u32;
    }

    /// Takes the next bytes of what is left, as many as `to` has room for: how many.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        let len = to.len().min(self.left() as usize);
        if let Some(frame) = self.frame.filter(|_| len > 0) {
            direct::read(frame.add(HEADER + u64::from(self.rest.0)), &mut to[..len]);
        }
        self.skip(len as u64);
        len
    }

    /// Begins again.
    pub fn start(&mut self) {
        (self.at, self.cursor, self.rest) = (0, START, (0, 0));
    }

    /// Nothing was left; more has been made, up to `cursor`: it has been read up to `at`, and `rest` is left.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn put(&mut self, frames: &mut Frames, at: u64, cursor: Cursor, rest: &[u8]) -> Result<(), Errno> {
        if !rest.is_empty() {
            let frame = self.take_frame(frames)?;
            direct::write(frame.add(HEADER), rest);
        }
        (self.at, self.cursor, self.rest) = (at, cursor, (0, rest.len() as u32));
        Ok(())
    }

    /// What is to be kept.
    ///
    /// # Errors
    /// ENOMEM; then what was kept stays.
    pub fn keep(mut self, frames: &mut Frames) -> Result<Kept, Errno> {
        if self.left() == 0 && self.cursor == END {
            if let Some(frame) = self.frame {
                frames.give_back(run(frame));
            }
            return Ok(Kept(self.at << 1 | 1));
        }
        let frame = self.take_frame(frames)?;
        let header = Header {
            at: self.at,
            cursor: self.cursor,
            from: self.rest.0,
            end: self.rest.1,
        };
        direct::write(frame, header.as_bytes());
        Ok(Kept(frame.get()))
    }

    fn take_frame(&mut self, frames: &mut Frames) -> Result<GuestPhys, Errno> {
        let frame = match self.frame {
            Some(frame) => frame,
            None => frames.take(1).ok_or(Errno::ENOMEM)?.start,
        };
        self.frame = Some(frame);
        Ok(frame)
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
