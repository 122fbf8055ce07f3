//! Pipes (pipe(7)): up to 16 pages in a row. As in Linux, a write goes on in the last page if its odd bytes fit
//! there, and otherwise begins a new one; so what a pipe takes depends on the sizes of the writes, and is the same
//! here.
//!
//! Bytes are moved by those who have the programs' memory ([`crate::syscall`]); here is where they go.

#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use crate::mm::{Frames, frames::FrameRun};
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

/// Most pipes of a guest.
const MOST: usize = 256;
/// Pages of a pipe.
const SLOTS: usize = 16;
/// What a pipe has room for, in bytes (F_GETPIPE_SZ).
pub const CAPACITY: u64 = SLOTS as u64 * PAGE_SIZE;
/// A write of no more is in one piece (PIPE_BUF).
pub const ATOMIC: u64 = 4096;

/// A page, and the bytes in it that have been written and not yet read.
#[derive(Clone, Copy)]
struct Slot {
    page: GuestPhys,
    start: u16,
    len: u16,
}

/// One pipe.
#[derive(Clone, Copy)]
pub struct Pipe {
    slots: [Slot; SLOTS],
    first: u8,
    count: u8,
    /// Open files for reading; 0 with `writers` 0 in a free slot.
    pub readers: u32,
    /// Open files for writing.
    pub writers: u32,
    /// Who made it.
    pub uid: u32,
    /// And their group.
    pub gid: u32,
    /// `st_ino`.
    pub number: u64,
    /// When it was made.
    pub born: u64,
    /// How often something to read has come, or the last writer gone (epoll's EPOLLET).
    pub arrived: u32,
    /// How often room has come, or the last reader gone.
    pub freed: u32,
}

impl Pipe {
    const FREE: Pipe = Pipe {
        slots: [Slot {
            page: GuestPhys::new(0),
            start: 0,
            len: 0,
        }; SLOTS],
        first: 0,
        count: 0,
        readers: 0,
        writers: 0,
        uid: 0,
        gid: 0,
        number: 0,
        born: 0,
        arrived: 0,
        freed: 0,
    };

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no page left to write to.
    pub fn is_full(&self) -> bool {
        usize::from(self.count) == SLOTS
    }

    /// Bytes in it (FIONREAD).
    pub fn bytes(&self) -> u64 {
        (0..self.count)
            .map(|at| u64::from(self.slots[self.index(at)].len))
            .sum()
    }

    fn index(&self, at: u8) -> usize {
        usize::from(self.first + at) % SLOTS
    }

    fn last(&mut self) -> Option<&mut Slot> {
        let last = self.count.checked_sub(1)?;
        let index = self.index(last);
        Some(&mut self.slots[index])
    }

    /// Where the odd bytes of a write of `len` go that can go on in the last page: the address, and how many.
    pub fn room_in_last(&mut self, len: u64) -> Option<(GuestPhys, u64)> {
        let odd = len % PAGE_SIZE;
        let last = self.last()?;
        let end = u64::from(last.start) + u64::from(last.len);
        (odd > 0 && end + odd <= PAGE_SIZE).then(|| (last.page.add(end), odd))
    }

    /// `len` bytes have been written where [`Pipe::room_in_last`] said.
    pub fn grew(&mut self, len: u64) {
        if let Some(last) = self.last() {
            last.len += len as u16;
        }
        self.arrived = self.arrived.wrapping_add(1);
    }

    /// A page with `len` bytes from its start on, taken from the frames, comes last. It must not be full.
    pub fn push(&mut self, page: GuestPhys, len: u64) {
        let index = self.index(self.count);
        self.slots[index] = Slot {
            page,
            start: 0,
            len: len as u16,
        };
        self.count += 1;
        self.arrived = self.arrived.wrapping_add(1);
    }

    /// The bytes that come next: where they are, and how many lie there.
    pub fn next(&self) -> Option<(GuestPhys, u64)> {
        let slot = &self.slots[usize::from(self.first)];
        (self.count > 0).then(|| (slot.page.add(slot.start.into()), slot.len.into()))
    }

    /// `len` of the bytes [`Pipe::next`] told of have been read.
    pub fn consumed(&mut self, frames: &mut Frames, len: u64) {
        let slot = &mut self.slots[usize::from(self.first)];
        slot.start += len as u16;
        slot.len -= len as u16;
        if slot.len == 0 {
            frames.give_back(page_run(slot.page));
            self.freed = self
                .freed
                .wrapping_add(u32::from(usize::from(self.count) == SLOTS));
            self.first = (self.first + 1) % SLOTS as u8;
            self.count -= 1;
        }
    }
}

/// A page of a pipe, which no table has ever shown.
fn page_run(page: GuestPhys) -> FrameRun {
    FrameRun {
        start: page,
        count: 1,
        dirty: true,
    }
}

#[cfg(target_os = "none")]
static ROOM: Reserve<[Pipe; MOST]> = Reserve::new([Pipe::FREE; MOST]);

/// All pipes.
pub struct Pipes {
    pipes: &'static mut [Pipe],
    /// How many have been made.
    made: u64,
    /// How many there are.
    live: u64,
}

impl Pipes {
    pub(super) const fn empty() -> Pipes {
        Pipes {
            pipes: &mut [],
            made: 0,
            live: 0,
        }
    }

    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let pipes = ROOM.take().expect("a kernel has one table of pipes");
        #[cfg(not(target_os = "none"))]
        let pipes = Box::leak(vec![Pipe::FREE; MOST].into_boxed_slice());
        self.pipes = pipes;
    }

    /// How many there are.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The pipe of this number.
    pub fn get(&self, number: u16) -> &Pipe {
        &self.pipes[usize::from(number)]
    }

    /// The pipe of this number, to change.
    pub fn get_mut(&mut self, number: u16) -> &mut Pipe {
        &mut self.pipes[usize::from(number)]
    }

    /// A new pipe, with one open file at each end.
    ///
    /// # Errors
    /// ENFILE.
    pub fn add(&mut self, (uid, gid): (u32, u32), now: u64) -> Result<u16, Errno> {
        let number = self
            .pipes
            .iter()
            .position(|pipe| pipe.readers == 0 && pipe.writers == 0)
            .ok_or(Errno::ENFILE)?;
        self.made += 1;
        self.live += 1;
        self.pipes[number] = Pipe {
            readers: 1,
            writers: 1,
            uid,
            gid,
            number: self.made,
            born: now,
            ..Pipe::FREE
        };
        Ok(number as u16)
    }

    /// An end has been closed: `readers` or `writers` have been counted down. With the last one the pages go.
    pub fn closed(&mut self, frames: &mut Frames, number: u16) {
        let pipe = self.get_mut(number);
        (pipe.arrived, pipe.freed) = (pipe.arrived.wrapping_add(1), pipe.freed.wrapping_add(1));
        if pipe.readers == 0 {
            // Nobody will read them.
            while let Some((_, len)) = pipe.next() {
                pipe.consumed(frames, len);
            }
            if pipe.writers == 0 {
                self.live -= 1;
            }
        }
    }
}
