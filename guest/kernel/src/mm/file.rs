//! Areas that show files: their pages appear when they are touched, shared or as private copies, and follow what
//! becomes of the file.
//!
//! A leaf over a page of a file's own is counted, and says so ([`Rights::COUNTED`]); it gives the right to write only
//! in a shared area. Private areas show the file's pages, read-only, until they are written to (`unshare` in `fork`
//! makes the copy). A file's *image* ([`super::contents`]) is shown in place, in areas that can't change it: before
//! a shared area that may is made, all of the image becomes pages of the file's own.

use super::area::{Area, Backing, FilePart};
use super::contents::Page;
use super::fault::{AHEAD, Access, Fault, Found, Gap, gap_around, has_plenty};
use super::object::cut_from;
use super::{AddressSpace, FileId, Memory, World};
use abi::PAGE_SIZE;
use paging::{GuestPhys, GuestVirt, Rights, lookup};

/// What of a file is taken out of the mappings that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Everything, private copies as well: the file ends before it.
    All,
    /// Pages of its image: its own have taken their place.
    Image,
}

/// Pages that lie in a row, to be mapped at once.
struct Run {
    virt: GuestVirt,
    phys: GuestPhys,
    pages: u64,
    rights: Rights,
}

impl AddressSpace {
    /// The page at `page`, in an area that shows part of a file, is missing.
    pub(super) fn fault_file(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        (area, part): (&Area, &FilePart),
        page: GuestVirt,
        found: &Found,
        access: Access,
    ) -> Result<(), Fault> {
        let size = mem.contents.size(part.file);
        // Beyond the page the file ends in there is nothing.
        let shown = size.saturating_sub(part.offset).div_ceil(PAGE_SIZE) * PAGE_SIZE;
        let end = area.start.add(shown.min(area.len()));
        if page >= end {
            return Err(Fault::BeyondEnd);
        }
        if !part.shared && access == Access::Write {
            return self.copy_of_file(mem, world, area, part, page);
        }
        self.own_for(mem, world, part, area, page)?;
        let gap = gap_around(mem, found, area.start, end, page, AHEAD);
        for gap in [gap, Gap::only(page)] {
            if self.show_file(mem, world, area, part, page, &gap) {
                return Ok(());
            }
            mem.frames.release();
        }
        Err(Fault::OutOfMemory)
    }

    /// Makes the page at `page` one of the file's own if it is a hole. Whoever may change the file through this area has
    /// seen to it that it has no image.
    fn own_for(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        part: &FilePart,
        area: &Area,
        page: GuestVirt,
    ) -> Result<(), Fault> {
        let number = part.page(page.get() - area.start.get());
        if mem.file_page(part.file, number) == Page::Hole {
            // As on a tmpfs that is full.
            mem.own_page(world, part.file, number, false)
                .map_err(|_| Fault::BeyondEnd)?;
        }
        Ok(())
    }

    /// Maps the pages in `gap`, which has `page`; whether that one is mapped. Holes become pages as long as there is
    /// plenty of memory, otherwise they end the row.
    fn show_file(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &FilePart,
        page: GuestVirt,
        gap: &Gap,
    ) -> bool {
        let mut own = area.prot.rights() | Rights::COUNTED;
        if !part.shared {
            own -= Rights::WRITE;
        }
        let image = area.prot.rights() - Rights::WRITE;
        let plenty = has_plenty(mem);
        let mut run: Option<Run> = None;
        let mut mapped = false;
        for at in 0..gap.pages() {
            let virt = gap.start.add(at * PAGE_SIZE);
            let number = part.page(virt.get() - area.start.get());
            let there = match mem.file_page(part.file, number) {
                Page::Own(phys) => Some((phys, own)),
                Page::Image(phys) => Some((phys, image)),
                Page::Hole if plenty => mem
                    .own_page(world, part.file, number, false)
                    .ok()
                    .map(|phys| (phys, own)),
                Page::Hole => None,
            };
            if let (Some(run), Some((phys, rights))) = (&mut run, there)
                && run.virt.add(run.pages * PAGE_SIZE) == virt
                && run.phys.add(run.pages * PAGE_SIZE) == phys
                && run.rights == rights
            {
                run.pages += 1;
                continue;
            }
            mapped |= run.take().is_some_and(|run| self.enter_file(mem, &run, page));
            run = there.map(|(phys, rights)| Run {
                virt,
                phys,
                pages: 1,
                rights,
            });
        }
        mapped | run.is_some_and(|run| self.enter_file(mem, &run, page))
    }

    /// Maps a run; whether it has `page`. If there are no tables nothing is mapped.
    fn enter_file(&mut self, mem: &mut Memory, run: &Run, page: GuestVirt) -> bool {
        if paging::map(
            &mut mem.frames,
            self.root,
            run.virt,
            run.phys,
            run.pages,
            run.rights,
        )
        .is_err()
        {
            mem.frames.release();
            return false;
        }
        if run.rights.contains(Rights::COUNTED) {
            for at in 0..run.pages {
                mem.frames.count_one_more(run.phys.add(at * PAGE_SIZE));
            }
        }
        (run.virt..run.virt.add(run.pages * PAGE_SIZE)).contains(&page)
    }

    /// Gives the program a copy of its own of the page at `page`, which is missing.
    fn copy_of_file(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        part: &FilePart,
        page: GuestVirt,
    ) -> Result<(), Fault> {
        let run = mem.frames.take(1).ok_or(Fault::OutOfMemory)?;
        match mem.file_page(part.file, part.page(page.get() - area.start.get())) {
            Page::Own(phys) | Page::Image(phys) => world.copy(run.start, phys, PAGE_SIZE),
            Page::Hole if run.dirty => world.zero(&[(run.start, PAGE_SIZE)]),
            Page::Hole => {}
        }
        let rights = area.prot.rights();
        if paging::map(&mut mem.frames, self.root, page, run.start, 1, rights).is_err() {
            mem.frames.give_back(run);
            mem.frames.release();
            return Err(Fault::OutOfMemory);
        }
        Ok(())
    }

    /// The page at `page`, in a shared area of a file, is there, but its leaf does not give the right to write that the
    /// area gives: it does from now on.
    pub(super) fn allow_writing(&mut self, mem: &mut Memory, area: &Area, page: GuestVirt) {
        let counted = if mem.shows_object(area) {
            Rights::empty()
        } else {
            Rights::COUNTED
        };
        let rights = area.prot.rights() | counted;
        if lookup(&mem.frames, self.root, page).is_some_and(|leaf| leaf.rights.contains(counted)) {
            // A vCPU that still has the old rights faults, and finds the new ones.
            let _ = paging::edit(&mut mem.frames, self.root, page, 1, |_, leaf| {
                Some((leaf.phys, rights))
            });
        }
    }

    /// Takes pages of `file` out of this address space: the bytes from `from` to before `to`, whole pages.
    pub fn take_file(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        file: FileId,
        (from, to): (u64, u64),
        what: Taken,
    ) {
        let mut at = GuestVirt::new(0);
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            let Backing::File(part) = area.backing else {
                continue;
            };
            let (first, end) = (
                from.max(part.offset),
                to.min(part.offset.saturating_add(area.len())),
            );
            if part.file != file || first >= end {
                continue;
            }
            let mut start = area.start.add(first - part.offset);
            let pages = (end - first).div_ceil(PAGE_SIZE);
            let end = start.add(pages * PAGE_SIZE).min(area.end);
            if mem.shows_object(&area) {
                start = cut_from(&area, start);
            }
            // Files are shown in small pages only, so nothing has to be split and nothing can fail. Should it, a page
            // that stays mapped stays counted.
            let _ = match what {
                Taken::All => self.drop_pages(mem, world, start, end),
                Taken::Image => self.drop_shown_pages(mem, world, &area.part(start, end)),
            };
        }
    }
}
