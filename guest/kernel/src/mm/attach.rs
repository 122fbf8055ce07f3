//! shmat and shmdt, the part that concerns one process: where a segment appears, and that it goes again.
//! Keys, permissions and counts are the broker's; [`crate::arch::shm`] edits the tables.

use super::area::{Area, Prot, SegmentRef};
use super::space::check_fixed;
use super::unmap::errno;
use super::{AddressSpace, Memory, World};
use crate::arch::shm::{self, PageList};
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestVirt, MapError};

impl AddressSpace {
    /// How many bytes a segment may have at that address; where the kernel may choose, the largest there is
    /// room for anywhere.
    pub fn room_at(&self, mem: &Memory, at: Option<GuestVirt>) -> u64 {
        let Some(at) = at else {
            return self.areas.largest_gap(&mem.areas, MMAP_MIN_ADDR, USER_END);
        };
        let next = self
            .areas
            .first_from(&mem.areas, at)
            .map_or(USER_END, |next| next.start.get());
        next.saturating_sub(at.get())
    }

    /// Maps `segment`, all of it and at once. The broker has counted the attach; if this fails, the caller
    /// has it uncounted. Where the kernel may choose, segments of 2 MiB and more get an address at which the
    /// tables can use 2 MiB leaves.
    ///
    /// # Errors
    /// EINVAL if something is mapped there or the address is crooked; ENOMEM for no room, areas or tables;
    /// EPERM below the lowest address programs may map. Then nothing has changed.
    pub fn attach(
        &mut self,
        mem: &mut Memory,
        _world: &mut impl World,
        at: Option<GuestVirt>,
        segment: SegmentRef,
        prot: Prot,
    ) -> Result<GuestVirt, Errno> {
        let len = segment.mapped_size();
        let start = match at {
            Some(at) => at,
            None => self.gap_for_segment(mem, len).ok_or(Errno::ENOMEM)?,
        };
        check_fixed(start, len)?;
        let end = start.add(len);
        if at.is_some() && !self.is_free(mem, start, end) {
            return Err(Errno::EINVAL);
        }
        if len == 0 || mem.areas.available() < 1 {
            return Err(Errno::ENOMEM);
        }
        // Write access can be had later only where it was asked for (Linux clears VM_MAYWRITE).
        let may = if prot.contains(Prot::WRITE) {
            Prot::all()
        } else {
            Prot::READ | Prot::EXECUTE
        };
        let area = Area {
            start,
            end,
            prot,
            may,
            backing: super::area::Backing::Segment(segment),
        };
        let rights = self.rights(mem, &area);
        let mut space = shm::Space {
            memory: &mut mem.frames,
            root: self.root,
        };
        if let Err(error) = shm::up_shmat(
            &mut space,
            PageList::Run(segment.start()),
            len / PAGE_SIZE,
            start,
            rights,
        ) {
            mem.frames.release();
            return Err(error);
        }
        self.areas.insert(&mut mem.areas, area)?;
        Ok(start)
    }

    fn gap_for_segment(&self, mem: &Memory, len: u64) -> Option<GuestVirt> {
        if len >= LARGE_PAGE_SIZE {
            // All of the 2 MiB blocks it touches, should a shared table be linked there one day.
            let whole = len.checked_next_multiple_of(LARGE_PAGE_SIZE)?;
            if let Some(start) = self.gap(mem, whole, LARGE_PAGE_SIZE) {
                return Some(start);
            }
        }
        self.gap(mem, len, PAGE_SIZE)
    }

    /// shmdt: every fragment that belongs to the attach at `addr` goes.
    ///
    /// As Linux (`ksys_shmdt`): a fragment belongs to it if it is as far from `addr` as it is into the segment;
    /// the first one found says which segment that is, and how far to look.
    ///
    /// # Errors
    /// EINVAL if there is none, or the address is crooked.
    pub fn detach(&mut self, mem: &mut Memory, world: &mut impl World, addr: GuestVirt) -> Result<(), Errno> {
        if !addr.is_aligned(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut first: Option<SegmentRef> = None;
        let mut at = addr;
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            if let Some(first) = &first
                && area.end.get() - addr.get() > first.mapped_size()
            {
                break;
            }
            let Some(part) = area.segment() else { continue };
            let same = first.is_none_or(|first| first.id == part.id && first.window == part.window);
            if same && area.start.get().wrapping_sub(addr.get()) == part.offset {
                self.remove_fragment(mem, world, &area, part);
                first = Some(*part);
            }
        }
        if first.is_some() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn remove_fragment(&mut self, mem: &mut Memory, world: &mut impl World, area: &Area, part: &SegmentRef) {
        let mut space = shm::Space {
            memory: &mut mem.frames,
            root: self.root,
        };
        let flush = shm::up_shmdt(&mut space, area.start, area.len() / PAGE_SIZE);
        world.flush(self.loaded, &flush);
        mem.frames.release();
        self.areas.remove(&mut mem.areas, area.start);
        world.detached(part);
    }

    /// Maps what `area`, a fragment of an attach, shows of its segment at `to` as well.
    pub(super) fn map_fragment(
        &mut self,
        mem: &mut Memory,
        area: &Area,
        part: &SegmentRef,
        to: GuestVirt,
    ) -> Result<(), Errno> {
        let pages = area.len().min(part.left()) / PAGE_SIZE;
        let rights = self.rights(mem, area);
        let mapped = paging::map(&mut mem.frames, self.root, to, part.start(), pages, rights);
        if let Err(error @ MapError::OutOfTables) = mapped {
            mem.frames.release();
            return Err(errno(error));
        }
        mapped.map_err(errno)
    }
}
