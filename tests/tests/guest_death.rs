//! A guest dies at any moment of any call: the others go on, counts are right, removed segments go and so does what they
//! counted for, and who detached last, and when, is known.

use abi::boot::BootFlags;
use abi::ipc::IPC_CREAT;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::{Finished, Run, Toolchain};
use tombolo::broker::{Caller, ProcFile, Quota, SegmentService};
use tombolo::config::InjectedFault;
use tombolo::group::Group;
use tombolo::outcome::{GuestEnd, StopRequest};

/// The segment that tells the program in guest 0 that guest 1 is gone.
const OVER: i32 = 0xdeaf;

/// Waits until guest 1 is gone and tells guest 0.
fn tell_the_survivor(group: &Group) {
    let broker = group.broker();
    let start = Instant::now();
    // Of a guest that is gone the broker knows nothing; then it ends what that one had attached.
    let gone = || broker.proc_read(1, ProcFile::Table, 0, 1).is_err();
    let forgotten = || (group.segments().iter()).all(|segment| !segment.nattch_per_guest.contains_key(&1));
    while !gone() || !forgotten() {
        assert!(start.elapsed() < Duration::from_secs(50), "guest 1 is not gone");
        // Whatever is attached is attached by someone, at any moment.
        for segment in group.segments() {
            let sum: u64 = segment.nattch_per_guest.values().sum();
            assert!(segment.nattch >= sum, "{segment:?}");
        }
        sleep(Duration::from_millis(1));
    }
    let root = Caller {
        pid: 0,
        task: 0,
        euid: 0,
        egid: 0,
        groups: &[],
        memlock: None,
    };
    broker
        .shmget(0, &root, OVER, 1, IPC_CREAT | 0o600)
        .expect("a segment that says so");
}

/// Guest 0 outlives guest 1, which dies.
fn survives(run: Run) -> Finished {
    let run = run.go_with(|_| {}, tell_the_survivor);
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    assert_eq!(run.status(0, 0), Some(0), "{run:?}");
    let dead = !matches!(run.end(1), GuestEnd::Done | GuestEnd::Stopped);
    assert!(dead, "{run:?}");
    run
}

/// Guest 1 meets each of these faults while both guests get, attach, fork, detach and remove.
fn dies(faults: impl Iterator<Item = InjectedFault>) {
    for fault in faults {
        let run = Run::with("death.c", Toolchain::Musl)
            .guests(2)
            .args(["rounds"])
            .guest(1, move |guest| {
                guest.inject = Some(fault);
                guest.vcpus = 2;
                let process = guest.processes[0].clone();
                guest.processes.push(process);
            });
        let run = survives(run);
        let said = run.stdout(0, 0);
        assert!(
            said.starts_with("attaches are right yes\n") && said.contains("its bytes are unchanged yes\n"),
            "{fault:?}: {run:?}"
        );
        assert!(!said.contains(" no\n"), "{fault:?}: {run:?}");
    }
}

/// Moments, in exits of a vCPU: the first hundred, every ninth of them from `first` on, and some later ones.
fn moments(first: u64) -> impl Iterator<Item = u64> {
    (first..100).step_by(9).chain([200, 400].map(|late| late + first))
}

#[test]
fn a_guest_whose_run_fails_at_any_moment_takes_nothing_with_it() {
    dies(moments(1).map(|after_exits| InjectedFault::RunError {
        vcpu: (after_exits % 2) as u32,
        after_exits,
    }));
}

#[test]
fn a_guest_that_triple_faults_at_any_moment_takes_nothing_with_it() {
    dies(moments(4).map(|after_exits| InjectedFault::TripleFault {
        vcpu: (after_exits % 2) as u32,
        after_exits,
    }));
}

#[test]
fn a_guest_whose_vcpu_thread_panics_at_any_moment_takes_nothing_with_it() {
    dies(moments(7).map(|after_exits| InjectedFault::ThreadPanic {
        vcpu: (after_exits % 2) as u32,
        after_exits,
    }));
}

#[test]
fn what_only_a_dead_guest_held_counts_in_nobodys_quota() {
    const COUNT: u64 = 9;
    // With the common ones of the program, in number or in pages.
    let quotas = [
        (COUNT + 2, u64::MAX, "ENOSPC"),
        (u64::MAX, (COUNT + 6) * abi::PAGE_SIZE, "ENOMEM"),
    ];
    for (segments, bytes, refused) in quotas {
        let run = Run::with("death.c", Toolchain::Musl)
            .guests(2)
            .args(["quota".to_owned(), COUNT.to_string()])
            .guest(0, move |guest| guest.quota = Quota { segments, bytes })
            .guest(1, |guest| guest.flags |= BootFlags::TEST_PANIC_ON_GETPID);
        let run = survives(run);
        let gone = "after the other's death EINVAL\n".repeat(COUNT as usize);
        let expected = format!(
            "one more than it may {refused}\nall removed, one more {refused}\n{gone}as many anew, and one more {refused}\n"
        );
        assert_eq!(run.stdout(0, 0), expected, "{run:?}");
    }
}

#[test]
fn guests_that_are_stopped_at_any_moment_leave_nothing_behind() {
    for milliseconds in [1, 3, 8, 15, 30, 60, 120, 250] {
        let run = Run::with("death.c", Toolchain::Musl)
            .guests(2)
            .args(["rounds"])
            .leaving_segments()
            .timeout(Duration::from_millis(milliseconds))
            .go();
        assert_eq!(run.outcome.stopped, Some(StopRequest::Timeout), "{run:?}");
    }
}
