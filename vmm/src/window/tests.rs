//! Windows without KVM: what is mapped where, told from /proc/self/maps and by touching it.

use super::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

const LAYOUT: WindowLayout = WindowLayout {
    rw_base: 1 << 36,
    ro_base: 1 << 37,
    size: 4 << 30,
};
const LARGE_PAGES: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;

type Slots = Arc<Mutex<Vec<(u32, u64, usize, u64, bool)>>>;

/// Remembers what was registered; refuses once `left` is used up.
struct Recorder {
    slots: Slots,
    left: usize,
}

impl SlotRegistrar for Recorder {
    fn register(
        &self,
        slot: u32,
        gpa: GuestPhys,
        host: *mut u8,
        len: u64,
        read_only: bool,
    ) -> io::Result<()> {
        let mut slots = self.slots.lock().unwrap();
        if slots.len() == self.left {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        slots.push((slot, gpa.get(), host as usize, len, read_only));
        Ok(())
    }
}

fn window(left: usize) -> (Window, Slots) {
    let slots = Slots::default();
    let recorder = Recorder {
        slots: Arc::clone(&slots),
        left,
    };
    (Window::new(LAYOUT, 10, Box::new(recorder)).unwrap(), slots)
}

fn memory(pages: u64) -> OwnedFd {
    let fd = memfd_create("window-test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, pages * PAGE_SIZE).unwrap();
    fd
}

/// The permissions of the mapping at an address, as /proc/self/maps has them.
fn permissions(at: *mut u8) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (start..end)
            .contains(&(at as usize))
            .then(|| rest[..4].to_string())
    })
}

fn write(at: *mut u8, value: u8) {
    // SAFETY: the tests write only where they have spliced memory read-write.
    unsafe { at.write_volatile(value) }
}

fn read(at: *mut u8) -> u8 {
    // SAFETY: the tests read only where they have spliced memory.
    unsafe { at.read_volatile() }
}

#[test]
fn both_windows_show_the_same_pages_and_the_read_only_one_is_not_writable() {
    let (mut window, _) = window(8);
    let fd = memory(3);
    let rw = window
        .splice(WindowKind::ReadWrite, fd.as_fd(), 3, PAGE_SIZE)
        .unwrap();
    let ro = window
        .splice(WindowKind::ReadOnly, fd.as_fd(), 3, PAGE_SIZE)
        .unwrap();
    let (rw_host, ro_host) = (
        window.host_address(WindowKind::ReadWrite, rw).unwrap(),
        window.host_address(WindowKind::ReadOnly, ro).unwrap(),
    );
    for offset in [0, 4095, 4096, 3 * 4096 - 1] {
        write(rw_host.wrapping_add(offset), 7);
        assert_eq!(read(ro_host.wrapping_add(offset)), 7);
    }
    assert_eq!(permissions(rw_host).as_deref(), Some("rw-s"));
    assert_eq!(permissions(ro_host).as_deref(), Some("r--s"));
    assert_eq!(
        permissions(rw_host.wrapping_add(3 * 4096)).as_deref(),
        Some("---p")
    );
}

#[test]
fn an_unspliced_range_is_closed_and_used_again() {
    let (mut window, _) = window(8);
    let fd = memory(1);
    let first = window
        .splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    let second = window
        .splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    assert_ne!(first, second);
    window.unsplice(WindowKind::ReadWrite, first).unwrap();
    let host = window.host_address(WindowKind::ReadWrite, first).unwrap();
    assert_eq!(permissions(host).as_deref(), Some("---p"));
    assert_eq!(permissions(host.wrapping_add(4096)).as_deref(), Some("rw-s"));
    assert_eq!(window.unsplice(WindowKind::ReadWrite, first), Err(Errno::EINVAL));
    assert_eq!(window.unsplice(WindowKind::ReadOnly, second), Err(Errno::EINVAL));
    assert_eq!(
        window.splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE),
        Ok(first)
    );
}

#[test]
fn large_segments_are_aligned_in_the_guest_and_in_the_host() {
    let (mut window, slots) = window(8);
    let (small, large) = (memory(1), memory(LARGE_PAGES));
    window
        .splice(WindowKind::ReadWrite, small.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    let gpa = window
        .splice(WindowKind::ReadWrite, large.as_fd(), LARGE_PAGES, PAGE_SIZE)
        .unwrap();
    assert_eq!(gpa.get() % LARGE_PAGE_SIZE, 0);
    window
        .splice(WindowKind::ReadOnly, large.as_fd(), LARGE_PAGES, PAGE_SIZE)
        .unwrap();
    for &(_, gpa, host, _, _) in slots.lock().unwrap().iter() {
        assert_eq!((host as u64).wrapping_sub(gpa) % LARGE_PAGE_SIZE, 0);
    }
}

#[test]
fn chunks_become_memory_slots_when_a_segment_first_touches_them() {
    let (mut window, slots) = window(8);
    assert!(slots.lock().unwrap().is_empty());
    let small = memory(1);
    window
        .splice(WindowKind::ReadWrite, small.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    window
        .splice(WindowKind::ReadWrite, small.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    let pages = WINDOW_CHUNK / PAGE_SIZE + 1;
    let spanning = memory(pages);
    window
        .splice(WindowKind::ReadWrite, spanning.as_fd(), pages, PAGE_SIZE)
        .unwrap();
    window
        .splice(WindowKind::ReadOnly, small.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    let seen: Vec<_> = slots
        .lock()
        .unwrap()
        .iter()
        .map(|&(slot, gpa, _, len, ro)| (slot, gpa, len, ro))
        .collect();
    let rw = |chunk: u32| {
        (
            10 + chunk,
            LAYOUT.rw_base + u64::from(chunk) * WINDOW_CHUNK,
            WINDOW_CHUNK,
            false,
        )
    };
    assert_eq!(seen, [rw(0), rw(1), (14, LAYOUT.ro_base, WINDOW_CHUNK, true)]);
    assert_eq!(Window::slots(&LAYOUT), 8);
}

#[test]
fn what_does_not_fit_is_enomem() {
    let (mut window, _) = window(8);
    let fd = memory(1);
    let all = LAYOUT.size / PAGE_SIZE;
    for pages in [all + 1, u64::MAX / PAGE_SIZE, u64::MAX, 0] {
        assert_eq!(
            window.splice(WindowKind::ReadWrite, fd.as_fd(), pages, PAGE_SIZE),
            Err(Errno::ENOMEM)
        );
    }
    let gpa = window
        .splice(WindowKind::ReadWrite, fd.as_fd(), all, PAGE_SIZE)
        .unwrap();
    assert_eq!(
        window.splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE),
        Err(Errno::ENOMEM)
    );
    window.unsplice(WindowKind::ReadWrite, gpa).unwrap();
    window
        .splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE)
        .unwrap();
}

#[test]
fn a_chunk_that_kvm_refuses_is_enomem_and_leaves_nothing() {
    let (mut window, _) = window(1);
    let fd = memory(1);
    let pages = WINDOW_CHUNK / PAGE_SIZE + 1;
    assert_eq!(
        window.splice(WindowKind::ReadWrite, fd.as_fd(), pages, PAGE_SIZE),
        Err(Errno::ENOMEM)
    );
    assert_eq!(window.spliced(WindowKind::ReadWrite), 0);
    // The chunk that was registered is of use; the range is free again.
    assert_eq!(
        window.splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE),
        Ok(GuestPhys::new(LAYOUT.rw_base))
    );
    assert_eq!(
        window.splice(WindowKind::ReadOnly, fd.as_fd(), 1, PAGE_SIZE),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn dropping_the_windows_unmaps_them() {
    let (mut window, _) = window(8);
    let fd = memory(1);
    let gpa = window
        .splice(WindowKind::ReadWrite, fd.as_fd(), 1, PAGE_SIZE)
        .unwrap();
    let host = window.host_address(WindowKind::ReadWrite, gpa).unwrap();
    let inode = rustix::fs::fstat(&fd).unwrap().st_ino;
    assert!(is_mapped(host, inode));
    drop(window);
    assert!(!is_mapped(host, inode));
}

/// Whether this file is mapped at this address (another test may have mapped something else there since).
fn is_mapped(at: *mut u8, inode: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[0].starts_with(&format!("{:x}-", at as usize)) && fields[4] == inode.to_string()
    })
}

#[test]
fn no_more_splices_than_the_host_lets_the_process_have() {
    static FEW: Splices = Splices {
        count: AtomicU64::new(0),
    };
    let first = FEW.take(2);
    let second = FEW.take(2);
    assert!(first.is_some() && second.is_some());
    assert!(FEW.take(2).is_none());
    drop(first);
    assert!(FEW.take(2).is_some());
    assert!(most_splices() > 1000);
}
