//! What one copy writes another sees: across vCPUs, across guests, whatever the size and the address.

use std::sync::Arc;
use tests::{Run, Toolchain, program};
use tombolo::image::Program;

const SIZES: [(&str, u64); 4] = [
    ("one byte", 1),
    ("4 KiB", 4096),
    ("2 MiB + 4 KiB", (2 << 20) + 4096),
    ("64 MiB", 64 << 20),
];

/// (guests, vCPUs, processes): within a guest, across guests, both.
const SHAPES: [(u32, u32, u32); 4] = [(1, 2, 2), (2, 1, 1), (2, 2, 2), (4, 1, 1)];

fn shared(size: u64, how: &str, (guests, vcpus, procs): (u32, u32, u32)) {
    let size = size.to_string();
    let run = Run::new("sharing.c")
        .args([&size, how])
        .guests(guests)
        .vcpus(vcpus)
        .procs(procs);
    run.compare().expect_all(0);
}

#[test]
fn a_write_is_seen_by_all_at_addresses_the_kernel_chooses() {
    for (_, size) in SIZES {
        SHAPES.into_iter().for_each(|shape| shared(size, "chosen", shape));
    }
}

#[test]
fn a_write_is_seen_by_all_at_given_aligned_addresses() {
    for (_, size) in SIZES {
        shared(size, "given", (2, 2, 2));
    }
}

#[test]
fn a_write_is_seen_by_all_at_given_addresses_that_no_large_page_fits() {
    for (_, size) in SIZES {
        shared(size, "odd", (2, 2, 2));
    }
}

#[test]
fn a_write_is_seen_through_several_attaches_at_once_writable_and_read_only() {
    for (_, size) in SIZES {
        SHAPES
            .into_iter()
            .for_each(|shape| shared(size, "several", shape));
    }
}

#[test]
fn programs_of_different_c_libraries_share_segments() {
    let load = |toolchain| {
        let path = program("sharing.c", toolchain);
        Arc::new(Program::load(path).expect("a program that was just built"))
    };
    let (musl, pie) = (load(Toolchain::Musl), load(Toolchain::GlibcPie));
    let run = Run::new("sharing.c").guests(3).args(["12345", "several"]);
    let run = run.guest(1, move |guest| guest.processes[0].program = musl.clone());
    let run = run.guest(2, move |guest| guest.processes[0].program = pie.clone());
    run.go().expect_all(0);
}

#[test]
fn what_is_not_shared_is_not_seen() {
    SHAPES.into_iter().for_each(|(guests, vcpus, procs)| {
        Run::new("private.c")
            .guests(guests)
            .vcpus(vcpus)
            .procs(procs)
            .compare()
            .expect_all(0);
    });
}

#[test]
fn producers_and_consumers_pass_items_through_a_ring() {
    for toolchain in Toolchain::C {
        for (guests, vcpus, procs) in [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2)] {
            let run = Run::with("ring.c", toolchain)
                .guests(guests)
                .vcpus(vcpus)
                .procs(procs)
                .args(["2000"]);
            let run = run.compare();
            run.expect_all(0);
            assert!(
                run.stdout(0, 0)
                    .contains("what was consumed is what was produced yes"),
                "{run:?}"
            );
        }
    }
}

#[test]
fn a_removed_segment_lives_until_its_last_detach_in_the_other_guest() {
    for (guests, procs) in [(2, 1), (1, 2), (3, 2)] {
        Run::new("lifetime.c")
            .guests(guests)
            .vcpus(2)
            .procs(procs)
            .compare()
            .expect_all(0);
    }
}

#[test]
fn eight_guests_share_a_segment() {
    shared((2 << 20) + 4096, "several", (8, 1, 1));
}

#[test]
fn what_one_process_does_to_a_part_of_its_attach_does_not_show_in_anothers() {
    Run::new("linked.c").compare().expect_all(0);
    Run::new("linked.c").vcpus(2).compare().expect_all(0);
}

#[test]
fn an_access_behind_an_attachs_last_page_is_a_fault_of_the_program() {
    let run = Run::new("linked.c").args(["behind"]).go();
    let lines = run.stdout(0, 0);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.lines().all(|line| line.ends_with(": 0 11")), "{lines}");
    run.expect_all(0);
}
