//! One guest's windows: the guest-physical ranges where attached segments appear.
//!
//! A guest has a read-write and a read-only window ([`WindowLayout`] says where). Each is a range of the host's
//! address space, reserved as PROT_NONE, that is registered with KVM in chunks of [`WINDOW_CHUNK`] when one is
//! first needed. [`Window::splice`] maps a segment's pages over a free range of it, [`Window::unsplice`] puts
//! PROT_NONE back. KVM follows by its MMU notifier; the vCPUs keep running.
//!
//! Invariants: every byte of the reservation is mapped at every moment (a range is replaced by one
//! mmap(MAP_FIXED), never unmapped first), so no other mapping of the process can come to lie under a guest; a
//! range is free only when PROT_NONE is back; host and guest-physical addresses agree modulo 1 GiB, so that KVM
//! may map large pages; all windows of the process together stay below the host's limit of mappings.
//!
//! The machine gives its VM descriptor as a [`SlotRegistrar`]; the broker decides what is spliced where.
// UNSAFETY: maps memory over reserved ranges of the host's address space; atomic accesses to words of it.
#![expect(
    unsafe_code,
    reason = "mmap and munmap of the windows' own reservations, reserving huge pages, words in segments"
)]

mod ranges;

use abi::memory::{WINDOW_CHUNK, WindowLayout};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::GuestPhys;
use ranges::Ranges;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};

/// Which of a guest's two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// Segments can be read and written there.
    ReadWrite,
    /// Segments can only be read there (SHM_RDONLY): KVM_MEM_READONLY, and PROT_READ in the host.
    ReadOnly,
}

/// How a window's chunks become a VM's memory.
pub trait SlotRegistrar: Send {
    /// Registers `len` bytes at `host` as memory slot `slot` at `gpa`.
    ///
    /// # Errors
    /// The host's refusal; the guest then gets ENOMEM.
    fn register(&self, slot: u32, gpa: GuestPhys, host: *mut u8, len: u64, read_only: bool)
    -> io::Result<()>;
}

/// Splices of all windows of this process.
static SPLICES: Splices = Splices {
    count: AtomicU64::new(0),
};

/// How many splices there are, so that there are never more than the host lets this process have.
#[derive(Debug)]
struct Splices {
    count: AtomicU64,
}

impl Splices {
    /// Counts one more until the ticket is dropped; `None` if there are `most` already.
    fn take(&'static self, most: u64) -> Option<Ticket> {
        self.count
            .fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1))
            .ok()?;
        Some(Ticket { of: self })
    }
}

/// One splice's right to exist.
#[derive(Debug)]
struct Ticket {
    of: &'static Splices,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Relaxed);
    }
}

/// How many splices the process may have: each costs two mappings (itself, and the PROT_NONE it cuts in two), and
/// an eighth of vm.max_map_count is left to RAM, thread stacks and libraries.
fn most_splices() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        let limit = limit
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(65530u64);
        (limit - limit / 8) / 2
    })
}

/// Both windows of one guest. Dropping it unmaps them; by then the guest's vCPUs must have been joined.
pub struct Window {
    read_write: Half,
    read_only: Half,
    registrar: Box<dyn SlotRegistrar>,
}

impl Window {
    /// How many memory slots the windows of this layout may take.
    #[must_use]
    pub const fn slots(layout: &WindowLayout) -> u32 {
        (layout.size / WINDOW_CHUNK) as u32 * 2
    }

    /// Reserves both windows. Their memory slots are numbered from `first_slot` ([`Window::slots`] of them).
    ///
    /// # Errors
    /// The host's, if there is no room in its address space.
    pub fn new(
        layout: WindowLayout,
        first_slot: u32,
        registrar: Box<dyn SlotRegistrar>,
    ) -> io::Result<Window> {
        let chunks = (layout.size / WINDOW_CHUNK) as u32;
        Ok(Window {
            read_write: Half::new(WindowKind::ReadWrite, layout.rw_base, layout.size, first_slot)?,
            read_only: Half::new(
                WindowKind::ReadOnly,
                layout.ro_base,
                layout.size,
                first_slot + chunks,
            )?,
            registrar,
        })
    }

    /// Makes the first `pages` pages (of 4 KiB) of `fd` appear in a free range of a window. `fd` is made of pages of
    /// `page_size` bytes, a power of two up to [`WINDOW_CHUNK`]; `pages` are whole ones.
    ///
    /// # Errors
    /// ENOMEM if the window has no range of that size, the process no mapping left, or the host refuses.
    pub fn splice(
        &mut self,
        which: WindowKind,
        fd: BorrowedFd<'_>,
        pages: u64,
        page_size: u64,
    ) -> Result<GuestPhys, Errno> {
        self.splice_part(
            which,
            &Part {
                fd,
                offset: 0,
                pages,
                page_size,
                may_lack: page_size > PAGE_SIZE,
            },
        )
    }

    /// Makes `pages` pages of `fd` from `offset` on, which is a multiple of 4 KiB, appear in a free range of a window.
    /// `fd` may be shorter, and may become so: then there is nothing to touch.
    ///
    /// # Errors
    /// As [`Window::splice`].
    pub fn splice_range(
        &mut self,
        which: WindowKind,
        fd: BorrowedFd<'_>,
        offset: u64,
        pages: u64,
    ) -> Result<GuestPhys, Errno> {
        self.splice_part(
            which,
            &Part {
                fd,
                offset,
                pages,
                page_size: PAGE_SIZE,
                may_lack: true,
            },
        )
    }

    fn splice_part(&mut self, which: WindowKind, part: &Part<'_>) -> Result<GuestPhys, Errno> {
        let Window {
            read_write,
            read_only,
            registrar,
        } = self;
        let half = match which {
            WindowKind::ReadWrite => read_write,
            WindowKind::ReadOnly => read_only,
        };
        half.splice(&**registrar, part)
    }

    /// Takes out what [`Window::splice`] put at `gpa`: the pages are gone from the guest when this returns.
    ///
    /// # Errors
    /// EINVAL if nothing was spliced at `gpa`.
    pub fn unsplice(&mut self, which: WindowKind, gpa: GuestPhys) -> Result<(), Errno> {
        self.half_mut(which).unsplice(gpa)
    }

    /// Where a guest-physical address of a window lies in the host. Only for reading and writing through volatile
    /// or atomic accesses, and only while something is spliced there.
    #[must_use]
    pub fn host_address(&self, which: WindowKind, gpa: GuestPhys) -> Option<*mut u8> {
        let half = match which {
            WindowKind::ReadWrite => &self.read_write,
            WindowKind::ReadOnly => &self.read_only,
        };
        let offset = gpa.get().checked_sub(half.gpa)?;
        (offset < half.size).then(|| half.host.wrapping_add(offset as usize))
    }

    /// The aligned 32-bit word at a guest-physical address where something is spliced.
    ///
    /// # Errors
    /// EFAULT if it is not aligned, nothing is spliced there, or the host has no page for it.
    pub(crate) fn word(&self, which: WindowKind, gpa: GuestPhys) -> Result<Word<'_>, Errno> {
        match which {
            WindowKind::ReadWrite => &self.read_write,
            WindowKind::ReadOnly => &self.read_only,
        }
        .word(gpa)
    }

    /// How many splices there are in a window.
    #[must_use]
    pub fn spliced(&self, which: WindowKind) -> usize {
        match which {
            WindowKind::ReadWrite => self.read_write.splices.len(),
            WindowKind::ReadOnly => self.read_only.splices.len(),
        }
    }

    fn half_mut(&mut self, which: WindowKind) -> &mut Half {
        match which {
            WindowKind::ReadWrite => &mut self.read_write,
            WindowKind::ReadOnly => &mut self.read_only,
        }
    }
}

/// A word of a segment that stays spliced meanwhile. Guests change it at any moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    at: *const AtomicU32,
    of: PhantomData<&'a Window>,
}

impl Word<'_> {
    /// Its value.
    pub(crate) fn load(&self) -> u32 {
        // SAFETY: see `Half::word`; the window can't change as long as this borrows it.
        unsafe { (*self.at).load(Ordering::Acquire) }
    }

    /// Changes it from `old` to `new`, if it is that. Of the read-write window's words only.
    pub(crate) fn compare_exchange(&self, old: u32, new: u32) -> bool {
        // SAFETY: as for `load`.
        unsafe { (*self.at).compare_exchange(old, new, Ordering::AcqRel, Relaxed) }.is_ok()
    }
}

/// What is to be spliced.
struct Part<'a> {
    fd: BorrowedFd<'a>,
    /// From where on, in bytes.
    offset: u64,
    pages: u64,
    page_size: u64,
    may_lack: bool,
}

/// What is spliced somewhere.
struct Splice {
    /// Bytes.
    len: u64,
    /// There may be no page where one is touched: huge ones may not all have been reserved, an object may end there.
    may_lack: bool,
    ticket: Ticket,
}

/// One of the two windows.
struct Half {
    kind: WindowKind,
    /// Guest-physical start.
    gpa: u64,
    /// Bytes.
    size: u64,
    /// Host address of the start.
    host: *mut u8,
    /// What was reserved: `host` lies aligned within.
    reservation: (*mut c_void, usize),
    first_slot: u32,
    /// Which chunks are memory slots.
    registered: Vec<bool>,
    ranges: Ranges,
    /// By offset.
    splices: BTreeMap<u64, Splice>,
}

// SAFETY: the pointers are addresses of a reservation that this value alone owns; nothing is tied to a thread.
unsafe impl Send for Half {}

impl Half {
    fn new(kind: WindowKind, gpa: u64, size: u64, first_slot: u32) -> io::Result<Half> {
        // Room to move the start so that it agrees with the guest-physical address modulo 1 GiB.
        let len = (size + WINDOW_CHUNK) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping where the host finds room; it replaces nothing.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags)? };
        let lead = (gpa.wrapping_sub(start as u64) % WINDOW_CHUNK) as usize;
        Ok(Half {
            kind,
            gpa,
            size,
            host: start.cast::<u8>().wrapping_add(lead),
            reservation: (start, len),
            first_slot,
            registered: vec![false; (size / WINDOW_CHUNK) as usize],
            ranges: Ranges::new(size),
            splices: BTreeMap::new(),
        })
    }

    fn splice(&mut self, registrar: &dyn SlotRegistrar, part: &Part<'_>) -> Result<GuestPhys, Errno> {
        let Part { fd, page_size, .. } = *part;
        let len = part
            .pages
            .checked_mul(PAGE_SIZE)
            .filter(|&len| len != 0)
            .ok_or(Errno::ENOMEM)?;
        let align = if len >= LARGE_PAGE_SIZE {
            LARGE_PAGE_SIZE.max(page_size)
        } else {
            PAGE_SIZE
        };
        let ticket = SPLICES.take(most_splices()).ok_or_else(|| {
            tracing::warn!(
                "{} segments are mapped, the most vm.max_map_count allows",
                most_splices()
            );
            Errno::ENOMEM
        })?;
        let offset = self.ranges.take(len, align).ok_or(Errno::ENOMEM)?;
        let mapped = self.register(registrar, offset, len).and_then(|()| {
            if page_size > PAGE_SIZE {
                // May fail for lack of them, and is to do so before anything has changed.
                reserve_huge_pages(fd, len)?;
            }
            let protection = match self.kind {
                WindowKind::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
                WindowKind::ReadOnly => ProtFlags::READ,
            };
            let at = self.host.wrapping_add(offset as usize).cast();
            // SAFETY: `ranges` says that the range lies in this window's reservation and nothing is spliced
            // there; no reference to it exists anywhere.
            unsafe {
                mmap(
                    at,
                    len as usize,
                    protection,
                    MapFlags::SHARED | MapFlags::FIXED,
                    fd,
                    part.offset,
                )
            }
            .map(drop)
            .map_err(io::Error::from)
        });
        if let Err(error) = mapped {
            tracing::warn!("{len} bytes can't be mapped into a window: {error}");
            self.close_again(offset, len);
            self.ranges.give_back(offset, len);
            return Err(Errno::ENOMEM);
        }
        let may_lack = part.may_lack;
        self.splices.insert(
            offset,
            Splice {
                len,
                may_lack,
                ticket,
            },
        );
        Ok(GuestPhys::new(self.gpa + offset))
    }

    /// A mapping over a free range has failed. Linux may have taken away what was there before it did: then there is a
    /// hole, and whatever this process maps next could come to lie there, under the guest.
    fn close_again(&self, offset: u64, len: u64) {
        let at = self.host.wrapping_add(offset as usize);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: the range lies in this window's reservation, and nothing is spliced there; it replaces nothing.
        let closed = unsafe { mmap_anonymous(at.cast(), len as usize, ProtFlags::empty(), flags) };
        if closed.is_err() && !is_closed(at, len) {
            // Another thread was faster. Neither can the guest be kept from it, nor can it be moved.
            tracing::error!("memory of this process lies in a guest's window");
            std::process::abort();
        }
    }

    fn unsplice(&mut self, gpa: GuestPhys) -> Result<(), Errno> {
        let offset = gpa.get().checked_sub(self.gpa).ok_or(Errno::EINVAL)?;
        let Splice { len, ticket, .. } = self.splices.remove(&offset).ok_or(Errno::EINVAL)?;
        let at = self.host.wrapping_add(offset as usize).cast();
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: the range is a splice of this window; no reference to it exists anywhere.
        let hidden = unsafe { mmap_anonymous(at, len as usize, ProtFlags::empty(), flags) };
        match hidden {
            Ok(_) => self.ranges.give_back(offset, len),
            Err(error) => {
                // Only lack of kernel memory leads here. The guest must lose the pages all the same; the range is
                // never used again, and keeps its ticket.
                tracing::error!("{len} bytes can't be taken out of a window, its range is lost: {error}");
                std::mem::forget(ticket);
                // SAFETY: as above; exactly one whole mapping, so nothing has to be split.
                if let Err(error) = unsafe { mprotect(at, len as usize, MprotectFlags::empty()) } {
                    tracing::error!("nor can they be protected: {error}");
                }
            }
        }
        Ok(())
    }

    fn word(&self, gpa: GuestPhys) -> Result<Word<'_>, Errno> {
        const LEN: u64 = size_of::<u32>() as u64;
        let offset = gpa.get().checked_sub(self.gpa).ok_or(Errno::EFAULT)?;
        let (start, splice) = self.splices.range(..=offset).next_back().ok_or(Errno::EFAULT)?;
        if offset % LEN != 0 || offset - start > splice.len - LEN {
            return Err(Errno::EFAULT);
        }
        let at = self.host.wrapping_add(offset as usize);
        if splice.may_lack {
            // Of a segment of huge pages made with SHM_NORESERVE there may be no page left, an object may end before, and
            // touching it would be a SIGBUS for this whole process; this asks without one (madvise(2), since Linux 5.14).
            let page = at.wrapping_sub((offset % PAGE_SIZE) as usize).cast();
            // SAFETY: a page within a splice of this window; its contents are not changed.
            unsafe { madvise(page, PAGE_SIZE as usize, Advice::LinuxPopulateRead) }
                .map_err(|_| Errno::EFAULT)?;
        }
        // The splice covers all four bytes and host and guest-physical addresses agree modulo 4 KiB, so the pointer
        // is aligned and points to mapped memory, until the splice goes: that takes `&mut self`.
        Ok(Word {
            at: at.cast(),
            of: PhantomData,
        })
    }

    /// Makes every chunk that the range touches a memory slot.
    fn register(&mut self, registrar: &dyn SlotRegistrar, offset: u64, len: u64) -> io::Result<()> {
        for chunk in offset / WINDOW_CHUNK..=(offset + len - 1) / WINDOW_CHUNK {
            if !self.registered[chunk as usize] {
                let start = chunk * WINDOW_CHUNK;
                registrar.register(
                    self.first_slot + chunk as u32,
                    GuestPhys::new(self.gpa + start),
                    self.host.wrapping_add(start as usize),
                    WINDOW_CHUNK,
                    self.kind == WindowKind::ReadOnly,
                )?;
                self.registered[chunk as usize] = true;
            }
        }
        Ok(())
    }
}

/// Whether nothing in a range can be accessed, but all of it is mapped.
fn is_closed(at: *mut u8, len: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut covered = at.addr() as u64;
    let end = covered + len;
    for line in maps.lines() {
        let mut words = line.split([' ', '-']);
        let mut address = || u64::from_str_radix(words.next()?, 16).ok();
        let (Some(from), Some(to)) = (address(), address()) else {
            return false;
        };
        if covered < end && (from..to).contains(&covered) {
            if !line.contains(" ---p ") {
                return false;
            }
            covered = to;
        }
    }
    covered >= end
}

/// Reserves the huge pages of a file that is made of them: the reservation stays with the file until it is closed.
///
/// # Errors
/// ENOMEM if there are not enough free.
pub(crate) fn reserve_huge_pages(fd: BorrowedFd<'_>, len: u64) -> rustix::io::Result<()> {
    // The kernel reserves pages when a file is mapped, shared, and counts them to the file, not to the mapping
    // (`hugetlb_reserve_pages`).
    // SAFETY: a new mapping where the host finds room, without access; it is unmapped at once.
    unsafe {
        let at = mmap(
            std::ptr::null_mut(),
            len as usize,
            ProtFlags::empty(),
            MapFlags::SHARED,
            fd,
            0,
        )?;
        munmap(at, len as usize)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let (start, len) = self.reservation;
        // SAFETY: the reservation is this value's own and goes with it; the vCPUs that could reach it through
        // KVM have been joined (contract of `Window`).
        if let Err(error) = unsafe { munmap(start, len) } {
            tracing::error!("a window can't be unmapped: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
