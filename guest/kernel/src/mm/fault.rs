//! Page faults: pages appear when they are touched.
//!
//! A fault costs far more than a page, so pages are faulted in ahead, within the area and an aligned window
//! around the address (which serves stacks, that grow down, as well): 16 private pages, 2 MiB at once in large
//! anonymous areas, 64 pages of an image that is shown in place. Pages that are there already limit the
//! window. When memory runs short, the one page that is needed is tried alone.

use super::area::{Area, Backing, Prot};
use super::frames::FrameRun;
use super::{AddressSpace, Memory, World};
use crate::arch::shm::{self, PageList};
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use arrayvec::ArrayVec;
use paging::entry::Entry;
use paging::{GuestPhys, GuestVirt, TableMemory, for_each_leaf};

/// Private pages that are faulted in at once.
const AHEAD: u64 = 16;
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
    /// The attach reaches beyond its segment (mremap): SIGBUS.
    BeyondEnd,
}

/// Pages without a mapping around the one that faulted.
struct Gap {
    start: GuestVirt,
    end: GuestVirt,
}

impl Gap {
    const fn pages(&self) -> u64 {
        (self.end.get() - self.start.get()) / PAGE_SIZE
    }
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
        let area = *self.areas.find(&mem.areas, addr).ok_or(Fault::NotMapped)?;
        if !area.prot.allows(access) {
            return Err(Fault::NotAllowed);
        }
        let page = addr.align_down(PAGE_SIZE);
        match area.backing {
            Backing::Anonymous => self.fault_anonymous(mem, world, &area, page),
            Backing::Image { phys, len } => {
                // The last page of the file may not be shown: zeros must follow.
                let shown = area.start.add(len).align_down(PAGE_SIZE).min(area.end);
                if area.prot.contains(Prot::WRITE) || page >= shown {
                    let from = if page >= shown { shown } else { area.start };
                    let copied = area.part(from, area.end);
                    let Some(gap) = self.gap_around(mem, &copied, page, AHEAD) else {
                        return Ok(());
                    };
                    self.fill(mem, world, &area, page, gap)
                } else {
                    self.show(mem, &area.part(area.start, shown), page, phys)
                }
            }
            Backing::Segment(part) => {
                let end = area.start.add(part.left()).min(area.end);
                if page >= end {
                    return Err(Fault::BeyondEnd);
                }
                self.show(mem, &area.part(area.start, end), page, part.start())
            }
        }
    }

    fn fault_anonymous(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        area: &Area,
        page: GuestVirt,
    ) -> Result<(), Fault> {
        let block = page.align_down(LARGE_PAGE_SIZE);
        let untouched = self.has_no_table(mem, block);
        let inside = block >= area.start && block.add(LARGE_PAGE_SIZE) <= area.end;
        let plenty = mem.frames.free_frames() >= PLENTY + LARGE_PAGE_SIZE / PAGE_SIZE;
        if untouched && inside && plenty && self.fill_large(mem, world, area, block) {
            return Ok(());
        }
        let gap = if untouched {
            Some(window(area, page, AHEAD))
        } else {
            self.gap_around(mem, area, page, AHEAD)
        };
        match gap {
            Some(gap) => self.fill(mem, world, area, page, gap),
            None => Ok(()),
        }
    }

    /// Whether no page in the 2 MiB from `block` has ever been mapped: the walk ends above the leaf table.
    fn has_no_table(&self, mem: &Memory, block: GuestVirt) -> bool {
        let mut table = self.root;
        for shift in [39, 30, 21] {
            let entry = mem.frames.load(table, (block.get() >> shift) as usize & 511);
            if entry & Entry::PRESENT == 0 {
                return true;
            }
            table = GuestPhys::new(entry & Entry::ADDRESS);
        }
        false
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
        let alone = Gap {
            start: page,
            end: page.add(PAGE_SIZE),
        };
        for gap in [gap, alone] {
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
    fn show(&mut self, mem: &mut Memory, area: &Area, page: GuestVirt, phys: GuestPhys) -> Result<(), Fault> {
        let Some(gap) = self.gap_around(mem, area, page, AHEAD_IN_PLACE) else {
            return Ok(());
        };
        let rights = self.rights(mem, area);
        let alone = Gap {
            start: page,
            end: page.add(PAGE_SIZE),
        };
        for gap in [gap, alone] {
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

    /// The pages around `page`, in its aligned window of `most` pages and in `area`, that have no mapping.
    /// `None` if `page` has one.
    fn gap_around(&self, mem: &Memory, area: &Area, page: GuestVirt, most: u64) -> Option<Gap> {
        let mut gap = window(area, page, most);
        let mut there = false;
        for_each_leaf(&mem.frames, self.root, gap.start, gap.pages(), |leaf| {
            let end = leaf.virt.add(leaf.size);
            if end <= page {
                gap.start = end;
            } else if leaf.virt > page {
                gap.end = gap.end.min(leaf.virt);
            } else {
                there = true;
            }
        });
        (!there).then_some(gap)
    }
}

/// The aligned window of `most` pages around `page`, as far as it lies in `area`.
fn window(area: &Area, page: GuestVirt, most: u64) -> Gap {
    let start = page.align_down(most * PAGE_SIZE);
    Gap {
        start: start.max(area.start),
        end: start.add(most * PAGE_SIZE).min(area.end),
    }
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
