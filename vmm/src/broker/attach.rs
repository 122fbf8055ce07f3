//! What one guest has attached: which segments and which ranges of objects, in which of its windows, where, and how
//! often.
//!
//! Invariant: a segment is spliced into a window exactly while the guest holds an attach of it there. Counts are
//! the guest's own word as far as they go up (to [`MAX_COUNT`]), and exact when they go down: a guest that lies
//! about them harms no other.

use super::WindowKind;
use super::futex::{Key, Shared, SharedWord};
use super::memory::{self, Kept, Memory};
use crate::window::{Window, Word};
use abi::{Errno, PAGE_SIZE, group_pid, guest_of_pid};
use paging::GuestPhys;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

/// Most attaches of one segment that a guest may hold in one window. More than its tasks could ever have, and so
/// few that all guests' together can't overflow nattch.
pub(super) const MAX_COUNT: u64 = 1 << 32;

/// A group-wide process id that is really of this guest: `pid`, or the guest's first process's.
pub(super) fn own_pid(guest: u32, pid: u32) -> u32 {
    if pid != 0 && guest_of_pid(pid) == guest {
        pid
    } else {
        group_pid(guest, 1)
    }
}

/// A guest's attaches of one segment in one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// Where the segment lies.
    gpa: GuestPhys,
    /// Bytes of it, in whole pages.
    len: u64,
    /// [`Memory::serial`].
    serial: u64,
    /// Bytes of the pages it is made of.
    page_size: u64,
    /// Attaches, never 0.
    pub(super) count: u64,
    /// The process that attached last: who is said to have detached if the guest dies.
    pub(super) last_pid: u32,
}

/// A word that was found, and stays where it is.
pub(super) struct Found<'a> {
    /// By what it is known everywhere.
    pub(super) key: Key,
    /// The word itself.
    pub(super) word: Word<'a>,
    _kept: Option<Kept>,
}

/// A range of an object in a window.
#[derive(Clone, Copy, Debug)]
struct Range {
    serial: u64,
    which: WindowKind,
    /// Where it starts in the object, in bytes.
    offset: u64,
    /// Bytes.
    len: u64,
}

/// A segment, or a range of an object, in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spliced {
    /// Which window.
    pub(super) which: WindowKind,
    /// Where it lies.
    pub(super) gpa: GuestPhys,
    /// Bytes there.
    len: u64,
    /// The serial number, and where this starts.
    start: Key,
}

impl Spliced {
    /// By what the word at a guest-physical address is known, if it lies in this segment.
    pub(super) fn key(&self, gpa: GuestPhys) -> Option<Key> {
        let into = gpa.get().checked_sub(self.gpa.get())?;
        (into.is_multiple_of(4) && into < self.len).then_some(Key {
            offset: self.start.offset + into,
            ..self.start
        })
    }
}

/// One guest, as the broker knows it.
pub(super) struct Home {
    /// `None` once the guest is gone.
    window: Option<Window>,
    holdings: BTreeMap<(i32, WindowKind), Holding>,
    /// By guest-physical address.
    ranges: BTreeMap<u64, Range>,
}

impl Home {
    pub(super) fn new(window: Window) -> Home {
        Home {
            window: Some(window),
            holdings: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    /// Counts one attach of segment `id`, splicing its memory in if it is the first in that window.
    ///
    /// # Errors
    /// ENOMEM; EINVAL if the guest is gone.
    pub(super) fn attach(
        &mut self,
        id: i32,
        which: WindowKind,
        memory: &Memory,
        pid: u32,
    ) -> Result<GuestPhys, Errno> {
        if let Some(holding) = self.holdings.get_mut(&(id, which)) {
            holding.add(1, pid)?;
            return Ok(holding.gpa);
        }
        let window = self.window.as_mut().ok_or(Errno::EINVAL)?;
        let gpa = window.splice(which, memory.as_fd(), memory.pages, memory.page_size)?;
        self.holdings.insert(
            (id, which),
            Holding {
                gpa,
                len: memory.pages * PAGE_SIZE,
                serial: memory.serial,
                page_size: memory.page_size,
                count: 1,
                last_pid: pid,
            },
        );
        Ok(gpa)
    }

    /// Counts `count` more attaches of what is attached already.
    ///
    /// # Errors
    /// EINVAL if it is not, or `count` is 0; ENOMEM beyond [`MAX_COUNT`].
    pub(super) fn attach_more(
        &mut self,
        id: i32,
        which: WindowKind,
        count: u64,
        pid: u32,
    ) -> Result<(), Errno> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        self.holdings
            .get_mut(&(id, which))
            .ok_or(Errno::EINVAL)?
            .add(count, pid)
    }

    /// Whether the segment is attached in that window.
    pub(super) fn holds(&self, id: i32, which: WindowKind) -> bool {
        self.holdings.contains_key(&(id, which))
    }

    /// Ends `count` attaches, taking the segment out of the window with the last one.
    ///
    /// # Errors
    /// EINVAL if the guest does not hold as many, or `count` is 0.
    pub(super) fn detach(&mut self, id: i32, which: WindowKind, count: u64) -> Result<(), Errno> {
        let holding = self.holdings.get_mut(&(id, which)).ok_or(Errno::EINVAL)?;
        if count == 0 || count > holding.count {
            return Err(Errno::EINVAL);
        }
        holding.count -= count;
        if holding.count == 0 {
            let gpa = holding.gpa;
            self.holdings.remove(&(id, which));
            if let Some(window) = &mut self.window {
                window.unsplice(which, gpa)?;
            }
        }
        Ok(())
    }

    /// Shows a range of an object.
    ///
    /// # Errors
    /// ENOMEM; EINVAL if the guest is gone.
    pub(super) fn map_object(
        &mut self,
        fd: BorrowedFd<'_>,
        serial: u64,
        which: WindowKind,
        offset: u64,
        len: u64,
    ) -> Result<GuestPhys, Errno> {
        let window = self.window.as_mut().ok_or(Errno::EINVAL)?;
        let gpa = window.splice_range(which, fd, offset, len / PAGE_SIZE)?;
        let range = Range {
            serial,
            which,
            offset,
            len,
        };
        self.ranges.insert(gpa.get(), range);
        Ok(gpa)
    }

    /// Shows it no longer. The object it was of.
    ///
    /// # Errors
    /// EINVAL if there is none.
    pub(super) fn unmap_object(&mut self, gpa: u64) -> Result<u64, Errno> {
        let Range { serial, which, .. } = self.ranges.remove(&gpa).ok_or(Errno::EINVAL)?;
        if let Some(window) = &mut self.window {
            window.unsplice(which, GuestPhys::new(gpa))?;
        }
        Ok(serial)
    }

    /// The word, and by what it is known everywhere.
    ///
    /// # Errors
    /// EINVAL if the guest has not attached the segment; EFAULT if the word does not lie in it, no range of the object
    /// shows it, or the host has no page for it.
    pub(super) fn word(&self, word: SharedWord) -> Result<Found<'_>, Errno> {
        let key = self.key(word)?;
        let (which, gpa, kept) = match word.of {
            Shared::Segment(id) => {
                let (which, holding) = self.holding(id).ok_or(Errno::EINVAL)?;
                (which, holding.gpa, memory::keep(holding.page_size))
            }
            Shared::Object(serial) => {
                let (gpa, range) = self.range(serial, word.offset).ok_or(Errno::EFAULT)?;
                // What has been cut off must not be touched.
                let kept = Some(memory::keep_objects());
                return Ok(Found {
                    key,
                    word: self
                        .window()?
                        .word(range.which, gpa.add(word.offset - range.offset))?,
                    _kept: kept,
                });
            }
        };
        Ok(Found {
            key,
            word: self.window()?.word(which, gpa.add(word.offset))?,
            _kept: kept,
        })
    }

    /// By what the word is known.
    ///
    /// # Errors
    /// As [`Home::word`], which also reaches it.
    pub(super) fn key(&self, word: SharedWord) -> Result<Key, Errno> {
        match word.of {
            Shared::Segment(id) => self.holding(id).ok_or(Errno::EINVAL)?.1.key(word.offset),
            Shared::Object(serial) if word.offset.is_multiple_of(4) => {
                self.range(serial, word.offset).ok_or(Errno::EFAULT)?;
                Ok(Key {
                    segment: serial,
                    offset: word.offset,
                })
            }
            Shared::Object(_) => Err(Errno::EFAULT),
        }
    }

    /// A range that shows what is at `offset` in an object.
    fn range(&self, serial: u64, offset: u64) -> Option<(GuestPhys, &Range)> {
        let shows = |range: &Range| range.serial == serial && offset.wrapping_sub(range.offset) < range.len;
        let (gpa, range) = self.ranges.iter().find(|(_, range)| shows(range))?;
        Some((GuestPhys::new(*gpa), range))
    }

    fn window(&self) -> Result<&Window, Errno> {
        self.window.as_ref().ok_or(Errno::EINVAL)
    }

    /// The aligned 32-bit word at a guest-physical address of a window, if something lies there.
    pub(super) fn word_at(&self, which: WindowKind, gpa: GuestPhys) -> Option<Word<'_>> {
        self.window.as_ref()?.word(which, gpa).ok()
    }

    /// Keeps what [`Home::word_at`] finds where it is.
    pub(super) fn keep(&self) -> Option<Kept> {
        if !self.ranges.is_empty() {
            return Some(memory::keep_objects());
        }
        let page_sizes = self.holdings.values().map(|holding| holding.page_size);
        memory::keep(page_sizes.max().unwrap_or(PAGE_SIZE))
    }

    /// What is attached.
    pub(super) fn spliced(&self) -> impl Iterator<Item = Spliced> {
        let spliced = |(&(_, which), holding): (&(i32, WindowKind), &Holding)| Spliced {
            which,
            gpa: holding.gpa,
            len: holding.len,
            start: Key {
                segment: holding.serial,
                offset: 0,
            },
        };
        let ranges = self.ranges.iter().map(|(&gpa, range)| Spliced {
            which: range.which,
            gpa: GuestPhys::new(gpa),
            len: range.len,
            start: Key {
                segment: range.serial,
                offset: range.offset,
            },
        });
        self.holdings.iter().map(spliced).chain(ranges)
    }

    fn holding(&self, id: i32) -> Option<(WindowKind, &Holding)> {
        [WindowKind::ReadWrite, WindowKind::ReadOnly]
            .into_iter()
            .find_map(|which| Some((which, self.holdings.get(&(id, which))?)))
    }

    /// How many ranges of its windows show a segment.
    pub(super) fn ranges(&self) -> u64 {
        let spliced = |window: &Window| {
            let both = [WindowKind::ReadWrite, WindowKind::ReadOnly];
            both.map(|which| window.spliced(which)).iter().sum::<usize>() as u64
        };
        self.window.as_ref().map_or(0, spliced)
    }

    /// The guest is gone: unmaps its windows and says what it held.
    pub(super) fn leave(&mut self) -> Vec<(i32, Holding)> {
        self.window = None;
        self.ranges.clear();
        std::mem::take(&mut self.holdings)
            .into_iter()
            .map(|((id, _), holding)| (id, holding))
            .collect()
    }
}

impl Holding {
    fn key(&self, offset: u64) -> Result<Key, Errno> {
        if !offset.is_multiple_of(4) || offset >= self.len {
            return Err(Errno::EFAULT);
        }
        Ok(Key {
            segment: self.serial,
            offset,
        })
    }

    fn add(&mut self, count: u64, pid: u32) -> Result<(), Errno> {
        self.count = self
            .count
            .checked_add(count)
            .filter(|&count| count <= MAX_COUNT)
            .ok_or(Errno::ENOMEM)?;
        self.last_pid = pid;
        Ok(())
    }
}
