//! How much memory a process may have: RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK. And the stack, which grows up to that.
//!
//! Counted is what is mapped, touched or not (Linux's `total_vm` and `data_vm`; `may_expand_vm` in `mm/vma.c`), by
//! looking at all areas: only processes that have set a limit pay for it.

use super::area::{Advice, Area, Prot};
use super::fault::AHEAD_IN_STACK;
use super::{AddressSpace, Memory, World};
use crate::process::stack;
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

/// A stack that grows stays so far away from what lies below it (`stack_guard_gap` in Linux), in bytes.
const GUARD: u64 = 256 * PAGE_SIZE;

/// What a process may have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of everything (RLIMIT_AS).
    pub addresses: u64,
    /// Of what is its own and can be written to (RLIMIT_DATA): current and maximum.
    pub data: [u64; 2],
    /// Of a stack (RLIMIT_STACK).
    pub stack: u64,
    /// Of what is locked (RLIMIT_MEMLOCK); not of root's.
    pub locked: u64,
}

/// What may be locked by a process that has not said otherwise, in bytes.
pub const USUALLY_LOCKED: u64 = 8 << 20;

impl Limits {
    /// Those of a process that has not set any.
    const USUAL: Limits = Limits {
        addresses: u64::MAX,
        data: [u64::MAX; 2],
        stack: stack::SIZE,
        locked: USUALLY_LOCKED,
    };
}

/// Whether `area` counts for RLIMIT_DATA (`is_data_mapping`).
fn is_data(area: &Area) -> bool {
    area.prot.contains(Prot::WRITE) && !area.is_shared() && !area.advice.contains(Advice::GROWS)
}

/// Whether `used` bytes and `more` are within a limit, in whole pages.
const fn fits(used: u64, more: u64, limit: u64) -> bool {
    used.saturating_add(more) <= limit & !(PAGE_SIZE - 1)
}

impl AddressSpace {
    /// How large a stack may be, in whole pages.
    pub fn most_stack(&self) -> u64 {
        self.held_to().stack & !(PAGE_SIZE - 1)
    }

    pub(super) fn held_to(&self) -> Limits {
        self.limits.unwrap_or(Limits::USUAL)
    }

    /// Bytes of all areas, and of those that are data.
    fn used(&self, mem: &Memory) -> (u64, u64) {
        let (mut all, mut data) = (0, 0);
        self.areas.for_each(&mem.areas, |area| {
            all += area.len();
            if is_data(area) {
                data += area.len();
            }
        });
        (all, data)
    }

    /// Bytes that are mapped in `[start, end)`.
    fn mapped(&self, mem: &Memory, start: GuestVirt, end: GuestVirt) -> u64 {
        let (mut at, mut mapped) = (start, 0);
        while let Some(area) = self
            .areas
            .first_from(&mem.areas, at)
            .filter(|area| area.start < end)
        {
            mapped += area.end.min(end).get() - area.start.max(start).get();
            at = area.end;
        }
        mapped
    }

    /// Whether there may be `more` bytes of memory like `like`.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn may_have(&self, mem: &Memory, like: &Area, more: u64) -> Result<(), Errno> {
        let Some(limits) = &self.limits else { return Ok(()) };
        let [current, maximum] = limits.data;
        if limits.addresses.min(current) == u64::MAX {
            return Ok(());
        }
        let (all, data) = self.used(mem);
        let allowed = fits(all, more, limits.addresses)
            && (!is_data(like)
                || fits(data, more, current)
                // What Linux does for Valgrind.
                || current == 0 && fits(data, more, maximum));
        if allowed { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// As [`AddressSpace::may_have`], for `area` in the place of all that is there.
    pub(super) fn may_replace(&self, mem: &Memory, area: &Area) -> Result<(), Errno> {
        if self.limits.is_none() {
            return Ok(());
        }
        let more = area.len() - self.mapped(mem, area.start, area.end);
        self.may_have(mem, area, more)
    }

    /// Whether `area` may be given the rights `prot`. What becomes data must be allowed, unless so much would not be
    /// allowed anyway (`mprotect_fixup`).
    pub(super) fn may_become(&self, mem: &Memory, area: &Area, prot: Prot) -> Result<(), Errno> {
        let new = Area { prot, ..*area };
        if !prot.contains(Prot::WRITE) || self.may_have(mem, &new, area.len()).is_ok() {
            return Ok(());
        }
        match self.may_have(mem, area, area.len()) {
            Ok(()) => Err(Errno::ENOMEM),
            Err(_) => Ok(()),
        }
    }

    /// How long an attach may be, in bytes; if `replacing`, from there on and in the place of what is mapped.
    pub fn may_attach(&self, mem: &Memory, replacing: Option<GuestVirt>) -> u64 {
        let limit = self.held_to().addresses;
        if limit == u64::MAX {
            return u64::MAX;
        }
        let left = (limit & !(PAGE_SIZE - 1)).saturating_sub(self.used(mem).0);
        let Some(start) = replacing else { return left };
        // As far as gaps go that are as long as that in all.
        let (mut at, mut gaps) = (start, 0);
        loop {
            let next = self.areas.first_from(&mem.areas, at);
            let gap = next
                .map_or(USER_END, |next| next.start.get())
                .saturating_sub(at.get());
            if gap > left - gaps {
                return at.get() - start.get() + (left - gaps);
            }
            let Some(next) = next else { return u64::MAX };
            gaps += gap;
            at = next.end;
        }
    }

    /// The area for an access at `addr`, whatever that allows: a stack grows to it if it may.
    pub(super) fn area_for(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
    ) -> Option<Area> {
        let next = *self.areas.first_from(&mem.areas, addr)?;
        if next.start <= addr {
            return Some(next);
        }
        if !next.advice.contains(Advice::GROWS) {
            return None;
        }
        // Some more than that, because a fault costs far more than a page.
        let page = addr.align_down(PAGE_SIZE);
        let start = [page.align_down(AHEAD_IN_STACK * PAGE_SIZE), page]
            .into_iter()
            .find(|&start| self.may_grow(mem, &next, start))?;
        self.own_tables(mem, world, start, 1).ok()?;
        self.areas
            .update(&mut mem.areas, next.start, |area| area.start = start);
        Some(Area { start, ..next })
    }

    /// Whether `stack` may begin at `start`, which is below it (`expand_downwards`, `acct_stack_growth`).
    fn may_grow(&self, mem: &Memory, stack: &Area, start: GuestVirt) -> bool {
        if start.get() < MMAP_MIN_ADDR || stack.end.get() - start.get() > self.held_to().stack {
            return false;
        }
        let below = self.areas.last_before(&mem.areas, stack.start);
        let near = below.is_some_and(|below| {
            let guard = if below.prot.is_empty() || below.advice.contains(Advice::GROWS) {
                0
            } else {
                GUARD
            };
            start.get() < below.end.get() + guard
        });
        let more = stack.start.get() - start.get();
        !near
            && self.may_lock_more(mem, stack.advice, more).is_ok()
            && self.may_have(mem, stack, more).is_ok()
    }
}
