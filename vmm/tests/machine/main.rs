//! Machines under kernels of a few instructions: how they start, how they end, and what they may ask.

mod kernels;
mod layout;

use abi::Errno;
use abi::boot::{BootFlags, BootInfo};
use abi::epitaph::Epitaph;
use abi::hypercall::Request;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tombolo::broker::{BrokerLimits, GuestPolicy};
use tombolo::config::{GroupConfig, GuestConfig, InjectedFault, Output, ProcessConfig, Stdin};
use tombolo::device::output::Sink as HostSink;
use tombolo::group::Group;
use tombolo::image::Program;
use tombolo::outcome::{GuestEnd, GuestFault, Outcome, StopRequest};

/// The kernels in assembly know these by number.
const _: () = {
    assert!(offset_of!(BootInfo, vcpus) == 20);
    assert!(offset_of!(BootInfo, free_start) == 64);
    assert!(offset_of!(BootInfo, frame_table) == 72);
    assert!(offset_of!(BootInfo, window_rw) == 96);
    assert!(offset_of!(BootInfo, window_ro) == 112);
    assert!(offset_of!(BootInfo, clock) == 136);
    assert!(offset_of!(Request, result) == 64);
    assert!(size_of::<Request>() == 480);
    assert!(offset_of!(Epitaph, backtrace) == 176);
    assert!(offset_of!(Epitaph, message) == 448);
};

#[derive(Default)]
struct Sink(Mutex<Vec<u8>>);

impl Output for Sink {
    fn write(&self, _: u32, _: u32, _: u32, bytes: &[u8]) -> Result<usize, Errno> {
        self.0.lock().map_err(|_| Errno::EIO)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// A program that no test kernel looks at: the smallest file the loader takes.
fn program() -> Arc<Program> {
    let mut file = vec![0; 0x1000];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &0x40_0100u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 1]);
    put(64, &[1, 0, 0, 0, 5]);
    for (index, value) in [0u64, 0x40_0000, 0x40_0000, 0x1000, 0x1000, 0x1000]
        .into_iter()
        .enumerate()
    {
        put(72 + index * 8, &value.to_le_bytes());
    }
    Arc::new(Program::from_bytes("/p", file).expect("a well-formed file"))
}

fn guest(vcpus: u32) -> GuestConfig {
    GuestConfig {
        vcpus,
        memory: 32 << 20,
        processes: vec![ProcessConfig {
            program: program(),
            args: vec![b"p".to_vec()],
            env: vec![],
        }],
        policy: GuestPolicy::default(),
        quota: Default::default(),
        uid: 0,
        gid: 0,
        files: Vec::new(),
        flags: BootFlags::empty(),
        inject: None,
    }
}

fn group(kernel: Arc<[u8]>, guests: Vec<GuestConfig>) -> GroupConfig {
    GroupConfig {
        guests,
        timeout: Some(Duration::from_secs(20)),
        stdin: Stdin::Bytes(vec![]),
        output: Arc::new(Sink::default()),
        limits: BrokerLimits::default(),
        kernel: Some(kernel),
        observer: None,
    }
}

fn run(config: GroupConfig) -> Outcome {
    Group::start(config).expect("these tests need /dev/kvm").wait()
}

/// How the one guest under `kernel` ended.
fn end_of(kernel: Arc<[u8]>, config: GuestConfig) -> GuestEnd {
    run(group(kernel, vec![config])).guests.remove(0).end
}

#[test]
fn a_guest_that_says_it_is_done_is_done() {
    let outcome = run(group(kernels::done(), vec![guest(1)]));
    assert_eq!(outcome.guests[0].end, GuestEnd::Done);
    assert_eq!(outcome.stopped, None);
    let start = outcome.guests[0].start;
    let steps = [
        start.vm_created_ns,
        start.loaded_ns,
        start.entered_ns,
        start.gone_ns,
    ];
    assert!(steps.is_sorted() && steps[0].is_some(), "{start:?}");
}

#[test]
fn every_vcpu_finds_what_the_contract_promises() {
    for vcpus in [1, 2, 5, 16] {
        assert_eq!(
            end_of(kernels::promised(), guest(vcpus)),
            GuestEnd::Done,
            "{vcpus} vCPUs"
        );
    }
}

#[test]
fn guests_run_side_by_side() {
    let outcome = run(group(kernels::promised(), (0..8).map(|_| guest(2)).collect()));
    assert_eq!(outcome.guests.len(), 8);
    for (index, guest) in outcome.guests.iter().enumerate() {
        assert_eq!((guest.guest, &guest.end), (index as u32, &GuestEnd::Done));
    }
}

#[test]
fn a_guest_is_stopped_whatever_it_does() {
    for (name, kernel) in [("spinning", kernels::spin()), ("sleeping", kernels::sleep())] {
        let mut config = group(kernel, vec![guest(3), guest(1)]);
        config.timeout = Some(Duration::from_millis(150));
        let before = Instant::now();
        let outcome = run(config);
        assert!(
            before.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            before.elapsed()
        );
        assert_eq!(outcome.stopped, Some(StopRequest::Timeout), "{name}");
        assert!(
            outcome.guests.iter().all(|guest| guest.end == GuestEnd::Stopped),
            "{name}"
        );
    }
}

#[test]
fn a_stop_that_comes_at_any_moment_is_not_missed() {
    for delay_us in (0..8000).step_by(400) {
        let group = Group::start(group(kernels::sleep(), vec![guest(2)])).expect("these tests need /dev/kvm");
        let stopper = group.stopper();
        let signal = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(delay_us));
            stopper.stop(StopRequest::Signal(2));
        });
        let outcome = group.wait();
        signal.join().unwrap();
        assert_eq!(outcome.stopped, Some(StopRequest::Signal(2)));
        assert_eq!(outcome.guests[0].end, GuestEnd::Stopped);
    }
}

/// Writes into a pipe that nobody reads.
struct FullPipe(HostSink);

impl Output for FullPipe {
    fn write(&self, _: u32, _: u32, _: u32, bytes: &[u8]) -> Result<usize, Errno> {
        self.0.write(bytes)
    }

    fn awaited(&self, _: u32) -> Option<BorrowedFd<'_>> {
        (!self.0.is_ready()).then(|| self.0.as_fd())
    }
}

#[test]
fn a_guest_whose_output_nobody_reads_can_be_stopped() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut config = group(kernels::writes(), vec![guest(2)]);
    config.output = Arc::new(FullPipe(HostSink::new(writer.into())));
    config.timeout = Some(Duration::from_millis(200));
    let before = Instant::now();
    let outcome = run(config);
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(outcome.guests[0].end, GuestEnd::Stopped);
    assert!(
        outcome.guests[0]
            .vcpus
            .iter()
            .any(|vcpu| vcpu.hypercalls.contains_key("Write"))
    );
}

#[test]
fn pages_that_must_not_be_touched_are_not_there() {
    for (name, kernel) in [
        ("guard page", kernels::guard_page()),
        ("kernel text", kernels::writes_to_text()),
    ] {
        let end = end_of(kernel, guest(1));
        match end {
            GuestEnd::Fault(fault @ GuestFault::UnexpectedExit { vcpu: 0, .. }) => {
                assert!(
                    fault.to_string().contains("write of 0xe to port 0x98"),
                    "{name}: {fault}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_store_to_the_read_only_window_ends_the_guest() {
    let end = end_of(kernels::writes_read_only(), guest(1));
    assert!(
        matches!(end, GuestEnd::Fault(GuestFault::ReadOnlyWrite { vcpu: 0, gpa, .. }) if gpa != 0),
        "{end:?}"
    );
    let end = end_of(kernels::writes_to_a_hole(), guest(1));
    assert!(
        matches!(end, GuestEnd::Fault(GuestFault::NoMemoryThere { vcpu: 0, .. })),
        "{end:?}"
    );
}

#[test]
fn what_no_kernel_may_do_ends_the_guest_with_a_message() {
    for (kernel, text) in [
        (kernels::reads_a_port(), "a read of port 0x71"),
        (kernels::bad_slot(), "a 4-byte write of 0x8 to port 0x500"),
    ] {
        match end_of(kernel, guest(1)) {
            GuestEnd::Fault(fault @ GuestFault::UnexpectedExit { .. }) => {
                assert!(fault.to_string().contains(text), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_epitaph_is_read_with_care() {
    match end_of(kernels::panics(), guest(1)) {
        GuestEnd::Fault(GuestFault::Panic {
            vcpu: 0,
            message,
            text,
        }) => {
            assert_eq!(message, "ho\\u{1b}[!");
            assert!(text.contains("while it ran process 42"), "{text}");
            assert!(text.contains("rip 0000000000000000"), "{text}");
            // It claims a million return addresses; there is room for 32.
            assert_eq!(
                text.lines().filter(|line| line.contains(": 0x")).count(),
                32,
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_of_garbage_harm_nobody() {
    let mut config = group(kernels::garbage(), vec![guest(1), guest(1)]);
    config.timeout = None;
    let outcome = run(config);
    for guest in &outcome.guests {
        assert_eq!(guest.end, GuestEnd::Done);
        let calls: u64 = guest.vcpus[0].hypercalls.values().sum();
        assert_eq!(
            calls,
            guest.vcpus[0].exits["out"] - 1,
            "every request is answered"
        );
        assert!(
            guest.vcpus[0].hypercalls.len() > 10,
            "{:?}",
            guest.vcpus[0].hypercalls
        );
    }
}

#[test]
fn injected_faults_end_their_guest_and_no_other() {
    let (vcpu, after_exits) = (0, 0);
    let faults = [
        InjectedFault::RunError { vcpu, after_exits },
        InjectedFault::TripleFault { vcpu, after_exits },
        InjectedFault::ThreadPanic { vcpu, after_exits },
    ];
    for fault in faults {
        let injected = GuestConfig {
            inject: Some(fault),
            ..guest(2)
        };
        let outcome = run(group(kernels::promised(), vec![guest(2), injected, guest(1)]));
        let ends: Vec<_> = outcome.guests.iter().map(|guest| &guest.end).collect();
        assert_eq!(
            (ends[0], ends[2]),
            (&GuestEnd::Done, &GuestEnd::Done),
            "{fault:?}"
        );
        match (fault, ends[1]) {
            (InjectedFault::RunError { .. }, GuestEnd::HostError(why)) => {
                assert!(why.contains("Input/output error"), "{why}");
            }
            (InjectedFault::TripleFault { .. }, GuestEnd::Fault(GuestFault::TripleFault { vcpu: 0, .. })) => {
            }
            (InjectedFault::ThreadPanic { .. }, GuestEnd::HostError(why)) => {
                assert!(why.contains("panicked: injected"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_kernel_of_another_version_is_refused() {
    let error = Group::start(group(kernels::of_another_version(), vec![guest(1)]))
        .err()
        .expect("refused");
    assert!(error.to_string().contains("ABI version"), "{error}");
    assert_eq!(error.exit_status(), 125);
}

#[test]
fn a_guest_too_small_for_its_program_stops_the_whole_start() {
    let mut file = program().bytes().to_vec();
    file.resize(40 << 20, 0);
    let big = Arc::new(Program::from_bytes("/big", file).expect("a well-formed file"));
    let mut small = guest(1);
    small.processes[0].program = big;
    let error = Group::start(group(kernels::done(), vec![guest(1), small]))
        .err()
        .expect("refused");
    assert!(
        error
            .to_string()
            .contains("guest 1: 33554432 bytes of memory are too little"),
        "{error}"
    );
}

#[test]
fn nothing_is_left_of_a_group() {
    let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let names = |path: &str| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links
            .filter(|link| {
                link.to_string_lossy().contains("kvm") || link.to_string_lossy().contains("tombolo")
            })
            .count()
    };
    let round = || assert_eq!(end_of(kernels::promised(), guest(2)), GuestEnd::Done);
    round();
    // Other tests of this process run at the same time: what must not happen is that it grows with every round.
    let before = count("/proc/self/fd") + names("/proc/self/fd");
    for _ in 0..50 {
        round();
    }
    let after = count("/proc/self/fd") + names("/proc/self/fd");
    assert!(
        after < before + 100,
        "{before} descriptors before, {after} after 50 guests"
    );
}
