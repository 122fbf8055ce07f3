//! System V shared memory, complete, judged by Linux: each program writes one line a case, and in a guest each line must
//! be what it is on the host, in an IPC namespace of its own.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tests::{Run, Toolchain, conforms, program};
use tombolo::guest_file::GuestFile;

#[test]
fn shmget_decides_as_linux_does() {
    conforms("conf_shmget.c", 300);
}

#[test]
fn shmat_places_and_refuses_as_linux_does() {
    conforms("conf_shmat.c", 300);
}

#[test]
fn shmdt_removes_what_linux_removes() {
    conforms("conf_shmdt.c", 170);
}

#[test]
fn shmctl_answers_as_linux_does() {
    conforms("conf_shmctl.c", 580);
}

#[test]
fn structures_have_the_layout_linux_gives_them() {
    conforms("conf_layout.c", 130);
}

#[test]
fn identifiers_are_those_linux_gives() {
    conforms("conf_ids.c", 330);
}

#[test]
fn every_class_of_user_may_do_what_linux_lets_it() {
    conforms("conf_perm.c", 530);
}

#[test]
fn processes_live_fork_execute_and_end_as_on_linux() {
    conforms("conf_process.c", 270);
}

#[test]
fn files_that_travel_with_a_guest_are_executed_as_on_linux() {
    let (one, two) = (Toolchain::Glibc, Toolchain::Musl);
    for (first, second) in [(one, two), (two, one), (one, Toolchain::GlibcPie)] {
        // The same names natively and in the guest.
        let other = program("exec_file.c", second);
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let text = scratch.path().join("text");
        std::fs::write(&text, "no program\n").expect("a file");
        for path in [&text, &other] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a file of one's own");
        }
        let files = [&other, &text].map(|path| {
            let file = GuestFile::load(path, None).expect("a file that can travel");
            Arc::new(file)
        });
        Run::with("exec_file.c", first)
            .args([other.as_os_str(), text.as_os_str()].map(|path| path.as_encoded_bytes()))
            .guest(0, move |guest| guest.files.extend(files.iter().cloned()))
            .compare()
            .expect_all(0);
    }
}

#[test]
fn changes_of_mappings_count_as_on_linux() {
    conforms("conf_maps.c", 580);
}

#[test]
fn what_mremap_leaves_behind_is_what_linux_leaves() {
    conforms("conf_remap.c", 440);
}

#[test]
fn the_files_in_proc_read_and_write_as_on_linux() {
    conforms("conf_proc.c", 190);
}

#[test]
fn what_there_is_of_semaphores_and_queues_is_told_as_on_linux() {
    conforms("conf_absent.c", 300);
}

#[test]
fn an_identifier_can_be_asked_for_as_on_linux() {
    conforms("conf_next_id.c", 160);
}

#[test]
fn forced_removal_takes_what_it_takes_on_linux() {
    conforms("conf_forced.c", 95);
}

#[test]
fn limits_hold_as_on_linux() {
    conforms("conf_limits.c", 60);
}

#[test]
fn resource_limits_hold_as_on_linux() {
    conforms("conf_rlimit.c", 300);
}

#[test]
fn attaches_that_page_tables_can_not_hold_are_placed_as_on_linux() {
    let run = Run::with("conf_large.c", Toolchain::Musl)
        .memory(16 << 20)
        .compare();
    run.expect_all(0);
    assert!(run.stdout(0, 0).lines().count() >= 35, "{run:?}");
}

#[test]
fn futex_checks_what_linux_checks() {
    conforms("conf_futex.c", 700);
}
