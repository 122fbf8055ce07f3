//! Single cases of attaches: what the random sequences hit too rarely, and what they can't see.

use super::super::area::{Prot, SegmentRef, Window};
use super::super::fault::{Access, Fault};
use super::Booking;
use super::Booking::{Gone, More};
use super::space::{BASE, Guest, RW, guest, page, segment};
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestVirt, Rights, lookup};

#[test]
fn detaching_takes_the_fragments_of_that_attach_only() {
    let mut guest = guest();
    let first = guest
        .attach(Some(page(0)), segment(1, Window::ReadWrite, 8))
        .unwrap();
    // A foreign segment at the very distance a fragment of the first would have, and one past its end.
    guest.unmap(page(2), 2).unwrap();
    guest
        .attach(Some(page(16)), segment(2, Window::ReadWrite, 8))
        .unwrap();
    let Guest { memory, world, space } = &mut guest;
    let flags = 3;
    space
        .remap(
            memory,
            world,
            page(18),
            2 * PAGE_SIZE,
            2 * PAGE_SIZE,
            flags,
            page(2),
        )
        .unwrap();
    space
        .remap(
            memory,
            world,
            page(6),
            2 * PAGE_SIZE,
            4 * PAGE_SIZE,
            flags,
            page(32),
        )
        .unwrap();
    space
        .remap(
            memory,
            world,
            page(32),
            4 * PAGE_SIZE,
            4 * PAGE_SIZE,
            flags,
            page(6),
        )
        .unwrap();
    // Back where it was, it joined the fragment before it.
    assert_eq!((guest.nattch(1), guest.nattch(2)), (2, 3));
    guest.detach(first).unwrap();
    // As Linux: a fragment that was made to reach past the segment's end stays.
    assert_eq!((guest.nattch(1), guest.nattch(2)), (1, 3));
    assert_eq!(guest.areas()[0].start, page(2));
    assert_eq!(guest.fault(page(8), Access::Read), Err(Fault::BeyondEnd));
    guest.end();
}

#[test]
fn a_page_moved_onto_another_of_its_own_attach_leaves_no_count_behind() {
    let mut guest = guest();
    let at = guest
        .attach(Some(page(0)), segment(1, Window::ReadWrite, 8))
        .unwrap();
    let Guest { memory, world, space } = &mut guest;
    space
        .remap(memory, world, page(4), PAGE_SIZE, PAGE_SIZE, 3, page(5))
        .unwrap();
    let fragments = guest
        .areas()
        .iter()
        .filter(|area| area.segment().is_some())
        .count();
    assert_eq!(guest.nattch(1), fragments as i64);
    guest.unmap(at, 8).unwrap();
    assert_eq!(guest.nattch(1), 0);
    guest.end();
}

#[test]
fn protecting_fragments_alike_never_makes_one_of_them() {
    // The sequence and the counts were measured on Linux 6.18.
    let mut guest = guest();
    let at = guest.attach(None, segment(1, Window::ReadWrite, 8)).unwrap();
    let mut counts = vec![];
    for (first, pages, prot) in [
        (0, 4, Prot::READ),
        (4, 2, Prot::READ),
        (2, 4, RW),
        (6, 2, Prot::READ),
        (0, 8, RW),
        (0, 8, Prot::READ),
    ] {
        guest.protect(at.add(first * PAGE_SIZE), pages, prot).unwrap();
        counts.push(guest.nattch(1));
    }
    assert_eq!(counts, [2, 2, 2, 3, 3, 3]);
    guest.detach(at).unwrap();
    assert_eq!(guest.nattch(1), 0);
    guest.end();
}

#[test]
fn a_read_only_attach_never_becomes_writable() {
    let mut guest = guest();
    let at = guest.attach(None, segment(1, Window::ReadOnly, 2)).unwrap();
    assert_eq!(guest.protect(at, 2, RW), Err(Errno::EACCES));
    assert_eq!(guest.write(at, &[1]), Err(Errno::EFAULT));
    assert_eq!(guest.fault(at, Access::Write), Err(Fault::NotAllowed));
    let rights = |guest: &Guest| {
        lookup(&guest.memory.frames, guest.space.root(), at)
            .unwrap()
            .rights
    };
    assert_eq!(rights(&guest), Rights::USER);
    guest.detach(at).unwrap();
    // The switch for tests lets it through to the hypervisor, in the tables and there only.
    guest.memory.writable_read_only = true;
    assert_eq!(guest.attach(Some(at), segment(1, Window::ReadOnly, 2)), Ok(at));
    assert_eq!(rights(&guest), Rights::USER | Rights::WRITE);
    assert_eq!(guest.write(at, &[1]), Err(Errno::EFAULT));
    guest.end();
}

#[test]
fn attaches_go_where_linux_would_let_them() {
    let mut guest = guest();
    guest.anonymous(page(4), 1);
    let small = segment(1, Window::ReadWrite, 5);
    assert_eq!(
        guest.space.room_at(&mut guest.memory, Some(page(0))),
        4 * PAGE_SIZE
    );
    assert_eq!(guest.space.room_at(&mut guest.memory, Some(page(4))), 0);
    assert_eq!(guest.attach(Some(page(0)), small), Err(Errno::EINVAL));
    assert_eq!(
        guest.attach(Some(BASE.add(8)), SegmentRef { size: 1, ..small }),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        guest.attach(Some(GuestVirt::new(USER_END - PAGE_SIZE)), small),
        Err(Errno::ENOMEM)
    );
    assert_eq!(guest.attach(Some(GuestVirt::new(0)), small), Err(Errno::EPERM));
    assert_eq!(
        guest.attach(Some(GuestVirt::new(MMAP_MIN_ADDR)), small),
        Ok(GuestVirt::new(MMAP_MIN_ADDR))
    );
    let large = segment(2, Window::ReadWrite, 513);
    assert_eq!(
        guest.attach(None, large).map(|at| at.is_aligned(LARGE_PAGE_SIZE)),
        Ok(true)
    );
    assert_eq!(
        guest.attach(
            None,
            SegmentRef {
                size: 1 << 48,
                ..large
            }
        ),
        Err(Errno::ENOMEM)
    );
    assert_eq!(guest.detach(page(4)), Err(Errno::EINVAL));
    assert_eq!(guest.detach(BASE.add(1)), Err(Errno::EINVAL));
    guest.end();
}

#[test]
fn a_thousand_attaches_and_detaches_leave_everything_as_it_was() {
    let mut guest = guest();
    let free = guest.memory.frames.free_frames();
    for round in 0..1000 {
        let pages = [1, 5, 512, 600][round % 4];
        let at = guest.attach(None, segment(1, Window::ReadWrite, pages)).unwrap();
        guest.detach(at).unwrap();
        assert_eq!(guest.detach(at), Err(Errno::EINVAL));
        assert_eq!((guest.memory.frames.free_frames(), guest.nattch(1)), (free, 0));
    }
    guest.end();
}

/// mremap with MREMAP_MAYMOVE | MREMAP_FIXED.
fn move_to(guest: &mut Guest, from: GuestVirt, pages: u64, to: GuestVirt) {
    let Guest { memory, world, space } = guest;
    let len = pages * PAGE_SIZE;
    space.remap(memory, world, from, len, len, 3, to).unwrap();
}

#[test]
fn what_is_cut_out_of_an_attach_is_first_split_off_and_then_gone() {
    // As measured on Linux 6.18 (tests/programs/conf_maps.c, `recorded`): the pid and the times that shm_open and
    // shm_close leave behind.
    type Act = fn(&mut Guest);
    let one = segment(1, Window::ReadWrite, 8);
    let cases: [(&str, Act, &[Booking]); 10] = [
        ("all", |guest| guest.unmap(page(0), 8).unwrap(), &[Gone(1)]),
        (
            "a page at the start",
            |guest| guest.unmap(page(0), 1).unwrap(),
            &[More(1), Gone(1)],
        ),
        (
            "a page at the end",
            |guest| guest.unmap(page(7), 1).unwrap(),
            &[More(1), Gone(1)],
        ),
        (
            "a hole",
            |guest| guest.unmap(page(3), 2).unwrap(),
            &[More(1), More(1), Gone(1)],
        ),
        (
            "from before to beyond",
            |guest| guest.unmap(page(0), 40).unwrap(),
            &[Gone(1), Gone(2)],
        ),
        (
            "the end of one and the start of the next",
            |guest| guest.unmap(page(5), 5).unwrap(),
            &[More(1), More(2), Gone(1), Gone(2)],
        ),
        (
            "moved away",
            |guest| move_to(guest, page(0), 8, page(32)),
            &[More(1), Gone(1)],
        ),
        (
            "a page moved away",
            |guest| move_to(guest, page(3), 1, page(32)),
            &[More(1), More(1), More(1), Gone(1)],
        ),
        (
            "and moved back, where it joins its neighbour",
            |guest| {
                move_to(guest, page(3), 1, page(32));
                guest.world.booked.clear();
                move_to(guest, page(32), 1, page(3));
            },
            &[Gone(1)],
        ),
        (
            "protected in part, which splits only",
            |guest| guest.protect(page(3), 2, Prot::READ).unwrap(),
            &[More(1), More(1)],
        ),
    ];
    for (name, act, expected) in cases {
        let mut guest = guest();
        guest.attach(Some(page(0)), one).unwrap();
        guest
            .attach(Some(page(8)), segment(2, Window::ReadWrite, 8))
            .unwrap();
        guest.world.booked.clear();
        act(&mut guest);
        assert_eq!(guest.world.booked, expected, "{name}");
        guest.end();
    }
}

#[test]
fn rearranging_all_that_keeps_a_removed_segment_is_the_end_of_it() {
    let mut guest = guest();
    let at = guest.attach(None, segment(1, Window::ReadWrite, 3)).unwrap();
    let rearrange = |guest: &mut Guest, pages: u64, from: u64| {
        let Guest { memory, world, space } = guest;
        space.rearrange(memory, world, at, pages * PAGE_SIZE, from)
    };
    assert_eq!(rearrange(&mut guest, 3, 0), Ok(()));
    guest.world.removed.insert(1);
    // The third page still has it.
    assert_eq!(rearrange(&mut guest, 2, 0), Ok(()));
    assert_eq!(guest.nattch(1), 1);
    assert_eq!(rearrange(&mut guest, 3, 0), Err(Errno::EINVAL));
    assert_eq!(guest.nattch(1), 0);
    assert!(guest.space.is_free(&guest.memory, at, at.add(3 * PAGE_SIZE)));
    assert_eq!(guest.detach(at), Err(Errno::EINVAL));
    guest.end();
}
