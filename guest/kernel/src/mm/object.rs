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
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use crate::arch::shm::{self, PageList};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Rights, lookup};

/// Most ranges of all objects: as many as the broker lets a guest have.
const MOST: usize = 4096;
/// Pages that a range shows at most beyond what there is: it is as long as the area then, and the object can grow.
const WELL_BEYOND: u64 = (1 << 30) / PAGE_SIZE;
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
    /// The next one of the object, or free slot; 0 is none.
    next: u16,
}

const UNUSED: Range = Range {
    file: FileId(0),
    window: Window::ReadOnly,
    first: 0,
    pages: 0,
    gpa: GuestPhys::new(0),
    next: 0,
};

#[cfg(target_os = "none")]
static ROOM: Reserve<[Range; MOST + 1]> = Reserve::new([UNUSED; MOST + 1]);

impl Range {
    const fn end(&self) -> u64 {
        self.first + self.pages
    }

    fn at(&self, page: u64) -> GuestPhys {
        self.gpa.add((page - self.first) * PAGE_SIZE)
    }
}

/// All ranges of objects in the windows. Those of one object are a list that begins in [`super::contents`].
pub struct Ranges {
    ranges: &'static mut [Range],
    /// Slots given back.
    free: u16,
    /// Slots used so far; slot 0 never is.
    used: u16,
}

impl Ranges {
    /// None, until [`Ranges::init`].
    pub(super) const fn empty() -> Ranges {
        Ranges {
            ranges: &mut [],
            free: 0,
            used: 0,
        }
    }

    /// Takes the room. Once.
    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let ranges = ROOM.take().expect("a kernel has one table of ranges");
        #[cfg(not(target_os = "none"))]
        let ranges = Box::leak(vec![UNUSED; MOST + 1].into_boxed_slice());
        self.ranges = ranges;
        self.used = 1;
    }

    /// Whether there can be one more.
    fn is_full(&self) -> bool {
        self.free == 0 && usize::from(self.used) > MOST
    }

    fn get(&self, slot: u16) -> &Range {
        &self.ranges[usize::from(slot)]
    }

    /// Puts a range, in front of its object's others, into a slot, of which there is one left.
    fn add(&mut self, range: Range) -> u16 {
        let slot = if self.free != 0 {
            let slot = self.free;
            self.free = self.get(slot).next;
            slot
        } else {
            self.used += 1;
            self.used - 1
        };
        self.ranges[usize::from(slot)] = range;
        slot
    }

    fn give_back(&mut self, slot: u16) {
        self.ranges[usize::from(slot)].next = self.free;
        self.free = slot;
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

    /// A range that shows page number `page` of object `file`.
    fn find_range(&self, file: FileId, window: Window, page: u64) -> Option<Range> {
        let mut at = self.contents.ranges(file);
        while at != 0 {
            let range = self.ranges.get(at);
            if range.window == window && (range.first..range.end()).contains(&page) {
                return Some(*range);
            }
            at = range.next;
        }
        None
    }

    /// Takes out a range of `file`, if there is one: the caller has it unmapped.
    pub fn take_range(&mut self, file: FileId) -> Option<Range> {
        let slot = self.contents.ranges(file);
        if slot == 0 {
            return None;
        }
        let range = *self.ranges.get(slot);
        self.contents.set_ranges(file, range.next);
        self.ranges.give_back(slot);
        Some(range)
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
        if let Some(range) = self.find_range(part.file, window, page) {
            return Ok(range);
        }
        if self.ranges.is_full() {
            return Err(Errno::ENOMEM);
        }
        let (zero, end) = (part.page(0), part.page(area.len()));
        let beyond = self.contents.size(part.file) / PAGE_SIZE + WELL_BEYOND;
        let most = end.min(beyond.max(page + AHEAD_SHARED));
        let near = page - page % AHEAD_SHARED;
        let whole = (zero, most - zero);
        let some = (near.max(zero), (near + AHEAD_SHARED).min(end) - near.max(zero));
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
                    next: self.contents.ranges(part.file),
                };
                self.contents.set_size(part.file, size);
                let slot = self.ranges.add(range);
                self.contents.set_ranges(part.file, slot);
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

    /// Maps what there is of the object behind the new area at `start`, which is shared, at once. Pages that can't be are
    /// left to faults.
    ///
    /// # Errors
    /// ENOMEM if the object can't appear in a window.
    pub fn show_object(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
    ) -> Result<(), Errno> {
        let Some(area) = self.area_at(mem, start) else {
            return Ok(());
        };
        let Some(part) = area.file().filter(|part| part.shared).copied() else {
            return Ok(());
        };
        let Some(serial) = mem.contents.object(part.file) else {
            return Ok(());
        };
        // It may have become one with a neighbour.
        let first = part.page(start.get() - area.start.get());
        let range = mem.range_for(world, &area, &part, serial, first)?;
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
        Ok(())
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
