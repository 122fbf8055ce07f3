//! A guest dies at any moment of any call: the other goes on, counts are right at once, removed segments go, and who
//! detached last, and when, is known.

use std::time::{Duration, Instant};
use tests::{Finished, Run, Toolchain};
use tombolo::config::InjectedFault;
use tombolo::outcome::{GuestEnd, StopRequest};

/// Guest 1 meets `fault` while both guests get, attach, fork, detach and remove.
fn death(fault: InjectedFault) -> Finished {
    let run = Run::with("death.c", Toolchain::Musl)
        .guests(2)
        .args(["6"])
        // A segment that was made and not yet noted when the guest died is nobody's to remove.
        .leaving_segments()
        .guest(1, move |guest| guest.inject = Some(fault))
        .go_with(
            |_| {},
            |group| {
                // Whatever is attached at the end is attached by the living.
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(5) {
                    for segment in group.segments() {
                        let sum: u64 = segment.nattch_per_guest.values().sum();
                        assert_eq!(segment.nattch, sum, "{segment:?}");
                    }
                }
            },
        );
    assert_eq!(run.end(0), &GuestEnd::Done, "{fault:?}: {run:?}");
    assert_eq!(run.status(0, 0), Some(0), "{fault:?}: {run:?}");
    assert!(
        !matches!(run.end(1), GuestEnd::Done | GuestEnd::Stopped),
        "{fault:?}: {run:?}"
    );
    let said = run.stdout(0, 0);
    assert!(
        said.contains("attaches are right yes\n") && said.contains("its bytes are unchanged yes\n"),
        "{fault:?}: {run:?}"
    );
    assert!(!said.contains(" no\n"), "{fault:?}: {run:?}");
    // At most the one it had just made, or the two common ones' successors, is left.
    let left = run
        .outcome
        .segments
        .iter()
        .filter(|s| s.destroyed_ns.is_none())
        .count();
    assert!(left <= 1, "{fault:?}: {left} segments are left: {run:?}");
    run
}

/// Every moment of the first rounds, and some later ones.
fn moments() -> impl Iterator<Item = u64> {
    (1..60).step_by(4).chain([75, 100, 150, 222, 333, 500])
}

#[test]
fn a_guest_whose_run_fails_at_any_moment_takes_nothing_with_it() {
    for after_exits in moments() {
        death(InjectedFault::RunError { vcpu: 0, after_exits });
    }
}

#[test]
fn a_guest_that_triple_faults_at_any_moment_takes_nothing_with_it() {
    for after_exits in moments() {
        death(InjectedFault::TripleFault { vcpu: 0, after_exits });
    }
}

#[test]
fn a_guest_whose_vcpu_thread_panics_at_any_moment_takes_nothing_with_it() {
    for after_exits in moments() {
        death(InjectedFault::ThreadPanic { vcpu: 0, after_exits });
    }
}

#[test]
fn guests_that_are_stopped_at_any_moment_leave_nothing_behind() {
    for milliseconds in [1, 3, 8, 15, 30, 60, 120, 250] {
        let run = Run::with("death.c", Toolchain::Musl)
            .guests(2)
            .args(["1000000"])
            .leaving_segments()
            .timeout(Duration::from_millis(milliseconds))
            .go();
        assert_eq!(run.outcome.stopped, Some(StopRequest::Timeout), "{run:?}");
    }
}
