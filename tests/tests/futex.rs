//! futex(2) across guests: whoever waits for a word in a segment, whoever wakes, they may be processes of one guest or
//! of several, and see what processes of one Linux see.

use tests::{Run, Toolchain};

#[test]
fn words_wake_processes_of_one_guest_as_on_linux() {
    for (procs, vcpus) in [(2, 1), (3, 2), (6, 3)] {
        Run::with("futex_words.c", Toolchain::Musl)
            .procs(procs)
            .vcpus(vcpus)
            .compare()
            .expect_all(0);
    }
}

#[test]
fn words_wake_guests_as_they_wake_processes_on_linux() {
    for (guests, procs) in [(2, 1), (4, 1), (2, 2), (3, 3)] {
        for toolchain in Toolchain::C {
            Run::with("futex_words.c", toolchain)
                .guests(guests)
                .procs(procs)
                .vcpus(procs.min(2))
                .compare()
                .expect_all(0);
        }
    }
}
