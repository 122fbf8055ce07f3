//! Areas that show objects: what is there, what is not any more, and copies.

use super::*;
use crate::mm::area::{Backing, FilePart, Prot};
use crate::mm::{Access, Fault, FileId, Placement, Taken};
use paging::{LARGE_PAGE_SIZE, Rights, lookup};

const SERIAL: u64 = 7;
const OBJECT: FileId = FileId(9);
const RW: Prot = Prot::READ.union(Prot::WRITE);

struct Shown {
    memory: Memory,
    world: FakeWorld,
    space: AddressSpace,
}

impl Shown {
    fn new(size: u64) -> Shown {
        let mut memory = memory();
        memory.contents.be_object(OBJECT, SERIAL, size, 0);
        let space = loaded_space(&mut memory);
        let world = FakeWorld {
            objects: BTreeMap::from([(SERIAL, size)]),
            ..FakeWorld::default()
        };
        Shown { memory, world, space }
    }

    fn map(&mut self, len: u64, prot: Prot, may: Prot, shared: bool) -> GuestVirt {
        let Shown { memory, world, space } = self;
        let backing = Backing::File(FilePart {
            file: OBJECT,
            offset: 0,
            shared,
        });
        let at = space
            .map(memory, world, Placement::Anywhere, len, prot, may, backing)
            .unwrap();
        space.show_object(memory, world, at).unwrap();
        at
    }

    fn fault(&mut self, at: GuestVirt, access: Access) -> Result<(), Fault> {
        self.space.fault(&mut self.memory, &mut self.world, at, access)
    }

    fn leaf(&self, at: GuestVirt) -> Option<(u64, Rights)> {
        let leaf = lookup(&self.memory.frames, self.space.root(), at)?;
        Some((leaf.phys.get() + at.get() - leaf.virt.get(), leaf.rights))
    }

    /// The broker says so, and this guest has to let go of what is past it.
    fn shrink(&mut self, size: u64) {
        let Shown { memory, world, space } = self;
        world.objects.insert(SERIAL, size);
        memory.contents.set_size(OBJECT, size);
        let gone = (size.next_multiple_of(PAGE_SIZE), u64::MAX >> 1);
        space.take_file(memory, world, OBJECT, gone, Taken::All);
    }

    /// Everything goes, and no frame is missing.
    fn end(mut self, free: u64) {
        end(&mut self.memory, &mut self.world, self.space);
        let mut ranges = 0;
        while self.memory.take_range(OBJECT).is_some() {
            ranges += 1;
        }
        assert_eq!(ranges, self.world.ranges);
        assert_eq!(self.memory.frames.free_frames(), free);
    }
}

fn free(size: u64) -> u64 {
    let mut shown = Shown::new(size);
    end(&mut shown.memory, &mut shown.world, shown.space);
    shown.memory.frames.free_frames()
}

#[test]
fn what_there_is_of_an_object_is_mapped_at_once_and_what_is_not_is_beyond_its_end() {
    let free = free(0);
    let mut shown = Shown::new(2 * PAGE_SIZE + 1);
    let at = shown.map(5 * PAGE_SIZE, RW, Prot::all(), true);
    for page in 0..3 {
        let (phys, rights) = shown.leaf(at.add(page * PAGE_SIZE)).unwrap();
        assert_eq!(phys, (1 << 44) + (1 << 32) + page * PAGE_SIZE);
        assert!(rights.contains(Rights::WRITE) && !rights.contains(Rights::COUNTED));
    }
    let beyond = at.add(3 * PAGE_SIZE);
    assert_eq!(shown.fault(beyond, Access::Read), Err(Fault::BeyondEnd));
    // Somebody makes it longer: nobody is told, and a fault finds out.
    shown.world.objects.insert(SERIAL, 4 * PAGE_SIZE);
    assert_eq!(shown.fault(beyond, Access::Write), Ok(()));
    assert_eq!(
        shown.fault(at.add(4 * PAGE_SIZE), Access::Read),
        Err(Fault::BeyondEnd)
    );
    assert_eq!(shown.world.ranges, 1);
    shown.end(free);
}

#[test]
fn who_may_not_write_gets_the_read_only_window() {
    let free = free(0);
    let mut shown = Shown::new(PAGE_SIZE);
    let reader = shown.map(PAGE_SIZE, Prot::READ, Prot::READ, true);
    let later = shown.map(PAGE_SIZE, Prot::READ, Prot::all(), true);
    assert!(shown.leaf(reader).unwrap().0 >= 1 << 45);
    let (phys, rights) = shown.leaf(later).unwrap();
    assert!(phys < 1 << 45 && !rights.contains(Rights::WRITE));
    let Shown { memory, world, space } = &mut shown;
    space.protect(memory, world, later, PAGE_SIZE, RW).unwrap();
    let (same, rights) = shown.leaf(later).unwrap();
    assert!(same == phys && rights.contains(Rights::WRITE) && !rights.contains(Rights::COUNTED));
    shown.end(free);
}

#[test]
fn a_private_area_follows_the_object_until_it_is_written_to() {
    let free = free(0);
    let mut shown = Shown::new(3 * PAGE_SIZE);
    let at = shown.map(3 * PAGE_SIZE, RW, Prot::all(), false);
    shown.fault(at, Access::Read).unwrap();
    let (phys, rights) = shown.leaf(at).unwrap();
    assert!(phys >= 1 << 45 && !rights.contains(Rights::WRITE));
    for page in 0..2 {
        let here = at.add(page * PAGE_SIZE);
        shown.fault(here, Access::Write).unwrap();
        let (phys, rights) = shown.leaf(here).unwrap();
        assert!(shown.memory.frames.owns(GuestPhys::new(phys)) && rights.contains(Rights::WRITE));
        let mut byte = [0];
        direct::read(GuestPhys::new(phys + 4095), &mut byte);
        assert_eq!(byte, [page as u8 + 1]);
    }
    // As on Linux copies go with what is cut off, those before stay.
    shown.shrink(PAGE_SIZE);
    assert!(shown.leaf(at).is_some());
    assert_eq!(shown.leaf(at.add(PAGE_SIZE)), None);
    assert_eq!(
        shown.fault(at.add(PAGE_SIZE), Access::Read),
        Err(Fault::BeyondEnd)
    );
    shown.end(free);
}

#[test]
fn what_is_cut_off_goes_also_out_of_large_leaves_and_the_rest_comes_back() {
    let free = free(0);
    let size = 2 * LARGE_PAGE_SIZE;
    let mut shown = Shown::new(size);
    let at = shown.map(size, RW, Prot::all(), true);
    let second = at.add(LARGE_PAGE_SIZE);
    assert!(at.is_aligned(LARGE_PAGE_SIZE));
    assert_eq!(
        lookup(&shown.memory.frames, shown.space.root(), second)
            .unwrap()
            .size,
        LARGE_PAGE_SIZE
    );
    shown.world.flushed.clear();
    shown.shrink(LARGE_PAGE_SIZE + 5 * PAGE_SIZE);
    assert_ne!(shown.world.flushed, []);
    assert_eq!(shown.leaf(second.add(5 * PAGE_SIZE)), None);
    assert!(shown.leaf(at).is_some());
    shown.fault(second.add(4 * PAGE_SIZE), Access::Write).unwrap();
    assert!(shown.leaf(second).is_some());
    assert_eq!(shown.leaf(second.add(5 * PAGE_SIZE)), None);
    shown.end(free);
}

#[test]
fn a_child_a_moved_area_and_a_part_of_one_show_the_same_without_a_range_more() {
    let free = free(0);
    let mut shown = Shown::new(4 * PAGE_SIZE);
    let at = shown.map(4 * PAGE_SIZE, RW, Prot::all(), true);
    let first = shown.leaf(at).unwrap();
    let Shown { memory, world, space } = &mut shown;
    let mut child = space.fork(memory, world).unwrap();
    assert_eq!(
        lookup(&memory.frames, child.root(), at).map(|leaf| leaf.phys.get()),
        Some(first.0)
    );
    space.unmap(memory, world, at.add(PAGE_SIZE), PAGE_SIZE).unwrap();
    let to = GuestVirt::new(0x1000_0000);
    const MAYMOVE_FIXED: u64 = 3;
    space
        .remap(
            memory,
            world,
            at.add(2 * PAGE_SIZE),
            2 * PAGE_SIZE,
            3 * PAGE_SIZE,
            MAYMOVE_FIXED,
            to,
        )
        .unwrap();
    assert_eq!(shown.fault(to.add(PAGE_SIZE), Access::Write), Ok(()));
    assert_eq!(shown.leaf(to.add(PAGE_SIZE)).unwrap().0, first.0 + 3 * PAGE_SIZE);
    // The area has grown past the end; when the object follows, a range more shows the rest.
    assert_eq!(
        shown.fault(to.add(2 * PAGE_SIZE), Access::Read),
        Err(Fault::BeyondEnd)
    );
    shown.world.objects.insert(SERIAL, 5 * PAGE_SIZE);
    assert_eq!(shown.fault(to.add(2 * PAGE_SIZE), Access::Read), Ok(()));
    child.loaded = 0;
    child.destroy(&mut shown.memory, &mut shown.world);
    shown.end(free);
}
