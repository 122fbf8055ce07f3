//! A process's descriptors: which open file each number means, and whether it goes at execve.
//!
//! The first few are in the process itself; who has more gets frames for them.

use super::open::OpenFiles;
use crate::arch::direct;
use crate::mm::Frames;
use abi::{Errno, PAGE_SIZE};
use paging::{GuestPhys, TableMemoryMut};

/// Descriptors kept in the process itself.
const FEW: u32 = 64;
/// Descriptors a frame has room for.
const IN_FRAME: u32 = PAGE_SIZE as u32 / 4;
const FRAMES: usize = 4;
/// Most descriptors of a process, whatever RLIMIT_NOFILE says (`fs.nr_open`).
pub const MOST: u32 = IN_FRAME * FRAMES as u32;

/// In an entry: the descriptor is closed when the process runs another program.
const CLOSE_ON_EXEC: u16 = 1 << 15;

/// What a descriptor means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The number of its open file.
    pub open: u16,
    /// It is closed when the process runs another program (`FD_CLOEXEC`).
    pub close_on_exec: bool,
}

impl Descriptor {
    /// As an entry: 0 is none.
    const fn entry(self) -> u16 {
        let flag = if self.close_on_exec { CLOSE_ON_EXEC } else { 0 };
        (self.open + 1) | flag
    }

    const fn of(entry: u16) -> Option<Descriptor> {
        match entry & !CLOSE_ON_EXEC {
            0 => None,
            number => Some(Descriptor {
                open: number - 1,
                close_on_exec: entry & CLOSE_ON_EXEC != 0,
            }),
        }
    }
}

/// All of a process's descriptors.
pub struct Descriptors {
    few: [u16; FEW as usize],
    /// Frames with the entries from [`FEW`] on, as if the first began with entry 0; 0 is none.
    frames: [u64; FRAMES],
    /// No descriptor from here on is in use.
    end: u32,
    /// No descriptor below this is free.
    full: u32,
}

impl Descriptors {
    /// None is open.
    pub const NONE: Descriptors = Descriptors {
        few: [0; FEW as usize],
        frames: [0; FRAMES],
        end: 0,
        full: 0,
    };

    fn place(&self, fd: u32) -> Option<GuestPhys> {
        let frame = *self.frames.get((fd / IN_FRAME) as usize)?;
        (frame != 0).then(|| GuestPhys::new(frame + u64::from(fd % IN_FRAME) * 4))
    }

    /// What `fd` means.
    pub fn get(&self, fd: u32) -> Option<Descriptor> {
        if fd < FEW {
            return Descriptor::of(self.few[fd as usize]);
        }
        if fd >= self.end {
            return None;
        }
        Descriptor::of(direct::load32(self.place(fd)?) as u16)
    }

    /// No descriptor from here on is in use.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Has `fd`, which is below [`MOST`], mean this from now on.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set(&mut self, frames: &mut Frames, fd: u32, to: Descriptor) -> Result<(), Errno> {
        if fd < FEW {
            self.few[fd as usize] = to.entry();
        } else {
            if self.place(fd).is_none() {
                let frame = frames.allocate().ok_or(Errno::ENOMEM)?;
                self.frames[(fd / IN_FRAME) as usize] = frame.get();
            }
            let place = self.place(fd).ok_or(Errno::ENOMEM)?;
            direct::store32(place, to.entry().into());
        }
        self.end = self.end.max(fd + 1);
        if fd == self.full {
            self.full += 1;
        }
        Ok(())
    }

    /// `fd` means nothing any more: what it meant. Whoever takes it tells the open file.
    pub fn clear(&mut self, fd: u32) -> Option<Descriptor> {
        let was = self.get(fd)?;
        if fd < FEW {
            self.few[fd as usize] = 0;
        } else {
            direct::store32(self.place(fd)?, 0);
        }
        self.full = self.full.min(fd);
        while self.end > 0 && self.get(self.end - 1).is_none() {
            self.end -= 1;
        }
        Some(was)
    }

    /// The lowest free descriptor from `from` on.
    ///
    /// # Errors
    /// EMFILE if none below `limit` is.
    pub fn lowest_free(&self, from: u32, limit: u32) -> Result<u32, Errno> {
        let limit = limit.min(MOST);
        (from.max(self.full)..limit)
            .find(|&fd| fd >= self.end || self.get(fd).is_none())
            .ok_or(Errno::EMFILE)
    }

    /// Descriptors that mean the same, for a child.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn copy(&self, frames: &mut Frames, open: &mut OpenFiles) -> Result<Descriptors, Errno> {
        let mut copy = Descriptors::NONE;
        // What can fail comes first.
        for (index, &frame) in self.frames.iter().enumerate() {
            if frame != 0 && self.end > index as u32 * IN_FRAME {
                match frames.allocate() {
                    Some(frame) => copy.frames[index] = frame.get(),
                    None => {
                        copy.free_frames(frames);
                        return Err(Errno::ENOMEM);
                    }
                }
            }
        }
        for fd in 0..self.end {
            if let Some(descriptor) = self.get(fd) {
                open.hold(descriptor.open);
                copy.set(frames, fd, descriptor)?;
            }
        }
        Ok(copy)
    }

    /// Gives the frames back; no descriptor is open.
    pub fn free_frames(&mut self, frames: &mut Frames) {
        for frame in &mut self.frames {
            if *frame != 0 {
                // Closing has made every entry 0.
                frames.retire(GuestPhys::new(core::mem::take(frame)));
            }
        }
        frames.release();
    }
}
