//! Guests whose very kernel is hostile: whatever it does ends at most its own guest, and the host neither panics nor
//! keeps anything.

use abi::boot::BootInfo;
use abi::hypercall::{Call, PORT_EXIT, PORT_HYPERCALL, Request};
use abi::memory::{DIRECT_MAP, KERNEL_VIRT, VCPU_AREAS, VCPU_EPITAPH, VCPU_HYPERCALL, VCPU_STRIDE};
use abi::tasks::{record, wake_word};
use std::mem::{offset_of, size_of};
use std::sync::Arc;
use std::time::Duration;
use tests::{Finished, Run, Toolchain, hostile_kernel};
use tombolo::outcome::{GuestEnd, GuestFault};

fn kernel(mode: &str, seed: u32) -> Arc<[u8]> {
    let macros = [
        ("MODE", mode.to_owned()),
        ("SEED", seed.to_string()),
        ("ABI_VERSION", format!("\"{}\"", abi::ABI_VERSION)),
    ];
    hostile_kernel(&macros).into()
}

/// Runs a group of one guest with that kernel. The harness checks what is left of it.
fn run(mode: &str, seed: u32, vcpus: u32) -> Finished {
    let kernel = kernel(mode, seed);
    let run = Run::with("hello.c", Toolchain::Musl)
        .vcpus(vcpus)
        .leaving_segments()
        .lying();
    run.timeout(Duration::from_secs(60))
        .go_with(|config| config.kernel = Some(kernel), |_| {})
}

/// It must have been the guest's fault, or nothing: never the host's.
fn not_ours(run: &Finished) {
    assert!(
        matches!(run.end(0), GuestEnd::Done | GuestEnd::Fault(_)),
        "{run:?}"
    );
}

#[test]
fn the_hostile_kernel_is_written_for_this_contract() {
    assert_eq!((PORT_HYPERCALL, PORT_EXIT), (0x500, 0x504));
    assert_eq!(
        (KERNEL_VIRT, DIRECT_MAP),
        (0xffff_ffff_8020_0000, 0xffff_8000_0000_0000)
    );
    assert_eq!((VCPU_AREAS, VCPU_STRIDE), (0xffff_ffff_c000_0000, 0x1_0000));
    assert_eq!((VCPU_HYPERCALL, VCPU_EPITAPH), (0xb000, 0xd000));
    assert_eq!((size_of::<Request>(), offset_of!(Request, payload)), (480, 224));
    assert_eq!(offset_of!(BootInfo, tasks), 224);
    let futexes = [
        Call::FutexWait,
        Call::FutexWake,
        Call::FutexRequeue,
        Call::FutexCancel,
    ];
    assert_eq!(futexes.map(|call| call as u32), [25, 26, 27, 28]);
    let objects = [
        Call::ObjectOpen,
        Call::ObjectResize,
        Call::ObjectRead,
        Call::ObjectWrite,
        Call::ObjectMap,
        Call::ObjectNotice,
        Call::ObjectAck,
        Call::ObjectName,
    ];
    assert_eq!(objects.map(|call| call as u32), [50, 53, 54, 55, 60, 62, 63, 65]);
    assert_eq!((wake_word(255), record(1)), (24, 32 + 24));
    assert_eq!(
        (offset_of!(BootInfo, page_table), offset_of!(BootInfo, window_ro)),
        (88, 112)
    );
}

#[test]
fn requests_with_garbage_in_every_field_harm_nobody() {
    // Some end themselves early, by clearing or overwriting their own kernel.
    let mut requests = 0;
    for seed in 0..12 {
        let run = run("GARBAGE", seed, 1);
        not_ours(&run);
        requests += run.outcome.guests[0].vcpus[0].exits["out"];
    }
    assert!(requests > 5000, "only {requests} requests were made");
}

#[test]
fn slots_that_are_not_there_harm_nobody() {
    for slot in [8, 9, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        not_ours(&run("BAD_SLOT", slot, 1));
    }
}

#[test]
fn garbage_from_several_vcpus_at_once_harms_nobody() {
    for seed in 100..103 {
        not_ours(&run("GARBAGE", seed, 3));
    }
}

#[test]
fn waits_without_sense_and_task_records_of_garbage_harm_nobody() {
    for (seed, vcpus) in [(0, 1), (1, 1), (2, 3), (3, 3)] {
        not_ours(&run("FUTEXES", seed, vcpus));
    }
}

/// Two guests with that kernel and an object in common, which the first makes smaller.
fn objects(seed: u32, answer_within: Duration) -> Finished {
    let run = Run::with("hello.c", Toolchain::Musl)
        .guests(2)
        .leaving_segments()
        .lying();
    run.timeout(Duration::from_secs(60)).go_with(
        |config| {
            config.kernel = Some(kernel("OBJECTS", seed));
            config.limits.answer_within = answer_within;
        },
        |_| {},
    )
}

#[test]
fn a_guest_that_keeps_pages_that_are_to_go_is_ended_and_the_other_goes_on() {
    let run = objects(0, Duration::from_millis(300));
    let GuestEnd::Fault(GuestFault::NoAnswer { waited_ms, .. }) = run.end(1) else {
        panic!("{run:?}");
    };
    assert_eq!((*waited_ms, run.end(0)), (300, &GuestEnd::Done), "{run:?}");
}

#[test]
fn a_guest_that_touches_pages_that_it_said_it_had_let_go_of_ends_and_nobody_else() {
    let run = objects(1, Duration::from_secs(30));
    assert!(
        matches!(
            run.end(1),
            GuestEnd::Fault(GuestFault::NoMemoryThere { .. } | GuestFault::UnexpectedExit { .. })
        ),
        "{run:?}"
    );
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
}

#[test]
fn a_guest_that_ends_with_pages_that_are_to_go_holds_nobody_up() {
    let run = objects(2, Duration::from_secs(30));
    for guest in 0..2 {
        assert_eq!(run.end(guest), &GuestEnd::Done, "{run:?}");
    }
}

#[test]
fn writes_to_ports_that_are_not_there_harm_nobody() {
    not_ours(&run("GARBAGE_PORTS", 0, 1));
    not_ours(&run("STRINGS", 0, 1));
}

#[test]
fn an_epitaph_of_garbage_is_shown_escaped() {
    let run = run("EPITAPH", 0, 1);
    let GuestEnd::Fault(GuestFault::Panic { message, text, .. }) = run.end(0) else {
        panic!("it should have panicked: {run:?}");
    };
    assert!(!message.contains('\x1b') && !text.contains('\x1b'), "{message}");
    assert!(text.len() < 100_000, "{}", text.len());
}

#[test]
fn memory_that_is_not_there_ends_the_guest() {
    let run = run("NO_MEMORY", 0, 1);
    assert!(
        matches!(
            run.end(0),
            GuestEnd::Fault(GuestFault::NoMemoryThere { .. } | GuestFault::UnexpectedExit { .. })
        ),
        "{run:?}"
    );
}

#[test]
fn a_triple_fault_ends_the_guest() {
    let run = run("TRIPLE_FAULT", 0, 2);
    assert!(
        matches!(
            run.end(0),
            GuestEnd::Fault(GuestFault::TripleFault { .. } | GuestFault::UnexpectedExit { .. })
        ),
        "{run:?}"
    );
}

#[test]
fn a_kernel_that_never_ends_is_ended_when_the_time_is_over() {
    for mode in ["LOOP", "HALT"] {
        let kernel = kernel(mode, 0);
        let run = Run::with("hello.c", Toolchain::Musl)
            .guests(2)
            .vcpus(2)
            .timeout(Duration::from_millis(300));
        let run = run.go_with(|config| config.kernel = Some(kernel), |_| {});
        assert_eq!(run.end(0), &GuestEnd::Stopped, "{run:?}");
        assert!(run.outcome.elapsed_ns < 5_000_000_000, "{run:?}");
    }
}

#[test]
fn an_exit_that_means_nothing_ends_the_guest() {
    let run = run("UNKNOWN_EXIT", 0, 2);
    assert!(matches!(run.end(0), GuestEnd::Fault(_)), "{run:?}");
}

#[test]
fn a_kernel_that_says_it_is_done_when_it_is_not_is_no_host_error() {
    not_ours(&run("LIES", 0, 1));
}
