//! mremap: a mapping shrinks, grows, or moves with its pages.

use super::area::{Advice, Area, Backing, FilePart};
use super::space::{affordable, check_fixed, page_up};
use super::unmap::{announce, errno, retract};
use super::{AddressSpace, Memory, Placement, World};
use abi::memory::USER_END;
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use arrayvec::ArrayVec;
use core::iter;
use paging::{GuestPhys, GuestVirt, Leaf, Rights, for_each_leaf};

const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

/// Leaves that are moved before tables are looked at again.
const BATCH: usize = 32;

impl AddressSpace {
    /// mremap(2). An old length of 0 gives a second view of what is shared, and so does DONTUNMAP; private pages move,
    /// and what they were in the place of is there again.
    ///
    /// # Errors
    /// EINVAL for crooked ranges and flags, EFAULT if the old range isn't one area's (but to move more than one is fine where nothing is resized and none is an attach), ENOMEM for no room,
    /// memory, areas or tables, EAGAIN for more than may be locked, and what the broker says to a split of an attach. As in Linux, MREMAP_FIXED has
    /// cleared the new range by then, and a mapping that was to become shorter is; of several areas some have moved.
    ///
    /// What shared memory grows by has nothing behind it: SIGBUS.
    #[expect(clippy::too_many_arguments, reason = "as many as mremap has")]
    pub fn remap(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        old: GuestVirt,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: GuestVirt,
    ) -> Result<GuestVirt, Errno> {
        let fixed = flags & MREMAP_FIXED != 0;
        let may_move = flags & MREMAP_MAYMOVE != 0;
        let keep = flags & MREMAP_DONTUNMAP != 0;
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        if flags & !known != 0 || ((fixed || keep) && !may_move) || !old.is_aligned(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(new_len).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
        if fixed || keep {
            let overlap = || new_addr < old.add(old_len) && old < new_addr.add(new_len);
            let outside = new_len > USER_END || new_addr.get() > USER_END - new_len;
            if !new_addr.is_aligned(PAGE_SIZE) || outside || keep && old_len != new_len || overlap() {
                return Err(Errno::EINVAL);
            }
        }
        if fixed {
            check_fixed(new_addr, new_len, self.lowest)?;
        }
        if fixed && old_len == new_len && !keep {
            return self.move_range(mem, world, old, old_len, new_addr);
        }
        let area = *self.areas.find(&mem.areas, old).ok_or(Errno::EFAULT)?;
        if old_len == 0 || keep {
            if old_len == 0 && !area.is_shared() {
                return Err(Errno::EINVAL);
            }
            if !may_move {
                return Err(Errno::ENOMEM);
            }
            if old_len > area.end.get() - old.get() {
                return Err(Errno::EFAULT);
            }
            let to = match fixed {
                true => Placement::Fixed(new_addr),
                false if new_addr.get() == 0 => Placement::Anywhere,
                false => Placement::Hint(new_addr),
            };
            if keep {
                // What it takes the place of goes first, as in Linux.
                if fixed {
                    self.clear(mem, world, new_addr, new_addr.add(new_len))?;
                }
                let area = *self.areas.find(&mem.areas, old).ok_or(Errno::EFAULT)?;
                self.may_have(mem, &area, old_len)?;
                if !area.is_shared() {
                    affordable(mem, &area.backing, area.prot, old_len)?;
                }
            } else {
                self.may_lock_more(mem, area.advice, new_len)?;
                self.may_have(mem, &area, new_len)?;
            }
            let start = self.second_place(mem, world, old, to, new_len)?;
            if keep && area.advice.contains(Advice::LOCKED) {
                // What is locked has moved.
                self.unlock(mem, world, old.get(), old_len)?;
            }
            return Ok(start);
        }
        if old_len.min(new_len) > area.end.get() - old.get() && (fixed || old_len < new_len) {
            return Err(Errno::EFAULT);
        }
        if old_len >= new_len {
            let end = old.checked_add(old_len).filter(|end| end.get() <= USER_END);
            let end = end.ok_or(Errno::EINVAL)?;
            if !fixed {
                self.clear(mem, world, old.add(new_len), end)?;
                return Ok(old);
            }
        } else {
            self.may_lock_more(mem, area.advice, new_len - old_len)?;
            if !area.is_shared() {
                affordable(mem, &area.backing, area.prot, new_len - old_len)?;
            }
            self.may_have(mem, &area, new_len - old_len)?;
        }
        if !fixed && old.add(old_len) == area.end && self.grow(mem, &area, old.get().checked_add(new_len)) {
            return Ok(old);
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let to = if fixed {
            new_addr
        } else {
            self.gap(mem, new_len, PAGE_SIZE).ok_or(Errno::ENOMEM)?
        };
        self.move_to(mem, world, old, old_len, to, new_len)?;
        Ok(to)
    }

    /// Moves all that there is in `len` bytes from `old` on to `to`, with the gaps in between, as Linux does from 6.17
    /// on (`remap_move`). An attach moves only by itself, because the file behind it has a say in where it goes.
    fn move_range(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        old: GuestVirt,
        len: u64,
        to: GuestVirt,
    ) -> Result<GuestVirt, Errno> {
        let end = old.checked_add(len).ok_or(Errno::EFAULT)?;
        self.areas.find(&mem.areas, old).ok_or(Errno::EFAULT)?;
        let mut at = old;
        while let Some(&area) = self
            .areas
            .first_from(&mem.areas, at)
            .filter(|area| area.start < end)
        {
            let from = area.start.max(old);
            if area.segment().is_some() && (from > old || area.end < end) {
                return Err(Errno::EFAULT);
            }
            at = area.end.min(end);
            let len = at.get() - from.get();
            let to = to.add(from.get() - old.get());
            self.move_to(mem, world, from, len, to, len)?;
        }
        Ok(to)
    }

    /// Moves `old_len` bytes from `old` on, one area's at least as far as they are to stay, to `to`, where they become
    /// `new_len`. What is there goes first.
    pub(super) fn move_to(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        old: GuestVirt,
        old_len: u64,
        to: GuestVirt,
        new_len: u64,
    ) -> Result<(), Errno> {
        // One for the new area, two should the old one or what lies at the new place get a hole.
        if mem.areas.available() < 3 {
            return Err(Errno::ENOMEM);
        }
        self.clear(mem, world, to, to.add(new_len))?;
        if new_len < old_len {
            self.clear(mem, world, old.add(new_len), old.add(old_len))?;
        }
        // The new place may have been another part of the same area.
        let area = *self.areas.find(&mem.areas, old).ok_or(Errno::EFAULT)?;
        let part = area.part(old, old.add(old_len.min(new_len)));
        self.own_tables(mem, world, to, 1)?;
        if area.segment().is_some() && part.len() < area.len() {
            self.own_tables(mem, world, part.start, part.len() / PAGE_SIZE)?;
        }
        self.move_part(mem, world, &area, &part, to, new_len)
    }

    /// Gives `len` bytes of what is mapped at `old` a second place: what is shared is there, too; private pages are
    /// there from now on, and where they were it is as if they had never been touched.
    pub(super) fn second_place(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        old: GuestVirt,
        to: Placement,
        len: u64,
    ) -> Result<GuestVirt, Errno> {
        // One for the new area, one should what lies at the new place get a hole.
        if mem.areas.available() < 2 {
            return Err(Errno::ENOMEM);
        }
        let start = match to {
            Placement::Fixed(to) => {
                self.clear(mem, world, to, to.add(len))?;
                to
            }
            Placement::Hint(hint) => self.gap_at_hint(mem, hint, len).ok_or(Errno::ENOMEM)?,
            _ => self.gap(mem, len, PAGE_SIZE).ok_or(Errno::ENOMEM)?,
        };
        // The new place may have been another part of the same area.
        let area = *self.areas.find(&mem.areas, old).ok_or(Errno::EFAULT)?;
        let part = area.part(old, area.end.min(old.add(len)));
        let view = Area {
            start,
            end: start.add(len),
            ..part
        };
        self.own_tables(mem, world, start, 1)?;
        match &part.backing {
            Backing::Segment(segment) => {
                world.attached_more(segment)?;
                self.map_fragment(mem, &view, segment, start);
            }
            Backing::SharedAnonymous { .. } => self.share_pages(mem, world, &part, start)?,
            // They come when they are touched.
            Backing::File(FilePart { shared: true, .. }) => {}
            _ => self.move_pages(mem, world, &part, start)?,
        }
        self.insert(mem, view)?;
        Ok(start)
    }

    /// Maps all pages of `part`, shared anonymous memory, at `to` as well. All or nothing, but for pages that appear.
    fn share_pages(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        part: &Area,
        to: GuestVirt,
    ) -> Result<(), Errno> {
        self.fill_shared(mem, world, part)?;
        // Pages are counted with their leaves: no large one may lie across an end.
        for edge in [part.start, part.end] {
            if !edge.is_aligned(LARGE_PAGE_SIZE) {
                paging::split_around(&mut mem.frames, self.root, edge).map_err(errno)?;
            }
        }
        let pages = part.len() / PAGE_SIZE;
        if let Err(error) = self.map_private(mem, part, to) {
            if let Ok(flush) = paging::unmap(&mut mem.frames, self.root, to, pages, |_, _| {}) {
                world.flush(self.loaded, &flush);
            }
            mem.frames.release();
            return Err(error);
        }
        // A large leaf may have become many small ones or the other way round, so each page is counted by itself.
        let second = paging::edit(&mut mem.frames, self.root, to, pages, |frames, leaf| {
            frames.share(&leaf);
            let rights = leaf.rights | Rights::COUNTED;
            frames.count_singly(&Leaf { rights, ..leaf });
            Some((leaf.phys, rights))
        });
        let first = paging::edit(&mut mem.frames, self.root, part.start, pages, |_, leaf| {
            Some((leaf.phys, leaf.rights | Rights::COUNTED))
        });
        // Nothing is stale: what a leaf maps and allows has not changed.
        let _ = (first, second);
        Ok(())
    }

    /// The fragment that `area`, a part of an attach that moves, becomes part of, as in Linux: the one before if it
    /// continues that, else the one after, never both.
    pub(super) fn joins(&self, mem: &Memory, area: &Area) -> Option<Area> {
        area.segment()?;
        let left = self.areas.ending_at(&mem.areas, area.start);
        let right = self.areas.find(&mem.areas, area.end);
        left.filter(|left| left.continues_in(area))
            .or(right.filter(|right| area.continues_in(right)))
            .copied()
    }

    /// Adds `area`, which has been moved, to the fragment that it joins, if there is one.
    pub(super) fn insert_moved(
        &mut self,
        mem: &mut Memory,
        area: Area,
        joined: Option<Area>,
    ) -> Result<(), Errno> {
        let Some(other) = joined else {
            return self.insert(mem, area);
        };
        self.areas.remove(&mut mem.areas, other.start);
        let whole = if other.start < area.start {
            Area {
                end: area.end,
                ..other
            }
        } else {
            Area {
                end: other.end,
                ..area
            }
        };
        self.areas.insert(&mut mem.areas, whole)
    }

    /// Lets the area end at `end` if it can.
    fn grow(&mut self, mem: &mut Memory, area: &Area, end: Option<u64>) -> bool {
        let Some(end) = end.filter(|&end| end <= USER_END).map(GuestVirt::new) else {
            return false;
        };
        if !self.is_free(mem, area.end, end) {
            return false;
        }
        // Equal neighbours are one area, so anonymous memory may meet one to join now.
        let right = self.areas.find(&mem.areas, end).copied();
        let grown = Area { end, ..*area };
        self.areas
            .update(&mut mem.areas, area.start, |area| area.end = end);
        if let Some(right) = right
            && area.backing == Backing::Anonymous
            && grown.continues_in(&right)
        {
            self.areas.remove(&mut mem.areas, right.start);
            self.areas
                .update(&mut mem.areas, area.start, |area| area.end = right.end);
        }
        true
    }

    /// Moves `part` of `area`, pages and all, to `to`, where it becomes `len` bytes long. All or nothing.
    fn move_part(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &Area,
        to: GuestVirt,
        len: u64,
    ) -> Result<(), Errno> {
        let moved = Area {
            start: to,
            end: to.add(len),
            ..*part
        };
        let joined = self.joins(mem, &moved);
        // As Linux counts: the area at the new place, if it is one of its own, and what is split off at the old
        // one; then the old one goes.
        let fragments = usize::from(joined.is_none())
            + usize::from(area.start < part.start)
            + usize::from(part.end < area.end);
        let more = iter::repeat_n(area, fragments);
        announce(world, more.clone())?;
        if let Err(error) = self.move_pages(mem, world, part, to) {
            retract(world, more);
            return Err(error);
        }
        self.cut(mem, part.start, part.end, |segment| world.detached(segment))?;
        self.insert_moved(mem, moved, joined)
    }

    /// Maps the pages of `part` at `to`, and no longer where they are. All or nothing.
    fn move_pages(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        part: &Area,
        to: GuestVirt,
    ) -> Result<(), Errno> {
        let result = match &part.backing {
            Backing::Segment(segment) => {
                self.map_fragment(mem, part, segment, to);
                Ok(())
            }
            _ => self.map_private(mem, part, to),
        };
        let pages = part.len() / PAGE_SIZE;
        let result = result.and_then(|()| {
            paging::unmap(&mut mem.frames, self.root, part.start, pages, |_, _| {}).map_err(errno)
        });
        match result {
            Ok(flush) => {
                world.flush(self.loaded, &flush);
                mem.frames.release();
                Ok(())
            }
            Err(error) => {
                // Nothing to split: all that is mapped there has just been, by itself.
                if let Ok(flush) = paging::unmap(&mut mem.frames, self.root, to, pages, |_, _| {}) {
                    world.flush(self.loaded, &flush);
                }
                mem.frames.release();
                Err(error)
            }
        }
    }

    /// Maps the private pages of `part` at `to` as well. After an error some may be mapped.
    fn map_private(&mut self, mem: &mut Memory, part: &Area, to: GuestVirt) -> Result<(), Errno> {
        let mut at = part.start;
        while at < part.end {
            let mut runs = ArrayVec::<(GuestVirt, GuestPhys, u64, Rights), BATCH>::new();
            let mut stop = part.end;
            let pages = (part.end.get() - at.get()).min(512 * PAGE_SIZE) / PAGE_SIZE;
            let seen = at.add(pages * PAGE_SIZE);
            let frames = &mem.frames;
            for_each_leaf(frames, self.root, at, pages, |leaf| {
                // It may become many small ones.
                frames.count_singly(&leaf);
                let Leaf {
                    virt,
                    phys,
                    size,
                    rights,
                    ..
                } = leaf;
                // A large leaf may reach beyond on either side.
                let from = virt.max(at);
                let phys = phys.add(from.get() - virt.get());
                let len = virt.add(size).min(seen).get() - from.get();
                if let Some(last) = runs.last_mut()
                    && (last.0.add(last.2), last.1.add(last.2), last.3) == (from, phys, rights)
                {
                    last.2 += len;
                } else if runs.is_full() {
                    stop = stop.min(from);
                } else {
                    runs.push((from, phys, len, rights));
                }
            });
            for (from, phys, len, rights) in runs {
                // What comes after a full batch is seen in the next one.
                let len = len.min(stop.get().saturating_sub(from.get()));
                let virt = to.add(from.get() - part.start.get());
                paging::map(&mut mem.frames, self.root, virt, phys, len / PAGE_SIZE, rights)
                    .map_err(errno)?;
            }
            at = stop.min(seen);
        }
        Ok(())
    }
}
