//! What segments are made of: how much memory one may ask for; ordinary, large and huge pages.
//!
//! A segment's memory has no name in any file system, so nothing outlives the process, and no size but the one it
//! was made with: a memfd is sealed against growing, shrinking and further seals; a file on large pages
//! ([`LargePages`]), which can't be, has a descriptor that never leaves the broker. Pages come when first touched;
//! huge pages are reserved when the segment is made, so that touching them can't fail.

use super::large::LargePages;
use crate::window::reserve_huge_pages;
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::fs::{fallocate, fcntl_add_seals, fstat, ftruncate, memfd_create};
use serde::Serialize;
use shm::{Credentials, NewSegment};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Where a huge page's size stands in memfd_create's flags (`MFD_HUGE_SHIFT`).
const MFD_HUGE_SHIFT: u32 = 26;

/// How much memory a new segment may ask for: the host's own rule (`__vm_enough_memory`, vm.overcommit_memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryRule {
    /// Mode 0: no single request for more pages than RAM and swap together have.
    Guess { pages: u64 },
    /// Mode 1: anything.
    Always,
    /// Mode 2: what is left of the commit limit, SHM_NORESERVE or not.
    Never,
}

impl MemoryRule {
    pub(super) fn of_host() -> MemoryRule {
        let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
        match mode.trim() {
            "1" => MemoryRule::Always,
            "2" => MemoryRule::Never,
            _ => {
                let info = rustix::system::sysinfo();
                let units = info.totalram.saturating_add(info.totalswap);
                MemoryRule::Guess {
                    pages: units.saturating_mul(u64::from(info.mem_unit)) / PAGE_SIZE,
                }
            }
        }
    }

    /// # Errors
    /// ENOMEM if it is too much.
    pub(super) fn check(self, new: &NewSegment) -> Result<(), Errno> {
        let enough = match self {
            MemoryRule::Guess { pages } => new.no_reserve || new.pages <= pages,
            MemoryRule::Always => true,
            MemoryRule::Never => {
                new.pages <= meminfo("CommitLimit:").saturating_sub(meminfo("Committed_AS:")) / PAGE_SIZE
            }
        };
        if enough { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

/// A field of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    kib * 1024
}

/// What huge pages the host has, and whom it lets have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HugePages {
    /// The sizes there are, as logarithms.
    pub(super) shifts: Vec<u32>,
    /// The one a program gets that names none.
    pub(super) default_shift: Option<u32>,
    /// Who is in this group may have them as well as root (vm.hugetlb_shm_group).
    pub(super) group: u32,
}

impl HugePages {
    pub(super) fn of_host() -> HugePages {
        let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages")
            .into_iter()
            .flatten();
        let shift_of = |name: &str| -> Option<u32> {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            kib.checked_mul(1024)
                .filter(|size| size.is_power_of_two())
                .map(u64::trailing_zeros)
        };
        let group = std::fs::read_to_string("/proc/sys/vm/hugetlb_shm_group").ok();
        HugePages {
            shifts: sizes
                .flatten()
                .filter_map(|entry| shift_of(entry.file_name().to_str()?))
                .collect(),
            default_shift: Some(meminfo("Hugepagesize:"))
                .filter(|size| size.is_power_of_two())
                .map(u64::trailing_zeros),
            group: group.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        }
    }

    /// The logarithm of the page size that `asked` (0: the default) means, if the caller may have such pages.
    ///
    /// # Errors
    /// EINVAL if there are none of that size, EPERM: in Linux's order (`newseg`, `hugetlb_file_setup`), as measured
    /// on 6.18.
    pub(super) fn check(&self, who: &Credentials<'_>, asked: u32) -> Result<u32, Errno> {
        let shift = if asked == 0 {
            self.default_shift
        } else {
            Some(asked)
        };
        let shift = shift
            .filter(|shift| self.shifts.contains(shift))
            .ok_or(Errno::EINVAL)?;
        if who.is_privileged() || who.is_in_group(self.group) {
            Ok(shift)
        } else {
            Err(Errno::EPERM)
        }
    }
}

/// Held for reading while this process accesses words of huge pages or of objects itself, for writing while such pages
/// are given back: there may be none to take their place, and the access would be a SIGBUS.
static WORDS: RwLock<()> = RwLock::new(());

/// Keeps the huge pages of all segments where they are.
pub(super) type Kept = RwLockReadGuard<'static, ()>;

/// Keeps pages of `page_size` bytes where they are, if they are huge ones. The others come back when they are touched.
pub(super) fn keep(page_size: u64) -> Option<Kept> {
    is_huge(page_size).then(|| WORDS.read().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps the pages of all objects where they are, and those of huge segments.
pub(super) fn keep_objects() -> Kept {
    WORDS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Until it is dropped nobody reads words that may go.
pub(super) fn cut() -> RwLockWriteGuard<'static, ()> {
    WORDS.write().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other segment or object of this process ever has, from 1 on; identifiers come again.
pub(super) fn next_serial() -> u64 {
    static SERIALS: AtomicU64 = AtomicU64::new(1);
    SERIALS.fetch_add(1, Ordering::Relaxed)
}

fn is_huge(page_size: u64) -> bool {
    page_size > PAGE_SIZE
}

/// What pages of the host a segment lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPages {
    /// Of 4 KiB.
    Small,
    /// Of 2 MiB wherever that much of the segment lies together, as long as the host has such free.
    Large,
    /// Reserved ones, of SHM_HUGETLB.
    Huge,
}

/// A segment's memory.
#[derive(Debug)]
pub(super) struct Memory {
    file: OwnedFd,
    /// What it lies on.
    pub(super) host_pages: HostPages,
    /// A number that no other segment of this process ever has; identifiers come again.
    pub(super) serial: u64,
    /// Pages of [`PAGE_SIZE`] it is long.
    pub(super) pages: u64,
    /// Bytes of the pages it is made of.
    pub(super) page_size: u64,
}

impl Memory {
    /// Memory for a new segment, zero-filled, on large pages if it is large and there are any; `huge_page_shift` is
    /// what [`HugePages::check`] found.
    ///
    /// # Errors
    /// ENOSPC when this process or the host has no open file left, ENOMEM for lack of memory or of huge pages, or for
    /// a size no file can have.
    pub(super) fn new(
        new: &NewSegment,
        huge_page_shift: Option<u32>,
        large_pages: &LargePages,
    ) -> Result<Memory, Errno> {
        let page_size = huge_page_shift.map_or(PAGE_SIZE, |shift| 1 << shift);
        let len = len(new, huge_page_shift)?;
        let may_be_large = huge_page_shift.is_none() && len >= LARGE_PAGE_SIZE;
        let large = may_be_large.then(|| large_pages.file()).flatten();
        let host_pages = match huge_page_shift {
            Some(_) => HostPages::Huge,
            None if large.is_some() => HostPages::Large,
            None => HostPages::Small,
        };
        let file = match large {
            Some(file) => ftruncate(&file, len).map(|()| file),
            None => memfd(len, huge_page_shift, new.no_reserve),
        };
        let file = file.map_err(|error| {
            tracing::debug!("no memory for a segment of {} bytes: {error}", new.size);
            match error {
                rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => Errno::ENOSPC,
                _ => Errno::ENOMEM,
            }
        })?;
        Ok(Memory {
            file,
            host_pages,
            serial: next_serial(),
            pages: len / PAGE_SIZE,
            page_size,
        })
    }

    /// Makes a range zeros and gives its memory back.
    ///
    /// # Errors
    /// EINVAL for a range that is empty, crooked or not within it; ENOMEM for what the host says.
    pub(super) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let whole = offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE) && len > 0;
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if !whole || end > self.pages * PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let _words = is_huge(self.page_size).then(cut);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, offset, len).map_err(|error| {
            tracing::debug!("no hole of {len} bytes at {offset} of a segment: {error}");
            Errno::ENOMEM
        })
    }

    /// Bytes of it that are in memory: those that have been touched, and their pages' other ones.
    pub(super) fn resident(&self) -> u64 {
        // st_blocks counts 512 bytes (stat(2)).
        fstat(&self.file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// How long the memory of a new segment is, in bytes.
///
/// # Errors
/// ENOMEM for a length no file can have.
pub(super) fn len(new: &NewSegment, huge_page_shift: Option<u32>) -> Result<u64, Errno> {
    let page_size = huge_page_shift.map_or(PAGE_SIZE, |shift| 1 << shift);
    new.size
        .checked_next_multiple_of(page_size)
        .filter(|&len| len <= i64::MAX as u64)
        .ok_or(Errno::ENOMEM)
}

fn memfd(len: u64, huge_page_shift: Option<u32>, no_reserve: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if let Some(shift) = huge_page_shift {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::from_bits_retain(shift << MFD_HUGE_SHIFT);
    }
    let file = memfd_create("tombolo-segment", flags)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    if huge_page_shift.is_some() && !no_reserve {
        reserve_huge_pages(file.as_fd(), len)?;
    }
    Ok(file)
}
