//! Everything that pthreads offer for waiting: each program plays one scenario, whose transcript must be the same for
//! threads of one process, processes of one guest, and either spread over guests; and what Linux says.

use std::time::Duration;
use tests::{Run, Toolchain};

/// Who the four workers are: how the program is called, and how many guests with how many vCPUs they are spread over.
struct Cast {
    mode: &'static str,
    guests: u32,
    vcpus: u32,
}

const fn cast(mode: &'static str, guests: u32, vcpus: u32) -> Cast {
    Cast { mode, guests, vcpus }
}

const ALL: [Cast; 6] = [
    cast("threads", 1, 2),
    cast("private", 1, 2),
    cast("forks", 1, 1),
    cast("threads", 2, 2),
    cast("threads", 4, 1),
    cast("forks", 2, 1),
];

/// Plays `source` with every cast; each copy must write what it does on Linux, and the first, which tells the story, what
/// it did with the first cast there. A story has at least `least` lines.
fn plays(source: &str, least: usize) {
    for toolchain in [Toolchain::Glibc, Toolchain::Musl] {
        let mut story: Option<String> = None;
        // musl plays every fourth cast: threads here, threads of four guests.
        let every = if toolchain == Toolchain::Musl { 4 } else { 1 };
        for Cast { mode, guests, vcpus } in ALL.iter().step_by(every) {
            let run = Run::with(source, toolchain)
                .guests(*guests)
                .vcpus(*vcpus)
                .args([*mode])
                .timeout(Duration::from_secs(120))
                .compare();
            run.expect_all(0);
            let told = run.stdout(0, 0);
            assert!(told.lines().count() >= least, "{source}: too few lines: {told}");
            let first = story.get_or_insert_with(|| told.clone());
            assert_eq!(&told, first, "{source}, {toolchain:?}: {mode} in {guests} guests");
        }
    }
}

#[test]
fn mutexes_of_every_type_are_the_same_for_threads_processes_and_guests() {
    plays("sync_mutex.c", 190);
}

#[test]
fn robust_mutexes_tell_of_owners_that_died_as_threads_or_processes_here_or_elsewhere() {
    plays("sync_robust.c", 200);
}

#[test]
fn condition_variables_are_the_same_for_threads_processes_and_guests() {
    plays("sync_cond.c", 120);
}

#[test]
fn read_write_locks_are_the_same_for_threads_processes_and_guests() {
    plays("sync_rwlock.c", 60);
}

#[test]
fn barriers_are_the_same_for_threads_processes_and_guests() {
    plays("sync_barrier.c", 45);
}

#[test]
fn semaphores_are_the_same_for_threads_processes_and_guests() {
    plays("sync_sem.c", 54);
}

#[test]
fn spin_locks_are_the_same_for_threads_processes_and_guests() {
    plays("sync_spin.c", 13);
}

#[test]
fn futexes_wake_requeue_and_compare_as_on_linux_for_threads_processes_and_guests() {
    plays("sync_futex.c", 350);
}

#[test]
fn time_agrees_among_threads_processes_and_guests() {
    plays("sync_clock.c", 17);
}

#[test]
fn rust_threads_of_several_guests_wait_for_each_other() {
    for (guests, vcpus) in [(1, 2), (2, 1), (4, 1)] {
        Run::new("rust_sync.rs")
            .guests(guests)
            .vcpus(vcpus)
            .timeout(Duration::from_secs(120))
            .compare()
            .expect_all(0);
    }
}
