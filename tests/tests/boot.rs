//! Guests boot, run a program, and are gone.

use abi::{MAX_TASKS, MAX_VCPUS};
use tests::{Run, Toolchain};
use tombolo::config::MIN_MEMORY;

#[test]
fn a_guest_boots_runs_a_program_and_exits() {
    let run = Run::with("hello.c", Toolchain::Musl).go();
    run.expect_all(1);
    assert!(
        run.stdout(0, 0)
            .ends_with("hello from process 0 of 1 in guest 0 of 1\n"),
        "{run:?}"
    );
}

#[test]
fn a_program_gets_its_arguments_and_environment() {
    let arguments = ["", "two words", "ümläut", "\x01\x7f", &"long".repeat(1000)];
    for toolchain in Toolchain::C {
        Run::with("hello.c", toolchain)
            .args(arguments)
            .env("TEST_A", "a=b c")
            .env("TEST_EMPTY", "")
            .compare();
    }
}

#[test]
fn every_process_knows_who_it_is() {
    let run = Run::new("hello.c").guests(3).vcpus(2).procs(4).go();
    run.expect_all(1);
    for guest in 0..3 {
        for process in 0..4 {
            let expected = format!("hello from process {process} of 4 in guest {guest} of 3\n");
            assert!(run.stdout(guest, process).ends_with(&expected), "{run:?}");
        }
    }
}

#[test]
fn a_guest_boots_with_as_many_vcpus_as_there_may_be() {
    Run::with("hello.c", Toolchain::Musl)
        .vcpus(MAX_VCPUS as u32)
        .procs(MAX_VCPUS as u32)
        .go()
        .expect_all(1);
}

#[test]
fn a_guest_boots_with_as_little_memory_as_there_may_be() {
    Run::with("hello.c", Toolchain::Musl)
        .memory(MIN_MEMORY)
        .go()
        .expect_all(1);
}

#[test]
fn a_guest_boots_with_memory_on_both_sides_of_the_hole() {
    Run::with("memory.c", Toolchain::Musl)
        .memory(6 << 30)
        .go()
        .expect_all(0);
}

#[test]
fn a_guest_runs_as_many_processes_as_there_may_be() {
    let run = Run::with("hello.c", Toolchain::Musl)
        .vcpus(2)
        .procs(MAX_TASKS as u32)
        .memory(1 << 30)
        .go();
    run.expect_all(1);
}

#[test]
fn guests_of_a_group_have_process_ids_of_their_own() {
    let run = Run::with("hello.c", Toolchain::Musl).guests(4).procs(4).go();
    let mut pids: Vec<u32> = run
        .outcome
        .guests
        .iter()
        .flat_map(|g| g.processes.iter().map(|p| p.pid))
        .collect();
    assert!(pids.iter().all(|&pid| pid != 0 && pid < 1 << 22), "{pids:?}");
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 16);
}

#[test]
fn the_outcome_says_when_a_guest_came_how_far() {
    let run = Run::with("hello.c", Toolchain::Musl).go();
    let start = run.outcome.guests[0].start;
    let times = [
        start.vm_created_ns,
        start.loaded_ns,
        start.entered_ns,
        start.kernel_ready_ns,
        start.first_program_ns,
        start.gone_ns,
        Some(run.outcome.elapsed_ns),
    ];
    assert!(times.iter().all(Option::is_some), "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
    assert!(run.outcome.kvm.is_some());
    assert!(
        run.outcome.guests[0]
            .vcpus
            .iter()
            .all(|vcpu| !vcpu.exits.is_empty()),
        "{run:?}"
    );
}

#[test]
fn a_program_image_is_the_same_for_all_who_share_it() {
    // A writable page of one process must not be another's: each counts in its own globals.
    let run = Run::new("startup.c").vcpus(2).procs(8).go();
    run.expect_all(0);
    for process in 1..8 {
        assert_eq!(run.stdout(0, process), run.stdout(0, 0));
    }
}
