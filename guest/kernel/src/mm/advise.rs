//! madvise.

use super::area::{Advice, Area, Backing, Prot};
use super::space::page_up;
use super::{AddressSpace, Memory, World};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const MADV_NORMAL: u64 = 0;
const MADV_RANDOM: u64 = 1;
const MADV_SEQUENTIAL: u64 = 2;
const MADV_WILLNEED: u64 = 3;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_REMOVE: u64 = 9;
const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;
const MADV_DONTDUMP: u64 = 16;
const MADV_DODUMP: u64 = 17;
const MADV_WIPEONFORK: u64 = 18;
const MADV_KEEPONFORK: u64 = 19;
const MADV_COLD: u64 = 20;
const MADV_PAGEOUT: u64 = 21;

impl AddressSpace {
    /// madvise(2). DONTNEED drops private pages: the next access finds zeros, or the file again. What is shared
    /// keeps its contents. What is said of forks, order and dumps is kept with the areas, which may split for it. REMOVE makes shared
    /// bytes zeros. All other advice
    /// a static program gives is taken and has no effect.
    ///
    /// # Errors
    /// EINVAL for a crooked range or unknown advice, ENOMEM where nothing is mapped (the rest has been dealt
    /// with, as in Linux), EAGAIN if an area or a table is missing; what the broker says to a split of an attach.
    pub fn advise(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        len: u64,
        advice: u64,
    ) -> Result<(), Errno> {
        let known = matches!(advice, MADV_NORMAL..=MADV_DONTNEED | MADV_FREE..=MADV_PAGEOUT);
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
                MADV_REMOVE => self.punch(mem, world, &area.part(from, at))?,
                MADV_DONTNEED if !area.is_shared() => self.drop_pages(mem, world, from, at)?,
                _ => {}
            }
            let kept = area.advice;
            let order = Advice::RANDOM | Advice::SEQUENTIAL;
            let new = match advice {
                MADV_NORMAL => kept - order,
                MADV_RANDOM => (kept - order) | Advice::RANDOM,
                MADV_SEQUENTIAL => (kept - order) | Advice::SEQUENTIAL,
                MADV_DONTFORK => kept | Advice::LEFT_OUT,
                MADV_DOFORK => kept - Advice::LEFT_OUT,
                MADV_DONTDUMP => kept | Advice::UNDUMPED,
                MADV_DODUMP => kept - Advice::UNDUMPED,
                MADV_WIPEONFORK => kept | Advice::WIPED,
                MADV_KEEPONFORK => kept - Advice::WIPED,
                _ => continue,
            };
            if kept != new {
                let part = Area {
                    advice: new,
                    ..area.part(from, at)
                };
                // What is missing for a split might be there later, Linux says.
                self.recast(mem, world, &area, &part)
                    .map_err(|error| match error {
                        Errno::ENOMEM => Errno::EAGAIN,
                        error => error,
                    })?;
            }
        }
        if gaps { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Makes the bytes of `part` zeros for everyone who shares them (MADV_REMOVE).
    fn punch(&mut self, mem: &mut Memory, world: &mut impl World, part: &Area) -> Result<(), Errno> {
        if !part.is_shared() {
            return Err(Errno::EINVAL);
        }
        // Linux asks whether it may be written to at all; here the bytes are written through the mapping.
        if !part.prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        let zeros = [0; 256];
        let mut at = part.start.get();
        while at < part.end.get() {
            // Beyond the segment's end there is nothing to make zero.
            if self.write(mem, world, at, &zeros).is_err() {
                break;
            }
            at += zeros.len() as u64;
        }
        Ok(())
    }
}

const _: () = assert!(MADV_WILLNEED < MADV_DONTNEED && MADV_FREE < MADV_REMOVE && MADV_COLD < MADV_PAGEOUT);
