//! A guest's memory: what runs out, what is given back.

use tests::{Run, Toolchain};
use tombolo::outcome::GuestEnd;

#[test]
fn a_process_that_wants_more_memory_than_there_is_ends_alone() {
    // Process 0 takes all; the others only say hello, and say it afterwards, too.
    let run = Run::with("hog.c", Toolchain::Musl)
        .vcpus(2)
        .procs(3)
        .memory(64 << 20)
        .leaving_segments()
        .go();
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    assert_eq!(run.status(0, 0), Some(128 + 9), "{run:?}");
    for process in 1..3 {
        assert_eq!(run.status(0, process), Some(0), "{run:?}");
        assert_eq!(
            run.stdout(0, process),
            "the other one is gone\n4 MiB are to be had again\n"
        );
    }
}

#[test]
fn memory_given_back_can_be_had_again() {
    // Each round takes most of the guest's memory.
    let run = Run::with("reuse.c", Toolchain::Musl).memory(64 << 20).go();
    run.expect_all(0);
    assert_eq!(run.stdout(0, 0), "12 rounds\nzero each time yes\n");
}
