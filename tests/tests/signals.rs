//! Signals, judged by Linux: each program prints the same and ends the same on the host and in a guest.

use std::time::Duration;
use tests::{Command, Run, Toolchain, alone, program};

/// Runs `source`, built with both C libraries, on the host and in a guest with one and with two vCPUs.
fn same(source: &str) {
    for (toolchain, vcpus) in [(Toolchain::Musl, 1), (Toolchain::Glibc, 2)] {
        Run::with(source, toolchain)
            .vcpus(vcpus)
            .timeout(Duration::from_secs(120))
            .compare();
    }
}

#[test]
fn actions_masks_and_the_order_of_delivery_are_those_of_linux() {
    same("sig_action.c");
}

#[test]
fn what_comes_with_a_signal_and_what_queues_up_is_as_on_linux() {
    same("sig_queue.c");
}

#[test]
fn a_handler_is_told_of_a_fault_what_linux_tells() {
    same("sig_fault.c");
}

#[test]
fn signal_stacks_behave_as_on_linux() {
    same("sig_stack.c");
}

#[test]
fn a_handler_finds_and_gives_back_the_frame_linux_makes() {
    same("sig_frame.c");
}

#[test]
fn calls_that_wait_are_interrupted_as_on_linux() {
    same("sig_restart.c");
}

#[test]
fn timers_send_their_signals() {
    same("sig_timer.c");
}

#[test]
fn threads_get_what_is_sent_to_them_and_share_what_is_sent_to_all() {
    same("sig_thread.c");
}

#[test]
fn processes_stop_and_go_on() {
    same("sig_stop.c");
}

#[test]
fn thousands_of_rounds_through_handlers_lose_nothing() {
    for (toolchain, procs) in [(Toolchain::Musl, 2), (Toolchain::Glibc, 2)] {
        let run = Run::with("sig_rounds.c", toolchain)
            .vcpus(2)
            .procs(procs)
            .args(["2000"])
            .timeout(Duration::from_secs(300))
            .compare();
        run.expect_all(0);
    }
}

#[test]
fn reading_what_does_not_come_is_interrupted() {
    for toolchain in [Toolchain::Musl, Toolchain::Glibc] {
        let program = program("sig_read.c", toolchain);
        let (reader, _writer) = alone(|| std::io::pipe().expect("a pipe"));
        let both = alone(|| [reader.try_clone().expect("a pipe"), reader]);
        let [for_native, for_guest] = both;
        let native = Command::other(&program).stdin_from(for_native).run();
        let guest = Command::tombolo()
            .arg("run")
            .arg(&program)
            .stdin_from(for_guest)
            .run();
        assert_eq!(guest.expect(0).out(), native.expect(0).out());
    }
}

#[test]
fn a_rust_program_goes_on_while_signals_come() {
    Run::new("rust_signals.rs").vcpus(2).compare();
}

#[test]
fn rust_tells_of_a_thread_that_has_used_up_its_stack() {
    let run = Run::new("rust_signals.rs").args(["overflow"]);
    let native = run.natively().remove(&(0, 0)).expect("one copy");
    let guest = run.go();
    for (status, said) in [
        (
            native.status,
            String::from_utf8_lossy(&native.stderr).into_owned(),
        ),
        (guest.status(0, 0), guest.stderr(0, 0)),
    ] {
        assert_eq!(status, Some(128 + 6), "{said}");
        assert!(
            said.contains("thread 'deep'") && said.contains("has overflowed its stack"),
            "{said}"
        );
    }
}

#[test]
fn parents_are_told_of_their_children() {
    same("sig_child.c");
}
