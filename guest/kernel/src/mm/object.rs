//! Areas that show objects: shared memory whose pages are the host's and whose size is the broker's ([`abi::object`]).
//!
//! An object is known here by a [`FileId`], as a file in the tree is, and areas show parts of it as they show parts of
//! files; only where the pages are differs. They appear in a window by [`Range`]s, which this kernel asks for when an
//! area first needs them and keeps until no area shows the object any longer. So areas split, move and are inherited
//! without anybody being told. What a program may write comes from the read-write window, all else from the read-only one.
//!
//! Invariants:
//! * The size in [`super::contents`] was told when every range of the object was there. Every shrink since then that
//!   reaches into one has been announced, and the size is the new one: so a page of a range that lies below it is there.
//! * Leaves over a window are never counted; those of private areas are small and may not write.

use super::area::{Area, FilePart, Prot, Window};
use super::contents::FileId;
use super::fault::{AHEAD, Access, Fault, Found, Gap, gap_around};
use super::{AddressSpace, Memory, World};
use crate::arch::shm::{self, PageList};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use arrayvec::ArrayVec;
use paging::{GuestPhys, GuestVirt, Rights, lookup};

/// Most ranges of all objects.
const MOST: usize = 256;
/// Pages of an object that are faulted in at once: what a page table has.
const AHEAD_SHARED: u64 = 512;
/// Bytes of a new area whose pages are mapped at once.
const EAGERLY: u64 = 64 << 20;

/// Pages of an object in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    file: FileId,
    window: Window,
    /// The number of the first page.
    first: u64,
    pages: u64,
    /// Where they are.
    pub gpa: GuestPhys,
}

impl Range {
    const fn end(&self) -> u64 {
        self.first + self.pages
    }

    fn at(&self, page: u64) -> GuestPhys {
        self.gpa.add((page - self.first) * PAGE_SIZE)
    }
}

/// All ranges of objects in the windows.
pub struct Ranges(ArrayVec<Range, MOST>);

impl Ranges {
    /// None.
    pub(super) const fn empty() -> Ranges {
        Ranges(ArrayVec::new_const())
    }

    /// One that shows page number `page` of `file`.
    fn find(&self, file: FileId, window: Window, page: u64) -> Option<Range> {
        let shows = |range: &&Range| {
            range.file == file && range.window == window && (range.first..range.end()).contains(&page)
        };
        self.0.iter().find(shows).copied()
    }

    /// Takes out one of `file`, if there is one.
    pub fn take(&mut self, file: FileId) -> Option<Range> {
        let at = self.0.iter().position(|range| range.file == file)?;
        Some(self.0.swap_remove(at))
    }
}

/// The window that serves an area: what it may be allowed to write once has to come from the writable one.
fn window_of(area: &Area, part: &FilePart) -> Window {
    if part.shared && area.may.contains(Prot::WRITE) {
        Window::ReadWrite
    } else {
        Window::ReadOnly
    }
}

const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

impl Memory {
    /// Whether `area` shows an object.
    pub(super) fn shows_object(&self, area: &Area) -> bool {
        area.file()
            .is_some_and(|part| self.contents.object(part.file).is_some())
    }

    /// A range that shows page `page` of the object behind `area`; as much of the area as the window has room for.
    ///
    /// # Errors
    /// ENOMEM, and what else the broker says.
    fn range_for(
        &mut self,
        world: &mut impl World,
        area: &Area,
        part: &FilePart,
        serial: u64,
        page: u64,
    ) -> Result<Range, Errno> {
        let window = window_of(area, part);
        if let Some(range) = self.ranges.find(part.file, window, page) {
            return Ok(range);
        }
        if self.ranges.0.is_full() {
            return Err(Errno::ENOMEM);
        }
        let whole = (part.page(0), pages(area.len()));
        let near = page - page % AHEAD_SHARED;
        let from = near.max(whole.0);
        let some = (from, (near + AHEAD_SHARED).min(whole.0 + whole.1) - from);
        let mut result = Err(Errno::ENOMEM);
        for (first, pages) in [whole, some] {
            result = world.map_object(serial, window, first * PAGE_SIZE, pages * PAGE_SIZE);
            if let Ok((gpa, size)) = result {
                let range = Range {
                    file: part.file,
                    window,
                    first,
                    pages,
                    gpa,
                };
                self.contents.set_size(part.file, size);
                self.ranges.0.push(range);
                return Ok(range);
            }
        }
        result.and(Err(Errno::ENOMEM))
    }
}

impl AddressSpace {
    /// The page at `page`, in an area that shows `part` of object `serial`, is missing.
    #[expect(clippy::too_many_arguments, reason = "what is known of a fault")]
    pub(super) fn fault_object(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &FilePart,
        serial: u64,
        page: GuestVirt,
        found: &Found,
        access: Access,
    ) -> Result<(), Fault> {
        let number = part.page(page.get() - area.start.get());
        let range = mem
            .range_for(world, area, part, serial, number)
            .map_err(|_| Fault::OutOfMemory)?;
        if number >= pages(mem.contents.size(part.file)) {
            // Another guest may have made it longer.
            mem.contents.set_size(part.file, world.object_size(serial));
        }
        let size = pages(mem.contents.size(part.file));
        if number >= size {
            return Err(Fault::BeyondEnd);
        }
        if !part.shared && access == Access::Write {
            return self.copy_of_object(mem, world, area, part, serial, page);
        }
        let zero = part.page(0);
        let virt = |number: u64| area.start.add((number - zero) * PAGE_SIZE);
        let from = virt(range.first.max(zero));
        let end = virt(range.end().min(size).min(zero + pages(area.len())));
        let (mut rights, ahead) = (area.prot.rights(), if part.shared { AHEAD_SHARED } else { AHEAD });
        if !part.shared {
            rights -= Rights::WRITE;
        }
        for gap in [gap_around(mem, found, from, end, page, ahead), Gap::only(page)] {
            let first = part.page(gap.start.get() - area.start.get());
            let mut space = shm::Space {
                memory: &mut mem.frames,
                root: self.root,
            };
            let run = PageList::Run(range.at(first));
            if shm::up_shmat(&mut space, run, gap.pages(), gap.start, rights).is_ok() {
                return Ok(());
            }
            mem.frames.release();
        }
        Err(Fault::OutOfMemory)
    }

    /// Maps what there is of the object behind the new area at `start`, which is shared, at once. What can't be is left to
    /// faults.
    pub fn show_object(&mut self, mem: &mut Memory, world: &mut impl World, start: GuestVirt) {
        let Some(area) = self.area_at(mem, start) else {
            return;
        };
        let Some(part) = area.file().filter(|part| part.shared).copied() else {
            return;
        };
        let Some(serial) = mem.contents.object(part.file) else {
            return;
        };
        // It may have become one with a neighbour.
        let first = part.page(start.get() - area.start.get());
        let Ok(range) = mem.range_for(world, &area, &part, serial, first) else {
            return;
        };
        let most = pages(area.end.get() - start.get()).min(EAGERLY / PAGE_SIZE);
        let end = pages(mem.contents.size(part.file))
            .min(range.end())
            .min(first + most);
        if first < end && !area.prot.is_empty() {
            let mut space = shm::Space {
                memory: &mut mem.frames,
                root: self.root,
            };
            let run = PageList::Run(range.at(first));
            if shm::up_shmat(&mut space, run, end - first, start, area.prot.rights()).is_err() {
                mem.frames.release();
            }
        }
    }

    /// Gives the program a copy of its own of the page at `page`, in a private area; what of the object is mapped there
    /// goes.
    pub(super) fn copy_of_object(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &FilePart,
        serial: u64,
        page: GuestVirt,
    ) -> Result<(), Fault> {
        let run = mem.frames.take(1).ok_or(Fault::OutOfMemory)?;
        if run.dirty {
            world.zero(&[(run.start, PAGE_SIZE)]);
        }
        let offset = part.page(page.get() - area.start.get()) * PAGE_SIZE;
        if world.read_object(serial, offset, run.start, PAGE_SIZE).is_err() {
            mem.frames.give_back(run);
            return Err(Fault::BeyondEnd);
        }
        let rights = area.prot.rights();
        if lookup(&mem.frames, self.root, page).is_some() {
            let flush = paging::edit(&mut mem.frames, self.root, page, 1, |_, _| {
                Some((run.start, rights))
            });
            world.flush(self.loaded, &flush);
            return Ok(());
        }
        if paging::map(&mut mem.frames, self.root, page, run.start, 1, rights).is_err() {
            mem.frames.give_back(run);
            mem.frames.release();
            return Err(Fault::OutOfMemory);
        }
        Ok(())
    }

    /// The object that the page at `page` of a private area is shown from, if it is still that of the object.
    pub(super) fn shown_object(&self, mem: &Memory, area: &Area, page: GuestVirt) -> Option<(FilePart, u64)> {
        let part = *area.file().filter(|part| !part.shared)?;
        let serial = mem.contents.object(part.file)?;
        let leaf = lookup(&mem.frames, self.root, page)?;
        (!mem.frames.is_ram(leaf.phys)).then_some((part, serial))
    }
}

/// Where pages begin that have to go so that none from `start` on is left: large leaves of shared areas go whole, and
/// come back.
pub(super) fn cut_from(area: &Area, start: GuestVirt) -> GuestVirt {
    if area.is_shared() {
        start.align_down(LARGE_PAGE_SIZE).max(area.start)
    } else {
        start
    }
}
