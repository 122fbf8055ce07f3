//! fork: an address space becomes two.
//!
//! The child has the same areas. Private pages are not copied but shared: no leaf over them may write any more,
//! each says that its frame is counted ([`Rights::COUNTED`], [`super::frames`]), and whoever writes first gets a
//! copy (`unshare`), unless nobody else is left. Segments and shared anonymous memory go on as they are, in both;
//! of the latter all pages are made first, so that none appears later in one process alone. Pages of the image
//! that are shown in place are shown in the child, too.

use super::area::{Advice, Area, Backing};
use super::fault::{AHEAD, Access, Fault, has_plenty};
use super::space::NEAR;
use super::{AddressSpace, Memory, World};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{Flush, GuestPhys, GuestVirt, Leaf, Rights, lookup};

/// How many areas there are of the kinds that need a look before a fork.
#[derive(Default)]
struct Census {
    all: usize,
    left_out: usize,
    /// Of those that are not left out.
    attaches: usize,
    shared: usize,
}

impl AddressSpace {
    /// The memory of a child that is born now. Attaches count once more each.
    ///
    /// # Errors
    /// ENOMEM for areas, tables, or frames of shared anonymous memory, and what the broker says to an attach more.
    /// Then programs see no change.
    pub fn fork(&mut self, mem: &mut Memory, world: &mut impl World) -> Result<AddressSpace, Errno> {
        let census = self.census(mem);
        if census.shared > 0 {
            self.populate_shared(mem, world)?;
        }
        let mut child = AddressSpace::new(mem, self.root)?;
        child.brk_start = self.brk_start;
        child.brk = self.brk;
        child.layout = self.layout;
        child.data_of_file = self.data_of_file;
        child.lowest = self.lowest;
        child.limits = self.limits;
        child.dumpable = self.dumpable;
        if let Err(error) = self.copy_areas(mem, world, &census, &mut child) {
            child.destroy(mem, world);
            return Err(error);
        }
        let mut flush = Flush::none();
        let copied = self.copy_pages(mem, &census, &mut child, &mut flush);
        // Also after a failure: leaves that are read-only already are not flushed next time.
        if flush.needs_flush() {
            world.flush(self.loaded, &flush);
        }
        if let Err(error) = copied {
            child.destroy(mem, world);
            return Err(error);
        }
        mem.frames.release();
        Ok(child)
    }

    fn census(&self, mem: &Memory) -> Census {
        let mut census = Census::default();
        self.areas.for_each(&mem.areas, |area| {
            census.all += 1;
            if area.advice.contains(Advice::LEFT_OUT) {
                census.left_out += 1;
                return;
            }
            match area.backing {
                Backing::Segment(_) => census.attaches += 1,
                Backing::SharedAnonymous { .. } => census.shared += 1,
                Backing::Anonymous | Backing::Image { .. } | Backing::File(_) => {}
            }
        });
        census
    }

    /// Makes all pages of shared anonymous memory that are missing.
    fn populate_shared(&mut self, mem: &mut Memory, world: &mut impl World) -> Result<(), Errno> {
        let mut at = GuestVirt::new(0);
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            if matches!(area.backing, Backing::SharedAnonymous { .. })
                && !area.advice.contains(Advice::LEFT_OUT)
            {
                self.fill_shared(mem, world, &area)?;
            }
        }
        Ok(())
    }

    /// Makes all pages of `area`, shared anonymous memory, that are missing.
    pub(super) fn fill_shared(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
    ) -> Result<(), Errno> {
        let (mut page, end) = (area.start, area.backed_end());
        while page < end {
            let stop = page.add(4 * AHEAD * PAGE_SIZE).min(end);
            page = self.first_without(mem, page, stop, Access::Read);
            if page < stop {
                let found = self.walk(mem, page);
                self.fault_anonymous(mem, world, area, page, &found)
                    .map_err(|_| Errno::ENOMEM)?;
            }
        }
        Ok(())
    }

    /// All or nothing.
    fn copy_areas(
        &self,
        mem: &mut Memory,
        world: &mut impl World,
        census: &Census,
        child: &mut AddressSpace,
    ) -> Result<(), Errno> {
        if mem.areas.available() < census.all {
            return Err(Errno::ENOMEM);
        }
        let (mut attaches, mut left_out) = (census.attaches, census.left_out);
        let mut at = GuestVirt::new(0);
        while attaches > 0
            && let Some(area) = self.areas.first_from(&mem.areas, at)
        {
            at = area.end;
            if let Some(segment) = area.segment().filter(|_| !area.advice.contains(Advice::LEFT_OUT)) {
                if let Err(error) = world.attached_more(segment) {
                    self.uncount_attaches(mem, world, area.start);
                    return Err(error);
                }
                attaches -= 1;
            }
        }
        child.areas = self.areas.duplicate(&mut mem.areas)?;
        let mut at = GuestVirt::new(0);
        while left_out > 0
            && let Some(&area) = self.areas.first_from(&mem.areas, at)
        {
            at = area.end;
            if area.advice.contains(Advice::LEFT_OUT) {
                child.areas.remove(&mut mem.areas, area.start);
                left_out -= 1;
            }
        }
        if self.has_locked {
            child.forget_locks(mem);
        }
        Ok(())
    }

    /// Takes back what [`Self::copy_areas`] has counted below `end`.
    fn uncount_attaches(&self, mem: &Memory, world: &mut impl World, end: GuestVirt) {
        let mut at = GuestVirt::new(0);
        while let Some(area) = self
            .areas
            .first_from(&mem.areas, at)
            .filter(|area| area.start < end)
        {
            at = area.end;
            if let Some(segment) = area.segment().filter(|_| !area.advice.contains(Advice::LEFT_OUT)) {
                world.detached(segment);
            }
        }
    }

    /// Lets the child have the pages. If it fails, the child has some.
    fn copy_pages(
        &mut self,
        mem: &mut Memory,
        census: &Census,
        child: &mut AddressSpace,
        flush: &mut Flush,
    ) -> Result<(), Errno> {
        // A gap may be an area that is left out.
        let near = if census.left_out == 0 { NEAR } else { 0 };
        let mut next = child.areas.first_from(&mem.areas, GuestVirt::new(0)).copied();
        while let Some(area) = next {
            let mut end = area.end;
            next = child.areas.first_from(&mem.areas, end).copied();
            if area.advice.contains(Advice::WIPED) {
                continue;
            }
            if let Backing::Segment(part) = &area.backing {
                child.map_fragment(mem, &area, part, area.start);
                continue;
            }
            // Where private areas lie close together one walk serves them.
            let plain = |area: &Area| !area.is_shared() && !area.advice.contains(Advice::WIPED);
            while plain(&area)
                && let Some(other) = next.filter(|next| plain(next) && next.start.get() - end.get() <= near)
            {
                end = other.end;
                next = child.areas.first_from(&mem.areas, end).copied();
            }
            let lost = if area.is_shared() {
                Rights::empty()
            } else {
                Rights::WRITE
            };
            let (from, to) = (self.root, child.root);
            let pages = (end.get() - area.start.get()) / PAGE_SIZE;
            paging::duplicate(
                &mut mem.frames,
                from,
                to,
                area.start,
                pages,
                flush,
                |frames, leaf| {
                    if !frames.owns(leaf.phys) {
                        return Some(leaf.rights);
                    }
                    frames.share(leaf);
                    Some((leaf.rights - lost) | Rights::COUNTED)
                },
            )
            .map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// A page that may be written by its area, but not by its leaf: the program gets its own copy, or the right
    /// to write if nobody else uses the page any more (and to its neighbours of which that is true, too).
    pub(super) fn unshare(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        page: GuestVirt,
    ) -> Result<(), Fault> {
        let rights = area.prot.rights();
        let mut leaf = lookup(&mem.frames, self.root, page).ok_or(Fault::OutOfMemory)?;
        if leaf.size == LARGE_PAGE_SIZE && !mem.frames.is_last(&leaf) {
            let run = if has_plenty(mem) {
                mem.frames.take_large()
            } else {
                None
            };
            if let Some(run) = run {
                self.replace(mem, world, &leaf, run.start, rights);
                return Ok(());
            }
            let split = paging::split_around(&mut mem.frames, self.root, page);
            mem.frames.release();
            split.map_err(|_| Fault::OutOfMemory)?;
            leaf = lookup(&mem.frames, self.root, page).ok_or(Fault::OutOfMemory)?;
        }
        // A page of an image is nobody's.
        if !mem.frames.owns(leaf.phys) || !mem.frames.is_last(&leaf) {
            let run = mem.frames.take(1).ok_or(Fault::OutOfMemory)?;
            self.replace(mem, world, &leaf, run.start, rights);
            return Ok(());
        }
        let window = page.align_down(AHEAD * PAGE_SIZE);
        let (start, end) = (
            window.max(area.start),
            window.add(AHEAD * PAGE_SIZE).min(area.end),
        );
        let pages = (end.get() - start.get()) / PAGE_SIZE;
        // A vCPU that still has the old rights faults, and finds the new ones.
        let _ = paging::edit(&mut mem.frames, self.root, start, pages, |frames, leaf| {
            let ours = leaf.rights.contains(Rights::COUNTED) && frames.is_last(&leaf);
            ours.then_some((leaf.phys, rights))
        });
        Ok(())
    }

    /// Puts a copy into the memory from `copy` on in the place of what `leaf` maps.
    fn replace(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        leaf: &Leaf,
        copy: GuestPhys,
        rights: Rights,
    ) {
        world.copy(copy, leaf.phys, leaf.size);
        let pages = leaf.size / PAGE_SIZE;
        let flush = paging::edit(&mut mem.frames, self.root, leaf.virt, pages, |_, _| {
            Some((copy, rights))
        });
        world.flush(self.loaded, &flush);
        mem.frames.drop_leaf(leaf);
        mem.frames.release();
    }
}
