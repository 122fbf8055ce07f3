//! madvise.

use super::area::{Advice, Area, Backing, Prot};
use super::contents::Page;
use super::fault::{Access, Fault};
use super::space::page_up;
use super::{AddressSpace, Memory, World};
use abi::{Errno, PAGE_SIZE};
use paging::{GuestVirt, for_each_leaf};

const MADV_NORMAL: u64 = 0;
const MADV_RANDOM: u64 = 1;
const MADV_SEQUENTIAL: u64 = 2;
const MADV_WILLNEED: u64 = 3;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_REMOVE: u64 = 9;
const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;
const MADV_MERGEABLE: u64 = 12;
const MADV_UNMERGEABLE: u64 = 13;
const MADV_HUGEPAGE: u64 = 14;
const MADV_NOHUGEPAGE: u64 = 15;
const MADV_DONTDUMP: u64 = 16;
const MADV_DODUMP: u64 = 17;
const MADV_WIPEONFORK: u64 = 18;
const MADV_KEEPONFORK: u64 = 19;
const MADV_COLD: u64 = 20;
const MADV_PAGEOUT: u64 = 21;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;
const MADV_DONTNEED_LOCKED: u64 = 24;

impl AddressSpace {
    /// madvise(2). DONTNEED drops private pages: the next access finds zeros, or the file again; what is shared keeps
    /// its contents. REMOVE makes shared bytes zeros, POPULATE makes pages that are missing. What is said of forks,
    /// order, size and dumps is kept with the areas, which may split for it. All other advice a static program gives is
    /// taken and has no effect.
    ///
    /// # Errors
    /// EINVAL for a crooked range or unknown advice, and to take away what is locked, ENOMEM where nothing is mapped (the rest has been dealt
    /// with, as in Linux), EAGAIN if an area or a table is missing; what the broker says to a split of an attach.
    pub fn advise(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        len: u64,
        advice: u64,
    ) -> Result<(), Errno> {
        let known = matches!(advice, MADV_NORMAL..=MADV_DONTNEED | MADV_FREE..=MADV_DONTNEED_LOCKED);
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
            let locked = area.advice.contains(Advice::LOCKED);
            match advice {
                MADV_DONTNEED | MADV_FREE | MADV_REMOVE | MADV_COLD | MADV_PAGEOUT if locked => {
                    return Err(Errno::EINVAL);
                }
                MADV_FREE | MADV_WIPEONFORK if area.backing != Backing::Anonymous => {
                    return Err(Errno::EINVAL);
                }
                MADV_REMOVE => self.punch(mem, world, &area.part(from, at))?,
                MADV_POPULATE_READ | MADV_POPULATE_WRITE if gaps => return Err(Errno::ENOMEM),
                MADV_POPULATE_READ => self.populate(mem, world, &area.part(from, at), Access::Read)?,
                MADV_POPULATE_WRITE => self.populate(mem, world, &area.part(from, at), Access::Write)?,
                MADV_DONTNEED | MADV_DONTNEED_LOCKED if !area.is_shared() => {
                    self.drop_pages(mem, world, from, at)?
                }
                _ => {}
            }
            let kept = area.advice;
            let order = Advice::RANDOM | Advice::SEQUENTIAL;
            let size = Advice::LARGE | Advice::SMALL;
            let new = match advice {
                MADV_NORMAL => kept - order,
                MADV_RANDOM => (kept - order) | Advice::RANDOM,
                MADV_SEQUENTIAL => (kept - order) | Advice::SEQUENTIAL,
                MADV_DONTFORK => kept | Advice::LEFT_OUT,
                MADV_DOFORK => kept - Advice::LEFT_OUT,
                MADV_HUGEPAGE => (kept - size) | Advice::LARGE,
                MADV_NOHUGEPAGE => (kept - size) | Advice::SMALL,
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

    /// Makes the pages of `part` that are missing (MADV_POPULATE_READ and _WRITE).
    fn populate(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        part: &Area,
        access: Access,
    ) -> Result<(), Errno> {
        let needed = if access == Access::Write {
            Prot::WRITE
        } else {
            Prot::READ
        };
        if !part.prot.contains(needed) {
            return Err(Errno::EINVAL);
        }
        let mut page = part.start;
        while page < part.end {
            self.fault(mem, world, page, access)
                .map_err(|fault| match fault {
                    Fault::OutOfMemory => Errno::ENOMEM,
                    // What would be SIGBUS.
                    _ => Errno::EFAULT,
                })?;
            if part.segment().is_some() {
                // It is in the tables; that the segment has it, too, takes an access.
                self.read(mem, world, page.get(), &mut [0])?;
            }
            page = page.add(PAGE_SIZE);
        }
        Ok(())
    }

    /// Makes the bytes of `part` zeros for everyone who shares them (MADV_REMOVE), whether it can be written to now or not.
    fn punch(&mut self, mem: &mut Memory, world: &mut impl World, part: &Area) -> Result<(), Errno> {
        match part.backing {
            Backing::Anonymous => Err(Errno::EINVAL),
            Backing::Image { .. } => Err(Errno::EACCES),
            Backing::File(part) if !part.shared => Err(Errno::EACCES),
            _ if !part.may.contains(Prot::WRITE) => Err(Errno::EACCES),
            Backing::Segment(segment) => match part.len().min(segment.left()) {
                0 => Ok(()),
                len => world.punch(&segment, len),
            },
            // Linux could; the broker is not asked for it.
            Backing::File(file) if mem.contents.object(file.file).is_some() => Err(Errno::EOPNOTSUPP),
            Backing::File(file) => {
                let first = file.page(0);
                for page in first..first + part.len() / PAGE_SIZE {
                    if let Page::Own(phys) = mem.file_page(file.file, page) {
                        world.zero(&[(phys, PAGE_SIZE)]);
                    }
                }
                Ok(())
            }
            Backing::SharedAnonymous { .. } => {
                let pages = part.len() / PAGE_SIZE;
                for_each_leaf(&mem.frames, self.root, part.start, pages, |leaf| {
                    let from = leaf.virt.max(part.start);
                    let to = leaf.virt.add(leaf.size).min(part.end);
                    let phys = leaf.phys.add(from.get() - leaf.virt.get());
                    world.zero(&[(phys, to.get() - from.get())]);
                });
                Ok(())
            }
        }
    }
}

const _: () = assert!(MADV_WILLNEED < MADV_DONTNEED && MADV_FREE < MADV_REMOVE && MADV_COLD < MADV_PAGEOUT);
