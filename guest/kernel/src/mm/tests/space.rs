//! Single cases: what the random sequences hit too rarely, and what they can't see.

use super::super::area::{Area, Backing, Prot, SegmentRef, Window};
use super::super::fault::{Access, Fault};
use super::super::frames::FrameRun;
use super::super::{AddressSpace, Memory, Placement, Run};
use super::scarce::Scarce;
use super::{FILE, FakeWorld, KERNEL_ROOT, end, leaves, loaded_space, memory};
use crate::arch::direct;
use abi::memory::USER_END;
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, lookup};

pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);
pub(super) const BASE: GuestVirt = GuestVirt::new(0x4000_0000);
const WINDOW: GuestPhys = GuestPhys::new(0x40_0000_0000);

pub(super) struct Guest {
    pub(super) memory: Memory,
    pub(super) world: FakeWorld,
    pub(super) space: AddressSpace,
}

pub(super) fn guest() -> Guest {
    let mut memory = memory();
    let space = loaded_space(&mut memory);
    Guest {
        memory,
        world: FakeWorld::default(),
        space,
    }
}

pub(super) fn page(number: u64) -> GuestVirt {
    BASE.add(number * PAGE_SIZE)
}

pub(super) fn segment(id: i32, window: Window, pages: u64) -> SegmentRef {
    let gpa = WINDOW.add(id as u64 * 8 * LARGE_PAGE_SIZE);
    SegmentRef {
        id,
        window,
        attach: 0,
        key: 0,
        gpa,
        size: pages * PAGE_SIZE,
        offset: 0,
    }
}

impl Guest {
    pub(super) fn map(
        &mut self,
        at: Placement,
        pages: u64,
        prot: Prot,
        backing: Backing,
    ) -> Result<GuestVirt, Errno> {
        let Guest { memory, world, space } = self;
        space.map(memory, world, at, pages * PAGE_SIZE, prot, Prot::all(), backing)
    }

    pub(super) fn anonymous(&mut self, at: GuestVirt, pages: u64) {
        self.map(Placement::FixedNoReplace(at), pages, RW, Backing::Anonymous)
            .unwrap();
    }

    pub(super) fn attach(&mut self, at: Option<GuestVirt>, segment: SegmentRef) -> Result<GuestVirt, Errno> {
        let Guest { memory, world, space } = self;
        let prot = if segment.window == Window::ReadOnly {
            Prot::READ
        } else {
            RW
        };
        let answer = space.attach(memory, world, at, segment, prot);
        *world.attaches.entry(segment.id).or_default() += i64::from(answer.is_ok());
        answer
    }

    pub(super) fn unmap(&mut self, at: GuestVirt, pages: u64) -> Result<(), Errno> {
        self.space
            .unmap(&mut self.memory, &mut self.world, at, pages * PAGE_SIZE)
    }

    pub(super) fn protect(&mut self, at: GuestVirt, pages: u64, prot: Prot) -> Result<(), Errno> {
        self.space
            .protect(&mut self.memory, &mut self.world, at, pages * PAGE_SIZE, prot)
    }

    pub(super) fn detach(&mut self, at: GuestVirt) -> Result<(), Errno> {
        self.space.detach(&mut self.memory, &mut self.world, at)
    }

    pub(super) fn fault(&mut self, at: GuestVirt, access: Access) -> Result<(), Fault> {
        self.space.fault(&mut self.memory, &mut self.world, at, access)
    }

    pub(super) fn write(&mut self, at: GuestVirt, bytes: &[u8]) -> Result<(), Errno> {
        self.space
            .write(&mut self.memory, &mut self.world, at.get(), bytes)
    }

    pub(super) fn read<const N: usize>(&mut self, at: GuestVirt) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.space
            .read(&mut self.memory, &mut self.world, at.get(), &mut bytes)?;
        Ok(bytes)
    }

    /// Works while only `left` frames are free.
    pub(super) fn with_frames<R>(&mut self, left: u64, work: impl FnOnce(&mut Guest) -> R) -> R {
        let withheld = Scarce::Frames(left).begin(&mut self.memory, &mut self.world);
        let result = work(self);
        withheld.end(&mut self.memory, &mut self.world);
        result
    }

    pub(super) fn areas(&self) -> Vec<Area> {
        let mut areas = vec![];
        let mut at = GuestVirt::new(0);
        while let Some(area) = self.space.areas.first_from(&self.memory.areas, at) {
            areas.push(*area);
            at = area.end;
        }
        areas
    }

    pub(super) fn nattch(&self, id: i32) -> i64 {
        self.world.attaches[&id]
    }

    pub(super) fn sizes(&self) -> Vec<u64> {
        leaves(&self.memory, &self.space)
            .iter()
            .map(|leaf| leaf.size)
            .collect()
    }

    pub(super) fn end(mut self) {
        end(&mut self.memory, &mut self.world, self.space);
        assert_eq!(self.memory.frames.free_frames(), self.memory.frames.total());
        assert!(self.world.attaches.values().all(|&left| left == 0));
    }
}

#[test]
fn the_kernel_half_is_shared_and_left_alone_at_the_end() {
    let guest = guest();
    for index in [256, 511] {
        let entry = direct::load64(KERNEL_ROOT.add(8 * index));
        assert!(entry != 0 && direct::load64(guest.space.root().add(8 * index)) == entry);
    }
    let root = guest.space.root();
    guest.end();
    assert_eq!(direct::load64(root.add(8 * 511)), 0);
}

#[test]
fn large_areas_get_large_pages_that_come_back_whole_and_zeroed() {
    let mut guest = guest();
    let mut runs = vec![];
    for _ in 0..2 {
        guest.anonymous(page(0), 1024);
        assert_eq!(guest.read::<1>(page(700)), Ok([0]));
        guest.write(page(700), &[9]).unwrap();
        assert_eq!(guest.sizes(), [LARGE_PAGE_SIZE]);
        runs.push(leaves(&guest.memory, &guest.space)[0].phys);
        guest.unmap(page(0), 1024).unwrap();
    }
    assert_eq!(runs[0], runs[1]);
    guest.end();
}

#[test]
fn a_hole_in_a_large_page_that_no_table_is_left_for_changes_nothing() {
    let mut guest = guest();
    let at = guest
        .attach(Some(BASE), segment(1, Window::ReadWrite, 1024))
        .unwrap();
    assert_eq!(guest.sizes(), [LARGE_PAGE_SIZE; 2]);
    let areas = guest.areas();
    guest.with_frames(0, |guest| {
        assert_eq!(guest.unmap(at.add(PAGE_SIZE), 1), Err(Errno::ENOMEM));
        assert_eq!(
            guest.protect(at.add(PAGE_SIZE), 1, Prot::READ),
            Err(Errno::ENOMEM)
        );
    });
    assert_eq!((guest.areas(), guest.nattch(1)), (areas, 1));
    guest.unmap(at.add(PAGE_SIZE), 1).unwrap();
    assert_eq!(guest.nattch(1), 2);
    guest.detach(at).unwrap();
    assert_eq!((guest.areas(), guest.nattch(1)), (vec![], 0));
    guest.end();
}

#[test]
fn pages_shown_from_the_image_become_copies_when_they_may_be_written() {
    let mut guest = guest();
    direct::write(FILE, &[1; 3 * PAGE_SIZE as usize]);
    let image = Backing::Image {
        phys: FILE,
        len: 3 * PAGE_SIZE,
    };
    guest.map(Placement::Fixed(BASE), 3, Prot::READ, image).unwrap();
    assert_eq!(guest.read::<1>(page(1)), Ok([1]));
    assert_eq!(
        lookup(&guest.memory.frames, guest.space.root(), page(1))
            .unwrap()
            .phys,
        FILE.add(PAGE_SIZE)
    );
    assert_eq!(guest.write(page(1), &[2]), Err(Errno::EFAULT));
    guest.protect(BASE, 3, RW).unwrap();
    guest.write(page(1), &[2]).unwrap();
    // Read-only again: the copy stays, and what is new is shown in place.
    guest.unmap(page(2), 1).unwrap();
    guest.protect(BASE, 2, Prot::READ).unwrap();
    assert_eq!(guest.read::<1>(page(1)), Ok([2]));
    let mut file = [0; 3 * PAGE_SIZE as usize];
    direct::read(FILE, &mut file);
    assert!(file.iter().all(|&byte| byte == 1));
    guest.end();
}

#[test]
fn what_follows_the_last_valid_byte_of_an_image_is_zero() {
    for prot in [Prot::READ, RW] {
        let mut guest = guest();
        direct::write(FILE, &[1; 2 * PAGE_SIZE as usize]);
        let image = Backing::Image {
            phys: FILE,
            len: PAGE_SIZE + 2,
        };
        guest.map(Placement::Fixed(BASE), 3, prot, image).unwrap();
        guest.with_frames(40, |guest| {
            assert_eq!(guest.read::<4>(page(1)), Ok([1, 1, 0, 0]));
            assert_eq!(guest.read::<4>(page(2)), Ok([0; 4]));
            assert_eq!(guest.read::<4>(page(0)), Ok([1; 4]));
        });
        guest.end();
    }
}

#[test]
fn a_few_frames_left_go_to_the_page_that_is_needed() {
    let mut guest = guest();
    guest.anonymous(page(0), 64);
    guest.with_frames(4, |guest| {
        assert_eq!(guest.fault(page(40), Access::Write), Ok(()));
        assert_eq!(guest.fault(page(20), Access::Write), Err(Fault::OutOfMemory));
    });
    guest.with_frames(2, |guest| {
        // Now there are tables: two pages, the last of them the one that is needed.
        assert_eq!(guest.fault(page(60), Access::Write), Ok(()));
        assert_eq!(guest.memory.frames.free_frames(), 0);
    });
    assert_eq!(guest.fault(page(20), Access::Write), Ok(()));
    guest.end();
}

#[test]
fn tables_taken_in_vain_are_free_again() {
    let mut guest = guest();
    guest
        .map(
            Placement::Fixed(BASE),
            3,
            Prot::READ,
            Backing::Image {
                phys: FILE,
                len: 3 * PAGE_SIZE,
            },
        )
        .unwrap();
    guest.with_frames(2, |guest| {
        assert_eq!(guest.fault(BASE, Access::Read), Err(Fault::OutOfMemory));
        assert_eq!(guest.memory.frames.free_frames(), 2);
    });
    guest.end();
}

#[test]
fn faults_run_ahead_within_the_window_and_around_what_is_there() {
    let mut guest = guest();
    guest.anonymous(page(3), 40);
    guest.fault(page(20), Access::Read).unwrap();
    let seen = |guest: &Guest| -> Vec<u64> {
        leaves(&guest.memory, &guest.space)
            .iter()
            .map(|leaf| (leaf.virt.get() - BASE.get()) / PAGE_SIZE)
            .collect()
    };
    assert_eq!(seen(&guest), (16..32).collect::<Vec<_>>());
    guest.unmap(page(18), 1).unwrap();
    guest.anonymous(page(18), 1);
    guest.fault(page(18), Access::Read).unwrap();
    guest.fault(page(4), Access::Read).unwrap();
    assert_eq!(seen(&guest), (3..32).collect::<Vec<_>>());
    guest.end();
}

#[test]
fn the_pages_of_an_attach_that_finds_no_tables_come_when_they_are_touched() {
    let mut guest = guest();
    guest.with_frames(2, |guest| {
        guest
            .attach(Some(BASE), segment(1, Window::ReadWrite, 5))
            .unwrap();
        assert_eq!(guest.memory.frames.free_frames(), 2);
        assert_eq!(guest.sizes(), vec![]);
        assert_eq!(guest.fault(page(1), Access::Write), Err(Fault::OutOfMemory));
    });
    guest.fault(page(1), Access::Write).unwrap();
    let leaf = lookup(&guest.memory.frames, guest.space.root(), page(1)).unwrap();
    assert_eq!(leaf.phys, segment(1, Window::ReadWrite, 5).gpa.add(PAGE_SIZE));
    assert_eq!(guest.sizes(), vec![PAGE_SIZE; 5]);
    guest.end();
}

#[test]
fn mmap_refuses_what_linux_refuses() {
    let mut guest = guest();
    let mut map = |at, pages| guest.map(at, pages, RW, Backing::Anonymous);
    assert_eq!(map(Placement::Anywhere, 0), Err(Errno::EINVAL));
    assert_eq!(map(Placement::Fixed(BASE.add(5)), 1), Err(Errno::EINVAL));
    assert_eq!(map(Placement::Fixed(GuestVirt::new(0)), 1), Err(Errno::EPERM));
    assert_eq!(
        map(Placement::Fixed(GuestVirt::new(USER_END)), 1),
        Err(Errno::ENOMEM)
    );
    assert_eq!(
        map(Placement::Fixed(GuestVirt::new(u64::MAX - 4095)), 1),
        Err(Errno::ENOMEM)
    );
    assert_eq!(map(Placement::Anywhere, 1 << 36), Err(Errno::ENOMEM));
    // More than all memory, to be written; for reading it may be reserved.
    assert_eq!(map(Placement::Anywhere, 1 << 20), Err(Errno::ENOMEM));
    assert!(
        guest
            .map(Placement::Anywhere, 1 << 20, Prot::empty(), Backing::Anonymous)
            .is_ok()
    );
    let Guest { memory, world, space } = &mut guest;
    assert_eq!(space.unmap(memory, world, BASE.add(1), 1), Err(Errno::EINVAL));
    assert_eq!(space.unmap(memory, world, BASE, 0), Err(Errno::EINVAL));
    assert_eq!(space.unmap(memory, world, BASE, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(space.unmap(memory, world, GuestVirt::new(0), USER_END), Ok(()));
    assert_eq!(
        space.protect(memory, world, BASE, u64::MAX, RW),
        Err(Errno::ENOMEM)
    );
    assert_eq!(space.protect(memory, world, BASE, 0, RW), Ok(()));
    assert_eq!(space.advise(memory, world, BASE, 0, 99), Err(Errno::EINVAL));
    assert_eq!(space.set_break(memory, world, 0x1000_0000), 0);
    guest.end();
}

#[test]
fn copies_cross_pages_and_stop_where_the_program_may_not_go() {
    let mut guest = guest();
    guest.anonymous(page(0), 2);
    let bytes: Vec<u8> = (0..100).collect();
    guest
        .write(page(1).align_down(PAGE_SIZE).add(PAGE_SIZE - 150), &[3; 100])
        .unwrap();
    guest.write(GuestVirt::new(page(1).get() - 50), &bytes).unwrap();
    assert_eq!(
        guest.read::<100>(GuestVirt::new(page(1).get() - 50)).unwrap()[..],
        bytes[..]
    );
    assert_eq!(
        guest.write(page(2).align_down(PAGE_SIZE), &[1]),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        guest.write(GuestVirt::new(page(2).get() - 1), &[1, 2]),
        Err(Errno::EFAULT)
    );
    for address in [0, USER_END, u64::MAX, u64::MAX - 3, 0xffff_8000_0000_0000] {
        assert_eq!(
            guest.read::<4>(GuestVirt::new(address)),
            Err(Errno::EFAULT),
            "{address:#x}"
        );
    }
    guest.protect(page(0), 2, Prot::empty()).unwrap();
    assert_eq!(guest.read::<1>(page(0)), Err(Errno::EFAULT));
    guest.end();
}

#[test]
fn runs_are_as_long_as_memory_is_contiguous_and_never_name_a_window() {
    let mut guest = guest();
    guest.anonymous(page(0), 16);
    // The pages come from two places that are not next to each other.
    let run = guest.memory.frames.take(3).unwrap();
    guest.memory.frames.give_back(FrameRun { dirty: true, ..run });
    guest
        .attach(Some(page(16)), segment(1, Window::ReadWrite, 2))
        .unwrap();
    let Guest { memory, world, space } = &mut guest;
    let start = page(0).get() + 10;
    let Ok(Run::Ram(phys, len)) = space.run(memory, world, start, 1 << 20, Access::Read) else {
        panic!("anonymous memory is RAM");
    };
    let leaves = leaves(memory, space);
    let in_a_row = leaves
        .windows(2)
        .take_while(|pair| pair[1].phys == pair[0].phys.add(PAGE_SIZE))
        .count() as u64;
    assert!((1..15).contains(&in_a_row));
    assert_eq!(
        (phys, len),
        (leaves[0].phys.add(10), (in_a_row + 1) * PAGE_SIZE - 10)
    );
    assert_eq!(
        space.run(memory, world, start, 100, Access::Write),
        Ok(Run::Ram(phys, 100))
    );
    let in_segment = space.run(memory, world, page(16).get() + 1, 1 << 20, Access::Read);
    assert_eq!(in_segment, Ok(Run::Segment(2 * PAGE_SIZE - 1)));
    assert_eq!(
        space.run(memory, world, page(18).get(), 1, Access::Read),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        space.run(memory, world, start, 1, Access::Execute),
        Err(Errno::EFAULT)
    );
    guest.end();
}

#[test]
fn dropped_pages_read_as_zero_again_and_segments_keep_theirs() {
    let mut guest = guest();
    guest.anonymous(page(0), 2);
    guest
        .attach(Some(page(2)), segment(1, Window::ReadWrite, 1))
        .unwrap();
    for number in 0..3 {
        guest.write(page(number), &[7]).unwrap();
    }
    let Guest { memory, world, space } = &mut guest;
    space.advise(memory, world, page(1), 2 * PAGE_SIZE, 4).unwrap();
    assert_eq!(
        space.advise(memory, world, page(1), 3 * PAGE_SIZE, 4),
        Err(Errno::ENOMEM)
    );
    let seen = [0, 1, 2].map(|number| guest.read::<1>(page(number)).unwrap()[0]);
    assert_eq!(seen, [7, 0, 7]);
    guest.end();
}
