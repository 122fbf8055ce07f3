//! Calls that few programs make and many test suites do, judged by Linux: each program writes one line a case.

use tests::conforms;

#[test]
fn memory_is_locked_and_rearranged_as_on_linux() {
    conforms("calls_memory.c", 290);
}

#[test]
fn processes_are_set_up_and_left_behind_as_on_linux() {
    conforms("calls_process.c", 170);
}

#[test]
fn files_are_copied_and_sealed_as_on_linux() {
    conforms("calls_files.c", 355);
}

#[test]
fn events_timers_and_signals_are_read_and_watched_as_on_linux() {
    conforms("calls_events.c", 285);
}
