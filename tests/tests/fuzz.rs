//! Random system calls with random arguments: the kernel lives, and so does everyone else.
//!
//! By hand: TOMBOLO_FUZZ_SECONDS=3600 TOMBOLO_FUZZ_SEED=17 cargo test -p tests --test fuzz.

use std::time::Duration;
use tests::{Run, Toolchain};

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// The last process of the last guest makes the calls; every other counts in shared memory.
fn storm(guests: u32, procs: u32, vcpus: u32, toolchain: Toolchain) {
    // The same calls every day, so that a failure can be repeated; others by hand.
    let seed = asked("TOMBOLO_FUZZ_SEED", 1);
    let seconds = asked("TOMBOLO_FUZZ_SECONDS", 15);
    let run = Run::with("fuzz.c", toolchain)
        .guests(guests)
        .procs(procs)
        .vcpus(vcpus)
        .args([seed.to_string(), seconds.to_string()])
        .timeout(Duration::from_secs(seconds * 3 + 60))
        .go();
    println!("seed {seed}: {}", run.stdout(guests - 1, procs - 1));
    let all = (0..guests).flat_map(|guest| (0..procs).map(move |process| (guest, process)));
    for (guest, process) in all {
        assert_eq!(
            run.status(guest, process),
            Some(0),
            "seed {seed}, copy {guest}.{process}: {run:?}"
        );
        let said = run.stdout(guest, process);
        let expected = if (guest, process) == (guests - 1, procs - 1) {
            "no child could not be killed yes\nfiles work yes\nit goes on\nattaches at the end 0\n"
        } else {
            "it counted yes\nwrong bytes 0\n"
        };
        assert!(
            said.ends_with(expected),
            "seed {seed}, copy {guest}.{process}: {run:?}"
        );
    }
    run.expect_all(0);
}

#[test]
fn random_calls_beside_a_process_of_the_same_guest_harm_nobody() {
    storm(1, 2, 1, Toolchain::Musl);
}

#[test]
fn random_calls_on_several_vcpus_harm_nobody() {
    storm(1, 3, 2, Toolchain::Glibc);
}

#[test]
fn random_calls_in_one_guest_harm_no_other() {
    storm(2, 2, 2, Toolchain::Musl);
    storm(3, 1, 1, Toolchain::Glibc);
}
