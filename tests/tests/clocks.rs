//! Clocks: those of a guest are Linux's, its vDSO is like Linux's, and all guests of a group have the same.

use abi::clock::id;
use std::time::Duration;
use tests::{Run, Toolchain};
use tombolo::clock::host_ns;

#[test]
fn clocks_and_sleeps_behave_as_on_linux() {
    for toolchain in Toolchain::C {
        Run::with("clock.c", toolchain).compare();
    }
}

#[test]
fn the_vdso_is_like_linuxs() {
    for toolchain in Toolchain::C {
        // The program asks on each CPU it may use; there are as many as the host has, or more.
        Run::with("vdso.c", toolchain).vcpus(4).compare();
    }
}

#[test]
fn a_time_from_another_guest_is_never_later_than_ones_own() {
    for toolchain in Toolchain::C {
        let run = Run::with("stamps.c", toolchain)
            .guests(2)
            .timeout(Duration::from_secs(240))
            .compare();
        run.expect_all(0);
    }
}

#[test]
fn a_time_from_another_vcpu_is_never_later_than_ones_own() {
    let run = Run::new("stamps.c")
        .vcpus(2)
        .procs(2)
        .timeout(Duration::from_secs(240))
        .go();
    run.expect_all(0);
}

/// The guest's reading lies between two of the host's, but for a tick of its coarse clocks (10 ms at most) and what
/// NTP may have done in between (0.05 % of a minute).
#[test]
fn all_clocks_of_a_guest_show_the_hosts_time() {
    const APART: u64 = 40_000_000;
    let before = id::ALL.map(host_ns);
    let run = Run::new("what_time.c").guests(2).go();
    let after = id::ALL.map(host_ns);
    run.expect_all(0);
    for guest in 0..2 {
        let text = run.stdout(guest, 0);
        let told: Vec<(u64, u64)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(clock, ns)| (clock.parse().expect("a number"), ns.parse().expect("a number")))
            .collect();
        assert_eq!(told.len(), id::ALL.len(), "{text}");
        for (index, clock) in id::ALL.into_iter().enumerate() {
            let (_, ns) = told.iter().find(|(told, _)| *told == clock).expect("each clock");
            assert!(
                before[index] - APART < *ns && *ns < after[index] + APART,
                "clock {clock}: {} on the host before, {ns} in guest {guest}, {} after",
                before[index],
                after[index]
            );
        }
    }
}
