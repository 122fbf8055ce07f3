//! Signals, judged by Linux: each program prints the same and ends the same on the host and in a guest.

use std::time::Duration;
use tests::{Run, Toolchain};

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
fn parents_are_told_of_their_children() {
    same("sig_child.c");
}
