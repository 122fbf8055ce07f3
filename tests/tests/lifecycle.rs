//! However a process, a guest or a run ends: the others go on, and nothing is left behind.

use abi::boot::BootFlags;
use std::time::{Duration, Instant};
use tests::{Finished, Run, Toolchain};
use tombolo::config::InjectedFault;
use tombolo::outcome::{GuestEnd, GuestFault, StopRequest};

/// Guest 0 watches what becomes of guest 1, which ends in the way `change` prepares and `how` says.
fn survivor(how: &str, change: impl Fn(&mut tombolo::config::GuestConfig) + 'static) -> Finished {
    let run = Run::with("survivor.c", Toolchain::Musl)
        .guests(2)
        .vcpus(2)
        .args([how]);
    let run = run.guest(0, |guest| guest.vcpus = 1).guest(1, change).go();
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    assert_eq!(run.status(0, 0), Some(0), "{run:?}");
    let expected = "attaches 4, of the doomed one 1\nremove the doomed one ok\nattaches 1\n\
                    it was detached just now yes\nby another process yes\nthe doomed one EINVAL\n\
                    its bytes are unchanged yes\nremove ok\nremove the control ok\n";
    assert_eq!(run.stdout(0, 0), expected, "{run:?}");
    run
}

#[test]
fn every_way_to_end_gives_the_status_linux_gives() {
    for how in [
        "return",
        "exit",
        "negative",
        "_exit",
        "exit-thread",
        "abort",
        "term",
        "kill",
        "tgkill",
        "ignored",
    ] {
        for toolchain in Toolchain::C {
            Run::with("ending.c", toolchain).args([how]).compare();
            Run::with("ending.c", toolchain)
                .args([how])
                .ending_at_once()
                .compare();
        }
    }
}

#[test]
fn the_first_process_that_fails_is_named() {
    let run = Run::new("faults.c").procs(2).args(["ud2"]);
    let hello = tests::program("hello.c", Toolchain::Musl);
    let hello = std::sync::Arc::new(tombolo::image::Program::load(hello).expect("a program"));
    let run = run.guest(0, move |guest| {
        guest.processes[0].program = hello.clone();
        guest.processes[0].args.truncate(1);
        guest.processes[0].args.clear();
    });
    let run = run.go();
    // hello's status is argc, here 0.
    assert_eq!(run.status(0, 0), Some(0), "{run:?}");
    assert_eq!(run.outcome.first_failure, Some((0, 1)), "{run:?}");
}

#[test]
fn attaches_of_a_guest_that_is_done_vanish() {
    let run = survivor("exit", |_| {});
    assert_eq!(run.end(1), &GuestEnd::Done);
}

#[test]
fn attaches_of_a_guest_whose_kernel_panics_vanish_and_its_epitaph_has_symbols() {
    let run = survivor("getpid", |guest| guest.flags |= BootFlags::TEST_PANIC_ON_GETPID);
    let GuestEnd::Fault(GuestFault::Panic { message, text, .. }) = run.end(1) else {
        panic!("guest 1 should have panicked: {run:?}");
    };
    assert!(!message.is_empty());
    assert!(text.contains(message.as_str()), "{text}");
    // Names of functions of the kernel, demangled: crate::module::function.
    assert!(text.contains("kernel::"), "{text}");
    assert!(!text.contains("_ZN") && !text.contains("_R"), "{text}");
}

#[test]
fn attaches_of_a_guest_whose_run_fails_vanish() {
    for vcpu in [0, 1] {
        let run = survivor("spin", move |guest| {
            guest.inject = Some(InjectedFault::RunError {
                vcpu,
                after_exits: 400,
            });
        });
        assert!(
            !matches!(run.end(1), GuestEnd::Done | GuestEnd::Stopped),
            "{run:?}"
        );
    }
}

#[test]
fn attaches_of_a_guest_that_triple_faults_vanish() {
    let run = survivor("spin", |guest| {
        guest.inject = Some(InjectedFault::TripleFault {
            vcpu: 0,
            after_exits: 400,
        });
    });
    assert!(
        matches!(
            run.end(1),
            GuestEnd::Fault(GuestFault::TripleFault { .. } | GuestFault::UnexpectedExit { .. })
        ),
        "{run:?}"
    );
}

#[test]
fn attaches_of_a_guest_whose_vcpu_thread_panics_vanish() {
    let run = survivor("spin", |guest| {
        guest.inject = Some(InjectedFault::ThreadPanic {
            vcpu: 0,
            after_exits: 400,
        });
    });
    assert!(matches!(run.end(1), GuestEnd::HostError(_)), "{run:?}");
}

#[test]
fn a_fault_injected_at_any_moment_of_a_guests_life_leaves_nothing_behind() {
    for after_exits in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89] {
        for fault in [
            InjectedFault::RunError { vcpu: 0, after_exits },
            InjectedFault::TripleFault { vcpu: 0, after_exits },
            InjectedFault::ThreadPanic { vcpu: 1, after_exits },
        ] {
            let run = Run::with("shm_rules.c", Toolchain::Musl)
                .vcpus(2)
                .leaving_segments();
            // What it leaves is the harness's to find; it may even be done before the fault comes.
            let run = run
                .guest(0, move |guest| guest.inject = Some(fault))
                .timeout(Duration::from_secs(10))
                .go();
            assert_ne!(run.outcome.guests.len(), 0);
        }
    }
}

#[test]
fn a_run_is_stopped_when_its_time_is_over() {
    for procs in [1, 3] {
        let run = Run::with("forever.c", Toolchain::Musl)
            .guests(2)
            .vcpus(2)
            .procs(procs);
        let run = run.timeout(Duration::from_millis(400)).leaving_segments().go();
        let elapsed = Duration::from_nanos(run.outcome.elapsed_ns);
        assert!(elapsed >= Duration::from_millis(400), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
        assert_eq!(run.outcome.stopped, Some(StopRequest::Timeout));
        assert_eq!(run.end(0), &GuestEnd::Stopped, "{run:?}");
        assert_eq!(run.status(0, 0), None);
    }
}

#[test]
fn a_run_can_be_stopped_from_outside_at_any_moment() {
    for milliseconds in [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 100] {
        let run = Run::with("forever.c", Toolchain::Musl)
            .guests(2)
            .vcpus(2)
            .procs(2)
            .leaving_segments();
        let run = run.go_with(
            |_| {},
            |group| {
                std::thread::sleep(Duration::from_millis(milliseconds));
                group.stopper().stop(StopRequest::Signal(15));
            },
        );
        assert_eq!(run.outcome.stopped, Some(StopRequest::Signal(15)));
        assert_eq!(run.end(1), &GuestEnd::Stopped, "{run:?}");
    }
}

#[test]
fn a_group_that_nobody_waits_for_leaves_nothing_behind() {
    Run::with("forever.c", Toolchain::Musl)
        .guests(2)
        .vcpus(2)
        .abandon();
}

#[test]
fn segments_can_be_looked_at_while_they_live() {
    let run = Run::with("forever.c", Toolchain::Musl)
        .guests(2)
        .procs(2)
        .leaving_segments();
    let run = run.go_with(
        |_| {},
        |group| {
            let start = Instant::now();
            loop {
                let segments = group.segments();
                let seen: Vec<_> = segments.iter().map(|s| (s.key, s.size, s.nattch)).collect();
                if seen == [(0xf0, 12345, 4)] {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(10), "{segments:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
            group.stopper().stop(StopRequest::Signal(2));
        },
    );
    assert_eq!(run.outcome.segments[0].peak_nattch, 4);
}

#[test]
fn a_hundred_groups_one_after_the_other_leave_nothing_behind() {
    for _ in 0..100 {
        Run::with("ring.c", Toolchain::Musl)
            .guests(2)
            .args(["20"])
            .go()
            .expect_all(0);
    }
}
