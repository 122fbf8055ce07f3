//! Segments on 2 MiB pages of the host.

use super::*;
use rustix::fs::fcntl_get_seals;
use std::os::fd::AsFd;

const LARGE: u64 = abi::LARGE_PAGE_SIZE;

/// Whether this host lets this process have large pages without a setting.
fn host_has_large_pages() -> bool {
    let size = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    let large = size.is_ok_and(|size| size.trim() == "2097152");
    large && rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// KiB of the mapping at a guest-physical address that the host's tables map with large leaves.
fn mapped_large(chunks: &Chunks, gpa: u64) -> u64 {
    let at = chunks.host(gpa) as usize;
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut here = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        let bounds = first.split_once('-').map(|(start, end)| {
            let number = |text| usize::from_str_radix(text, 16);
            (number(start), number(end))
        });
        if let Some((Ok(start), Ok(end))) = bounds {
            here = (start..end).contains(&at);
        } else if here && first == "ShmemPmdMapped:" {
            return words.next().unwrap().parse().unwrap();
        }
    }
    panic!("nothing is mapped at {at:#x}");
}

impl Group {
    fn resident(&self, id: i32) -> u64 {
        self.broker
            .table()
            .registry
            .segment(id)
            .unwrap()
            .backing
            .resident_pages()
    }
    fn host_pages(&self, id: i32) -> HostPages {
        self.broker
            .history()
            .iter()
            .find(|life| life.id == id)
            .unwrap()
            .host_pages
    }
}

#[test]
fn large_segments_get_large_pages_one_by_one_as_they_are_touched() {
    let group = group(2);
    let expected = if host_has_large_pages() {
        HostPages::Large
    } else {
        HostPages::Small
    };
    let id = group.make(0, IPC_PRIVATE, 3 * LARGE + 5);
    assert_eq!(group.host_pages(id), expected);
    let (here, there) = (
        group.attach(0, id, 0).unwrap(),
        group.attach(1, id, SHM_RDONLY).unwrap(),
    );
    assert!(here.gpa.is_multiple_of(LARGE) && there.gpa.is_multiple_of(LARGE));
    assert_eq!(group.resident(id), 0);
    group.vms[0].write(here.gpa + LARGE + 5000, 7);
    assert_eq!(group.vms[1].read(there.gpa + LARGE + 5000), 7);
    // The last page is no whole large one, and nothing lies behind it.
    group.vms[0].write(here.gpa + 3 * LARGE, 8);
    if expected == HostPages::Large {
        assert_eq!(mapped_large(&group.vms[0], here.gpa), 2048);
        let resident = group.resident(id);
        assert!((513..1024).contains(&resident), "{resident}");
    } else {
        assert_eq!(group.resident(id), 2);
    }
}

#[test]
fn a_hole_in_a_large_page_is_zero_for_everyone_and_the_rest_stays() {
    let group = group(2);
    let id = group.make(0, IPC_PRIVATE, 2 * LARGE);
    let (here, there) = (
        group.attach(0, id, 0).unwrap(),
        group.attach(1, id, SHM_RDONLY).unwrap(),
    );
    let pages = 2 * LARGE / PAGE_SIZE;
    for page in 0..pages {
        group.vms[0].write(here.gpa + page * PAGE_SIZE, 7);
    }
    group.broker.punch(0, id, 3 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    for page in 0..pages {
        let expected = if (3..5).contains(&page) { 0 } else { 7 };
        assert_eq!(
            group.vms[1].read(there.gpa + page * PAGE_SIZE),
            expected,
            "page {page}"
        );
    }
    group.broker.punch(0, id, 0, 2 * LARGE).unwrap();
    assert_eq!(group.resident(id), 0);
}

#[test]
fn without_large_pages_and_below_their_size_segments_are_sealed_memfds() {
    let mut group = group(1);
    let small = group.make(0, IPC_PRIVATE, LARGE - PAGE_SIZE);
    group.broker.large_pages = LargePages::none();
    let large = group.make(0, IPC_PRIVATE, 3 * LARGE);
    for id in [small, large] {
        assert_eq!(group.host_pages(id), HostPages::Small);
        let memory = group
            .broker
            .table()
            .registry
            .segment(id)
            .unwrap()
            .backing
            .memory();
        let seals = fcntl_get_seals(memory.as_fd()).unwrap();
        assert_eq!(seals.bits() & 7, 7, "{seals:?}");
        let at = group.attach(0, id, 0).unwrap();
        group.vms[0].write(at.gpa + LARGE - PAGE_SIZE - 1, 7);
        assert_eq!(group.resident(id), 1);
    }
}
