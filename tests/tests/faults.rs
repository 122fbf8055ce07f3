//! What a program must not do ends it as on Linux, and nothing else.

use abi::boot::BootFlags;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tests::{Run, Toolchain};
use tombolo::outcome::{GuestEnd, GuestFault};

/// The names a program compares its first argument with.
fn modes(source: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(source);
    let text = fs::read_to_string(path).expect("the program's source");
    let modes: Vec<String> = text
        .split("IF(\"")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect();
    assert!(modes.len() > 20, "{modes:?}");
    modes
}

#[test]
fn every_fault_ends_the_process_with_linux_signal() {
    for mode in modes("faults.c") {
        // The software KVM raises #UD where hardware raises #GP, before any kernel is asked.
        if mode == "int-n" {
            continue;
        }
        Run::with("faults.c", Toolchain::Musl)
            .args([mode.as_str(), "0"])
            .compare();
    }
}

#[test]
fn software_interrupts_end_the_process() {
    let run = Run::with("faults.c", Toolchain::Musl).args(["int-n"]).go();
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    assert!(
        [Some(128 + 4), Some(128 + 11)].contains(&run.status(0, 0)),
        "{run:?}"
    );
}

#[test]
fn addresses_a_program_has_no_business_at_end_it() {
    let addresses = [
        0u64,
        0xfff,
        0x7fff_ffff_f000,
        0x8000_0000_0000_0000,
        0xffff_7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0xffff_8000_0020_0000,
        0xffff_ffff_8020_0000,
        0xffff_ffff_c000_1000,
        0xffff_ffff_ffff_fff8,
    ];
    for address in addresses {
        for how in ["read", "write", "jump"] {
            Run::with("faults.c", Toolchain::Musl)
                .args([how, &format!("{address:#x}")])
                .compare();
        }
    }
}

#[test]
fn every_forbidden_access_to_a_segment_ends_the_process() {
    for mode in modes("shm_faults.c") {
        Run::with("shm_faults.c", Toolchain::Musl)
            .vcpus(2)
            .args([mode.as_str()])
            .compare();
    }
}

#[test]
fn a_faulting_process_leaves_the_others_alone() {
    let run = Run::new("survivor.c")
        .guests(2)
        .vcpus(2)
        .procs(2)
        .args(["fault"])
        .compare();
    assert_eq!(run.status(1, 1), Some(128 + 11));
    assert_eq!(run.status(0, 0), Some(0));
}

#[test]
fn a_store_through_a_read_only_attach_changes_nothing_and_ends_the_process_in_its_guest() {
    let run = Run::new("survivor.c").guests(2).args(["trespass"]).compare();
    assert_eq!(run.end(1), &GuestEnd::Done, "{run:?}");
    assert_eq!(run.status(1, 0), Some(128 + 11), "{run:?}");
    assert!(
        run.stdout(0, 0).contains("its bytes are unchanged yes"),
        "{run:?}"
    );
}

#[test]
fn a_kernel_that_lets_a_read_only_attach_be_written_is_ended_by_the_host() {
    let run = Run::new("survivor.c").guests(2).args(["trespass"]);
    let run = run
        .guest(1, |guest| guest.flags |= BootFlags::TEST_WRITABLE_READ_ONLY)
        .go();
    assert!(
        matches!(run.end(1), GuestEnd::Fault(GuestFault::ReadOnlyWrite { .. })),
        "a read-only write should have ended guest 1: {run:?}"
    );
    assert_eq!(run.end(0), &GuestEnd::Done);
    assert_eq!(run.status(0, 0), Some(0));
    assert!(
        run.stdout(0, 0).contains("its bytes are unchanged yes"),
        "{run:?}"
    );
}

#[test]
fn every_kind_of_store_through_a_writable_mapping_of_the_read_only_window_ends_the_guest() {
    for store in [
        "store",
        "store-last",
        "xadd",
        "cmpxchg",
        "xchg",
        "movups",
        "rep-movsb",
        "push",
        "fxsave",
        "movnti",
    ] {
        let run = Run::with("shm_faults.c", Toolchain::Musl).args([store]);
        let run = run
            .guest(0, |guest| guest.flags |= BootFlags::TEST_WRITABLE_READ_ONLY)
            .go();
        // Some of these KVM can't emulate; it says so instead of which address was written.
        assert!(
            matches!(
                run.end(0),
                GuestEnd::Fault(GuestFault::ReadOnlyWrite { .. } | GuestFault::UnexpectedExit { .. })
            ),
            "{store}: {run:?}"
        );
        assert!(!run.stdout(0, 0).contains("survived"), "{store}: {run:?}");
    }
}

#[test]
fn a_read_only_key_can_only_be_attached_for_reading() {
    use tombolo::broker::GuestPolicy;
    let run = Run::new("read_only_key.c").guests(2);
    let run = run.guest(1, |guest| guest.policy = GuestPolicy::ReadOnlyKeys(vec![0x6b1]));
    let run = run.go();
    run.expect_all(0);
    assert_eq!(
        run.stdout(1, 0),
        "attach for writing EACCES\nattach for reading ok\nit sees what was written yes\nanother key, for writing ok\n"
    );
}

/// Every port where devices are, and every 251st of the others: each is a signal and its handler, which are thousands of
/// instructions of an emulated ring 0. With `TOMBOLO_EVERY_PORT=1` all of them, by hand.
#[test]
fn ports_are_closed_to_programs() {
    const PROCS: u32 = 4;
    let step = if std::env::var_os("TOMBOLO_EVERY_PORT").is_some() {
        1
    } else {
        251
    };
    let ports = 0x600 + (65536u64 - 0x600).div_ceil(step);
    for direction in ["in", "out"] {
        let run = Run::with("ports.c", Toolchain::Musl)
            .vcpus(2)
            .procs(PROCS)
            .args([direction, &step.to_string()])
            .timeout(Duration::from_secs(600))
            .compare();
        run.expect_all(0);
        for process in 0..PROCS {
            let each = (ports - u64::from(process)).div_ceil(u64::from(PROCS));
            let expected = format!("tried {each}\nfaults {each}\nother faults 0\nread something 0\n");
            assert_eq!(run.stdout(0, process), expected, "{direction}, process {process}");
        }
    }
}

#[test]
fn jumping_to_the_kernel_gives_a_program_nothing() {
    let kernel = tombolo::image::KernelImage::parse(None).expect("the built-in kernel");
    let header = kernel.header();
    let targets = [
        header.syscall_entry,
        header.syscall_entry + 1,
        header.trap_stubs,
        header.trap_stubs + 0x80 * u64::from(header.stub_stride),
        kernel.entry().get(),
    ];
    for target in targets {
        for back in ["good", "kernel", "noncanonical"] {
            // All but the trap flag, which a program may set: it would end by SIGTRAP.
            for flags in ["0x3f7ed7", "0x0", "0x202"] {
                let target = format!("{target:#x}");
                let run = Run::with("jump.c", Toolchain::Musl)
                    .args([&target, back, flags])
                    .go();
                assert_eq!(run.end(0), &GuestEnd::Done, "{target} {back} {flags}: {run:?}");
                let came_back = "came back with my pid\ninterrupts are on yes\nno I/O privilege yes\n\
                                 no nested task, no virtual 8086 mode yes\n";
                // Either the jump counts as a system call, or it is a fault.
                let fine = match run.status(0, 0) {
                    Some(0) => back == "good" && run.stdout(0, 0) == came_back,
                    status => status == Some(128 + 11),
                };
                assert!(fine, "{target} {back} {flags}: {run:?}");
            }
        }
    }
}

#[test]
fn jumping_anywhere_into_the_kernel_ends_only_the_process() {
    let run = Run::with("jump.c", Toolchain::Musl)
        .vcpus(2)
        .procs(100)
        .args(["spread", "kernel"])
        .go();
    assert_eq!(run.end(0), &GuestEnd::Done, "{run:?}");
    run.expect_all(128 + 11);
}
