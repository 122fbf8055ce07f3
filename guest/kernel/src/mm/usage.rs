//! What others may know of an address space: how much it has, and where its parts lie. For `/proc`.

use super::area::{Area, Backing, Prot};
use super::{AddressSpace, Memory};
use crate::arch::direct;
use abi::PAGE_SIZE;
use paging::{GuestVirt, count_pages, lookup};

/// Where the parts of a program's memory lie that are no areas of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The stack pointer it began with.
    pub stack: u64,
    /// Where its break starts.
    pub brk: u64,
    /// Where its arguments lie: first byte and end.
    pub arguments: (u64, u64),
    /// Where its environment lies.
    pub environment: (u64, u64),
    /// Where its auxiliary vector lies.
    pub auxiliary: (u64, u64),
}

/// How much there is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In areas.
    pub bytes: u64,
    /// In pages that are there.
    pub resident: u64,
    /// Of those, in areas that are shared.
    pub shared: u64,
    /// In areas that may be executed and not written.
    pub code: u64,
    /// In private areas that may be written.
    pub data: u64,
    /// In the area of the stack.
    pub stack: u64,
    /// In locked areas.
    pub locked: u64,
}

impl AddressSpace {
    /// Where parts of the program lie.
    pub fn layout(&self) -> Layout {
        Layout {
            brk: self.brk_start,
            ..self.layout
        }
    }

    /// Says where the stack and the strings on it lie.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// The break as it is.
    pub fn program_break(&self) -> u64 {
        self.brk
    }

    /// The first area that ends after `addr`.
    pub fn first_area(&self, mem: &Memory, addr: GuestVirt) -> Option<Area> {
        self.areas.first_from(&mem.areas, addr).copied()
    }

    /// How many bytes of `area` are there.
    pub fn resident(&self, mem: &Memory, area: &Area) -> u64 {
        count_pages(&mem.frames, self.root, area.start, area.len() / PAGE_SIZE) * PAGE_SIZE
    }

    /// How much it has.
    pub fn memory_use(&self, mem: &Memory) -> MemoryUse {
        let mut used = MemoryUse {
            locked: self.locked(mem),
            ..MemoryUse::default()
        };
        let stack = GuestVirt::new(self.layout.stack);
        self.areas.for_each(&mem.areas, |area| {
            let resident = self.resident(mem, area);
            used.bytes += area.len();
            used.resident += resident;
            let writable = area.prot.contains(Prot::WRITE);
            if area.is_shared() {
                used.shared += resident;
            } else if writable {
                used.data += area.len();
            } else if area.prot.contains(Prot::EXECUTE) && matches!(area.backing, Backing::Image { .. }) {
                used.code += area.len();
            }
            if (area.start..area.end).contains(&stack) {
                used.stack += area.len();
            }
        });
        used
    }

    /// Copies what is there at `addr` now, whoever has this loaded: how much, as far as there are pages of RAM.
    pub fn peek(&self, mem: &Memory, addr: u64, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            let virt = GuestVirt::new(addr + done as u64);
            let Some(leaf) = lookup(&mem.frames, self.root, virt).filter(|leaf| mem.frames.is_ram(leaf.phys))
            else {
                break;
            };
            let into = virt.get() - leaf.virt.get();
            let take = (to.len() - done).min((leaf.size - into) as usize);
            direct::read(leaf.phys.add(into), &mut to[done..done + take]);
            done += take;
        }
        done
    }
}
