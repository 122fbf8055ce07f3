//! Page faults: pages appear when they are touched.
//!
//! A fault costs far more than a page, so pages are faulted in ahead, within the area and an aligned window
//! around the address (which serves stacks, that grow down, as well): 16 private pages, 8 of a stack, 2 MiB at
//! once in large anonymous areas, 64 pages of an image that is shown in place. Pages that are there already limit
//! the window. When memory runs short, the one page that is needed is tried alone.
//!
//! A page that is there but can't be written although its area allows it has been shared by a fork: `unshare`.

use super::area::{Advice, Area, Backing, Prot};
use super::frames::FrameRun;
use super::{AddressSpace, Memory, World};
use crate::arch::shm::{self, PageList};
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use arrayvec::ArrayVec;
use paging::entry::Entry;
use paging::{GuestPhys, GuestVirt, TableMemory};

/// Private pages that are faulted in at once.
pub(super) const AHEAD: u64 = 16;
/// Pages of a stack: most use few, and every process has one.
pub(super) const AHEAD_IN_STACK: u64 = 8;
/// Pages of an image in place that are faulted in at once: the loop costs little, a fault much.
const AHEAD_IN_PLACE: u64 = 64;
/// 2 MiB are only given as long as this many frames would remain: otherwise a few stacks could take all.
const PLENTY: u64 = 8 * LARGE_PAGE_SIZE / PAGE_SIZE;

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Fetch an instruction.
    Execute,
}

/// Why an access can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    NotMapped,
    /// What is mapped doesn't allow it: SIGSEGV, `SEGV_ACCERR`.
    NotAllowed,
    /// There is no memory for it.
    OutOfMemory,
    /// The area reaches beyond what is behind it, which mremap does: SIGBUS.
    BeyondEnd,
}

/// Pages without a mapping around the one that faulted.
pub(super) struct Gap {
    pub(super) start: GuestVirt,
    end: GuestVirt,
}

impl Gap {
    pub(super) fn only(page: GuestVirt) -> Gap {
        Gap {
            start: page,
            end: page.add(PAGE_SIZE),
        }
    }

    pub(super) const fn pages(&self) -> u64 {
        (self.end.get() - self.start.get()) / PAGE_SIZE
    }
}

/// What the tables have at a page.
pub(super) enum Found {
    /// No table that could have it.
    NoTable,
    /// An empty entry in this table.
    Table(GuestPhys),
    /// A leaf; whether it gives the right to write.
    Leaf(bool),
}

/// Whether 2 MiB may be given at once.
pub(super) fn has_plenty(mem: &Memory) -> bool {
    mem.frames.free_frames() >= PLENTY + LARGE_PAGE_SIZE / PAGE_SIZE
}

impl AddressSpace {
    /// A page fault in ring 3, or an access by the kernel for the program: makes the page at `addr` (and some
    /// around it) accessible, if the areas allow it. A page that is there already is fine.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn fault(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        addr: GuestVirt,
        access: Access,
    ) -> Result<(), Fault> {
        let area = self.area_for(mem, world, addr).ok_or(Fault::NotMapped)?;
        if !area.prot.allows(access) {
            return Err(Fault::NotAllowed);
        }
        let page = addr.align_down(PAGE_SIZE);
        let found = self.walk(mem, page);
        if let Found::Leaf(can_write) = found {
            return if access == Access::Write && !can_write && area.is_shared() {
                self.allow_writing(mem, &area, page);
                Ok(())
            } else if access == Access::Write
                && !can_write
                && let Some((part, serial)) = self.shown_object(mem, &area, page)
            {
                self.copy_of_object(mem, world, &area, &part, serial, page)
            } else if access == Access::Write && !can_write {
                self.unshare(mem, world, &area, page)
            } else {
                Ok(())
            };
        }
        if page >= area.backed_end() {
            return Err(Fault::BeyondEnd);
        }
        match area.backing {
            Backing::Anonymous | Backing::SharedAnonymous { .. } => {
                self.fault_anonymous(mem, world, &area, page, &found)
            }
            Backing::Image { phys, len } => {
                // The last page of the file may not be shown: zeros must follow.
                let shown = area.start.add(len).align_down(PAGE_SIZE).min(area.end);
                if area.prot.contains(Prot::WRITE) || page >= shown {
                    let from = if page >= shown { shown } else { area.start };
                    let gap = gap_around(mem, &found, from, area.end, page, AHEAD);
                    self.fill(mem, world, &area, page, gap)
                } else {
                    let gap = gap_around(mem, &found, area.start, shown, page, AHEAD_IN_PLACE);
                    self.show(mem, &area, page, gap, phys)
                }
            }
            Backing::File(part) => match mem.contents.object(part.file) {
                None => self.fault_file(mem, world, (&area, &part), page, &found, access),
                Some(serial) => self.fault_object(mem, world, &area, &part, serial, page, &found, access),
            },
            Backing::Segment(part) => {
                let gap = gap_around(mem, &found, area.start, area.backed_end(), page, AHEAD_IN_PLACE);
                self.show(mem, &area, page, gap, part.start())
            }
        }
    }

    /// Makes the missing page at `page`, in an area of anonymous memory, and some around it.
    pub(super) fn fault_anonymous(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        page: GuestVirt,
        found: &Found,
    ) -> Result<(), Fault> {
        let end = area.backed_end();
        if let Found::NoTable = found
            && !area.advice.contains(Advice::SMALL)
        {
            let block = page.align_down(LARGE_PAGE_SIZE);
            let inside = block >= area.start && block.add(LARGE_PAGE_SIZE) <= end;
            if inside && has_plenty(mem) && self.fill_large(mem, world, area, block) {
                return Ok(());
            }
        }
        let ahead = if area.advice.contains(Advice::GROWS) {
            AHEAD_IN_STACK
        } else {
            AHEAD
        };
        let gap = gap_around(mem, found, area.start, end, page, ahead);
        self.fill(mem, world, area, page, gap)
    }

    /// What the tables have at `page`.
    pub(super) fn walk(&self, mem: &Memory, page: GuestVirt) -> Found {
        let mut table = self.root;
        for shift in [39, 30, 21] {
            let entry = mem.frames.load(table, (page.get() >> shift) as usize & 511);
            if entry & Entry::PRESENT == 0 {
                return Found::NoTable;
            }
            if entry & Entry::LARGE != 0 && shift < 39 {
                return Found::Leaf(entry & Entry::WRITE != 0);
            }
            table = GuestPhys::new(entry & Entry::ADDRESS);
        }
        let entry = mem.frames.load(table, (page.get() >> 12) as usize & 511);
        if entry & Entry::PRESENT == 0 {
            Found::Table(table)
        } else {
            Found::Leaf(entry & Entry::WRITE != 0)
        }
    }

    fn fill_large(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        block: GuestVirt,
    ) -> bool {
        let Some(run) = mem.frames.take_large() else {
            return false;
        };
        if run.dirty {
            world.zero(&[(run.start, run.len())]);
        }
        self.enter(mem, area, block, &[run]) != block
    }

    /// Maps private pages in `gap`, which has `page`, with zeros or copies of the image.
    fn fill(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        page: GuestVirt,
        gap: Gap,
    ) -> Result<(), Fault> {
        for gap in [gap, Gap::only(page)] {
            let mut runs = ArrayVec::<FrameRun, { AHEAD as usize }>::new();
            let mut count = 0;
            while count < gap.pages()
                && let Some(run) = mem.frames.take(gap.pages() - count)
            {
                runs.push(run);
                count += run.count;
            }
            if count == 0 {
                break;
            }
            // With fewer frames than wished for: the page itself, and what comes before.
            let wanted = (page.get() - gap.start.get()) / PAGE_SIZE + 1;
            let start = gap.start.add(wanted.saturating_sub(count) * PAGE_SIZE);
            prepare(world, area, start, &runs);
            if self.enter(mem, area, start, &runs) > page {
                return Ok(());
            }
        }
        Err(Fault::OutOfMemory)
    }

    /// Maps the runs one after the other from `start` on, and returns where that ended: tables may be short.
    /// What is mapped stays, since other vCPUs may use it already; the rest of the frames is given back.
    fn enter(&mut self, mem: &mut Memory, area: &Area, start: GuestVirt, runs: &[FrameRun]) -> GuestVirt {
        let rights = area.prot.rights();
        let mut at = start;
        for (index, run) in runs.iter().enumerate() {
            if paging::map(&mut mem.frames, self.root, at, run.start, run.count, rights).is_err() {
                for &run in &runs[index..] {
                    mem.frames.give_back(run);
                }
                mem.frames.release();
                break;
            }
            at = at.add(run.len());
        }
        at
    }

    /// Maps pages in place: `area` lies one to one over the memory from `phys` on.
    fn show(
        &mut self,
        mem: &mut Memory,
        area: &Area,
        page: GuestVirt,
        gap: Gap,
        phys: GuestPhys,
    ) -> Result<(), Fault> {
        let rights = self.rights(mem, area);
        for gap in [gap, Gap::only(page)] {
            let from = phys.add(gap.start.get() - area.start.get());
            let mut space = shm::Space {
                memory: &mut mem.frames,
                root: self.root,
            };
            let shown = shm::up_shmat(&mut space, PageList::Run(from), gap.pages(), gap.start, rights);
            if shown.is_ok() {
                return Ok(());
            }
            mem.frames.release();
        }
        Err(Fault::OutOfMemory)
    }
}

/// The pages around `page`, which has no mapping, that have none either: in its aligned window of `most` pages
/// (512 at most) and in `[start, end)`.
pub(super) fn gap_around(
    mem: &Memory,
    found: &Found,
    start: GuestVirt,
    end: GuestVirt,
    page: GuestVirt,
    most: u64,
) -> Gap {
    let first = page.align_down(most * PAGE_SIZE);
    let mut gap = Gap {
        start: first.max(start),
        end: first.add(most * PAGE_SIZE).min(end),
    };
    let &Found::Table(table) = found else { return gap };
    let index = |virt: GuestVirt| (virt.get() / PAGE_SIZE) as usize & 511;
    let is_free = |index| mem.frames.load(table, index) & Entry::PRESENT == 0;
    let at = index(page);
    let below = ((page.get() - gap.start.get()) / PAGE_SIZE) as usize;
    let above = ((gap.end.get() - page.get()) / PAGE_SIZE) as usize;
    if let Some(taken) = (1..=below).find(|&by| !is_free(at - by)) {
        gap.start = page.add(PAGE_SIZE).add((taken as u64 * PAGE_SIZE).wrapping_neg());
    }
    if let Some(taken) = (1..above).find(|&by| !is_free(at + by)) {
        gap.end = page.add(taken as u64 * PAGE_SIZE);
    }
    gap
}

/// Fills the frames that are to be mapped from `start` on with what `area` says.
fn prepare(world: &mut impl World, area: &Area, start: GuestVirt, runs: &[FrameRun]) {
    let mut zeros = ArrayVec::<(GuestPhys, u64), { AHEAD as usize }>::new();
    let mut offset = start.get() - area.start.get();
    for run in runs {
        let mut copied = 0;
        if let Backing::Image { phys, len } = area.backing {
            copied = len.saturating_sub(offset).min(run.len());
            if copied > 0 {
                world.copy(run.start, phys.add(offset), copied);
            }
        }
        if run.dirty && copied < run.len() {
            zeros.push((run.start.add(copied), run.len() - copied));
        }
        offset += run.len();
    }
    if !zeros.is_empty() {
        world.zero(&zeros);
    }
}
