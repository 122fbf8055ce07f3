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

/// Announces `count` fragments more of an attach, all or none.
pub(super) fn announce(world: &mut impl World, area: &Area, count: usize) -> Result<(), Errno> {
    let Some(segment) = area.segment() else {
        return Ok(());
    };
    for done in 0..count {
        if let Err(error) = world.attached_more(segment) {
            retract(world, area, done);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes back what [`announce`] has announced.
pub(super) fn retract(world: &mut impl World, area: &Area, count: usize) {
    if let Some(segment) = area.segment() {
        (0..count).for_each(|_| world.detached(segment));
    }
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
        let hole = first.start < start && first.end > end;
        if hole {
            if mem.areas.available() < 1 {
                return Err(Errno::ENOMEM);
            }
            announce(world, &first, 1)?;
        }
        // Only where there are areas: ranges may be absurdly long.
        let from = first.start.max(start);
        if let Err(error) = self.drop_pages(mem, world, from, end) {
            if hole {
                retract(world, &first, 1);
            }
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

    /// Takes `[start, end)` out of the areas, telling `gone` of each fragment of an attach that goes whole.
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
                if let Some(segment) = area.segment() {
                    gone(segment);
                }
            }
        }
        Ok(())
    }
}
