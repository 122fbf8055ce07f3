//! A simple model of an address space: a list of mappings in units of pages, worked on by brute force, with
//! Linux's rules of what splits and what merges, what the broker is told of it, and what each page holds.

use super::super::area::{Advice, Area, Backing, Prot, SegmentRef, Window};
use super::super::fault::{Access, Fault};
use super::super::space::MMAP_BASE;
use super::{Booking, FILE};
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt};
use std::collections::BTreeMap;

/// Where in a page a test writes, and what it looks at besides.
pub(super) const WRITTEN: u64 = 7;
pub(super) const LAST: u64 = PAGE_SIZE - 1;
/// Valid bytes of the file.
pub(super) const FILE_LEN: u64 = 20 * PAGE_SIZE + 100;

/// Sizes of the segments, in bytes. Their ids are 1, 2, …
pub(super) const SEGMENTS: [u64; 4] = [
    1,
    6 * PAGE_SIZE - 50,
    LARGE_PAGE_SIZE + 20 * PAGE_SIZE,
    30 * PAGE_SIZE,
];

/// Segments end in a shared table, where they can, if that holds more pages than so many.
const LINKED: u64 = 16;

/// How many pages a segment of so many takes where it can be linked, and the alignment it takes to be.
pub(super) fn linked(pages: u64) -> (u64, u64) {
    let align = if pages > LINKED { 512 } else { 1 };
    if pages % 512 > LINKED {
        (pages.next_multiple_of(512), align)
    } else {
        (pages, align)
    }
}

/// The file's byte at `offset`.
pub(super) fn file_byte(offset: u64) -> u8 {
    (offset / PAGE_SIZE) as u8 + 1
}

/// What a page of a segment holds from the start.
pub(super) fn segment_byte(id: i32, page: u64) -> u8 {
    (id as u64 * 50 + page % 40) as u8
}

/// Segment `id` in a window, as the broker would place it: congruent to 2 MiB.
pub(super) fn segment(id: i32, window: Window) -> SegmentRef {
    let base = if window == Window::ReadWrite {
        0x40_0000_0000
    } else {
        0x60_0000_0000
    };
    let gpa = GuestPhys::new(base + id as u64 * 16 * LARGE_PAGE_SIZE);
    SegmentRef {
        id,
        window,
        attach: 0,
        key: 0,
        gpa,
        size: SEGMENTS[id as usize - 1],
        offset: 0,
    }
}

/// What is behind a mapping. `origin` is the page at which the file or segment would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Zeros,
    File {
        origin: u64,
    },
    Segment {
        id: i32,
        window: Window,
        /// Which attach, counted from 1.
        attach: u32,
        origin: u64,
    },
}

/// A mapping: pages from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) prot: Prot,
    pub(super) may: Prot,
    pub(super) behind: Behind,
    pub(super) advice: Advice,
}

impl Mapping {
    /// The mapping the kernel's area is.
    pub(super) fn of(area: &Area) -> Mapping {
        let start = area.start.get() / PAGE_SIZE;
        let behind = match area.backing {
            Backing::Anonymous => Behind::Zeros,
            Backing::SharedAnonymous { .. } => unreachable!("shared memory is tested with forks"),
            Backing::File(_) => unreachable!("files are tested with the tree"),
            Backing::Image { phys, len } => {
                let into = (phys.get() - FILE.get()) / PAGE_SIZE;
                assert_eq!(len, FILE_LEN.saturating_sub(into * PAGE_SIZE));
                Behind::File { origin: start - into }
            }
            Backing::Segment(part) => {
                assert_eq!(
                    part,
                    SegmentRef {
                        attach: part.attach,
                        offset: part.offset,
                        ..segment(part.id, part.window)
                    }
                );
                let origin = start - part.offset / PAGE_SIZE;
                Behind::Segment {
                    id: part.id,
                    window: part.window,
                    attach: part.attach,
                    origin,
                }
            }
        };
        Mapping {
            start,
            end: area.end.get() / PAGE_SIZE,
            prot: area.prot,
            may: area.may,
            behind,
            advice: area.advice,
        }
    }

    pub(super) fn segment(&self) -> Option<i32> {
        match self.behind {
            Behind::Segment { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Whether `page` lies past the end of the segment behind.
    pub(super) fn beyond(&self, page: u64) -> bool {
        let Behind::Segment { id, origin, .. } = self.behind else {
            return false;
        };
        (page - origin) * PAGE_SIZE >= SEGMENTS[id as usize - 1]
    }

    /// The end of what the kernel leaves free when it chooses addresses.
    fn claimed_end(&self) -> u64 {
        match self.behind {
            Behind::Segment { id, origin, .. } if origin == self.start => {
                let pages = SEGMENTS[id as usize - 1].div_ceil(PAGE_SIZE);
                let (claimed, align) = linked(pages);
                if self.start.is_multiple_of(align) && self.end - self.start >= pages {
                    self.end.max(self.start + claimed)
                } else {
                    self.end
                }
            }
            _ => self.end,
        }
    }

    /// Whether both allow the same and continue one thing.
    pub(super) fn is_like(&self, other: &Mapping) -> bool {
        let said = |mapping: &Mapping| (mapping.prot, mapping.may, mapping.behind, mapping.advice);
        said(self) == said(other)
    }

    fn moved(self, to: u64) -> Mapping {
        let delta = to.wrapping_sub(self.start);
        let behind = match self.behind {
            Behind::Zeros => Behind::Zeros,
            Behind::File { origin } => Behind::File {
                origin: origin.wrapping_add(delta),
            },
            Behind::Segment {
                id,
                window,
                attach,
                origin,
            } => Behind::Segment {
                id,
                window,
                attach,
                origin: origin.wrapping_add(delta),
            },
        };
        Mapping {
            start: to,
            end: self.end.wrapping_add(delta),
            behind,
            ..self
        }
    }
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// In order.
    pub(super) mappings: Vec<Mapping>,
    /// What has been written to private pages.
    pub(super) private: BTreeMap<u64, u8>,
    /// What has been written to pages of segments.
    pub(super) shared: BTreeMap<(i32, Window, u64), u8>,
    pub(super) brk_start: u64,
    pub(super) brk: u64,
    /// How many attaches there have been.
    pub(super) attached: u32,
    /// What the broker has been told since this was last emptied.
    pub(super) booked: Vec<Booking>,
}

impl PartialOrd for Window {
    fn partial_cmp(&self, other: &Window) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Window {
    fn cmp(&self, other: &Window) -> std::cmp::Ordering {
        self.raw().cmp(&other.raw())
    }
}

impl Model {
    pub(super) fn at(&self, page: u64) -> Option<&Mapping> {
        self.mappings
            .iter()
            .find(|mapping| (mapping.start..mapping.end).contains(&page))
    }

    pub(super) fn is_free(&self, start: u64, end: u64) -> bool {
        self.mappings
            .iter()
            .all(|mapping| mapping.end <= start || end <= mapping.start)
    }

    /// Mappings as far as they can be told apart by asking about pages.
    pub(super) fn regions(mappings: &[Mapping]) -> Vec<Mapping> {
        let mut regions: Vec<Mapping> = vec![];
        for mapping in mappings {
            match regions.last_mut() {
                Some(last) if last.end == mapping.start && last.is_like(mapping) => last.end = mapping.end,
                _ => regions.push(*mapping),
            }
        }
        regions
    }

    pub(super) fn attaches(&self, id: i32) -> usize {
        self.mappings
            .iter()
            .filter(|mapping| mapping.segment() == Some(id))
            .count()
    }

    /// What a byte of `page` holds.
    pub(super) fn byte(&self, page: u64, offset: u64) -> u8 {
        let mapping = self.at(page).expect("a byte of a mapped page is asked for");
        match mapping.behind {
            Behind::Segment {
                id, window, origin, ..
            } => {
                let at = page - origin;
                let written = self.shared.get(&(id, window, at)).filter(|_| offset == WRITTEN);
                written.copied().unwrap_or(segment_byte(id, at))
            }
            behind => {
                if let Some(&written) = self.private.get(&page).filter(|_| offset == WRITTEN) {
                    return written;
                }
                let Behind::File { origin } = behind else { return 0 };
                let at = (page - origin) * PAGE_SIZE + offset;
                if at < FILE_LEN { file_byte(at) } else { 0 }
            }
        }
    }

    fn split(&mut self, page: u64) {
        if let Some(index) = self.mappings.iter().position(|m| m.start < page && page < m.end) {
            let mapping = self.mappings[index];
            self.booked.extend(mapping.segment().map(Booking::More));
            self.mappings[index].end = page;
            self.mappings.insert(
                index + 1,
                Mapping {
                    start: page,
                    ..mapping
                },
            );
        }
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        self.split(start);
        self.split(end);
        let booked = &mut self.booked;
        self.mappings.retain(|mapping| {
            let stays = mapping.end <= start || end <= mapping.start;
            booked.extend(mapping.segment().filter(|_| !stays).map(Booking::Gone));
            stays
        });
        self.private.retain(|page, _| !(start..end).contains(page));
    }

    pub(super) fn add(&mut self, mapping: Mapping) {
        let index = self
            .mappings
            .iter()
            .take_while(|other| other.start < mapping.start)
            .count();
        self.mappings.insert(index, mapping);
        // Zeros with equal neighbours are one mapping.
        if mapping.behind == Behind::Zeros {
            self.merge_zeros();
        }
    }

    fn merge_zeros(&mut self) {
        let mut index = 1;
        while index < self.mappings.len() {
            let (left, right) = (self.mappings[index - 1], self.mappings[index]);
            if left.behind == Behind::Zeros && left.end == right.start && left.is_like(&right) {
                self.mappings[index - 1].end = right.end;
                self.mappings.remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Where the kernel would put so many pages.
    pub(super) fn highest_gap(&self, pages: u64, align: u64) -> Option<u64> {
        let mut above = MMAP_BASE / PAGE_SIZE;
        loop {
            let start = above.checked_sub(pages)? & !(align - 1);
            let in_the_way =
                |mapping: &&Mapping| mapping.start < start + pages && start < mapping.claimed_end();
            let Some(lowest) = self
                .mappings
                .iter()
                .filter(in_the_way)
                .map(|mapping| mapping.start)
                .min()
            else {
                return (start >= MMAP_MIN_ADDR / PAGE_SIZE).then_some(start);
            };
            above = lowest;
        }
    }

    /// mprotect: changes what comes before the first obstacle, `limit` mappings at most.
    pub(super) fn protect(&mut self, start: u64, end: u64, prot: Prot, limit: usize) -> Result<(), Errno> {
        let mut at = start;
        let mut changed = 0;
        while at < end {
            let Some(mapping) = self.at(at).copied() else {
                return Err(Errno::ENOMEM);
            };
            if !mapping.may.contains(prot) {
                return Err(Errno::EACCES);
            }
            let to = mapping.end.min(end);
            if mapping.prot != prot {
                if changed == limit {
                    return Err(Errno::ENOMEM);
                }
                changed += 1;
                self.recast(
                    &mapping,
                    Mapping {
                        start: at,
                        end: to,
                        prot,
                        ..mapping
                    },
                );
            }
            at = to;
        }
        Ok(())
    }

    /// madvise, where it is about forks: the mappings it changes, `limit` at most, get what `change` makes of what
    /// they had.
    pub(super) fn advise(
        &mut self,
        start: u64,
        end: u64,
        change: impl Fn(Advice) -> Advice,
        limit: usize,
    ) -> Result<(), Errno> {
        let mut changed = 0;
        let mut at = start;
        while let Some(mapping) = (self.mappings.iter())
            .find(|mapping| mapping.end > at && mapping.start < end)
            .copied()
        {
            let advice = change(mapping.advice);
            let part = Mapping {
                start: mapping.start.max(at),
                end: mapping.end.min(end),
                advice,
                ..mapping
            };
            at = part.end;
            if advice != mapping.advice {
                if changed == limit {
                    return Err(Errno::ENOMEM);
                }
                changed += 1;
                self.recast(&mapping, part);
            }
            if at >= end {
                break;
            }
        }
        let mapped = |page: u64| self.at(page).is_some();
        if (start..end).all(mapped) {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// A part of `old` becomes `part`.
    fn recast(&mut self, old: &Mapping, part: Mapping) {
        let Mapping { start, end, .. } = part;
        let booked = self.booked.len();
        self.split(start);
        self.split(end);
        let index = self
            .mappings
            .iter()
            .position(|mapping| mapping.start == start)
            .unwrap();
        self.mappings[index] = part;
        // At one end of its mapping, the part joins a neighbour that is like it now: only the border moves.
        let (head, tail) = (old.start < start, end < old.end);
        let joins = |other: &Mapping| other.is_like(&part) && !matches!(part.behind, Behind::File { .. });
        if !head && tail && index > 0 {
            let left = &mut self.mappings[index - 1];
            if left.end == start && joins(left) {
                left.end = end;
                self.mappings.remove(index);
                self.booked.truncate(booked);
            }
        } else if head && !tail && index + 1 < self.mappings.len() {
            let right = &mut self.mappings[index + 1];
            if right.start == end && joins(right) {
                right.start = start;
                self.mappings.remove(index);
                self.booked.truncate(booked);
            }
        }
        self.merge_zeros();
    }

    /// mremap's last step: the pages of `[start, end)` of one mapping are at `to`, `pages` long.
    pub(super) fn shift(&mut self, start: u64, end: u64, to: u64, pages: u64) {
        let mapping = *self.at(start).unwrap();
        // The part as a mapping of its own, wherever its file or segment begins.
        let part = Mapping {
            start,
            end,
            ..mapping
        }
        .moved(to);
        let contents: Vec<_> = self
            .private
            .range(start..end)
            .map(|(&page, &byte)| (page, byte))
            .collect();
        let moved = Mapping {
            end: to + pages,
            ..part
        };
        // A part of an attach joins the fragment it continues: the one before, else the one after.
        let like = |other: &Mapping| moved.segment().is_some() && other.is_like(&moved);
        let joins = |others: &[Mapping]| {
            let find =
                |ends: &dyn Fn(&Mapping) -> bool| others.iter().position(|other| like(other) && ends(other));
            find(&|left| left.end == moved.start).or_else(|| find(&|right| right.start == moved.end))
        };
        // It is one more at the new place, before anything goes.
        if joins(&self.mappings).is_none() {
            self.booked.extend(moved.segment().map(Booking::More));
        }
        self.unmap(start, end);
        match joins(&self.mappings) {
            None => self.add(moved),
            Some(index) => {
                let other = &mut self.mappings[index];
                (other.start, other.end) = (other.start.min(moved.start), other.end.max(moved.end));
            }
        }
        self.private
            .extend(contents.into_iter().map(|(page, byte)| (page - start + to, byte)));
    }

    pub(super) fn detach(&mut self, page: u64) -> Result<(), Errno> {
        let belongs = |mapping: &Mapping| match mapping.behind {
            Behind::Segment {
                id, attach, origin, ..
            } if origin == page && mapping.start >= page => Some((id, attach)),
            _ => None,
        };
        let (id, attach) = self.mappings.iter().find_map(belongs).ok_or(Errno::EINVAL)?;
        // All fragments that belong to it reach no further than the segment, except one grown by mremap.
        let limit = page + SEGMENTS[id as usize - 1].div_ceil(PAGE_SIZE);
        let mut first = true;
        let booked = &mut self.booked;
        self.mappings.retain(|mapping| {
            let gone = belongs(mapping) == Some((id, attach)) && (first || mapping.end <= limit);
            first &= !gone;
            booked.extend(gone.then_some(Booking::Gone(id)));
            !gone
        });
        Ok(())
    }

    pub(super) fn access(&self, page: u64, access: Access) -> Result<(), Fault> {
        let mapping = self.at(page).ok_or(Fault::NotMapped)?;
        let allowed = match access {
            Access::Read => mapping.prot != Prot::empty(),
            Access::Write => mapping.prot.contains(Prot::WRITE),
            Access::Execute => mapping.prot.contains(Prot::EXECUTE),
        };
        if !allowed {
            Err(Fault::NotAllowed)
        } else if mapping.beyond(page) {
            Err(Fault::BeyondEnd)
        } else {
            Ok(())
        }
    }

    pub(super) fn set_break(&mut self, brk: u64) {
        if brk < self.brk_start || brk > USER_END {
            return;
        }
        let (old, new) = (self.brk.div_ceil(PAGE_SIZE), brk.div_ceil(PAGE_SIZE));
        if new < old {
            self.unmap(new, old);
        } else if new > old {
            if !self.is_free(old, new + 1) {
                return;
            }
            let prot = Prot::READ | Prot::WRITE;
            self.add(Mapping {
                start: old,
                end: new,
                prot,
                may: Prot::all(),
                behind: Behind::Zeros,
                advice: Advice::empty(),
            });
        }
        self.brk = brk;
    }

    /// The address of a page.
    pub(super) fn virt(page: u64) -> GuestVirt {
        GuestVirt::new(page * PAGE_SIZE)
    }
}
