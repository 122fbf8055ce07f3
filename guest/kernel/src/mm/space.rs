//! [`AddressSpace`]: what a process can address. Its areas, its page tables, its break; made, filled, ended.
//!
//! This file has new, destroy, mmap and brk; the rest of the operations have files of their own (see
//! [`super`]). All take the guest's [`Memory`] and the [`World`] around it.
//!
//! Addresses and errors are Linux's (mmap(2), brk(2); `mm/mmap.c` for what these leave open).

use super::area::{Advice, Area, Backing, Prot};
use super::tree::AreaTree;
use super::{Layout, Limits, Memory, World};
use abi::memory::{DIRECT_MAP, KERNEL_VIRT, MMAP_MIN_ADDR, USER_END};
use abi::{Errno, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, TableMemory, TableMemoryMut, clear_range, root_index};

/// Mappings whose place the kernel chooses lie below: Linux's `mmap_base` with the usual 8 MiB of stack,
/// without randomisation.
pub const MMAP_BASE: u64 = 0x7fff_f7ff_f000;

/// Looking through tables for so many bytes costs no more than walking down to them again.
pub(super) const NEAR: u64 = 128 * PAGE_SIZE;

/// The root entries of the kernel's own half.
const KERNEL_ENTRIES: [usize; 2] = [
    root_index(GuestVirt::new(DIRECT_MAP)),
    root_index(GuestVirt::new(KERNEL_VIRT)),
];

/// Where mmap(2) puts a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The kernel chooses.
    Anywhere,
    /// Here if it is free, else the kernel chooses.
    Hint(GuestVirt),
    /// Here, replacing what there is (`MAP_FIXED`).
    Fixed(GuestVirt),
    /// Here or nowhere (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(GuestVirt),
}

/// The lowest address that mappings may have whose place the program chooses. (The kernel never chooses one
/// below [`MMAP_MIN_ADDR`].)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lowest {
    /// [`MMAP_MIN_ADDR`].
    #[default]
    MinAddr,
    /// Page 0: the program has CAP_SYS_RAWIO, as root does (`cap_mmap_addr` in Linux).
    Zero,
}

/// What a process can address.
pub struct AddressSpace {
    pub(super) root: GuestPhys,
    pub(super) areas: AreaTree,
    pub(super) brk_start: u64,
    pub(super) brk: u64,
    pub(super) layout: Layout,
    pub(super) data_of_file: u64,
    /// What new areas get of [`Advice::LOCKS`] (mlockall(2)).
    pub(super) locks_new: Advice,
    /// There are, or were, locked areas.
    pub(super) has_locked: bool,
    /// Whether others of its user may look at it (`PR_SET_DUMPABLE`): kept, without effect.
    pub dumpable: bool,
    /// The vCPUs that have its tables loaded, a bit each. The scheduler keeps it.
    pub loaded: u32,
    /// Where the program may map what it gives an address to: as its credentials are.
    pub lowest: Lowest,
    /// What it may have, if the process has set that.
    pub limits: Option<Limits>,
}

/// `value` rounded up to whole pages, if that is a number.
pub(super) fn page_up(value: u64) -> Option<u64> {
    Some(value.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1))
}

/// Whether `len` more bytes of memory are not plainly absurd: Linux's heuristic overcommit refuses
/// one mapping larger than all memory.
pub(super) fn affordable(mem: &Memory, backing: &Backing, prot: Prot, len: u64) -> Result<(), Errno> {
    let ours = match backing {
        Backing::Segment(_) => false,
        Backing::File(part) => !part.shared,
        _ => true,
    };
    if ours && prot.contains(Prot::WRITE) && len / PAGE_SIZE > mem.frames.total() {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// Checks a range whose place the program has chosen.
pub(super) fn check_fixed(at: GuestVirt, len: u64, lowest: Lowest) -> Result<(), Errno> {
    if len > USER_END || at.get() > USER_END - len {
        Err(Errno::ENOMEM)
    } else if !at.is_aligned(PAGE_SIZE) {
        Err(Errno::EINVAL)
    } else if at.get() < MMAP_MIN_ADDR && lowest == Lowest::MinAddr {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

impl AddressSpace {
    /// An empty address space that shares the kernel's half with `kernel_root`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(mem: &mut Memory, kernel_root: GuestPhys) -> Result<AddressSpace, Errno> {
        let root = mem.frames.allocate().ok_or(Errno::ENOMEM)?;
        for index in KERNEL_ENTRIES {
            let entry = mem.frames.load(kernel_root, index);
            mem.frames.store(root, index, entry);
        }
        Ok(AddressSpace {
            root,
            areas: AreaTree::new(),
            brk_start: 0,
            brk: 0,
            layout: Layout::default(),
            data_of_file: 0,
            locks_new: Advice::empty(),
            has_locked: false,
            dumpable: true,
            loaded: 0,
            lowest: Lowest::MinAddr,
            limits: None,
        })
    }

    /// The top-level page table.
    pub fn root(&self) -> GuestPhys {
        self.root
    }

    /// Everything goes: frames and tables are freed, attaches end. No vCPU may have it loaded.
    pub fn destroy(&mut self, mem: &mut Memory, world: &mut impl World) {
        debug_assert!(
            self.loaded == 0,
            "address space ends while loaded on vCPUs {:#x}",
            self.loaded
        );
        self.clear_tables(mem);
        for index in KERNEL_ENTRIES {
            mem.frames.store(self.root, index, 0);
        }
        mem.frames.retire(self.root);
        mem.frames.release();
        self.areas.clear(&mut mem.areas, |area| {
            if let Some(segment) = area.segment() {
                world.detached(segment);
            }
        });
    }

    /// Its attaches end; nothing is freed, for its guest ends.
    pub fn end_attaches(&self, mem: &Memory, world: &mut impl World) {
        self.areas.for_each(&mem.areas, |area| {
            if let Some(segment) = area.segment() {
                world.detached(segment);
            }
        });
    }

    /// Empties the tables, and gives back all but the root. Where areas lie close together one walk serves them.
    fn clear_tables(&mut self, mem: &mut Memory) {
        let mut next = self.areas.first_from(&mem.areas, GuestVirt::new(0));
        while let Some(&Area { start, mut end, .. }) = next {
            loop {
                next = self.areas.first_from(&mem.areas, end);
                match next {
                    Some(area) if area.start.get() - end.get() <= NEAR => end = area.end,
                    _ => break,
                }
            }
            let pages = (end.get() - start.get()) / PAGE_SIZE;
            clear_range(&mut mem.frames, self.root, start, pages, |frames, leaf| {
                frames.drop_leaf(&leaf)
            });
        }
    }

    /// The area at `addr`, if there is one.
    pub fn area_at(&self, mem: &Memory, addr: GuestVirt) -> Option<Area> {
        self.areas.find(&mem.areas, addr).copied()
    }

    /// mmap: `len` bytes with `backing` behind them; pages come when they are touched. `may` is the most that
    /// [`AddressSpace::protect`] may grant later.
    ///
    /// # Errors
    /// EINVAL for no length or a crooked address, ENOMEM for no room, EEXIST and EPERM as mmap(2); EAGAIN for more than may be
    /// locked.
    #[expect(clippy::too_many_arguments, reason = "as many as mmap has")]
    pub fn map(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        at: Placement,
        len: u64,
        prot: Prot,
        may: Prot,
        backing: Backing,
    ) -> Result<GuestVirt, Errno> {
        self.map_advised(mem, world, at, len, prot, may, backing, Advice::empty())
    }

    /// As [`AddressSpace::map`], with advice from the start.
    ///
    /// # Errors
    /// As [`AddressSpace::map`].
    #[expect(clippy::too_many_arguments, reason = "as many as mmap has, and the advice")]
    pub fn map_advised(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        at: Placement,
        len: u64,
        prot: Prot,
        may: Prot,
        backing: Backing,
        advice: Advice,
    ) -> Result<GuestVirt, Errno> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).filter(|&len| len <= USER_END).ok_or(Errno::ENOMEM)?;
        let start = match at {
            // As for segments, so that the tables can use large leaves.
            Placement::Anywhere if matches!(backing, Backing::File(part) if mem.contents.object(part.file).is_some()) => {
                self.gap_for_segment(mem, len).ok_or(Errno::ENOMEM)?
            }
            Placement::Anywhere => self.gap(mem, len, PAGE_SIZE).ok_or(Errno::ENOMEM)?,
            Placement::Hint(hint) => self.gap_at_hint(mem, hint, len).ok_or(Errno::ENOMEM)?,
            Placement::Fixed(at) => at,
            Placement::FixedNoReplace(at) => at,
        };
        check_fixed(start, len, self.lowest)?;
        let end = start.add(len);
        if matches!(at, Placement::FixedNoReplace(_)) && !self.is_free(mem, start, end) {
            return Err(Errno::EEXIST);
        }
        let advice = advice | self.locks_new;
        self.has_locked |= advice.contains(Advice::LOCKED);
        self.may_lock_more(mem, advice, len)?;
        affordable(mem, &backing, prot, len)?;
        let area = Area {
            start,
            end,
            prot,
            may,
            backing,
            advice,
        };
        self.may_replace(mem, &area)?;
        if let Placement::Fixed(_) = at {
            // One for the new area, one should it make a hole in an old one.
            if mem.areas.available() < 2 {
                return Err(Errno::ENOMEM);
            }
            self.clear(mem, world, start, end)?;
        }
        if at != Placement::Anywhere {
            self.own_tables(mem, world, start, 1)?;
        }
        self.insert(mem, area)?;
        Ok(start)
    }

    /// Says where the program ends: its break starts there. `data` bytes of it are its file's last segment: they count
    /// with the break for RLIMIT_DATA.
    pub fn set_program_end(&mut self, end: GuestVirt, data: u64) {
        self.data_of_file = data;
        self.brk_start = end.align_down(PAGE_SIZE).get();
        if self.brk_start < end.get() {
            self.brk_start += PAGE_SIZE;
        }
        self.brk = self.brk_start;
    }

    /// brk: moves the break to `brk` if it can, and returns where it is then.
    pub fn set_break(&mut self, mem: &mut Memory, world: &mut impl World, brk: u64) -> u64 {
        if self.brk_start == 0 || brk < self.brk_start || brk > USER_END {
            return self.brk;
        }
        // Wherever it was before (check_data_rlimit in Linux).
        let [most, _] = self.held_to().data;
        if (brk - self.brk_start).saturating_add(self.data_of_file) > most {
            return self.brk;
        }
        let round = |value: u64| GuestVirt::new(value + PAGE_SIZE - 1).align_down(PAGE_SIZE);
        let (old, new) = (round(self.brk), round(brk));
        let moved = if new < old {
            self.clear(mem, world, new, old)
        } else {
            self.grow_break(mem, world, old, new)
        };
        if moved.is_ok() {
            self.brk = brk;
        }
        self.brk
    }

    fn grow_break(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        old: GuestVirt,
        new: GuestVirt,
    ) -> Result<(), Errno> {
        if old == new {
            return Ok(());
        }
        let prot = Prot::READ | Prot::WRITE;
        let len = new.get() - old.get();
        check_fixed(old, len, self.lowest)?;
        self.may_lock_more(mem, self.locks_new, len)?;
        affordable(mem, &Backing::Anonymous, prot, len)?;
        // Linux keeps a page free above the break.
        if !self.is_free(mem, old, new.add(PAGE_SIZE)) {
            return Err(Errno::ENOMEM);
        }
        self.own_tables(mem, world, old, 1)?;
        let area = Area {
            start: old,
            end: new,
            prot,
            may: Prot::all(),
            backing: Backing::Anonymous,
            advice: self.locks_new,
        };
        self.may_have(mem, &area, len)?;
        self.insert(mem, area)
    }

    /// Adds an area; anonymous memory and parts of files become one with equal neighbours.
    pub(super) fn insert(&mut self, mem: &mut Memory, area: Area) -> Result<(), Errno> {
        let pool = &mut mem.areas;
        if !matches!(area.backing, Backing::Anonymous | Backing::File(_)) {
            return self.areas.insert(pool, area);
        }
        let left = self
            .areas
            .ending_at(pool, area.start)
            .filter(|left| left.continues_in(&area))
            .copied();
        let right = self
            .areas
            .find(pool, area.end)
            .filter(|right| area.continues_in(right))
            .copied();
        match (left, right) {
            (None, None) => self.areas.insert(pool, area)?,
            (Some(left), None) => self.areas.update(pool, left.start, |left| left.end = area.end),
            (None, Some(right)) => self.areas.update(pool, right.start, |right| {
                (right.start, right.backing) = (area.start, area.backing);
            }),
            (Some(left), Some(right)) => {
                self.areas.remove(pool, right.start);
                self.areas.update(pool, left.start, |left| left.end = right.end);
            }
        }
        Ok(())
    }

    pub(super) fn is_free(&self, mem: &Memory, start: GuestVirt, end: GuestVirt) -> bool {
        self.areas
            .first_from(&mem.areas, start)
            .is_none_or(|next| next.start >= end)
    }

    /// Where the kernel puts `len` bytes: as high as possible below [`MMAP_BASE`], else anywhere.
    pub(super) fn gap(&mut self, mem: &mut Memory, len: u64, align: u64) -> Option<GuestVirt> {
        let mut below = |high| {
            self.areas
                .highest_gap(&mut mem.areas, len, align, MMAP_MIN_ADDR, high)
        };
        below(MMAP_BASE).or_else(|| below(USER_END))
    }

    pub(super) fn gap_at_hint(&mut self, mem: &mut Memory, hint: GuestVirt, len: u64) -> Option<GuestVirt> {
        let hint = GuestVirt::new(hint.align_down(PAGE_SIZE).get().max(MMAP_MIN_ADDR));
        if check_fixed(hint, len, self.lowest).is_ok() && self.is_free(mem, hint, hint.add(len)) {
            return Some(hint);
        }
        self.gap(mem, len, PAGE_SIZE)
    }
}
