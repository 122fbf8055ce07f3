//! mprotect.
//!
//! Areas are split and merged as Linux does it, because programs can see it: each fragment of an attach counts
//! in nattch. As measured on Linux 6.18: a change of a part makes fragments, up to two more; a change next to
//! a fragment that is like that already moves the border between the two; but fragments never become one
//! again, since no VMA with a `close` operation may vanish in a merge (`can_merge_remove_vma`).

use super::area::{Area, Backing, Prot};
use super::space::{affordable, page_up};
use super::unmap::{announce, errno, retract};
use super::{AddressSpace, Memory, World};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use core::iter;
use paging::{GuestVirt, Rights, for_each_leaf};

/// Tables are looked through in pieces of so many pages.
const PIECE: u64 = 512;

/// What becomes of the border between the changed part and the rest of its area.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Border {
    /// The part reaches its area's end here.
    None,
    /// A new area begins.
    Split,
    /// The neighbour on the other side takes the part in.
    Shift(GuestVirt),
}

impl AddressSpace {
    /// mprotect.
    ///
    /// # Errors
    /// EINVAL for a crooked address, ENOMEM where nothing is mapped or there is no memory, EACCES beyond what
    /// the area may allow, and what the broker says to a split of an attach. As in Linux, what comes before
    /// the area in question has been changed then.
    pub fn protect(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        len: u64,
        prot: Prot,
    ) -> Result<(), Errno> {
        if !addr.is_aligned(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len)
            .and_then(|len| addr.checked_add(len))
            .ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        while at < end {
            let area = *self.areas.find(&mem.areas, at).ok_or(Errno::ENOMEM)?;
            if !area.may.contains(prot) {
                return Err(Errno::EACCES);
            }
            let to = area.end.min(end);
            if area.prot != prot {
                self.protect_part(mem, world, &area, at, to, prot)?;
            }
            at = to;
        }
        Ok(())
    }

    /// Changes the part `[start, end)` of `area`. All or nothing.
    fn protect_part(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        start: GuestVirt,
        end: GuestVirt,
        prot: Prot,
    ) -> Result<(), Errno> {
        affordable(mem, &area.backing, prot, end.get() - start.get())?;
        let part = area.part(start, end);
        self.may_become(mem, &part, prot)?;
        let part = Area { prot, ..part };
        self.recast(mem, world, area, &part)
    }

    /// Makes the part of `area` that `part` covers what `part` says, in rights or at a fork. All or nothing.
    pub(super) fn recast(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &Area,
    ) -> Result<(), Errno> {
        let part = *part;
        let Area { start, end, .. } = part;
        let left = self
            .areas
            .ending_at(&mem.areas, start)
            .filter(|left| left.continues_in(&part));
        let right = self
            .areas
            .find(&mem.areas, end)
            .filter(|right| part.continues_in(right));
        let (left, right) = (left.map(|left| left.start), right.map(|right| right.start));
        // A border exists where the part ends within its area; a neighbour to take it in, at the other end
        // (where the part ends within, the area itself follows: that does not continue it).
        let border = |inside: bool, neighbour: Option<GuestVirt>| match neighbour {
            _ if !inside => Border::None,
            Some(neighbour) => Border::Shift(neighbour),
            None => Border::Split,
        };
        let (head, tail) = (area.start < start, end < area.end);
        let (before, after) = (border(head, right), border(tail, left));
        let fragments = usize::from(before == Border::Split) + usize::from(after == Border::Split);

        if mem.areas.available() < fragments {
            return Err(Errno::ENOMEM);
        }
        if area.segment().is_some() {
            if area.prot != part.prot || fragments > 0 {
                self.own_tables(mem, world, start, part.len() / PAGE_SIZE)?;
            }
        } else {
            for border in [start, end] {
                self.split_leaf_at(mem, area, border)?;
            }
        }
        let split = iter::repeat_n(area, fragments);
        announce(world, split.clone())?;
        if area.prot != part.prot
            && let Err(error) = self.set_rights(mem, world, area, &part)
        {
            retract(world, split);
            return Err(error);
        }

        let (tree, pool) = (&mut self.areas, &mut mem.areas);
        match (before, after) {
            (Border::None, Border::None) => {
                // Anonymous memory takes equal neighbours in.
                tree.remove(pool, start);
                self.insert(mem, part)?;
            }
            (Border::Shift(right), _) => {
                tree.update(pool, area.start, |area| area.end = start);
                tree.update(pool, right, |right| {
                    (right.start, right.backing) = (start, part.backing)
                });
            }
            (_, Border::Shift(left)) => {
                tree.update(pool, area.start, |area| *area = area.part(end, area.end));
                tree.update(pool, left, |left| left.end = end);
            }
            _ => {
                if head {
                    tree.update(pool, area.start, |area| area.end = start);
                    tree.insert(pool, part)?;
                } else {
                    tree.update(pool, area.start, |area| *area = part);
                }
                if tail {
                    tree.insert(pool, area.part(end, area.end))?;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that no large leaf lies across `border` in `area`, where an area will end. (Segments are mapped
    /// by areas, whatever their leaves are.)
    fn split_leaf_at(&mut self, mem: &mut Memory, area: &Area, border: GuestVirt) -> Result<(), Errno> {
        let inside = area.start < border && border < area.end;
        if !inside || border.is_aligned(LARGE_PAGE_SIZE) {
            return Ok(());
        }
        let split = paging::split_around(&mut mem.frames, self.root, border);
        mem.frames.release();
        split.map_err(errno)
    }

    /// Gives the pages of `part`, a part of `area`, the rights it says.
    fn set_rights(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &Area,
    ) -> Result<(), Errno> {
        let private = matches!(area.backing, Backing::Image { .. } | Backing::File(_)) && !area.is_shared();
        if private && part.prot.contains(Prot::WRITE) {
            self.drop_shown_pages(mem, world, part)?;
        }
        let mut rights = self.rights(mem, part);
        if part.is_shared() && part.segment().is_none() && !mem.shows_object(part) {
            // What others use may be written; elsewhere a copy has to be made first.
            rights |= Rights::COUNTED;
        }
        let pages = part.len() / PAGE_SIZE;
        let result = paging::protect(&mut mem.frames, self.root, part.start, pages, rights);
        if let Ok(flush) = &result
            && flush.needs_flush()
        {
            world.flush(self.loaded, flush);
        }
        mem.frames.release();
        result.map(drop).map_err(errno)
    }

    /// The rights of leaves in `area`.
    pub(super) fn rights(&self, mem: &Memory, area: &Area) -> Rights {
        let mut rights = area.prot.rights();
        if mem.writable_read_only && area.segment().is_some() {
            rights |= Rights::WRITE;
        }
        rights
    }

    /// Drops the pages that show an image in place: they must not become writable. They come back as copies.
    pub(super) fn drop_shown_pages(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        part: &Area,
    ) -> Result<(), Errno> {
        let mut at = part.start;
        while at < part.end {
            let stop = at.add(PIECE * PAGE_SIZE).min(part.end);
            let mut run: Option<(GuestVirt, GuestVirt)> = None;
            let pages = (stop.get() - at.get()) / PAGE_SIZE;
            let frames = &mem.frames;
            for_each_leaf(frames, self.root, at, pages, |leaf| {
                if frames.owns(leaf.phys) {
                    return;
                }
                let (from, to) = (leaf.virt.max(at), leaf.virt.add(leaf.size).min(stop));
                match &mut run {
                    None => run = Some((from, to)),
                    Some(run) if run.1 == from => run.1 = to,
                    Some(_) => {}
                }
            });
            at = stop;
            if let Some((from, to)) = run {
                self.drop_pages(mem, world, from, to)?;
                at = to;
            }
        }
        Ok(())
    }
}
