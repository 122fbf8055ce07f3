//! The same file prints the same and ends the same on Linux and in a guest.

use tests::{Run, Toolchain, busybox};

fn same_for_each_c_library(source: &str) {
    for toolchain in Toolchain::C {
        Run::with(source, toolchain).compare();
    }
}

#[test]
fn a_program_starts_as_on_linux() {
    same_for_each_c_library("startup.c");
}

#[test]
fn output_is_byte_exact() {
    for toolchain in Toolchain::C {
        let run = Run::with("output.c", toolchain).compare();
        assert!(run.processes[&(0, 0)].stdout.len() > 1 << 20);
    }
}

#[test]
fn memory_behaves_as_on_linux() {
    same_for_each_c_library("memory.c");
}

#[test]
fn a_poll_waits_as_long_as_on_linux_whatever_was_waited_for_before() {
    same_for_each_c_library("poll_sleep.c");
}

#[test]
fn futexes_of_one_process_behave_as_on_linux() {
    same_for_each_c_library("futex.c");
}

#[test]
fn futexes_after_fork_are_the_words_they_are_on_linux() {
    same_for_each_c_library("futex_fork.c");
}

#[test]
fn scheduling_calls_behave_as_on_linux() {
    for toolchain in Toolchain::C {
        Run::with("scheduling.c", toolchain).vcpus(2).compare();
    }
}

#[test]
fn what_a_process_can_ask_is_as_on_linux() {
    same_for_each_c_library("process.c");
}

#[test]
fn keys_from_names_behave_as_on_linux() {
    same_for_each_c_library("ftok.c");
}

#[test]
fn names_give_the_same_keys_in_every_guest() {
    let run = Run::new("ftok.c").guests(3).args(["values"]).go();
    run.expect_all(0);
    assert!(run.stdout(0, 0).contains("/tmp 61"), "{run:?}");
    assert_eq!(run.stdout(0, 0), run.stdout(1, 0));
    assert_eq!(run.stdout(0, 0), run.stdout(2, 0));
}

#[test]
fn every_bad_pointer_is_efault() {
    same_for_each_c_library("bad_pointers.c");
}

#[test]
fn stdin_reaches_the_first_process_byte_for_byte() {
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 31 + (i >> 8)) as u8).collect();
    let run = Run::new("cat.c").stdin(bytes.clone()).compare();
    assert!(run.processes[&(0, 0)].stdout == bytes);
}

#[test]
fn all_processes_but_the_first_read_the_end_of_the_file() {
    let run = Run::new("cat.c")
        .guests(2)
        .procs(2)
        .stdin("for the first")
        .compare();
    run.expect_all(0);
    assert_eq!(run.stdout(0, 0), "for the first");
    assert_eq!(run.stderr(1, 1), "0 bytes\nat the end 0\n");
}

#[test]
fn a_rust_program_on_std_runs_as_on_linux() {
    Run::new("rust_std.rs")
        .args(["one", "two"])
        .stdin("a b\nb c c\n")
        .compare();
}

#[test]
fn rust_programs_share_a_segment() {
    Run::new("rust_pair.rs").guests(2).vcpus(2).procs(2).compare();
}

#[test]
fn busybox_runs_as_on_linux() {
    let busybox = busybox();
    Run::file(&busybox).args(["echo", "-e", "a\\tb", "c"]).compare();
    Run::file(&busybox).args(["expr", "6", "*", "7"]).compare();
    Run::file(&busybox)
        .args(["sha256sum"])
        .stdin(vec![0x5a; 100_001])
        .compare();
    Run::file(&busybox)
        .args(["cat"])
        .stdin("through\nbusybox\n")
        .compare();
    Run::file(&busybox).args(["false"]).compare();
    Run::file(&busybox)
        .args(["tr", "a-z", "A-Z"])
        .stdin("shout")
        .compare();
    Run::file(&busybox)
        .args(["sort", "-r"])
        .stdin("b\nc\na\n")
        .compare();
    Run::file(&busybox)
        .args(["wc"])
        .stdin("one two\nthree\n")
        .compare();
}

#[test]
fn copies_that_never_wait_all_get_on_with_their_own_registers() {
    let run = Run::new("busy.c")
        .vcpus(2)
        .procs(6)
        .args(["400"])
        .leaving_segments()
        .go();
    run.expect_all(0);
}
