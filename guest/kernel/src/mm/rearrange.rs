//! remap_file_pages(2): a part of a shared mapping shows other pages of what is behind it. As Linux emulates it since 4.0
//! (`mm/mmap.c`), it is as if they were mapped anew, in the place of what was there.

use super::area::{Advice, Area, Backing, FilePart, Prot, SegmentRef};
use super::contents::MOST_BYTES;
use super::{AddressSpace, Memory, Placement, World};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

impl AddressSpace {
    /// Lets `size` bytes from `start` on show what is behind them from page `page` on. Of shared anonymous memory these can
    /// only be pages that this address space shows somewhere.
    ///
    /// # Errors
    /// EINVAL for a crooked range, and for what is not shared, not writable from the start, or not all of one thing;
    /// EOVERFLOW beyond any file; EPERM and EAGAIN for what may not be locked; ENOMEM for areas or tables; what the broker
    /// says to a part of an attach more.
    pub fn rearrange(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        size: u64,
        page: u64,
    ) -> Result<(), Errno> {
        let start = start.align_down(PAGE_SIZE);
        let size = size & !(PAGE_SIZE - 1);
        let end = start.get().wrapping_add(size);
        if end <= start.get() || page.checked_add(size / PAGE_SIZE).is_none() {
            return Err(Errno::EINVAL);
        }
        let end = GuestVirt::new(end);
        let area = *self.areas.find(&mem.areas, start).ok_or(Errno::EINVAL)?;
        // Of what can't be written Linux does not know that it is shared.
        if !area.is_shared() || !area.may.contains(Prot::WRITE) {
            return Err(Errno::EINVAL);
        }
        let mut last = area;
        while last.end < end {
            let next = *self.areas.find(&mem.areas, last.end).ok_or(Errno::EINVAL)?;
            if !is_alike(&area, &next) {
                return Err(Errno::EINVAL);
            }
            last = next;
        }
        let offset = page
            .checked_mul(PAGE_SIZE)
            .filter(|offset| offset.checked_add(size).is_some_and(|end| end <= MOST_BYTES))
            .ok_or(Errno::EOVERFLOW)?;
        let advice = if area.advice.contains(Advice::LOCKED) {
            self.may_lock()?;
            Advice::LOCKED
        } else {
            Advice::empty()
        };
        let advice = advice | self.locks_new;
        match area.backing {
            Backing::File(part) => {
                let backing = Backing::File(FilePart { offset, ..part });
                let to = Placement::Fixed(start);
                self.map_advised(mem, world, to, size, area.prot, area.may, backing, advice)?;
                self.show_object(mem, world, start)
            }
            Backing::Segment(segment) => {
                self.may_lock_more(mem, advice, size)?;
                let view = Area {
                    start,
                    end,
                    backing: Backing::Segment(SegmentRef { offset, ..segment }),
                    advice,
                    ..area
                };
                self.show_segment(mem, world, view)
            }
            Backing::SharedAnonymous { first, .. } => {
                self.may_lock_more(mem, advice, size)?;
                let like = Area {
                    start,
                    end,
                    advice,
                    ..area
                };
                self.show_again(mem, world, &like, first.wrapping_add(offset))
            }
            Backing::Anonymous | Backing::Image { .. } => Err(Errno::EINVAL),
        }
    }

    /// Puts `view`, a part of an attach, in the place of what is there. It becomes one with a neighbour it continues.
    fn show_segment(&mut self, mem: &mut Memory, world: &mut impl World, view: Area) -> Result<(), Errno> {
        let Backing::Segment(segment) = view.backing else {
            return Ok(());
        };
        // One for the new area, one should it make a hole in an old one.
        if mem.areas.available() < 2 {
            return Err(Errno::ENOMEM);
        }
        // First of all: what goes may have been the last one.
        world.attached_more(&segment)?;
        let cleared = self
            .clear(mem, world, view.start, view.end)
            .and_then(|()| self.own_tables(mem, world, view.start, 1));
        if let Err(error) = cleared {
            world.detached(&segment);
            return Err(error);
        }
        // On Linux what was there goes first, and a removed segment with the last of it (`shm_mmap` says so).
        if world.detached_last(&segment) {
            return Err(Errno::EINVAL);
        }
        let joined = self.joins(mem, &view);
        self.map_fragment(mem, &view, &segment, view.start);
        if joined.is_some() {
            world.detached(&segment);
        }
        self.insert_moved(mem, view, joined)
    }

    /// Shows shared anonymous memory from byte number `byte` on in the place of `like`, with its rights: all of it is gathered elsewhere first, since the new place may be where some of them are.
    fn show_again(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        like: &Area,
        byte: u64,
    ) -> Result<(), Errno> {
        let size = like.len();
        let away = self.gap(mem, size, PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let mut done = 0;
        let mut gathered = Ok(());
        while done < size && gathered.is_ok() {
            gathered = match self.place_of(mem, byte + done) {
                Some((from, len)) => {
                    let len = len.min(size - done);
                    let to = Placement::Fixed(away.add(done));
                    done += len;
                    self.second_place(mem, world, from, to, len).map(drop)
                }
                None => Err(Errno::ENOMEM),
            };
        }
        let moved = gathered.and_then(|()| self.move_gathered(mem, world, away, like));
        if moved.is_err() {
            self.clear(mem, world, away, away.add(size))?;
        }
        moved
    }

    fn move_gathered(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        from: GuestVirt,
        like: &Area,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < like.len() {
            let at = from.add(done);
            let area = *self.areas.find(&mem.areas, at).ok_or(Errno::ENOMEM)?;
            let len = area.len();
            let to = like.start.add(done);
            self.move_to(mem, world, at, len, to, len)?;
            let moved = *self.areas.find(&mem.areas, to).ok_or(Errno::ENOMEM)?;
            let part = moved.part(to, to.add(len));
            let new = Area {
                prot: like.prot,
                advice: like.advice,
                ..part
            };
            if new != part {
                self.recast(mem, world, &moved, &new)?;
            }
            done += len;
        }
        Ok(())
    }

    /// Where byte `byte` of all shared anonymous memory is shown, and how many bytes from there on.
    fn place_of(&self, mem: &Memory, byte: u64) -> Option<(GuestVirt, u64)> {
        let mut found = None;
        self.areas.for_each(&mem.areas, |area| {
            if let Backing::SharedAnonymous { byte: first, len, .. } = area.backing
                && let Some(into) = byte.checked_sub(first)
                && into < len.min(area.len())
            {
                found = Some((area.start.add(into), len.min(area.len()) - into));
            }
        });
        found
    }
}

/// Whether `next` shows the same thing in the same way, whichever part of it.
fn is_alike(area: &Area, next: &Area) -> bool {
    let same = match (area.backing, next.backing) {
        (Backing::File(one), Backing::File(two)) => one.file == two.file && two.shared,
        (Backing::Segment(one), Backing::Segment(two)) => one.attach == two.attach,
        (Backing::SharedAnonymous { first: one, .. }, Backing::SharedAnonymous { first: two, .. }) => {
            one == two
        }
        _ => false,
    };
    same && area.prot == next.prot && area.may == next.may && area.advice == next.advice
}
