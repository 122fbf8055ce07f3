//! futex(2) across guests: whoever waits for a word in a segment, whoever wakes, they may be processes of one guest or
//! of several, and see what processes of one Linux see.

use abi::boot::BootFlags;
use tests::{Run, Toolchain};
use tombolo::config::InjectedFault;
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

#[test]
fn waiters_of_a_guest_that_dies_leave_the_queues() {
    for procs in [2, 3] {
        let run = Run::with("futex_survivor.c", Toolchain::Musl)
            .guests(3)
            .procs(procs)
            .guest(1, |guest| guest.flags |= BootFlags::TEST_PANIC_ON_GETPID);
        let native = run.natively();
        let run = run.go();
        assert!(
            matches!(run.end(1), GuestEnd::Fault(GuestFault::Panic { .. })),
            "{run:?}"
        );
        for guest in [0, 2] {
            for process in 0..procs {
                let linux = &native[&(guest, process)];
                let there = &run.processes[&(guest, process)];
                assert_eq!(there.stdout, linux.stdout, "{run:?}");
                assert_eq!((there.status, linux.status), (Some(0), Some(0)), "{run:?}");
            }
        }
    }
}

/// Guests die at any moment, with a robust lock or without, waiting for it, about to take it or to give it back: the
/// others never wait in vain.
#[test]
fn a_robust_lock_survives_guests_that_die_at_any_moment() {
    for after_exits in [150, 170, 200, 230, 270, 330, 400, 550] {
        let doom = move |guest: &mut tombolo::config::GuestConfig| {
            guest.inject = Some(InjectedFault::RunError { vcpu: 0, after_exits });
        };
        let run = Run::with("robust_lock.c", Toolchain::Musl)
            .guests(4)
            .args(["200", "1", "3"])
            .guest(1, doom)
            .guest(3, doom)
            .go();
        for guest in [0, 2] {
            assert_eq!(run.end(guest), &GuestEnd::Done, "{run:?}");
            assert_eq!(run.status(guest, 0), Some(0), "{run:?}");
        }
        let said = run.stdout(0, 0) + &run.stdout(2, 0);
        assert_eq!(said, "enough yes\nremove ok\n", "{run:?}");
    }
}

/// By what the host counts: a guest that waits does nothing at all, however long it waits.
#[test]
fn a_guest_that_waits_for_a_word_makes_no_exits_and_runs_no_instructions() {
    let counts = |milliseconds: u32| {
        let run = Run::with("futex_idle.c", Toolchain::Musl)
            .guests(2)
            .args([milliseconds.to_string()])
            .go();
        run.expect_all(0);
        let waiting = &run.outcome.guests[0].vcpus[0];
        let waited = waiting.hypercalls["FutexWait"];
        assert_eq!((waited, run.stdout(0, 0).as_str()), (1, "woken\n"), "{run:?}");
        let exits: u64 = waiting.exits.values().sum();
        (exits, waiting.emulated_instructions)
    };
    let (short, long) = (counts(10), counts(2000));
    assert_eq!(short.0, long.0, "exits");
    // The same but for what differs between any two runs: a cache of lines, the clock's digits.
    if let (Some(short), Some(long)) = (short.1, long.1) {
        assert!(
            short.abs_diff(long) < 300,
            "{short} and {long} ring-0 instructions"
        );
    }
}
