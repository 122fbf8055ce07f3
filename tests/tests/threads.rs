//! Threads of one process: the calls that make, name and end them, what is each one's own, what they share; and the same
//! from Rust's std.

use std::time::Duration;
use tests::{Run, Toolchain};

/// `source` writes and ends as on Linux, for both C libraries, on one vCPU and on several; it has at least `least` lines to
/// write.
fn as_on_linux(source: &str, several: u32, least: usize) {
    for (toolchain, vcpus) in [(Toolchain::Musl, 1), (Toolchain::Glibc, several)] {
        let run = Run::with(source, toolchain)
            .vcpus(vcpus)
            .timeout(Duration::from_secs(300))
            .compare();
        run.expect_all(0);
        let lines = run.stdout(0, 0).lines().count();
        assert!(lines >= least, "{source}: {lines} lines");
    }
}

#[test]
fn threads_begin_and_end_as_on_linux() {
    as_on_linux("thread_life.c", 2, 65);
}

#[test]
fn calls_about_threads_answer_as_on_linux() {
    as_on_linux("thread_calls.c", 2, 140);
}

#[test]
fn each_thread_has_its_own_variables_keys_and_errno() {
    as_on_linux("thread_local.c", 4, 15);
}

#[test]
fn memory_that_a_thread_takes_away_is_gone_for_all_when_the_call_returns() {
    as_on_linux("thread_memory.c", 2, 30);
}

#[test]
fn which_words_are_one_futex_and_what_becomes_of_waiters_is_as_on_linux() {
    as_on_linux("thread_futex.c", 2, 50);
}

/// A guest has 256 tasks and 16 vCPUs at most: a process that is alone there makes 255 threads beside its first.
#[test]
fn a_guest_has_256_threads_on_16_vcpus() {
    for toolchain in [Toolchain::Musl, Toolchain::Glibc] {
        let run = Run::with("thread_crowd.c", toolchain)
            .vcpus(16)
            .args(["255", "20"])
            .timeout(Duration::from_secs(300))
            .compare();
        assert_eq!(
            run.stdout(0, 0),
            "together 255\ntotal 5100\nsum of parts 652800\n"
        );
    }
    // One more is one too many, and says so as Linux does where it has no more to give.
    let run = Run::with("thread_crowd.c", Toolchain::Musl)
        .args(["256", "1"])
        .go();
    assert_eq!(run.stdout(0, 0), "thread 256: Resource temporarily unavailable\n");
    assert_eq!(run.status(0, 0), Some(1));
}

#[test]
fn rusts_threads_and_what_they_wait_by_work_as_on_linux() {
    for vcpus in [1, 3] {
        let run = Run::new("rust_threads.rs")
            .vcpus(vcpus)
            .timeout(Duration::from_secs(300))
            .compare();
        assert_eq!(run.status(0, 0), Some(3), "{run:?}");
        assert!(run.stdout(0, 0).ends_with("the end\n"), "{run:?}");
    }
}
