//! Frames: who has which page of RAM.
//!
//! The VMM leaves the frames above the image, and all of the second range of RAM, free and zero. Frames that
//! have never been used are handed out by bumping: single ones from below, aligned runs of 2 MiB from above.
//! Frames that come back go into lists, linked through the frame table (a 32-bit word a frame), in the order
//! they came, and runs as runs: the first word leads on, the second one says how many. What comes back is dirty unless it was a page table: those are zero when
//! they retire, and become tables again.
//!
//! *Retired* frames wait in queues of their own until [`Frames::release`]: the caller flushes first, so that
//! no vCPU can still reach them.
//!
//! Frames that several leaves map have a count of these leaves in their word, and the leaves say so
//! ([`Rights::COUNTED`]); all other frames in use belong to one leaf, or are tables, and their words mean nothing.
//! A large leaf's 2 MiB are counted once, in the first word with [`WHOLE`], as long as large leaves are all that
//! maps them; when one of these breaks up, each frame gets the count, and a large leaf that is left stands for
//! one of each.
//!
//! A run that is dirty is zeroed by whoever takes it, if it isn't overwritten anyway: clearing is the host's
//! work where ring 0 is emulated, and goes in bulk.

use super::shared::SharedTables;
use crate::arch::direct;
use abi::boot::BootInfo;
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, Leaf, Rights, TableMemory, TableMemoryMut};

const LARGE_FRAMES: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;

/// In the word of the first frame of a run in a list: the run has more frames, and the next word their number.
const MORE: u32 = 1 << 31;

/// In the word of a large leaf's first frame: the count is that of all its frames, and of large leaves.
const WHOLE: u32 = 1 << 31;

/// Frames that lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRun {
    /// The first one.
    pub start: GuestPhys,
    /// How many.
    pub count: u64,
    /// They may hold anything; otherwise zeros.
    pub dirty: bool,
}

impl FrameRun {
    /// Its length in bytes.
    pub const fn len(&self) -> u64 {
        self.count * PAGE_SIZE
    }
}

/// A range of RAM; `number` is that of its first frame in the frame table.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    number: u64,
}

/// Frames to hand out one after the other, from both ends.
#[derive(Clone, Copy)]
struct Span {
    next: u64,
    end: u64,
}

impl Span {
    const EMPTY: Span = Span { next: 0, end: 0 };

    fn take(&mut self, most: u64) -> Option<(GuestPhys, u64)> {
        if self.next == self.end {
            return None;
        }
        let count = most.min((self.end - self.next) / PAGE_SIZE);
        let start = GuestPhys::new(self.next);
        self.next += count * PAGE_SIZE;
        Some((start, count))
    }
}

/// A list of runs through the frame table: numbers of first frames plus 1, 0 is none. `tail` is kept by
/// `append` only, and means nothing if the list is empty.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: List = List { head: 0, tail: 0 };
}

/// All frames of the guest.
pub struct Frames {
    table: u64,
    ranges: [Range; 2],
    /// First address of the first range that may be handed out.
    free_start: u64,
    /// Never used: of both ranges what lies past the last 2 MiB boundary, then the rest.
    fresh: [Span; 4],
    /// Dirty frames of a 2 MiB run that has been broken up.
    broken: Span,
    dirty: List,
    clean: List,
    large: List,
    /// Retired frames, in a row, that are in no list yet.
    retiring: Span,
    retired: List,
    retired_clean: List,
    retired_large: List,
    retired_frames: u64,
    free: u64,
    total: u64,
    /// Of frames handed out: tables that several trees link.
    pub(super) shared: SharedTables,
}

impl Frames {
    /// No frames.
    pub const fn empty() -> Frames {
        Frames {
            table: 0,
            ranges: [Range {
                start: 0,
                end: 0,
                number: 0,
            }; 2],
            free_start: 0,
            fresh: [Span::EMPTY; 4],
            broken: Span::EMPTY,
            dirty: List::EMPTY,
            clean: List::EMPTY,
            large: List::EMPTY,
            retiring: Span::EMPTY,
            retired: List::EMPTY,
            retired_clean: List::EMPTY,
            retired_large: List::EMPTY,
            retired_frames: 0,
            free: 0,
            total: 0,
            shared: SharedTables::empty(),
        }
    }

    pub(super) fn init(&mut self, boot: &BootInfo) {
        let [low, high] = boot.ram;
        self.table = boot.frame_table.start;
        self.ranges = [
            Range {
                start: low.start,
                end: low.start + low.len,
                number: 0,
            },
            Range {
                start: high.start,
                end: high.start + high.len,
                number: low.len / PAGE_SIZE,
            },
        ];
        if high.len == 0 {
            // Then no address belongs to it.
            (self.ranges[1].start, self.ranges[1].end) = (u64::MAX, u64::MAX);
        }
        self.free_start = (boot.free_start + PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        for (index, start) in [(0, self.free_start), (1, self.ranges[1].start)] {
            let end = self.ranges[index].end & !(PAGE_SIZE - 1);
            if start >= end {
                continue;
            }
            let boundary = (end & !(LARGE_PAGE_SIZE - 1)).max(start);
            self.fresh[index] = Span { next: boundary, end };
            self.fresh[index + 2] = Span {
                next: start,
                end: boundary,
            };
            self.free += (end - start) / PAGE_SIZE;
        }
        self.total = self.free;
        self.shared.init();
    }

    /// Frames nobody has. Retired ones count when they are released.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Frames there are to hand out in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether this is RAM that is handed out here: not the image, what the VMM laid out, or a window.
    #[inline]
    pub fn owns(&self, gpa: GuestPhys) -> bool {
        let gpa = gpa.get();
        let [low, high] = &self.ranges;
        (gpa >= self.free_start && gpa < low.end) || (gpa >= high.start && gpa < high.end)
    }

    /// Whether this is RAM, so that the direct map has it.
    pub fn is_ram(&self, gpa: GuestPhys) -> bool {
        self.ranges
            .iter()
            .any(|range| (range.start..range.end).contains(&gpa.get()))
    }

    /// Up to `most` (at least 1) frames in a row: as many as are at hand.
    pub fn take(&mut self, most: u64) -> Option<FrameRun> {
        let (start, count, dirty) = self
            .take_dirty(most)
            .map(|(start, count)| (start, count, true))
            .or_else(|| self.take_fresh(most).map(|(start, count)| (start, count, false)))
            .or_else(|| self.take_broken(most).map(|(start, count)| (start, count, true)))
            .or_else(|| {
                self.pop(|frames| &mut frames.clean)
                    .map(|start| (start, 1, false))
            })?;
        self.free -= count;
        Some(FrameRun { start, count, dirty })
    }

    /// 2 MiB in a row, aligned to 2 MiB.
    pub fn take_large(&mut self) -> Option<FrameRun> {
        let mut run = FrameRun {
            start: GuestPhys::new(0),
            count: LARGE_FRAMES,
            dirty: true,
        };
        if let Some(start) = self.pop(|frames| &mut frames.large) {
            run.start = start;
        } else {
            let whole = |span: &&mut Span| span.end - span.next >= LARGE_PAGE_SIZE;
            let span = self.fresh[2..].iter_mut().rev().find(whole)?;
            span.end -= LARGE_PAGE_SIZE;
            run = FrameRun {
                start: GuestPhys::new(span.end),
                dirty: false,
                ..run
            };
        }
        self.free -= LARGE_FRAMES;
        Some(run)
    }

    /// Takes back frames that no table has ever shown to anybody.
    pub fn give_back(&mut self, run: FrameRun) {
        self.free += run.count;
        let number = self.number(run.start);
        if run.count == LARGE_FRAMES && run.start.is_aligned(LARGE_PAGE_SIZE) {
            return self.push(|frames| &mut frames.large, number, 1);
        }
        self.push(|frames| &mut frames.dirty, number, run.count as u32);
    }

    /// Takes back the `size` bytes (4 KiB, or aligned 2 MiB) a leaf mapped, to be used again after
    /// [`Frames::release`].
    #[inline(always)]
    pub fn retire_frames(&mut self, start: GuestPhys, size: u64) {
        // The common case by far is a few instructions.
        if size != PAGE_SIZE {
            self.retire_large(start);
        } else if start.get() == self.retiring.end {
            self.retiring.end += PAGE_SIZE;
        } else {
            self.retire_next(start);
        }
    }

    #[cold]
    fn retire_large(&mut self, start: GuestPhys) {
        self.retired_frames += LARGE_FRAMES;
        let number = self.number(start);
        self.append(|frames| &mut frames.retired_large, number, 1);
    }

    /// Begins a new run of retired frames.
    #[inline(never)]
    fn retire_next(&mut self, start: GuestPhys) {
        self.finish_run();
        self.retiring = Span {
            next: start.get(),
            end: start.get() + PAGE_SIZE,
        };
    }

    fn finish_run(&mut self) {
        let Span { next, end } = core::mem::replace(&mut self.retiring, Span::EMPTY);
        if next != end {
            let count = (end - next) / PAGE_SIZE;
            self.retired_frames += count;
            let number = self.number(GuestPhys::new(next));
            self.append(|frames| &mut frames.retired, number, count as u32);
        }
    }

    /// One leaf more will map what `leaf` maps. Both are to be [`Rights::COUNTED`] from now on.
    #[inline]
    pub fn share(&self, leaf: &Leaf) {
        let number = self.number(leaf.phys);
        let whole = if leaf.size == PAGE_SIZE { 0 } else { WHOLE };
        if !leaf.rights.contains(Rights::COUNTED) {
            return self.set_link(number, whole | 2);
        }
        let word = self.link(number);
        if word & WHOLE == whole {
            return self.set_link(number, word + 1);
        }
        for number in number..number + LARGE_FRAMES as u32 {
            self.set_link(number, self.link(number) + 1);
        }
    }

    /// Whether `leaf` is the only one left over its memory, which needs no count then.
    #[inline]
    pub fn is_last(&self, leaf: &Leaf) -> bool {
        let whole = if leaf.size == PAGE_SIZE { 0 } else { WHOLE };
        !leaf.rights.contains(Rights::COUNTED) || self.link(self.number(leaf.phys)) == whole | 1
    }

    /// `leaf` maps its memory no more. Frames that no other leaf maps retire. Memory that isn't handed out here
    /// is left alone.
    #[inline(always)]
    pub fn drop_leaf(&mut self, leaf: &Leaf) {
        if !self.owns(leaf.phys) {
        } else if leaf.rights.contains(Rights::COUNTED) {
            self.uncount(leaf.phys, leaf.size);
        } else {
            self.retire_frames(leaf.phys, leaf.size);
        }
    }

    /// `frame`, which was taken and is in no table, is a page of a file from now on: counted, once so far.
    pub fn count_first(&self, frame: GuestPhys) {
        self.set_link(self.number(frame), 1);
    }

    /// One leaf more, [`Rights::COUNTED`] itself, will map `frame`, which is counted by itself.
    pub fn count_one_more(&self, frame: GuestPhys) {
        let number = self.number(frame);
        self.set_link(number, self.link(number) + 1);
    }

    /// One user of `frame`, which is counted by itself, is gone that is no leaf.
    pub fn drop_counted(&mut self, frame: GuestPhys) {
        self.uncount(frame, PAGE_SIZE);
    }

    #[inline(never)]
    fn uncount(&mut self, phys: GuestPhys, size: u64) {
        let number = self.number(phys);
        let whole = if size == PAGE_SIZE { 0 } else { WHOLE };
        let word = self.link(number);
        if word & WHOLE == whole {
            if word & !WHOLE == 1 {
                self.retire_frames(phys, size);
            } else {
                self.set_link(number, word - 1);
            }
            return;
        }
        for offset in 0..LARGE_FRAMES {
            self.uncount(phys.add(offset * PAGE_SIZE), PAGE_SIZE);
        }
    }

    /// The word of a counted frame: how many leaves, and whether that is said of 2 MiB.
    #[cfg(test)]
    pub(super) fn counted(&self, phys: GuestPhys) -> (u32, bool) {
        let word = self.link(self.number(phys));
        (word & !WHOLE, word & WHOLE != 0)
    }

    /// From now on each frame of `leaf` has its own count, if it has any.
    pub fn count_singly(&self, leaf: &Leaf) {
        let number = self.number(leaf.phys);
        if leaf.size != LARGE_PAGE_SIZE || !leaf.rights.contains(Rights::COUNTED) {
            return;
        }
        let word = self.link(number);
        if word & WHOLE != 0 {
            for number in number..number + LARGE_FRAMES as u32 {
                self.set_link(number, word & !WHOLE);
            }
        }
    }

    /// What has been retired may be used again: no vCPU can reach it any more.
    pub fn release(&mut self) {
        self.finish_run();
        if self.retired_frames == 0 {
            return;
        }
        self.free += core::mem::take(&mut self.retired_frames);
        self.dirty = self.join(self.retired, self.dirty);
        self.clean = self.join(self.retired_clean, self.clean);
        self.large = self.join(self.retired_large, self.large);
        self.retired = List::EMPTY;
        self.retired_clean = List::EMPTY;
        self.retired_large = List::EMPTY;
    }

    /// A run from the head of the dirty list, with those after it that continue it.
    fn take_dirty(&mut self, most: u64) -> Option<(GuestPhys, u64)> {
        let first = self.dirty.head.checked_sub(1)?;
        let most = most.min(1 << 30) as u32;
        let mut count = 0;
        loop {
            let at = first + count;
            let word = self.link(at);
            let len = if word & MORE == 0 { 1 } else { self.link(at + 1) };
            if len > most - count {
                self.dirty.head = word & !MORE;
                self.push(|frames| &mut frames.dirty, first + most, len - (most - count));
                count = most;
                break;
            }
            count += len;
            self.dirty.head = word & !MORE;
            // The second range does not follow the first.
            let boundary = u64::from(first + count) == self.ranges[1].number;
            if count == most || self.dirty.head != first + count + 1 || boundary {
                break;
            }
        }
        Some((self.gpa(first), u64::from(count)))
    }

    fn take_fresh(&mut self, most: u64) -> Option<(GuestPhys, u64)> {
        self.fresh.iter_mut().find_map(|span| span.take(most))
    }

    fn take_broken(&mut self, most: u64) -> Option<(GuestPhys, u64)> {
        if self.broken.next == self.broken.end {
            let start = self.pop(|frames| &mut frames.large)?.get();
            self.broken = Span {
                next: start,
                end: start + LARGE_PAGE_SIZE,
            };
        }
        self.broken.take(most)
    }

    fn number(&self, gpa: GuestPhys) -> u32 {
        let range = &self.ranges[usize::from(gpa.get() >= self.ranges[1].start)];
        ((gpa.get() - range.start) / PAGE_SIZE + range.number) as u32
    }

    fn gpa(&self, number: u32) -> GuestPhys {
        let range = &self.ranges[usize::from(u64::from(number) >= self.ranges[1].number)];
        GuestPhys::new(range.start + (u64::from(number) - range.number) * PAGE_SIZE)
    }

    fn link(&self, number: u32) -> u32 {
        direct::load32(GuestPhys::new(self.table + 4 * u64::from(number)))
    }

    fn set_link(&self, number: u32, next: u32) {
        direct::store32(GuestPhys::new(self.table + 4 * u64::from(number)), next);
    }

    fn pop(&mut self, list: impl Fn(&mut Frames) -> &mut List) -> Option<GuestPhys> {
        let number = list(self).head.checked_sub(1)?;
        list(self).head = self.link(number);
        Some(self.gpa(number))
    }

    /// Makes the words of a run say that `next` follows it.
    fn set_run(&self, number: u32, count: u32, next: u32) {
        if count == 1 {
            self.set_link(number, next);
        } else {
            self.set_link(number, next | MORE);
            self.set_link(number + 1, count);
        }
    }

    fn push(&mut self, list: impl Fn(&mut Frames) -> &mut List, number: u32, count: u32) {
        let head = list(self).head;
        self.set_run(number, count, head);
        list(self).head = number + 1;
    }

    fn append(&mut self, list: impl Fn(&mut Frames) -> &mut List, number: u32, count: u32) {
        let List { head, tail } = *list(self);
        self.set_run(number, count, 0);
        if head == 0 {
            list(self).head = number + 1;
        } else {
            self.set_link(tail - 1, self.link(tail - 1) | (number + 1));
        }
        list(self).tail = number + 1;
    }

    /// `first`, then `second`.
    fn join(&self, first: List, second: List) -> List {
        if first.head == 0 {
            return second;
        }
        self.set_link(first.tail - 1, self.link(first.tail - 1) | second.head);
        List {
            head: first.head,
            tail: 0,
        }
    }
}

impl TableMemory for Frames {
    #[inline(always)]
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        direct::load64(table.add(8 * index as u64))
    }

    #[inline]
    fn skip_zeros(&self, table: GuestPhys, from: usize, to: usize) -> usize {
        let count = to.saturating_sub(from) as u64;
        from + direct::leading_zeros64(table.add(8 * from as u64), count) as usize
    }
}

impl TableMemoryMut for Frames {
    #[inline(always)]
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        direct::store64(table.add(8 * index as u64), value);
    }

    fn allocate(&mut self) -> Option<GuestPhys> {
        // Zeroing here is for the last resort: it is done in ring 0, whatever that costs.
        let clean = self.pop(|frames| &mut frames.clean);
        if let Some(frame) = clean.or_else(|| self.take_fresh(1).map(|(start, _)| start)) {
            self.free -= 1;
            return Some(frame);
        }
        let run = self.take(1)?;
        if run.dirty {
            direct::zero(run.start, run.len());
        }
        Some(run.start)
    }

    fn retire(&mut self, table: GuestPhys) {
        self.retired_frames += 1;
        let number = self.number(table);
        self.append(|frames| &mut frames.retired_clean, number, 1);
    }

    fn unlinked(&mut self, table: GuestPhys) {
        self.drop_link(table);
    }

    fn splits(&mut self, leaf: &Leaf) {
        self.count_singly(leaf);
    }
}
