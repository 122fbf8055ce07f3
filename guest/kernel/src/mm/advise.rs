//! madvise.

use super::area::{Area, AtFork, Backing};
use super::space::page_up;
use super::{AddressSpace, Memory, World};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const MADV_WILLNEED: u64 = 3;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;
const MADV_DODUMP: u64 = 17;
const MADV_WIPEONFORK: u64 = 18;
const MADV_KEEPONFORK: u64 = 19;
const MADV_COLD: u64 = 20;
const MADV_PAGEOUT: u64 = 21;

impl AddressSpace {
    /// madvise(2). DONTNEED drops private pages: the next access finds zeros, or the file again. What is shared
    /// keeps its contents. What is said of forks is kept with the areas, which may split for it. All other advice
    /// a static program gives is taken and has no effect.
    ///
    /// # Errors
    /// EINVAL for a crooked range or unknown advice, ENOMEM where nothing is mapped (the rest has been dealt
    /// with, as in Linux) or if an area or a table is missing; what the broker says to a split of an attach.
    pub fn advise(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        len: u64,
        advice: u64,
    ) -> Result<(), Errno> {
        let known = matches!(advice, 0..=MADV_DONTNEED | MADV_FREE | MADV_DONTFORK..=MADV_PAGEOUT);
        if !known || !addr.is_aligned(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len)
            .and_then(|len| addr.checked_add(len))
            .ok_or(Errno::EINVAL)?;
        let mut at = addr;
        let mut gaps = false;
        while at < end {
            let next = self
                .areas
                .first_from(&mem.areas, at)
                .filter(|area| area.start < end);
            let Some(&area) = next else {
                return Err(Errno::ENOMEM);
            };
            gaps |= area.start > at;
            let from = area.start.max(at);
            at = area.end.min(end);
            match advice {
                MADV_FREE | MADV_WIPEONFORK if area.backing != Backing::Anonymous => {
                    return Err(Errno::EINVAL);
                }
                MADV_DONTNEED if !area.is_shared() => self.drop_pages(mem, world, from, at)?,
                _ => {}
            }
            let at_fork = match advice {
                MADV_DONTFORK => area.at_fork | AtFork::LEFT_OUT,
                MADV_DOFORK => area.at_fork - AtFork::LEFT_OUT,
                MADV_WIPEONFORK => area.at_fork | AtFork::WIPED,
                MADV_KEEPONFORK => area.at_fork - AtFork::WIPED,
                _ => continue,
            };
            if area.at_fork != at_fork {
                let part = Area {
                    at_fork,
                    ..area.part(from, at)
                };
                self.recast(mem, world, &area, &part)?;
            }
        }
        if gaps { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

const _: () =
    assert!(MADV_WILLNEED < MADV_DONTNEED && MADV_DODUMP < MADV_KEEPONFORK && MADV_COLD < MADV_PAGEOUT);
