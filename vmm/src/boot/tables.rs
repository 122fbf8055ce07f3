//! The boot page tables: kernel, direct map, vCPU areas, probe page.

use super::{Area, Frames};
use crate::image::KernelImage;
use crate::memory::GuestRam;
use abi::memory::{DIRECT_MAP, VCPU_AREAS, VCPU_END, VCPU_IST, VCPU_STACK, VCPU_STACK_TOP, VCPU_STRIDE};
use paging::{GuestPhys, GuestVirt, LARGE_PAGE_SIZE, PAGE_SIZE, Rights, TableMemory, TableMemoryMut, map};

/// Where the probe page is mapped for ring 3; the boot tables' low half has nothing else.
pub const PROBE_VIRT: GuestVirt = GuestVirt::new(0x10_0000);
/// `syscall; ud2`.
pub(super) const PROBE_CODE: [u8; 4] = [0x0f, 0x05, 0x0f, 0x0b];

/// Where the direct map shows a byte of RAM.
#[must_use]
pub fn direct(gpa: GuestPhys) -> GuestVirt {
    GuestVirt::new(DIRECT_MAP + gpa.get())
}

/// Builds the tables and returns their root; `None` when RAM is used up.
pub(super) fn build(
    ram: &GuestRam,
    frames: &mut Frames,
    kernel: &KernelImage,
    areas: &[Area],
    probe: GuestPhys,
) -> Option<GuestPhys> {
    let mut memory = BootTables { ram, frames };
    let root = memory.allocate()?;
    // Nothing overlaps: the image was checked, the rest are constants. So a failure means: out of tables.
    let mut place = |virt: GuestVirt, phys: GuestPhys, bytes: u64, rights: Rights| {
        map(&mut memory, root, virt, phys, bytes / PAGE_SIZE, rights).ok()
    };
    let segments = kernel.segments();
    for (index, segment) in segments.iter().enumerate() {
        let bytes = segment.pages * PAGE_SIZE;
        // What follows to the next large page is nobody's, and zero: mapped by whole ones, a walk is a level shorter.
        let whole = bytes.next_multiple_of(LARGE_PAGE_SIZE);
        let is_free = segments
            .get(index + 1)
            .is_some_and(|next| segment.virt.add(whole) <= next.virt);
        let bytes = if is_free { whole } else { bytes };
        place(segment.virt, segment.phys, bytes, segment.rights)?;
    }
    for range in ram.ranges().iter().filter(|range| range.len > 0) {
        let start = GuestPhys::new(range.start);
        place(direct(start), start, range.len, Rights::WRITE)?;
    }
    for (index, area) in areas.iter().enumerate() {
        let base = GuestVirt::new(VCPU_AREAS + index as u64 * VCPU_STRIDE);
        place(
            base.add(VCPU_STACK),
            area.stack,
            VCPU_STACK_TOP - VCPU_STACK,
            Rights::WRITE,
        )?;
        place(base.add(VCPU_IST), area.upper, VCPU_END - VCPU_IST, Rights::WRITE)?;
    }
    place(PROBE_VIRT, probe, PAGE_SIZE, Rights::USER | Rights::EXECUTE)?;
    Some(root)
}

struct BootTables<'a> {
    ram: &'a GuestRam,
    frames: &'a mut Frames,
}

impl TableMemory for BootTables<'_> {
    fn load(&self, table: GuestPhys, index: usize) -> u64 {
        self.ram.load(table, index)
    }
}

impl TableMemoryMut for BootTables<'_> {
    fn store(&mut self, table: GuestPhys, index: usize, value: u64) {
        let stored = self.ram.store(table.add(index as u64 * 8), value);
        debug_assert!(stored.is_ok(), "tables come from RAM");
    }

    fn allocate(&mut self) -> Option<GuestPhys> {
        self.frames.take(PAGE_SIZE)
    }

    fn retire(&mut self, _table: GuestPhys) {
        // Only after a failed change, and then the whole guest is given up.
    }
}
