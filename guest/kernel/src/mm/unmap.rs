//! munmap, and what it shares with everything else that makes room.

use super::area::{Area, SegmentRef};
use super::space::page_up;
use super::{AddressSpace, Memory, World};
use abi::memory::USER_END;
use abi::{Errno, PAGE_SIZE};
use paging::{GuestVirt, MapError};

/// What a change of tables that fails means to a program.
pub(super) fn errno(error: MapError) -> Errno {
    match error {
        MapError::OutOfTables => Errno::ENOMEM,
        // The areas were asked before; the tables never have more.
        MapError::Occupied(virt) => unreachable!("page {virt:?} is mapped outside its area"),
    }
}

/// Announces one fragment more for each of `areas` that is one of an attach, all or none. (`shm_open` in Linux,
/// which is called for every VMA that is made of another.)
pub(super) fn announce<'a>(
    world: &mut impl World,
    areas: impl Iterator<Item = &'a Area> + Clone,
) -> Result<(), Errno> {
    for (done, area) in areas.clone().enumerate() {
        if let Some(segment) = area.segment()
            && let Err(error) = world.attached_more(segment)
        {
            retract(world, areas.take(done));
            return Err(error);
        }
    }
    Ok(())
}

/// Takes back what [`announce`] has announced.
pub(super) fn retract<'a>(world: &mut impl World, areas: impl Iterator<Item = &'a Area>) {
    areas
        .filter_map(Area::segment)
        .for_each(|segment| world.detached(segment));
}

impl AddressSpace {
    /// munmap. Pages that aren't mapped are fine.
    ///
    /// # Errors
    /// EINVAL for a crooked or impossible range; ENOMEM when a hole needs an area or a table more than there
    /// is; what the broker says to a hole in an attach. Then nothing has changed.
    pub fn unmap(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        len: u64,
    ) -> Result<(), Errno> {
        if !addr.is_aligned(PAGE_SIZE) || addr.get() > USER_END || len > USER_END - addr.get() {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
        self.clear(mem, world, addr, addr.add(len))
    }

    /// Makes `[start, end)` free. All or nothing.
    ///
    /// As Linux (`vms_gather_munmap_vmas`), an area that only partly goes is split first, and counts as attached
    /// once more; then all that lies within goes whole, and counts as detached: who did it was the last to do
    /// something to the segment, also where there are as many fragments as before.
    pub(super) fn clear(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        end: GuestVirt,
    ) -> Result<(), Errno> {
        if start >= end {
            return Ok(());
        }
        let Some(&first) = self
            .areas
            .first_from(&mem.areas, start)
            .filter(|area| area.start < end)
        else {
            return Ok(());
        };
        if first.start < start && first.end > end && mem.areas.available() < 1 {
            return Err(Errno::ENOMEM);
        }
        let split = [start, end].map(|border| {
            let area = self.areas.find(&mem.areas, border);
            area.filter(|area| area.start < border).copied()
        });
        for (border, area) in [start, end].into_iter().zip(&split) {
            if area.is_some_and(|area| area.segment().is_some()) {
                self.own_tables(mem, world, border, 1)?;
            }
        }
        announce(world, split.iter().flatten())?;
        // Only where there are areas: ranges may be absurdly long.
        let from = first.start.max(start);
        if let Err(error) = self.drop_pages(mem, world, from, end) {
            retract(world, split.iter().flatten());
            return Err(error);
        }
        self.cut(mem, start, end, |segment| world.detached(segment))
    }

    /// Drops all pages in `[start, end)`, frames and all. The areas stay as they are.
    pub(super) fn drop_pages(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        end: GuestVirt,
    ) -> Result<(), Errno> {
        let pages = (end.get() - start.get()) / PAGE_SIZE;
        let result = paging::unmap(&mut mem.frames, self.root, start, pages, |frames, leaf| {
            frames.drop_leaf(&leaf);
        });
        if let Ok(flush) = &result
            && flush.needs_flush()
        {
            world.flush(self.loaded, flush);
        }
        mem.frames.release();
        result.map(drop).map_err(errno)
    }

    /// Takes `[start, end)` out of the areas, telling `gone` of each piece of an attach that goes.
    ///
    /// # Errors
    /// ENOMEM when a hole needs an area and there is none; callers have made sure.
    pub(super) fn cut(
        &mut self,
        mem: &mut Memory,
        start: GuestVirt,
        end: GuestVirt,
        mut gone: impl FnMut(&SegmentRef),
    ) -> Result<(), Errno> {
        let pool = &mut mem.areas;
        while let Some(&area) = self.areas.first_from(pool, start).filter(|area| area.start < end) {
            if area.start < start {
                self.areas.update(pool, area.start, |area| area.end = start);
                if area.end > end {
                    self.areas.insert(pool, area.part(end, area.end))?;
                }
            } else if area.end > end {
                self.areas
                    .update(pool, area.start, |area| *area = area.part(end, area.end));
            } else {
                self.areas.remove(pool, area.start);
            }
            if let Some(segment) = area.segment() {
                gone(segment);
            }
        }
        Ok(())
    }
}
