//! Tests of memory, on the host: `arch::direct` is a sparse fake there, and [`FakeWorld`] is the rest.

mod attach_cases;
mod fork;
mod fork_cases;
mod fork_ops;
mod frames;
mod limits;
mod model;
mod object;
mod operations;
mod properties;
mod remap_cases;
mod scarce;
mod shared_cases;
mod space;
mod tree;

use super::area::{SegmentRef, Window};
use super::{AddressSpace, Memory, World};
use crate::arch::direct;
use abi::boot::{BootInfo, GpaRange};
use abi::{Errno, PAGE_SIZE};
use paging::entry::Entry;
use paging::{Flush, GuestPhys, GuestVirt, Leaf, TableMemory, for_each_leaf};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::FromZeros;

const MIB: u64 = 1 << 20;
const FREE_START: u64 = 4 * MIB + 3 * PAGE_SIZE;
const LOW_END: u64 = 40 * MIB + 5 * PAGE_SIZE;
const HIGH: u64 = 4096 * MIB;
const HIGH_LEN: u64 = 6 * MIB + 7 * PAGE_SIZE;
const FRAME_TABLE: u64 = 3 * MIB;
const KERNEL_ROOT: GuestPhys = GuestPhys::new(2 * MIB);
/// Where the file of image areas lies.
const FILE: GuestPhys = GuestPhys::new(5 * MIB / 2);
/// The vCPUs address spaces are said to be loaded on.
const LOADED: u32 = 0b101;

/// Memory of 42 MiB in two ranges with crooked ends.
pub(crate) fn memory() -> Memory {
    direct::clear();
    let mut boot = BootInfo::new_zeroed();
    boot.ram = [
        GpaRange {
            start: 0,
            len: LOW_END,
        },
        GpaRange {
            start: HIGH,
            len: HIGH_LEN,
        },
    ];
    boot.free_start = FREE_START;
    boot.frame_table = GpaRange {
        start: FRAME_TABLE,
        len: 4 * (LOW_END + HIGH_LEN) / PAGE_SIZE,
    };
    boot.page_table = KERNEL_ROOT.get();
    for index in [256, 511] {
        direct::store64(KERNEL_ROOT.add(8 * index), 0x1003 + 0x1000 * index);
    }
    let mut memory = Memory::empty();
    memory.init(&boot);
    memory
}

fn loaded_space(memory: &mut Memory) -> AddressSpace {
    let mut space = AddressSpace::new(memory, KERNEL_ROOT).unwrap();
    space.loaded = LOADED;
    space
}

fn end(memory: &mut Memory, world: &mut FakeWorld, mut space: AddressSpace) {
    space.loaded = 0;
    space.destroy(memory, world);
}

/// What the broker is told of the attaches of a segment, given by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Booking {
    /// One more, of what was there already.
    More(i32),
    /// One less.
    Gone(i32),
}

/// A world that does what it is asked, and remembers.
#[derive(Default)]
pub(crate) struct FakeWorld {
    /// Attaches of each segment, as the broker would count them.
    attaches: BTreeMap<i32, i64>,
    /// Segments that go with their last attach.
    removed: BTreeSet<i32>,
    /// What it was told of them since this was last emptied.
    booked: Vec<Booking>,
    /// Pages flushed since this was last emptied.
    flushed: Vec<(u64, u64)>,
    /// How many fragments more the broker allows.
    refuses_after: Option<u32>,
    /// How long the broker says objects are.
    objects: BTreeMap<u64, u64>,
    /// Ranges of objects it has shown.
    ranges: u64,
}

impl World for FakeWorld {
    fn flush(&mut self, loaded: u32, flush: &Flush) {
        assert!(loaded == LOADED || loaded == 0);
        let start = flush.start().get() / PAGE_SIZE;
        self.flushed.push((start, start + flush.pages()));
    }

    fn zero(&mut self, runs: &[(GuestPhys, u64)]) {
        assert!(!runs.is_empty());
        runs.iter().for_each(|&(start, len)| direct::zero(start, len));
    }

    fn copy(&mut self, to: GuestPhys, from: GuestPhys, len: u64) {
        assert!(len > 0);
        direct::copy(to, from, len);
    }

    fn detached(&mut self, segment: &SegmentRef) {
        *self
            .attaches
            .get_mut(&segment.id)
            .expect("an attach that ends was one") -= 1;
        self.booked.push(Booking::Gone(segment.id));
    }

    fn detached_last(&mut self, segment: &SegmentRef) -> bool {
        let last = self.removed.contains(&segment.id) && self.attaches[&segment.id] == 1;
        if last {
            self.detached(segment);
        }
        last
    }

    fn attached_more(&mut self, segment: &SegmentRef) -> Result<(), Errno> {
        if let Some(left) = &mut self.refuses_after {
            *left = left.checked_sub(1).ok_or(Errno::ENOMEM)?;
        }
        *self
            .attaches
            .get_mut(&segment.id)
            .expect("an attach that splits was one") += 1;
        self.booked.push(Booking::More(segment.id));
        Ok(())
    }

    fn punch(&mut self, segment: &SegmentRef, len: u64) -> Result<(), Errno> {
        direct::zero(segment.start(), len);
        Ok(())
    }

    fn map_object(
        &mut self,
        serial: u64,
        window: Window,
        offset: u64,
        len: u64,
    ) -> Result<(GuestPhys, u64), Errno> {
        assert!(len > 0 && offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE));
        self.ranges += 1;
        // Every range lies elsewhere, at a 2 MiB boundary.
        let base = if window == Window::ReadOnly {
            1 << 45
        } else {
            1 << 44
        };
        let gpa = GuestPhys::new(base + (self.ranges << 32));
        Ok((gpa, self.object_size(serial)))
    }

    fn object_size(&mut self, serial: u64) -> u64 {
        self.objects[&serial]
    }

    fn read_object(&mut self, serial: u64, offset: u64, to: GuestPhys, len: u64) -> Result<(), Errno> {
        // Each page has its number in it.
        let there = self.object_size(serial).saturating_sub(offset).min(len);
        let page = offset / PAGE_SIZE;
        direct::write(to, &[page as u8 + 1; PAGE_SIZE as usize][..there as usize]);
        Ok(())
    }
}

/// All leaves of a space, in order.
fn leaves(memory: &Memory, space: &AddressSpace) -> Vec<Leaf> {
    let mut seen = vec![];
    for_each_leaf(&memory.frames, space.root(), GuestVirt::new(0), 1 << 35, |leaf| {
        seen.push(leaf)
    });
    seen
}

/// The tables of a space's lower half, the root included, found by a walk of its own.
fn tables(memory: &Memory, space: &AddressSpace) -> BTreeSet<u64> {
    let mut level = vec![space.root().get()];
    let mut all = BTreeSet::from([space.root().get()]);
    for (depth, entries) in [(0, 256), (1, 512), (2, 512)] {
        let mut below = vec![];
        for table in level {
            for index in 0..entries {
                let entry = memory.frames.load(GuestPhys::new(table), index);
                if entry & Entry::PRESENT != 0 && (depth == 0 || entry & Entry::LARGE == 0) {
                    below.push(entry & Entry::ADDRESS);
                }
            }
        }
        all.extend(&below);
        level = below;
    }
    all
}
