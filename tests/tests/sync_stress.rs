//! Waiting across guests under load, and when somebody dies: nothing is lost, nobody is forgotten, and what a dead one
//! held is told to those who come after.
//!
//! `TOMBOLO_STRESS=1000000 cargo test --release -p tests --test sync_stress operations` does as many operations of each
//! kind instead of a few hundred, and waits as long as that takes.

use abi::boot::BootFlags;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use tests::{Finished, Run, Toolchain};
use tombolo::config::{GuestConfig, InjectedFault};
use tombolo::outcome::{GuestEnd, GuestFault, StopRequest};

const PATIENCE: Duration = Duration::from_secs(150);

fn operations() -> u64 {
    let asked = std::env::var("TOMBOLO_STRESS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(480)
}

/// `guests` guests of `vcpus` vCPUs and `procs` processes of `threads` threads do operations of every kind.
fn stress(toolchain: Toolchain, guests: u32, vcpus: u32, procs: u32, threads: u32) {
    let operations = operations();
    let run = Run::with("sync_stress.c", toolchain)
        .guests(guests)
        .vcpus(vcpus)
        .procs(procs)
        .args([operations.to_string(), threads.to_string()])
        .timeout(PATIENCE + Duration::from_millis(operations * 10));
    let run = run.compare();
    run.expect_all(0);
    let all = [
        "mutex",
        "condition",
        "barrier",
        "semaphore",
        "ring",
        "rwlock",
        "mixed",
    ];
    let expected: String = all.map(|kind| format!("{kind} right\n")).concat();
    assert_eq!(run.stdout(0, 0), expected, "{run:?}");
}

#[test]
fn operations_of_the_threads_of_one_process_keep_their_invariants() {
    stress(Toolchain::Glibc, 1, 2, 1, 8);
    stress(Toolchain::Musl, 1, 4, 1, 4);
}

#[test]
fn operations_of_processes_of_one_guest_keep_their_invariants() {
    stress(Toolchain::Glibc, 1, 2, 2, 2);
}

#[test]
fn operations_of_two_guests_keep_their_invariants() {
    stress(Toolchain::Glibc, 2, 1, 1, 2);
    stress(Toolchain::Musl, 2, 2, 1, 3);
}

#[test]
fn operations_of_four_guests_keep_their_invariants() {
    stress(Toolchain::Glibc, 4, 1, 1, 2);
    stress(Toolchain::Musl, 4, 2, 1, 1);
}

/// What copy 0 of `sync_victims.c` says when all is well.
const WHOLE: &str = "all mutexes can be had yes\nwhat they guard is whole yes\nunexpected results 0\nnothing is lost yes\n\
                     survivors did their share yes\nno more deaths than mutexes the victims could have yes\n";

fn victims(toolchain: Toolchain, guests: u32, survivors: u32, how: &str) -> Run {
    Run::with("sync_victims.c", toolchain)
        .guests(guests)
        .args([&operations().to_string(), "2", &survivors.to_string(), how])
        .timeout(PATIENCE + Duration::from_millis(operations() * 10))
}

#[test]
fn survivors_repair_what_processes_left_that_ended_in_the_middle() {
    for how in ["kill", "exit", "fault"] {
        for toolchain in [Toolchain::Glibc, Toolchain::Musl] {
            let run = victims(toolchain, 3, 2, how).compare();
            assert_eq!(run.stdout(0, 0), WHOLE, "{how}: {run:?}");
        }
    }
}

#[test]
fn survivors_repair_what_guests_left_that_ended_at_any_moment() {
    for (number, after_exits) in [150, 231, 320, 444, 600, 901].into_iter().enumerate() {
        let faults = [
            InjectedFault::RunError { vcpu: 0, after_exits },
            InjectedFault::TripleFault { vcpu: 0, after_exits },
            InjectedFault::ThreadPanic { vcpu: 0, after_exits },
        ];
        let fault = faults[number % 3];
        let toolchain = [Toolchain::Glibc, Toolchain::Musl][number % 2];
        let run = victims(toolchain, 3, 2, "spin")
            .guest(2, move |guest| guest.inject = Some(fault))
            .go();
        assert!(
            !matches!(run.end(2), GuestEnd::Done | GuestEnd::Stopped),
            "{fault:?}: {run:?}"
        );
        assert_eq!(run.status(0, 0), Some(0), "{fault:?}: {run:?}");
        assert_eq!(run.stdout(0, 0), WHOLE, "{fault:?}: {run:?}");
        assert_eq!(run.end(0), &GuestEnd::Done, "{fault:?}");
        assert_eq!(run.end(1), &GuestEnd::Done, "{fault:?}");
    }
}

fn death(toolchain: Toolchain, guests: u32, how: &str) -> Run {
    Run::with("sync_death.c", toolchain)
        .guests(guests)
        .args([how])
        .timeout(PATIENCE)
}

/// What those who are left say when the last of three copies ends by SIGKILL on Linux.
fn as_after_a_kill(toolchain: Toolchain) -> (String, String) {
    let native = death(toolchain, 3, "kill").natively();
    let text = |rank| String::from_utf8_lossy(&native[&(rank, 0)].stdout).into_owned();
    assert!(text(0).contains("EOWNERDEAD") && text(1).contains("EOWNERDEAD"));
    (text(0), text(1))
}

#[test]
fn whoever_waits_for_a_process_that_ends_is_told_as_on_linux() {
    for toolchain in [Toolchain::Glibc, Toolchain::Musl] {
        let expected = as_after_a_kill(toolchain);
        for how in ["kill", "threads", "fault", "ud2", "exit", "program", "killed"] {
            let run = death(toolchain, 3, how).compare();
            assert_eq!((run.stdout(0, 0), run.stdout(1, 0)), expected, "{how}: {run:?}");
        }
        // All of one guest.
        let run = death(toolchain, 1, "kill").procs(3).vcpus(2).compare();
        assert_eq!(
            (run.stdout(0, 0), run.stdout(0, 1)),
            expected,
            "in one guest: {run:?}"
        );
    }
}

/// Guest 2 ends as `how` and `change` say; guests 0 and 1 must see what they see of a process that is killed on Linux.
fn end_of_a_guest(toolchain: Toolchain, how: &str, change: impl Fn(&mut GuestConfig) + 'static) -> Finished {
    let run = death(toolchain, 3, how).guest(2, change).go();
    let seen = (run.stdout(0, 0), run.stdout(1, 0));
    assert_eq!(seen, as_after_a_kill(toolchain), "{run:?}");
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    assert_eq!(run.end(1), &GuestEnd::Done, "{run:?}");
    run
}

#[test]
fn whoever_waits_for_a_guest_that_fails_is_told_that_the_owner_is_dead() {
    let after_exits = 5000;
    for toolchain in [Toolchain::Glibc, Toolchain::Musl] {
        let run = end_of_a_guest(toolchain, "spin", move |guest| {
            guest.inject = Some(InjectedFault::RunError { vcpu: 0, after_exits });
        });
        assert!(
            !matches!(run.end(2), GuestEnd::Done | GuestEnd::Stopped),
            "{run:?}"
        );
    }
    let run = end_of_a_guest(Toolchain::Glibc, "spin", move |guest| {
        guest.inject = Some(InjectedFault::TripleFault { vcpu: 0, after_exits });
    });
    assert!(
        matches!(
            run.end(2),
            GuestEnd::Fault(GuestFault::TripleFault { .. } | GuestFault::UnexpectedExit { .. })
        ),
        "{run:?}"
    );
    let run = end_of_a_guest(Toolchain::Musl, "spin", move |guest| {
        guest.inject = Some(InjectedFault::ThreadPanic { vcpu: 0, after_exits });
    });
    assert!(matches!(run.end(2), GuestEnd::HostError(_)), "{run:?}");
}

#[test]
fn whoever_waits_for_a_guest_whose_kernel_panics_is_told_that_the_owner_is_dead() {
    let run = end_of_a_guest(Toolchain::Musl, "getpid", |guest| {
        guest.flags |= BootFlags::TEST_PANIC_ON_GETPID;
    });
    assert!(
        matches!(run.end(2), GuestEnd::Fault(GuestFault::Panic { .. })),
        "{run:?}"
    );
}

#[test]
fn guests_whose_threads_all_wait_end_when_the_time_is_over() {
    let run = Run::with("sync_idle.c", Toolchain::Glibc)
        .guests(2)
        .vcpus(2)
        .args(["0"])
        .timeout(Duration::from_secs(3))
        .leaving_segments()
        .go();
    assert_eq!(run.outcome.stopped, Some(StopRequest::Timeout));
    assert_eq!(run.end(0), &GuestEnd::Stopped, "{run:?}");
    assert_eq!(run.end(1), &GuestEnd::Stopped, "{run:?}");
    assert!(run.outcome.elapsed_ns < 30_000_000_000, "{run:?}");
}

/// Exits of all vCPUs and processor time of this process while two guests wait for `milliseconds`.
fn cost_of_waiting(milliseconds: u64) -> (u64, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    // All by itself: the clock counts the other tests of this process, too.
    let (run, spent) = tests::alone(|| {
        let before = now();
        let run = Run::with("sync_idle.c", Toolchain::Musl)
            .guests(2)
            .args([milliseconds.to_string()])
            .timeout(PATIENCE)
            .go();
        (run, now() - before)
    });
    run.expect_all(0);
    assert_eq!(run.stdout(0, 0), "woken before 0\nwoken 1\n");
    let vcpus = run.outcome.guests.iter().flat_map(|guest| &guest.vcpus);
    (vcpus.map(|vcpu| vcpu.exits.values().sum::<u64>()).sum(), spent)
}

#[test]
fn a_guest_that_waits_makes_no_exits_and_takes_no_processor_time() {
    let (exits_short, spent_short) = cost_of_waiting(50);
    let (exits_long, spent_long) = cost_of_waiting(3050);
    // How often copies look for each other before they wait differs a little.
    assert!(
        exits_long < exits_short + 100,
        "{exits_long} exits in three seconds more, {exits_short} before"
    );
    assert!(
        spent_long < spent_short + Duration::from_millis(1000),
        "{spent_long:?} in three seconds more, {spent_short:?} before"
    );
}
