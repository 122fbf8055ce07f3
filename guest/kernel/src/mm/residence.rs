//! What of a program's memory is there, and stays: mincore, mlock and its kin, MAP_POPULATE.
//!
//! Nothing is ever swapped out here, so a page that is there stays in any case. What locking does is to make the pages,
//! and what a program can see of it: areas split as Linux splits them, RLIMIT_MEMLOCK holds, and advice that would take
//! pages away is refused (`mm/mlock.c` in Linux). Locked bytes are counted by looking at all areas, by those who lock.

use super::area::{Advice, Area, Backing, Prot};
use super::contents::Page;
use super::fault::{Access, Fault};
use super::space::{Lowest, page_up};
use super::{AddressSpace, Memory, World};
use abi::{Errno, PAGE_SIZE};
use paging::{GuestVirt, Rights, for_each_leaf};

/// Pages that are looked at before one that is missing is made.
const PIECE: u64 = 64;

/// Most pages [`AddressSpace::resident`] tells of at once.
pub const RESIDENT: usize = 512;

impl AddressSpace {
    /// Whether the limit of locked memory does not hold (CAP_IPC_LOCK, which root has).
    fn locks_freely(&self) -> bool {
        self.lowest == Lowest::Zero
    }

    /// Whether it may lock anything (`can_do_mlock`).
    ///
    /// # Errors
    /// EPERM.
    pub fn may_lock(&self) -> Result<(), Errno> {
        if self.locks_freely() || self.held_to().locked != 0 {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Bytes in locked areas.
    pub fn locked(&self, mem: &Memory) -> u64 {
        let mut locked = 0;
        if self.has_locked {
            self.areas.for_each(&mem.areas, |area| {
                if area.advice.contains(Advice::LOCKED) {
                    locked += area.len();
                }
            });
        }
        locked
    }

    /// Of those, the ones in `[start, end)`.
    fn locked_within(&self, mem: &Memory, start: GuestVirt, end: GuestVirt) -> u64 {
        let (mut at, mut locked) = (start, 0);
        while let Some(area) = self
            .areas
            .first_from(&mem.areas, at)
            .filter(|area| area.start < end)
        {
            if area.advice.contains(Advice::LOCKED) {
                locked += area.end.min(end).get() - area.start.max(start).get();
            }
            at = area.end;
        }
        locked
    }

    /// Whether there may be `more` bytes with this advice (`mlock_future_ok`).
    ///
    /// # Errors
    /// EAGAIN if they would be locked, and too many.
    pub(super) fn may_lock_more(&self, mem: &Memory, advice: Advice, more: u64) -> Result<(), Errno> {
        if !advice.contains(Advice::LOCKED) || self.locks_freely() {
            return Ok(());
        }
        let limit = self.held_to().locked / PAGE_SIZE;
        if (self.locked(mem) + more) / PAGE_SIZE <= limit {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// How many bytes new areas may have for what mlockall(2) has said.
    pub fn lockable(&self, mem: &Memory) -> u64 {
        if self.locks_new.is_empty() || self.locks_freely() {
            return u64::MAX;
        }
        let limit = self.held_to().locked & !(PAGE_SIZE - 1);
        limit.saturating_sub(self.locked(mem))
    }

    /// What new areas get by mlockall(2), [`Advice::LOCKED`] and [`Advice::ON_FAULT`] or neither.
    pub fn locks_new(&self) -> Advice {
        self.locks_new
    }

    /// mlock(2) and mlock2(2): locks the pages of `[addr, addr + len)` as `how` says, and makes them.
    ///
    /// # Errors
    /// EPERM for who may not lock, ENOMEM beyond the limit, where nothing is mapped (what comes before is locked), or where
    /// a page can't be made (all is locked then), EINVAL for a range there can't be, EAGAIN if memory is short; what the
    /// broker says to a split of an attach.
    pub fn lock(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        len: u64,
        how: Advice,
    ) -> Result<(), Errno> {
        self.may_lock()?;
        let (start, len) = whole_pages(addr, len);
        if !self.locks_freely() {
            let limit = self.held_to().locked / PAGE_SIZE;
            let mut locked = len / PAGE_SIZE + self.locked(mem) / PAGE_SIZE;
            if locked > limit {
                let end = start.checked_add(len).unwrap_or(GuestVirt::new(u64::MAX));
                locked -= self.locked_within(mem, start, end) / PAGE_SIZE;
            }
            if locked > limit {
                return Err(Errno::ENOMEM);
            }
        }
        self.set_locks(mem, world, start, len, how)?;
        self.fill_range(mem, world, start, start.add(len))
            .map_err(|error| match error {
                Errno::EFAULT => Errno::ENOMEM,
                Errno::ENOMEM => Errno::EAGAIN,
                error => error,
            })
    }

    /// munlock(2).
    ///
    /// # Errors
    /// ENOMEM where nothing is mapped, EINVAL for a range there can't be; what the broker says.
    pub fn unlock(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: u64,
        len: u64,
    ) -> Result<(), Errno> {
        let (start, len) = whole_pages(addr, len);
        self.set_locks(mem, world, start, len, Advice::empty())
    }

    /// mlockall(2): what there is gets `now`, if that is something; what comes gets `later`.
    ///
    /// # Errors
    /// EPERM for who may not lock, ENOMEM beyond the limit.
    pub fn lock_all(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        now: Option<Advice>,
        later: Advice,
    ) -> Result<(), Errno> {
        self.may_lock()?;
        if now.is_some() && !self.locks_freely() {
            let mut all = 0;
            self.areas.for_each(&mem.areas, |area| all += area.len());
            if all / PAGE_SIZE > self.held_to().locked / PAGE_SIZE {
                return Err(Errno::ENOMEM);
            }
        }
        self.has_locked |= !later.is_empty();
        self.locks_new = later;
        if let Some(now) = now {
            self.set_all(mem, world, now);
            // What can't be there is not missed (`mm_populate` in Linux).
            let _ = self.fill_areas(
                mem,
                world,
                GuestVirt::new(0),
                GuestVirt::new(u64::MAX),
                Missing::Passed,
            );
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn unlock_all(&mut self, mem: &mut Memory, world: &mut impl World) {
        self.locks_new = Advice::empty();
        self.set_all(mem, world, Advice::empty());
    }

    /// Gives all areas these locks. Those that can't be split stay as they are.
    fn set_all(&mut self, mem: &mut Memory, world: &mut impl World, how: Advice) {
        self.has_locked |= !how.is_empty();
        if !self.has_locked {
            return;
        }
        let mut at = GuestVirt::new(0);
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            let _ = self.set_locks_of(mem, world, &area, &area, how);
        }
    }

    fn set_locks(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        len: u64,
        how: Advice,
    ) -> Result<(), Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        self.has_locked |= !how.is_empty();
        let mut at = start;
        while at < end {
            let area = *self.areas.find(&mem.areas, at).ok_or(Errno::ENOMEM)?;
            let part = area.part(at, area.end.min(end));
            at = part.end;
            self.set_locks_of(mem, world, &area, &part, how)?;
        }
        Ok(())
    }

    fn set_locks_of(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &Area,
        how: Advice,
    ) -> Result<(), Errno> {
        let advice = (area.advice - Advice::LOCKS) | how;
        if advice == area.advice {
            return Ok(());
        }
        self.recast(mem, world, area, &Area { advice, ..*part })
    }

    /// Nothing is locked any more in this child's memory.
    pub(super) fn forget_locks(&mut self, mem: &mut Memory) {
        let mut at = GuestVirt::new(0);
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            if area.advice.intersects(Advice::LOCKS) {
                self.areas
                    .update(&mut mem.areas, area.start, |area| area.advice -= Advice::LOCKS);
            }
        }
    }

    /// Makes the pages in `[start, end)` that are missing, and copies where a private one may be written, as far as
    /// areas go that are not locked page by page ([`Advice::ON_FAULT`]).
    ///
    /// # Errors
    /// EFAULT where a page can't be, ENOMEM if memory is short. What comes before is there.
    pub fn fill_range(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        end: GuestVirt,
    ) -> Result<(), Errno> {
        self.fill_areas(mem, world, start, end, Missing::Fails)
    }

    fn fill_areas(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        end: GuestVirt,
        missing: Missing,
    ) -> Result<(), Errno> {
        let mut at = start;
        while let Some(&area) = self
            .areas
            .first_from(&mem.areas, at)
            .filter(|area| area.start < end)
        {
            let part = area.part(area.start.max(at), area.end.min(end));
            at = area.end;
            if !area.advice.contains(Advice::ON_FAULT) {
                let filled = self.fill_part(mem, world, &part);
                if missing == Missing::Fails {
                    filled?;
                }
            }
        }
        Ok(())
    }

    fn fill_part(&mut self, mem: &mut Memory, world: &mut impl World, part: &Area) -> Result<(), Errno> {
        if part.prot.is_empty() {
            return Err(Errno::EFAULT);
        }
        let access = if part.prot.contains(Prot::WRITE) && !part.is_shared() {
            Access::Write
        } else {
            Access::Read
        };
        let mut page = part.start;
        while page < part.end {
            let stop = page.add(PIECE * PAGE_SIZE).min(part.end);
            page = self.first_without(mem, page, stop, access);
            if page < stop {
                self.fault(mem, world, page, access)
                    .map_err(|fault| match fault {
                        Fault::OutOfMemory => Errno::ENOMEM,
                        _ => Errno::EFAULT,
                    })?;
                page = page.add(PAGE_SIZE);
            }
        }
        Ok(())
    }

    /// The first page in `[start, end)` whose leaf, if there is one, does not allow `access`; `end` or later if none.
    pub(super) fn first_without(
        &self,
        mem: &Memory,
        start: GuestVirt,
        end: GuestVirt,
        access: Access,
    ) -> GuestVirt {
        let mut next = start;
        let pages = (end.get() - start.get()) / PAGE_SIZE;
        for_each_leaf(&mem.frames, self.root, start, pages, |leaf| {
            let allows = access != Access::Write || leaf.rights.contains(Rights::WRITE);
            if leaf.virt <= next && allows {
                next = leaf.virt.add(leaf.size);
            }
        });
        next
    }

    /// mincore(2): which of the pages from `start` on are there, as many as one area has, [`RESIDENT`] and `wanted` at
    /// most: how many that are. Of a segment or an object the host knows, and all it has is told as there.
    ///
    /// # Errors
    /// ENOMEM if nothing is mapped at `start`.
    pub fn in_core(
        &self,
        mem: &Memory,
        start: GuestVirt,
        wanted: u64,
        there: &mut [u8; RESIDENT],
    ) -> Result<usize, Errno> {
        let area = *self.areas.find(&mem.areas, start).ok_or(Errno::ENOMEM)?;
        let pages = ((area.end.get() - start.get()) / PAGE_SIZE)
            .min(wanted)
            .min(RESIDENT as u64);
        let there = &mut there[..pages as usize];
        there.fill(0);
        let part = area.part(start, start.add(pages * PAGE_SIZE));
        for_each_leaf(&mem.frames, self.root, start, pages, |leaf| {
            let (from, to) = (leaf.virt.max(part.start), leaf.virt.add(leaf.size).min(part.end));
            let index = |at: GuestVirt| ((at.get() - part.start.get()) / PAGE_SIZE) as usize;
            there[index(from)..index(to)].fill(1);
        });
        match part.backing {
            Backing::Anonymous | Backing::SharedAnonymous { .. } => {}
            Backing::Image { .. } => there.fill(1),
            Backing::Segment(_) => {
                let backed = (part.backed_end().get() - start.get()) / PAGE_SIZE;
                there[..backed as usize].fill(1);
            }
            Backing::File(file) => {
                let object = mem.contents.object(file.file).is_some();
                let pages_of_file = mem.contents.size(file.file).div_ceil(PAGE_SIZE);
                for (at, there) in there.iter_mut().enumerate() {
                    let page = file.page(0) + at as u64;
                    *there |= u8::from(
                        page < pages_of_file && (object || mem.file_page(file.file, page) != Page::Hole),
                    );
                }
            }
        }
        Ok(there.len())
    }
}

/// What becomes of a page that can't be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The call fails.
    Fails,
    /// The rest of its area is passed over.
    Passed,
}

/// The pages that have a byte of `len` bytes from `addr` on: where they begin, and how many bytes they are. Numbers wrap as
/// they do in Linux.
fn whole_pages(addr: u64, len: u64) -> (GuestVirt, u64) {
    let into = addr % PAGE_SIZE;
    let len = page_up(len.wrapping_add(into)).unwrap_or(0);
    (GuestVirt::new(addr - into), len)
}
