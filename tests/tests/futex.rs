//! futex(2) across guests: whoever waits for a word in a segment, whoever wakes, they may be processes of one guest or
//! of several, and see what processes of one Linux see.

use abi::boot::BootFlags;
use tests::{Run, Toolchain};
use tombolo::outcome::{GuestEnd, GuestFault};

#[test]
fn words_wake_processes_of_one_guest_as_on_linux() {
    for (procs, vcpus) in [(2, 1), (3, 2), (6, 3)] {
        Run::with("futex_words.c", Toolchain::Musl)
            .procs(procs)
            .vcpus(vcpus)
            .compare()
            .expect_all(0);
    }
}

#[test]
fn words_wake_guests_as_they_wake_processes_on_linux() {
    for (guests, procs) in [(2, 1), (4, 1), (2, 2), (3, 3)] {
        for toolchain in Toolchain::C {
            Run::with("futex_words.c", toolchain)
                .guests(guests)
                .procs(procs)
                .vcpus(procs.min(2))
                .compare()
                .expect_all(0);
        }
    }
}

#[test]
fn a_child_that_dies_with_robust_locks_leaves_them_as_on_linux() {
    for (guests, procs, toolchain) in [
        (1, 2, Toolchain::Glibc),
        (2, 1, Toolchain::Musl),
        (2, 2, Toolchain::Musl),
    ] {
        Run::with("robust.c", toolchain)
            .guests(guests)
            .procs(procs)
            .compare()
            .expect_all(0);
    }
}

/// The locks that a thread of a dead guest held, by what was so when it died (see the program).
#[test]
fn a_guest_that_dies_leaves_its_threads_locks_as_a_process_does() {
    for preparation in [0, 2, 3, 4, 5, 7, 8, 9, 15] {
        let run = Run::with("robust.c", Toolchain::Musl)
            .guests(2)
            .args([preparation.to_string()])
            .guest(1, |guest| guest.flags |= BootFlags::TEST_PANIC_ON_GETPID);
        let native = run.natively();
        let run = run.go();
        assert!(
            matches!(run.end(1), GuestEnd::Fault(GuestFault::Panic { .. })),
            "{run:?}"
        );
        let linux = String::from_utf8_lossy(&native[&(0, 0)].stdout).into_owned();
        assert_eq!(run.stdout(0, 0), linux, "{run:?}");
        assert!(linux.contains("waited ok"), "{linux}");
        assert_eq!(run.status(0, 0), Some(0), "{run:?}");
    }
}
