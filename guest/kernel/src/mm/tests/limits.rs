//! RLIMIT_AS, RLIMIT_DATA and RLIMIT_STACK, and the stack that grows.

use super::super::area::{Advice, Backing, Prot};
use super::super::{Access, AddressSpace, Fault, Limits, Memory, Placement};
use super::{FakeWorld, end, loaded_space, memory};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const TOP: u64 = 0x7fff_0000_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const FREE: Limits = Limits {
    locked: u64::MAX,
    addresses: u64::MAX,
    data: [u64::MAX; 2],
    stack: 8 << 20,
};

struct Guest {
    memory: Memory,
    world: FakeWorld,
    space: AddressSpace,
}

impl Guest {
    fn new(limits: Limits) -> Guest {
        let mut memory = memory();
        let mut space = loaded_space(&mut memory);
        space.limits = Some(limits);
        let world = FakeWorld::default();
        Guest { memory, world, space }
    }

    /// `pages` pages that end at `end`.
    fn map(
        &mut self,
        end: u64,
        pages: u64,
        prot: Prot,
        backing: Backing,
        advice: Advice,
    ) -> Result<(), Errno> {
        let at = Placement::Fixed(GuestVirt::new(end - pages * PAGE_SIZE));
        let (memory, world) = (&mut self.memory, &mut self.world);
        self.space
            .map_advised(
                memory,
                world,
                at,
                pages * PAGE_SIZE,
                prot,
                Prot::all(),
                backing,
                advice,
            )
            .map(drop)
    }

    fn stack(&mut self, pages: u64) {
        self.map(TOP, pages, RW, Backing::Anonymous, Advice::GROWS)
            .unwrap();
    }

    /// Touches the page that is `pages` pages below the top.
    fn touch(&mut self, pages: u64) -> Result<(), Fault> {
        let addr = GuestVirt::new(TOP - pages * PAGE_SIZE + 7);
        self.space
            .fault(&mut self.memory, &mut self.world, addr, Access::Write)
    }

    fn finish(mut self) {
        end(&mut self.memory, &mut self.world, self.space);
        assert_eq!(self.memory.frames.free_frames(), self.memory.frames.total());
    }
}

#[test]
fn a_stack_grows_to_its_limit_and_to_no_page_beyond() {
    for most in [4, 16, 33, 2048] {
        let stack = most * PAGE_SIZE + 5;
        let mut guest = Guest::new(Limits { stack, ..FREE });
        guest.stack(2);
        assert_eq!(guest.touch(most + 1), Err(Fault::NotMapped));
        assert_eq!(guest.touch(most), Ok(()));
        assert_eq!(guest.touch(most + 1), Err(Fault::NotMapped));
        assert_eq!(guest.touch(most - 1), Ok(()));
        guest.finish();
    }
}

#[test]
fn a_stack_stays_away_from_what_can_be_used_below_it() {
    for (prot, gap) in [(RW, 256), (Prot::READ, 256), (Prot::empty(), 0)] {
        let mut guest = Guest::new(FREE);
        guest.stack(2);
        guest
            .map(
                TOP - 500 * PAGE_SIZE,
                1,
                prot,
                Backing::Anonymous,
                Advice::empty(),
            )
            .unwrap();
        assert_eq!(
            guest.touch(500 - gap + 1),
            Err(if gap == 0 {
                Fault::NotAllowed
            } else {
                Fault::NotMapped
            })
        );
        assert_eq!(guest.touch(500 - gap), Ok(()));
        guest.finish();
    }
}

#[test]
fn what_is_mapped_touched_or_not_counts_for_the_address_space() {
    let addresses = 10 * PAGE_SIZE + 1;
    let mut guest = Guest::new(Limits { addresses, ..FREE });
    let (none, zeros) = (Advice::empty(), Backing::Anonymous);
    guest.map(TOP, 8, Prot::empty(), zeros, none).unwrap();
    assert_eq!(guest.map(TOP / 2, 3, RW, zeros, none), Err(Errno::ENOMEM));
    guest.map(TOP / 2, 2, RW, zeros, none).unwrap();
    // What is replaced counts no more.
    guest.map(TOP, 8, RW, zeros, none).unwrap();
    assert_eq!(guest.map(TOP, 9, RW, zeros, none), Err(Errno::ENOMEM));
    let at = |page: u64| Some(GuestVirt::new(TOP - page * PAGE_SIZE));
    assert_eq!(guest.space.may_attach(&guest.memory, None), 0);
    assert_eq!(guest.space.may_attach(&guest.memory, at(8)), 8 * PAGE_SIZE);
    assert_eq!(guest.space.may_attach(&guest.memory, at(9)), 0);
    let (memory, world) = (&mut guest.memory, &mut guest.world);
    guest
        .space
        .unmap(memory, world, at(4).unwrap(), PAGE_SIZE)
        .unwrap();
    assert_eq!(guest.space.may_attach(&guest.memory, at(9)), 5 * PAGE_SIZE);
    assert_eq!(guest.space.may_attach(&guest.memory, at(8)), 8 * PAGE_SIZE);
    guest.finish();
}

#[test]
fn what_can_be_written_to_and_is_private_counts_as_data() {
    let data = [3 * PAGE_SIZE; 2];
    let mut guest = Guest::new(Limits { data, ..FREE });
    let none = Advice::empty();
    guest.stack(5);
    guest
        .map(TOP / 2, 9, Prot::READ, Backing::Anonymous, none)
        .unwrap();
    guest
        .map(
            TOP / 4,
            9,
            RW,
            Backing::SharedAnonymous {
                byte: 0,
                first: 0,
                len: 9 * PAGE_SIZE,
            },
            none,
        )
        .unwrap();
    guest.map(TOP / 8, 2, RW, Backing::Anonymous, none).unwrap();
    assert_eq!(
        guest.map(TOP / 16, 2, RW, Backing::Anonymous, none),
        Err(Errno::ENOMEM)
    );
    let (memory, world) = (&mut guest.memory, &mut guest.world);
    let start = GuestVirt::new(TOP / 2 - 9 * PAGE_SIZE);
    let protect = guest.space.protect(memory, world, start, 2 * PAGE_SIZE, RW);
    assert_eq!(protect, Err(Errno::ENOMEM));
    assert_eq!(guest.space.protect(memory, world, start, PAGE_SIZE, RW), Ok(()));
    guest.finish();
}
