//! Files, judged by Linux: each program writes one line a case, and in a guest each line must be what it is on the host.
//! And what there is to say of a guest's files beside that: they travel with it, they are its own, what is printed and
//! not read holds nobody up.

use abi::Errno;
use abi::boot::MAX_FILES;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::{Run, Toolchain, busybox, conforms};
use tombolo::config::Output;
use tombolo::device::output::Sink;
use tombolo::guest_file::GuestFile;

#[test]
fn names_are_made_moved_and_removed_as_on_linux() {
    conforms("fs_tree.c", 300);
}

#[test]
fn bytes_are_read_and_written_as_on_linux() {
    conforms("fs_io.c", 230);
}

#[test]
fn every_class_of_user_may_do_with_files_what_linux_lets_it() {
    conforms("fs_perm.c", 1200);
}

#[test]
fn descriptors_pipes_and_polls_are_as_on_linux() {
    conforms("fs_desc.c", 150);
}

#[test]
fn mappings_show_files_as_on_linux() {
    conforms("fs_map.c", 100);
}

#[test]
fn proc_tells_what_linux_tells() {
    conforms("fs_proc.c", 200);
}

#[test]
fn locks_bind_as_on_linux() {
    conforms("fs_lock.c", 60);
}

#[test]
fn signals_interrupt_calls_on_files_as_on_linux() {
    conforms("fs_signal.c", 105);
}

/// A shell script, in a directory of its own.
fn script(body: &str) -> Run {
    let script = format!(
        "d=$(mktemp -d /tmp/sh.XXXXXX) && cd $d || exit 1\n{body}\ncd /; rm -r $d; ls $d 2>&1 | wc -l\n"
    );
    Run::file(&busybox())
        .args(["sh", "-c", &script])
        .timeout(Duration::from_secs(120))
}

#[test]
fn a_shell_and_its_tools_work_on_files_as_on_linux() {
    script(
        "echo a > x; cat x; cp x y; mv y z; ln z w; ln -s x l; ls -1; cat l; readlink l
         for i in 3 1 2; do echo $i line $i; done > lines; sort lines; head -n 2 lines; tail -n 1 lines
         wc < lines; sed 's/line/LINE/' lines; grep -n 'line 1' lines; cut -d' ' -f1 lines | sort -n | uniq -c
         mkdir -p a/b/c; echo deep > a/b/c/d; find . -type f | sort; find a -name d -exec cat {} \\;
         cat lines | tee copy | wc -l; cmp lines copy && echo same; diff lines x > /dev/null; echo $?
         chmod 640 x; stat -c '%a %s %h' x w; test -x x; echo $?; touch -d @1000 x; stat -c %Y x
         (echo one; echo two >&2) 2> err; cat err; echo more >> x; cat x; : > x; wc -c < x
         dd if=/dev/zero of=big bs=1000 count=300 2> /dev/null; wc -c < big; tr '\\0' x < big | md5sum
         seq 1 500 | awk '{ s += $1 } END { print s }'; echo $((6 * 7)); printf '%s|' b a c; echo
         tar cf t.tar a lines; rm -r a; tar xf t.tar; cat a/b/c/d; gzip -c lines | gunzip | cmp - lines && echo equal
         echo 'hello' | sed 'p' | while read w; do echo \"<$w>\"; done; pwd | grep -c /tmp/sh; id -u
         cat < nothing; echo $?; rmdir a 2>&1; ls nothing 2>&1; cat /dev/null; echo x > /dev/full; echo $?",
    )
    .compare();
}

#[test]
fn a_program_that_has_been_copied_or_written_runs() {
    // The copy's pages lie anywhere; the original's in a row.
    script(
        "cp /proc/self/exe mine; chmod 755 mine; ./mine echo copied; ./mine sh -c 'readlink /proc/self/exe' | sed 's/.*sh[^/]*//'
         ./mine seq 3 | ./mine sort -r; cp mine other; rm mine; ./other true; echo $?
         echo no program > bad; chmod 755 bad; ./bad 2> /dev/null; echo $?; chmod 644 other; ./other; echo $?",
    )
    .compare();
}

#[test]
fn files_that_travel_with_a_guest_can_be_read_mapped_changed_and_removed() {
    let file = |name: &str, bytes: Vec<u8>| Arc::new(GuestFile::from_bytes(name, bytes).unwrap());
    let long: Vec<u8> = (0..20_000u32).map(|n| (n * 7) as u8).collect();
    let files = vec![
        file("/data/deep/long", long),
        file("/data/short", b"short\n".to_vec()),
        file("/data/empty", vec![]),
        file("/etc/passwd", b"mine:x:5:5::/:\n".to_vec()),
        file("/tmp/in", b"given".to_vec()),
    ];
    let run = Run::with("fs_given.c", Toolchain::Musl)
        .guests(2)
        .guest(0, {
            let files = files.clone();
            move |config| config.files.clone_from(&files)
        })
        .guest(1, move |config| config.files.clone_from(&files))
        .go();
    run.expect_all(0);
    assert_eq!(run.stdout(0, 0), run.stdout(1, 0));
    let all = run.stdout(0, 0);
    assert!(all.lines().count() > 30 && !all.contains(" no\n"), "{all}");
}

#[test]
fn as_many_files_travel_with_a_guest_as_there_may_be() {
    let program = busybox().canonicalize().unwrap();
    // Its own file and directories; `/many`; `/var/tmp` and what is in it.
    let others = program.components().count() - 1 + 4;
    let file = |name: String| Arc::new(GuestFile::from_bytes(&name, name.clone()).unwrap());
    let mut files = vec![file("/var/tmp/x".to_owned())];
    files.extend((others..MAX_FILES).map(|number| file(format!("/many/{number}"))));
    let last = MAX_FILES - 1;
    let script = format!(
        "ls /many | wc -l; cat /many/{last}; echo; echo more > /tmp/more; cat /tmp/more; stat -c %a /var/tmp"
    );
    let full = files.clone();
    let run = Run::file(&program)
        .args(["sh", "-c", &script])
        .guest(0, move |config| config.files.clone_from(&full));
    let finished = run.go();
    finished.expect_all(0);
    let count = MAX_FILES - others;
    assert_eq!(
        finished.stdout(0, 0),
        format!("{count}\n/many/{last}\nmore\n1777\n")
    );
    files.push(file("/one".to_owned()));
    let error = run.refusal_with(move |config| config.guests[0].files = files);
    assert_eq!(error.exit_status(), 125);
    assert!(error.to_string().contains(&MAX_FILES.to_string()), "{error}");
}

#[test]
fn files_are_the_guests_own_and_their_keys_the_same_in_all() {
    let run = Run::with("fs_own.c", Toolchain::Glibc).guests(3).procs(2).go();
    run.expect_all(0);
    for guest in 0..3 {
        for process in 0..2 {
            assert_eq!(run.stdout(guest, process), run.stdout(0, process), "{run:?}");
        }
    }
    assert!(!run.stdout(0, 0).contains(" no\n"), "{run:?}");
}

#[test]
fn a_full_file_system_is_told_and_gives_everything_back() {
    let run = Run::with("fs_full.c", Toolchain::Musl)
        .memory(32 << 20)
        .timeout(Duration::from_secs(300))
        .go();
    run.expect_all(0);
    assert!(!run.stdout(0, 0).contains(" no\n"), "{run:?}");
}

/// Process 0's stdout is a pipe that nobody reads until it is told to be; everything else is kept.
struct Stuck {
    pipe: Sink,
    kept: Mutex<BTreeMap<(u32, u32), Vec<u8>>>,
}

impl Output for Stuck {
    fn write(&self, _: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        if (process, descriptor) == (0, 1) {
            return self.pipe.write(bytes);
        }
        let mut kept = self.kept.lock().map_err(|_| Errno::EIO)?;
        kept.entry((process, descriptor))
            .or_default()
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn awaited(&self, descriptor: u32) -> Option<BorrowedFd<'_>> {
        (descriptor == 1 && !self.pipe.is_ready()).then(|| self.pipe.as_fd())
    }
}

#[test]
fn output_that_nobody_reads_holds_up_only_who_writes_it() {
    use std::io::Read;
    let (mut reader, writer) = tests::alone(|| std::io::pipe().unwrap());
    let output = Arc::new(Stuck {
        pipe: Sink::new(writer.into()),
        kept: Mutex::default(),
    });
    let theirs = Arc::clone(&output);
    let run = Run::with("fs_stuck.c", Toolchain::Glibc).procs(2);
    let finished = run.go_with(
        move |config| config.output = theirs,
        |_| {
            // The second process works on, and says so when it has written as much as it wants to.
            while !output.kept.lock().unwrap().contains_key(&(1, 2)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut text = vec![0; 1 << 20];
            reader.read_exact(&mut text).unwrap();
            let expected: Vec<u8> = (0..1u32 << 20).map(|n| b'a' + (n / 1000 % 26) as u8).collect();
            assert!(text == expected, "what was written is what is read");
        },
    );
    finished.expect_all(0);
    let kept = output.kept.lock().unwrap();
    let said = String::from_utf8_lossy(&kept[&(0, 2)]).into_owned();
    assert_eq!(said, "written 1048576\npoll 1\n");
    assert_eq!(kept[&(1, 2)], b"worked on\n");
}
