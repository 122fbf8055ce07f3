//! shmat and shmdt, the part that concerns one process: where a segment appears, and that it goes again.
//! Keys, permissions and counts are the broker's; [`crate::arch::shm`] edits the tables.

use super::area::{Area, Backing, Prot, SegmentRef};
use super::shared::{self, Piece};
use super::space::check_fixed;
use super::unmap::errno;
use super::{AddressSpace, Memory, World};
use crate::arch::shm::{self, PageList};
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Rights};

/// Page tables that mapping `pages` pages, and splitting a large page at both ends before, takes at most.
const fn most_tables(pages: u64) -> u64 {
    let leaf_tables = pages.div_ceil(512).saturating_add(1);
    let directories = leaf_tables.div_ceil(512) + 1;
    let pointers = directories.div_ceil(512) + 1;
    leaf_tables.saturating_add(directories + pointers + 2)
}

/// Where an attach is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the kernel chooses.
    Chosen,
    /// Here, where nothing is mapped.
    Free(GuestVirt),
    /// Here, instead of whatever is mapped (`SHM_REMAP`).
    Replacing(GuestVirt),
}

impl AddressSpace {
    /// How many bytes a segment may have at that address; where the kernel may choose, the largest there is
    /// room for anywhere.
    pub fn room_at(&mut self, mem: &mut Memory, at: Option<GuestVirt>) -> u64 {
        let Some(at) = at else {
            return self.areas.largest_gap(&mut mem.areas, MMAP_MIN_ADDR, USER_END);
        };
        let next = self
            .areas
            .first_from(&mem.areas, at)
            .map_or(USER_END, |next| next.start.get());
        next.saturating_sub(at.get())
    }

    /// Whether an attach at `at` will have the areas it needs, and may be there: to be asked before the broker counts
    /// it. As long as nothing else happens in between, a positive answer stays right.
    ///
    /// # Errors
    /// ENOMEM if not; EPERM for an address below the lowest the program may map.
    pub fn can_attach(&self, mem: &Memory, at: Place) -> Result<(), Errno> {
        if let Place::Free(at) | Place::Replacing(at) = at {
            check_fixed(at.align_down(PAGE_SIZE), PAGE_SIZE, self.lowest)?;
        }
        // One for the attach, one should what it replaces get a hole.
        let areas = 1 + usize::from(matches!(at, Place::Replacing(_)));
        if mem.areas.available() < areas {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Maps `segment` at `at` in the place of whatever is mapped in exactly the pages it takes (`SHM_REMAP`).
    /// The broker has counted the attach; fragments of attaches that it replaces, its own earlier ones included,
    /// are detached after that, so the counts are never lower in between than at the end.
    ///
    /// # Errors
    /// ENOMEM for no room, no areas, or no table where a large leaf is cut; EINVAL for a crooked address; EPERM below
    /// the lowest address; what the broker says to a hole in an attach. Then nothing has changed, and the caller has the attach uncounted.
    pub fn attach_replacing(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        at: GuestVirt,
        segment: SegmentRef,
        prot: Prot,
    ) -> Result<GuestVirt, Errno> {
        let len = segment.mapped_size();
        check_fixed(at, len, self.lowest)?;
        self.can_attach(mem, Place::Replacing(at))?;
        self.clear(mem, world, at, at.add(len))?;
        self.attach(mem, world, Some(at), segment, prot)
    }

    /// Maps `segment`, all of it and at once if there are frames for the tables; else its pages come when they are
    /// touched. The broker has counted the attach; if this fails, the caller has it uncounted. Where the kernel may
    /// choose, all but the smallest segments get an address at which shared tables can be linked, and what the links
    /// claim is left free.
    ///
    /// # Errors
    /// EINVAL if something is mapped there or the address is crooked; ENOMEM for no room or areas;
    /// EPERM below the lowest address programs may map. Then nothing has changed.
    pub fn attach(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        at: Option<GuestVirt>,
        segment: SegmentRef,
        prot: Prot,
    ) -> Result<GuestVirt, Errno> {
        let len = segment.mapped_size();
        let start = match at {
            Some(at) => at,
            None => self.gap_for_segment(mem, len).ok_or(Errno::ENOMEM)?,
        };
        check_fixed(start, len, self.lowest)?;
        let end = start.add(len);
        if at.is_some() && !self.is_free(mem, start, end) {
            return Err(Errno::EINVAL);
        }
        if len == 0 || mem.areas.available() < 1 {
            return Err(Errno::ENOMEM);
        }
        if at.is_some() {
            self.own_tables(mem, world, start, 1)?;
        }
        // Write access can be had later only where it was asked for (Linux clears VM_MAYWRITE).
        let may = if prot.contains(Prot::WRITE) {
            Prot::all()
        } else {
            Prot::READ | Prot::EXECUTE
        };
        let attach = mem.attaches.wrapping_add(1);
        let area = Area {
            start,
            end,
            prot,
            may,
            backing: Backing::Segment(SegmentRef { attach, ..segment }),
            advice: self.locks_new,
        };
        self.areas.insert(&mut mem.areas, area)?;
        self.map_fragment(mem, &area, &segment, start);
        mem.attaches = attach;
        Ok(start)
    }

    pub(super) fn gap_for_segment(&mut self, mem: &mut Memory, len: u64) -> Option<GuestVirt> {
        let mut align = shared::alignment(len / PAGE_SIZE);
        while align > PAGE_SIZE {
            // Any multiple will do: what is claimed depends on nothing else.
            let whole = shared::claim(GuestVirt::new(align), len / PAGE_SIZE);
            if let Some(start) = self.gap(mem, whole, align) {
                return Some(start);
            }
            align = if align > LARGE_PAGE_SIZE && len >= LARGE_PAGE_SIZE {
                LARGE_PAGE_SIZE
            } else {
                PAGE_SIZE
            };
        }
        self.gap(mem, len, PAGE_SIZE)
    }

    /// shmdt: every fragment that belongs to the attach at `addr` goes.
    ///
    /// As Linux (`ksys_shmdt`): a fragment belongs to it if it is as far from `addr` as it is into the segment;
    /// the first one found says which attach that is, and how far to look.
    ///
    /// # Errors
    /// EINVAL if there is none, or the address is crooked.
    pub fn detach(&mut self, mem: &mut Memory, world: &mut impl World, addr: GuestVirt) -> Result<(), Errno> {
        if !addr.is_aligned(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut first: Option<SegmentRef> = None;
        let mut at = addr;
        while let Some(&area) = self.areas.first_from(&mem.areas, at) {
            at = area.end;
            if let Some(first) = &first
                && area.end.get() - addr.get() > first.mapped_size()
            {
                break;
            }
            let Some(part) = area.segment() else { continue };
            let same = first.is_none_or(|first| first.attach == part.attach);
            if same && area.start.get().wrapping_sub(addr.get()) == part.offset {
                self.remove_fragment(mem, world, &area, part);
                first = Some(*part);
            }
        }
        if first.is_some() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn remove_fragment(&mut self, mem: &mut Memory, world: &mut impl World, area: &Area, part: &SegmentRef) {
        let mut space = shm::Space {
            memory: &mut mem.frames,
            root: self.root,
        };
        let flush = shm::up_shmdt(&mut space, area.start, area.len() / PAGE_SIZE);
        world.flush(self.loaded, &flush);
        mem.frames.release();
        self.areas.remove(&mut mem.areas, area.start);
        world.detached(part);
    }

    /// Maps what `area`, a fragment of an attach, shows of its segment at `to`, as far as there are frames for all the
    /// tables that could take. If not, that is no error: pages that are missing come when they are touched.
    ///
    /// A whole segment is linked, where there is nothing else in what the links claim.
    pub(super) fn map_fragment(&mut self, mem: &mut Memory, area: &Area, part: &SegmentRef, to: GuestVirt) {
        let pages = area.len().min(part.left()) / PAGE_SIZE;
        let rights = self.rights(mem, area);
        let whole = part.offset == 0 && part.left() <= area.len();
        let may_link = whole && pages > shared::FEW && {
            let (end, claimed) = (to.add(area.len()), to.add(shared::claim(to, pages)));
            claimed <= end || self.is_free(mem, end, claimed)
        };
        let mut done = 0;
        while done < pages {
            let (at, from) = (to.add(done * PAGE_SIZE), part.start().add(done * PAGE_SIZE));
            let piece = if may_link {
                shared::piece(at, pages - done)
            } else {
                Piece::Own(pages)
            };
            if !self.map_piece(mem, piece, from, at, rights) {
                mem.frames.release();
                return;
            }
            done += piece.pages();
        }
    }

    /// Maps a piece of a segment, all or nothing. Says whether there were frames for it.
    fn map_piece(
        &mut self,
        mem: &mut Memory,
        piece: Piece,
        from: GuestPhys,
        to: GuestVirt,
        rights: Rights,
    ) -> bool {
        let mut space = shm::Space {
            memory: &mut mem.frames,
            root: self.root,
        };
        if let Piece::Linked(pages) = piece
            && let Some(table) = space.memory.shared_table(from, pages)
        {
            if shm::up_shmat(&mut space, PageList::Shared(table), pages, to, rights).is_ok() {
                return true;
            }
            space.memory.drop_link(table);
        }
        // A few pages take a few tables, or none.
        let affordable =
            piece.pages() <= shared::FEW || space.memory.free_frames() >= most_tables(piece.pages());
        affordable && shm::up_shmat(&mut space, PageList::Run(from), piece.pages(), to, rights).is_ok()
    }

    /// Gives this process entries of its own for what it has in shared tables of which any part lies in the `pages`
    /// pages from `start` on, or in what their links claim. Nothing else changes.
    ///
    /// # Errors
    /// ENOMEM if there are no frames for them; then nothing has changed at all.
    pub(super) fn own_tables(
        &mut self,
        mem: &mut Memory,
        world: &mut impl World,
        start: GuestVirt,
        pages: u64,
    ) -> Result<(), Errno> {
        if mem.frames.shared.is_empty() {
            return Ok(());
        }
        let flush = paging::unshare(&mut mem.frames, self.root, start, pages).map_err(errno);
        if let Ok(flush) = &flush
            && flush.needs_flush()
        {
            world.flush(self.loaded, flush);
            mem.frames.release();
        }
        flush.map(drop)
    }
}
