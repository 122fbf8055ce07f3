//! The System V rules, one group at a time. What several guests see of one segment is in `sharing.rs`.

use tests::{Run, Toolchain};

#[test]
fn the_calls_follow_linux_rules() {
    for toolchain in Toolchain::C {
        Run::with("shm_rules.c", toolchain).compare();
    }
}

#[test]
fn frames_and_window_are_back_after_1000_rounds_of_attach_and_detach() {
    // The harness compares the free frames.
    for (rounds, size) in [(1000, 4096), (1000, 3 << 20), (100, (1u64 << 30) + 1)] {
        let (rounds, size) = (rounds.to_string(), size.to_string());
        let run = Run::with("rounds.c", Toolchain::Musl).args([&rounds, &size]).go();
        run.expect_all(0);
        assert_eq!(
            run.stdout(0, 0),
            format!("{rounds} rounds, 0 wrong\nattaches 0\nremove ok\n")
        );
    }
}

#[test]
fn several_processes_attach_and_detach_at_once_on_several_vcpus() {
    let run = Run::with("rounds.c", Toolchain::Musl)
        .guests(2)
        .vcpus(2)
        .procs(3)
        .args(["60", "3145728"])
        .go();
    run.expect_all(0);
}

#[test]
fn a_process_detaches_by_ending() {
    for how in ["exit", "fault"] {
        Run::new("survivor.c").vcpus(2).procs(2).args([how]).compare();
    }
}

#[test]
fn groups_do_not_see_each_others_segments() {
    // Both use the same keys, and each wants the first identifiers for itself.
    let run = Run::with("shm_rules.c", Toolchain::Musl);
    let native = run.natively();
    let (one, other) = run.go_beside(&Run::with("shm_rules.c", Toolchain::Musl));
    let expected = String::from_utf8_lossy(&native[&(0, 0)].stdout).into_owned();
    assert_eq!(one.stdout(0, 0), expected);
    assert_eq!(other.stdout(0, 0), expected);
}

#[test]
fn segments_that_nobody_removed_end_with_the_group() {
    let run = Run::new("busy.c").args(["1"]).leaving_segments().go();
    run.expect_all(0);
    assert_eq!(run.outcome.segments.len(), 1, "{run:?}");
    let segment = &run.outcome.segments[0];
    assert_eq!((segment.key, segment.destroyed_ns), (0xb5, None), "{run:?}");
}

#[test]
fn permissions_are_checked_as_on_linux_across_guests() {
    Run::with("permissions.c", Toolchain::Musl)
        .guests(2)
        .user(1, 1000, 1001)
        .compare();
    Run::with("permissions.c", Toolchain::Musl)
        .guests(2)
        .user(1, 1000, 0)
        .compare();
}
