//! A window's range that could not be mapped. Alone in its process: another thread that maps memory at the wrong moment
//! would be the catastrophe that this is about.

use abi::Errno;
use abi::memory::WindowLayout;
use paging::{GuestPhys, PAGE_SIZE};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use tombolo::window::{SlotRegistrar, Window, WindowKind};

const LAYOUT: WindowLayout = WindowLayout {
    rw_base: 1 << 36,
    ro_base: 1 << 37,
    size: 4 << 30,
};

struct Unregistered;

impl SlotRegistrar for Unregistered {
    fn register(&self, _: u32, _: GuestPhys, _: *mut u8, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// The permissions of what is mapped at an address, if anything is.
fn permissions(at: u64) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        (number(start)?..number(end)?)
            .contains(&at)
            .then(|| rest[..4].to_owned())
    })
}

/// Linux may fail to map something over what was there when that is gone already. Whatever this process maps next would
/// lie under the guest then.
#[test]
fn a_range_that_could_not_be_mapped_is_closed_again() {
    let mut window = Window::new(LAYOUT, 10, Box::new(Unregistered)).unwrap();
    // Sockets can't be mapped, which Linux finds out late.
    let (socket, _other) = UnixDatagram::pair().unwrap();
    for (which, gpa) in [
        (WindowKind::ReadWrite, LAYOUT.rw_base),
        (WindowKind::ReadOnly, LAYOUT.ro_base),
    ] {
        for pages in [1, 3, 1024] {
            let refused = window.splice(which, socket.as_fd(), pages, PAGE_SIZE);
            assert_eq!(refused, Err(Errno::ENOMEM));
            let host = window.host_address(which, GuestPhys::new(gpa)).unwrap();
            for page in 0..pages {
                let at = host.addr() as u64 + page * PAGE_SIZE;
                assert_eq!(permissions(at).as_deref(), Some("---p"), "page {page}");
            }
        }
    }
}
