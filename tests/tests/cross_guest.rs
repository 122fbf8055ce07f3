//! What one program does to a segment another sees, whether it is its neighbour on Linux, in the same guest or in
//! another guest: the same turns, the same transcripts.

use tests::{Run, Toolchain};

/// Two or three parties as `guests` guests of `procs` processes.
fn turns(guests: u32, procs: u32) {
    for toolchain in [Toolchain::Musl, Toolchain::Glibc] {
        Run::with("cross.c", toolchain)
            .guests(guests)
            .procs(procs)
            .compare()
            .expect_all(0);
    }
}

#[test]
fn two_processes_of_a_guest_see_each_other_as_on_linux() {
    turns(1, 2);
}

#[test]
fn three_processes_of_a_guest_see_each_other_as_on_linux() {
    turns(1, 3);
}

#[test]
fn two_guests_see_each_other_as_two_processes_on_linux_do() {
    turns(2, 1);
}

#[test]
fn three_guests_see_each_other_as_three_processes_on_linux_do() {
    turns(3, 1);
}

#[test]
fn processes_of_two_guests_see_each_other_as_four_processes_on_linux_do() {
    turns(2, 2);
}

#[test]
fn a_guest_that_ends_without_freeing_anything_is_seen_to_end_as_one_that_does() {
    for how in ["return", "kill", "thread"] {
        for (toolchain, vcpus) in [(Toolchain::Musl, 1), (Toolchain::Glibc, 2)] {
            let run = Run::with("leaver.c", toolchain)
                .guests(2)
                .vcpus(vcpus)
                .args([how]);
            let one = run.compare();
            let other = run.ending_at_once().compare();
            assert_eq!(one.stdout(1, 0), other.stdout(1, 0));
        }
    }
    for (source, procs) in [("cross.c", 1), ("cross.c", 2), ("lifetime.c", 2)] {
        Run::new(source)
            .guests(2)
            .procs(procs)
            .ending_at_once()
            .compare()
            .expect_all(0);
    }
}
