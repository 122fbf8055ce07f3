//! POSIX shared memory across guests: files in `/dev/shm` are the group's, judged by Linux. Programs use shm_open and
//! sem_open of unmodified static libraries.

use abi::boot::BootFlags;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tests::{Run, Toolchain, busybox};
use tombolo::broker::GuestPolicy;
use tombolo::config::InjectedFault;
use tombolo::outcome::{GuestEnd, GuestFault};

/// What makes names unique on the host, where others use `/dev/shm` as well.
fn prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{number}", std::process::id())
}

fn run(source: &str, toolchain: Toolchain) -> Run {
    Run::with(source, toolchain)
        .args([prefix()])
        .timeout(Duration::from_secs(120))
}

#[test]
fn files_in_dev_shm_have_names_modes_sizes_and_bytes_as_on_linux() {
    for toolchain in Toolchain::C {
        let run = run("posix_rules.c", toolchain).compare();
        run.expect_all(0);
        assert!(run.stdout(0, 0).lines().count() > 230, "{run:?}");
    }
}

#[test]
fn guests_share_files_in_dev_shm_as_processes_do_on_linux() {
    use Toolchain::{Glibc, Musl};
    for (toolchain, guests, procs, vcpus) in [
        (Glibc, 1, 3, 2),
        (Musl, 1, 2, 1),
        (Glibc, 2, 1, 1),
        (Musl, 3, 1, 1),
        (Glibc, 2, 2, 2),
        (Musl, 4, 1, 2),
    ] {
        run("posix_group.c", toolchain)
            .guests(guests)
            .procs(procs)
            .vcpus(vcpus)
            .compare()
            .expect_all(0);
    }
}

#[test]
fn a_guest_that_dies_lets_go_of_files_words_and_pages() {
    for procs in [1, 2] {
        let run = run("posix_death.c", Toolchain::Musl)
            .guests(3)
            .procs(procs)
            .guest(1, |guest| guest.flags |= BootFlags::TEST_PANIC_ON_GETPID);
        let native = run.natively();
        let run = run.go();
        assert!(
            matches!(run.end(1), GuestEnd::Fault(GuestFault::Panic { .. })),
            "{run:?}"
        );
        for guest in [0, 2] {
            for process in 0..procs {
                let (linux, there) = (&native[&(guest, process)], &run.processes[&(guest, process)]);
                assert_eq!(
                    String::from_utf8_lossy(&there.stdout),
                    String::from_utf8_lossy(&linux.stdout),
                    "{run:?}"
                );
                assert_eq!((there.status, linux.status), (Some(0), Some(0)), "{run:?}");
            }
        }
    }
}

/// Guests die at any moment while all change sizes; the others go on, and nothing is left.
#[test]
fn sizes_change_while_guests_die_at_any_moment() {
    for after_exits in [200, 300, 400, 600, 900, 1300] {
        let run = run("posix_sizes.c", Toolchain::Musl)
            .guests(3)
            .leaving_segments()
            .guest(1, move |guest| {
                guest.inject = Some(InjectedFault::RunError { vcpu: 0, after_exits })
            })
            .go();
        for guest in [0, 2] {
            assert_eq!(run.end(guest), &GuestEnd::Done, "{run:?}");
            assert_eq!(run.status(guest, 0), Some(0), "{run:?}");
        }
    }
}

#[test]
fn a_users_guest_and_one_that_may_only_read_are_held_to_it() {
    let script = "umask 022; cd /dev/shm
         if [ $TOMBOLO_GUEST = 0 ]; then echo hello > a; echo secret > b; chmod 600 b; echo ready > ready; fi
         until [ -e ready ]; do sleep 0.01; done
         if [ $TOMBOLO_GUEST != 0 ]; then
           cat a; cat b; echo x > a; echo x > mine; ls -l mine; rm -f a; rm mine
         fi 2>&1 | sed 's/ [A-Z][a-z][a-z] .*//'
         if [ $TOMBOLO_GUEST = 0 ]; then until [ -e go ]; do sleep 0.01; done; rm -f *; fi; touch go 2> /dev/null || ln a go; true";
    let run = Run::file(&busybox())
        .args(["sh", "-c", script])
        .guests(2)
        .leaving_segments()
        .user(1, 1000, 1000)
        .go();
    let seen = run.stdout(1, 0);
    assert_eq!(seen.matches("hello").count(), 1, "{seen}");
    assert!(seen.contains("can't open 'b': Permission denied"), "{seen}");
    assert!(seen.contains("can't create a: Permission denied"), "{seen}");
    assert!(seen.contains("1000     1000"), "{seen}");
    assert!(
        seen.contains("can't remove 'a': Operation not permitted"),
        "{seen}"
    );
    let run = Run::file(&busybox())
        .args(["sh", "-c", script])
        .guests(2)
        .leaving_segments()
        .guest(1, |guest| guest.policy = GuestPolicy::ReadOnlyAll)
        .timeout(Duration::from_secs(60))
        .go();
    let seen = run.stdout(1, 0);
    assert!(seen.starts_with("hello\nsecret\n"), "{seen}");
    assert!(seen.contains("can't create a: Permission denied"), "{seen}");
    assert!(seen.contains("can't create mine: Permission denied"), "{seen}");
}

#[test]
fn bytes_of_files_count_in_the_quota_of_the_guest_that_made_them() {
    let run = Run::file(&busybox())
        .args(["sh", "-c", "cd /dev/shm; truncate -s 1M a && truncate -s 1025K a; wc -c < a; dd if=/dev/zero of=b bs=4096 count=1; rm a b; truncate -s 1M a; rm a"])
        .guest(0, |guest| guest.quota.bytes = 1 << 20)
        .go();
    assert_eq!(run.stdout(0, 0), "1048576\n", "{run:?}");
    let complaints = run.stderr(0, 0);
    assert_eq!(complaints.matches("No space left").count(), 2, "{complaints}");
}

#[test]
fn the_report_tells_of_files_in_dev_shm() {
    let run = Run::file(&busybox())
        .args([
            "sh",
            "-c",
            "cd /dev/shm; echo hello > a; mv a b; truncate -s 9999 b; rm b; echo x > left",
        ])
        .leaving_segments()
        .go();
    let objects = &run.outcome.objects;
    assert_eq!(objects.len(), 2, "{objects:?}");
    assert_eq!((objects[0].name.as_str(), objects[0].peak_size), ("a", 9999));
    assert!(objects[0].destroyed_ns.is_some() && objects[0].creator_guest == 0);
    assert_eq!(objects[1].name, "left");
    assert_eq!(objects[1].destroyed_ns, None);
}
