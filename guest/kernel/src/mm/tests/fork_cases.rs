//! Single cases of forks, each step checked as in [`super::fork`]: what random sequences seldom come to.

use super::super::area::{Backing, Prot};
use super::super::fault::Access;
use super::super::space::Lowest;
use super::super::{AddressSpace, Placement};
use super::fork::Test;
use super::fork_ops::{DONTFORK, LARGE, Op, RW, SMALL, WIPEONFORK};
use super::model::WRITTEN;
use super::scarce::Scarce;
use super::{end, leaves};
use abi::memory::MMAP_MIN_ADDR;
use abi::{Errno, LARGE_PAGE_SIZE, PAGE_SIZE};
use paging::{GuestPhys, GuestVirt, Rights};

const BLOCK: u64 = LARGE_PAGE_SIZE / PAGE_SIZE;

fn run(test: &mut Test, steps: &[(usize, Op)]) {
    for (who, op) in steps {
        test.step(*who, op, Scarce::Nothing);
    }
}

fn map(page: u64, pages: u64, kind: u8) -> Op {
    Op::Map {
        page,
        pages,
        prot: RW,
        kind,
    }
}

fn write(page: u64, value: u8) -> Op {
    Op::Write { page, value }
}

/// Sizes and memory of a process's leaves, and whether they are counted.
fn seen(test: &Test, who: usize) -> Vec<(u64, GuestPhys, bool)> {
    leaves(&test.memory, &test.spaces[who])
        .iter()
        .map(|leaf| (leaf.size, leaf.phys, leaf.rights.contains(Rights::COUNTED)))
        .collect()
}

/// Three processes that share 2 MiB as one leaf each.
fn three_with_a_large_page(kind: u8) -> Test {
    let mut test = Test::new();
    run(
        &mut test,
        &[
            (0, map(LARGE, BLOCK, kind)),
            (0, write(LARGE + 3, 7)),
            (0, Op::Fork),
            (1, Op::Fork),
        ],
    );
    let large = seen(&test, 0);
    assert_eq!(large.len(), 1);
    assert_eq!((large[0].0, large[0].2), (LARGE_PAGE_SIZE, true));
    let (count, whole) = test.memory.frames.counted(large[0].1);
    assert_eq!((count, whole), (3, true));
    assert!(seen(&test, 1) == large && seen(&test, 2) == large);
    test
}

fn finish(mut test: Test) {
    while test.spaces.len() > 1 {
        test.step(0, &Op::Exit, Scarce::Nothing);
    }
    let last = test.spaces.remove(0);
    end(&mut test.memory, &mut test.world, last);
    assert_eq!(test.memory.frames.free_frames(), test.memory.frames.total());
}

#[test]
fn a_large_page_that_breaks_up_in_one_process_stays_large_in_the_others() {
    let mut test = three_with_a_large_page(0);
    let hole = Op::Unmap {
        page: LARGE + 5,
        pages: 2,
    };
    run(
        &mut test,
        &[
            (1, hole),
            (0, write(LARGE + 4, 8)),
            (2, Op::Fork),
            (1, write(LARGE + 9, 9)),
        ],
    );
    assert_eq!(seen(&test, 2)[0].0, LARGE_PAGE_SIZE);
    let there = Op::Protect {
        page: LARGE + 100,
        pages: 10,
        prot: Prot::READ,
    };
    run(
        &mut test,
        &[(2, there), (3, write(LARGE + 5, 1)), (3, write(LARGE + 6, 1))],
    );
    finish(test);
}

#[test]
fn a_large_page_moves_to_where_it_cannot_stay_large() {
    for kind in [0, 2] {
        let mut test = three_with_a_large_page(kind);
        let away = Op::Move {
            page: LARGE,
            pages: BLOCK,
            to: SMALL + 1,
        };
        run(
            &mut test,
            &[
                (1, away),
                (1, write(SMALL + 4, 8)),
                (0, write(LARGE + 3, 9)),
                (2, write(LARGE + 2, 6)),
            ],
        );
        let part = Op::Move {
            page: LARGE + 7,
            pages: 20,
            to: SMALL,
        };
        run(
            &mut test,
            &[(2, part), (2, Op::Exit), (1, Op::Fork), (0, write(LARGE + 30, 5))],
        );
        finish(test);
    }
}

#[test]
fn a_part_of_a_large_page_is_left_out_of_a_child_or_wiped() {
    for (advice, byte) in [(DONTFORK, None), (WIPEONFORK, Some(0))] {
        for (first, pages) in [(0, 5), (100, 7), (500, 12)] {
            let mut test = Test::new();
            let part = Op::Advise {
                page: LARGE + first,
                pages,
                advice,
            };
            let steps = [
                map(LARGE, BLOCK, 0),
                write(LARGE + first + 1, 7),
                write(LARGE + 50, 8),
                part,
                Op::Fork,
            ];
            run(&mut test, &steps.map(|step| (0, step)));
            let Test {
                memory,
                world,
                spaces,
                ..
            } = &mut test;
            let mut read = |page: u64| {
                let mut byte = [0];
                let at = page * PAGE_SIZE + WRITTEN;
                spaces[1]
                    .read(memory, world, at, &mut byte)
                    .ok()
                    .map(|()| byte[0])
            };
            assert_eq!((read(LARGE + first + 1), read(LARGE + 50)), (byte, Some(8)));
            finish(test);
        }
    }
}

#[test]
fn the_copy_of_a_large_page_is_large_if_there_is_memory_and_small_otherwise() {
    let mut test = three_with_a_large_page(0);
    run(&mut test, &[(0, write(LARGE + 3, 8))]);
    let [(size, _, counted)] = seen(&test, 0)[..] else {
        panic!("one leaf was written to, there are {}", seen(&test, 0).len());
    };
    assert_eq!((size, counted), (LARGE_PAGE_SIZE, false));
    test.step(1, &write(LARGE + 4, 9), Scarce::Frames(4));
    let uncounted = seen(&test, 1).iter().filter(|(.., counted)| !counted).count();
    assert_eq!((seen(&test, 1).len(), uncounted), (512, 1));
    // Nobody else has the rest of it when the third one ends.
    run(&mut test, &[(2, Op::Exit), (1, write(LARGE + 20, 9))]);
    assert!(
        !seen(&test, 1)[31].2 && seen(&test, 1)[32].2,
        "16 pages around come with the one written to"
    );
    finish(test);
}

#[test]
fn the_last_one_gets_a_large_page_back_as_it_is() {
    let mut test = three_with_a_large_page(0);
    let before = seen(&test, 0)[0].1;
    run(
        &mut test,
        &[(1, Op::Exit), (1, Op::Exit), (0, write(LARGE + 400, 1))],
    );
    assert_eq!(seen(&test, 0), [(LARGE_PAGE_SIZE, before, false)]);
    finish(test);
}

#[test]
fn a_child_finds_zeros_or_a_hole_where_its_parent_said_so() {
    let mut test = Test::new();
    let advise = |page, advice| Op::Advise {
        page,
        pages: 2,
        advice,
    };
    let steps = [
        (0, map(SMALL, 8, 0)),
        (0, write(SMALL, 1)),
        (0, write(SMALL + 2, 2)),
        (0, write(SMALL + 4, 3)),
        (0, write(SMALL + 6, 4)),
        (0, advise(SMALL, WIPEONFORK)),
        (0, advise(SMALL + 4, DONTFORK)),
        (0, Op::Fork),
        (
            1,
            Op::Touch {
                page: SMALL,
                access: Access::Read,
            },
        ),
    ];
    run(&mut test, &steps);
    let mut byte = [9];
    let mut read = |page: u64| {
        let Test {
            memory,
            world,
            spaces,
            ..
        } = &mut test;
        let answer = spaces[1].read(memory, world, page * PAGE_SIZE + super::model::WRITTEN, &mut byte);
        answer.map(|()| byte[0])
    };
    assert_eq!(read(SMALL), Ok(0));
    assert_eq!(read(SMALL + 2), Ok(2));
    assert_eq!(read(SMALL + 4), Err(Errno::EFAULT));
    assert_eq!(read(SMALL + 6), Ok(4));
    finish(test);
}

#[test]
fn an_attach_replaces_exactly_its_own_pages_and_counts_once() {
    let mut test = Test::new();
    let attach = Op::Attach {
        page: SMALL + 2,
        id: 2,
    };
    run(
        &mut test,
        &[
            (0, map(SMALL, 16, 0)),
            (0, write(SMALL + 8, 4)),
            (0, write(SMALL + 1, 5)),
        ],
    );
    run(
        &mut test,
        &[(0, attach.clone()), (0, attach.clone()), (0, Op::Fork)],
    );
    assert_eq!(test.world.attaches[&2], 2);
    let lower = Op::Attach {
        page: SMALL + 4,
        id: 2,
    };
    // What is left of the earlier one below counts as well.
    run(&mut test, &[(0, lower)]);
    assert_eq!(test.world.attaches[&2], 3);
    finish(test);
}

#[test]
fn page_0_is_for_those_who_may() {
    let mut test = Test::new();
    let Test {
        memory,
        world,
        spaces,
        ..
    } = &mut test;
    let space: &mut AddressSpace = &mut spaces[0];
    for (lowest, expected) in [
        (Lowest::MinAddr, Err(Errno::EPERM)),
        (Lowest::Zero, Ok(GuestVirt::new(0))),
    ] {
        space.lowest = lowest;
        let at = Placement::Fixed(GuestVirt::new(0));
        let answer = space.map(memory, world, at, PAGE_SIZE, RW, Prot::all(), Backing::Anonymous);
        assert_eq!(answer, expected);
    }
    space.write(memory, world, 0, &[1]).unwrap();
    // The kernel's own choice stays above, however full it gets.
    let rest = space.room_at(memory, None);
    let len = (rest - MMAP_MIN_ADDR) & !(PAGE_SIZE - 1);
    let chosen = space.map(
        memory,
        world,
        Placement::Anywhere,
        len,
        Prot::READ,
        Prot::all(),
        Backing::SharedAnonymous {
            byte: 0,
            first: 0,
            len,
        },
    );
    assert!(chosen.is_ok_and(|at| at.get() >= MMAP_MIN_ADDR), "{chosen:?}");
    let below = space.map(
        memory,
        world,
        Placement::Anywhere,
        2 * PAGE_SIZE,
        RW,
        Prot::all(),
        Backing::Anonymous,
    );
    assert_eq!(below, Err(Errno::ENOMEM));
    space.unmap(memory, world, chosen.unwrap(), len).unwrap();
    finish(test);
}
