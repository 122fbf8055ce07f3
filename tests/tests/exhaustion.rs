//! Whatever is used up: the error is Linux's, what is given back can be had again, and at the end nothing is missing (the
//! harness compares what is there before and after).
//!
//! The same program runs natively, held to limits there, so the transcripts are Linux's, errors and all. A guest has
//! fewer of everything than these limits allow.

use std::time::Duration;
use tests::{Finished, Run, Toolchain};

/// RAM of a guest that is soon used up.
const LITTLE: u64 = 64 << 20;

/// Uses up `what`; `limit` is for Linux.
fn exhausted(what: &str, limit: u32, memory: u64) -> Finished {
    let run = Run::with("exhaust.c", Toolchain::Musl)
        .args([what, &limit.to_string()])
        .memory(memory)
        .timeout(Duration::from_secs(600))
        .compare();
    run.expect_all(0);
    let said = run.stdout(0, 0);
    assert!(
        said.ends_with("it goes on\n") && !said.contains(" no\n"),
        "{what}: {run:?}"
    );
    run
}

/// How often `text` must have been said.
fn said(run: &Finished, text: &str, times: usize) {
    assert_eq!(
        run.stdout(0, 0).matches(text).count(),
        times,
        "{text:?} in {run:?}"
    );
}

#[test]
fn processes_run_out_with_eagain_and_come_back() {
    let run = exhausted("processes", 60, 256 << 20);
    said(&run, "fork then says EAGAIN\n", 3);
}

#[test]
fn segments_run_out_with_enospc_and_come_back() {
    let run = exhausted("segments", 0, 256 << 20);
    said(&run, "4096 segments, then ENOSPC\n", 2);
}

#[test]
fn attaches_run_out_with_enomem_and_come_back() {
    let run = exhausted("attaches", 0, 256 << 20);
    said(&run, "shmat then says ENOMEM\n", 1);
}

#[test]
fn frames_run_out_in_one_process_and_the_others_go_on() {
    exhausted("frames", 500, LITTLE);
}

#[test]
fn page_tables_run_out_in_one_process_and_the_others_go_on() {
    exhausted("tables", 500, LITTLE);
}

#[test]
fn descriptors_run_out_with_emfile_and_come_back() {
    let run = exhausted("descriptors", 0, LITTLE);
    said(&run, "open then says EMFILE\n", 2);
}
