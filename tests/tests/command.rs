//! The command `tombolo`, as a person or a script would run it.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;
use tests::{Command, Toolchain, busybox, program};

fn musl(source: &str) -> PathBuf {
    program(source, Toolchain::Musl)
}

fn run(source: &str) -> Command {
    Command::tombolo().arg("run").arg(musl(source))
}

#[test]
fn output_of_one_process_passes_byte_for_byte() {
    let result = run("output.c").run();
    result.expect(0);
    assert!(result.stdout.len() > 1 << 20);
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(result.stdout[..256], bytes);
    assert!(
        result.err().starts_with("every value 256\nlarge 1048579\n"),
        "{}",
        result.err()
    );
}

#[test]
fn lines_of_several_processes_say_who_wrote_them() {
    let result = Command::tombolo()
        .args("run -n 2 --procs 2")
        .arg(musl("hello.c"))
        .arg("x")
        .run();
    result.expect(2);
    let mut lines: Vec<String> = result.out().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines.len(), 16, "{lines:?}");
    assert!(
        lines.contains(&"0.1| hello from process 1 of 2 in guest 0 of 2".to_owned()),
        "{lines:?}"
    );
    assert!(lines.contains(&"1.0| argument 1 [x]".to_owned()), "{lines:?}");
}

#[test]
fn prefixes_can_be_asked_for_and_refused() {
    let result = Command::tombolo()
        .args("run --prefix always")
        .arg(musl("hello.c"))
        .run();
    assert!(
        result
            .expect(1)
            .out()
            .lines()
            .all(|line| line.starts_with("0.0| ")),
        "{}",
        result.out()
    );
    let result = Command::tombolo()
        .args("run --prefix never --procs 3")
        .arg(musl("hello.c"))
        .run();
    assert!(!result.expect(1).out().contains("| "), "{}", result.out());
}

#[test]
fn parts_between_colons_are_guests_with_other_programs() {
    let result = Command::tombolo()
        .args("run --env TEST_A=1")
        .arg(musl("hello.c"))
        .args("one : -n 2 --procs 2 --env TEST_B=2")
        .arg(program("hello.c", Toolchain::Glibc))
        .args("two three")
        .run();
    let out = result.out();
    assert!(
        out.contains("0.0| hello from process 0 of 1 in guest 0 of 3\n"),
        "{out}"
    );
    assert!(
        out.contains("2.1| hello from process 1 of 2 in guest 2 of 3\n"),
        "{out}"
    );
    assert!(
        out.contains("0.0| environment TEST_A=1\n") && out.contains("1.0| environment TEST_B=2\n"),
        "{out}"
    );
    assert!(
        !out.contains("0.0| environment TEST_B") && !out.contains("1.0| environment TEST_A"),
        "{out}"
    );
    assert!(
        out.contains("1.1| argument 2 [three]\n") && !out.contains("0.0| argument 2"),
        "{out}"
    );
    assert!([2, 3].contains(&result.status), "{}", result.status);
}

#[test]
fn the_exit_status_is_the_programs() {
    for (how, status) in [
        ("return", 7),
        ("_exit", 9),
        ("abort", 134),
        ("kill", 137),
        ("ignored", 5),
    ] {
        run("ending.c").arg(how).run().expect(status);
    }
    run("faults.c").args("read 0").run().expect(139);
    run("process.c").run().expect(0);
}

#[test]
fn stdin_goes_to_the_first_process() {
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 17 + (i >> 7)) as u8).collect();
    let result = run("cat.c").stdin(bytes.clone()).run();
    result.expect(0);
    assert!(result.stdout == bytes);
    let result = Command::tombolo()
        .args("run --procs 2")
        .arg(musl("cat.c"))
        .stdin("line\n")
        .run();
    assert_eq!(result.expect(0).out(), "0.0| line\n");
}

#[test]
fn stdin_may_be_a_pipe_that_is_slow() {
    let mut slow = std::process::Command::new("sh");
    slow.args(["-c", "printf one; sleep 0.2; printf two; sleep 0.2; echo three"])
        .stdout(Stdio::piped());
    let result = tests::alone(|| slow.spawn().expect("sh starts"));
    let mut slow = result;
    let pipe = slow.stdout.take().expect("a pipe");
    let result = run("cat.c").stdin_from(pipe).run();
    slow.wait().expect("sh ends");
    assert_eq!(result.expect(0).out(), "onetwothree\n");
    assert_eq!(result.err(), "12 bytes\nat the end 0\n");
}

#[test]
fn standard_descriptors_are_what_the_commands_are() {
    let program = musl("stdio.c");
    // Files.
    let native = Command::other(&program).arg("x").stdin("ab").run();
    let guest = Command::tombolo()
        .arg("run")
        .arg(&program)
        .arg("x")
        .stdin("ab")
        .run();
    assert_eq!(native.expect(0).out(), guest.expect(0).out());
    assert!(guest.out().contains("1 is a file"));
    // Pipes.
    let script = r#"echo x | "$@" x 2>&1 | cat"#;
    let native = Command::other("sh")
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(&program)
        .run();
    let guest = Command::wrapped(&["sh", "-c", script, "sh"])
        .arg("run")
        .arg(&program)
        .run();
    assert_eq!(native.expect(0).out(), guest.expect(0).out());
    assert!(guest.out().contains("0 is a pipe\n") && guest.out().contains("1 is a pipe\n"));
    // The null device.
    let script = r#""$@" </dev/null 2>/dev/null"#;
    let native = Command::other("sh")
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(&program)
        .run();
    let guest = Command::wrapped(&["sh", "-c", script, "sh"])
        .arg("run")
        .arg(&program)
        .run();
    assert_eq!(native.expect(0).out(), guest.expect(0).out());
}

#[test]
fn a_terminal_is_a_terminal_inside_too() {
    // script(1) gives its command a terminal.
    let program = musl("stdio.c");
    let native = Command::other("script")
        .args("-qec")
        .arg(&program)
        .arg("/dev/null")
        .run();
    let line = format!("{} run {}", Command::path().display(), program.display());
    let guest = Command::other("script")
        .args("-qec")
        .arg(line)
        .arg("/dev/null")
        .run();
    assert_eq!(native.expect(0).out(), guest.expect(0).out());
    assert!(guest.out().contains("1 is a terminal"), "{}", guest.out());
}

#[test]
fn a_closed_stdout_is_an_error_to_the_program() {
    let script = r#""$@" >&-; echo "status $?""#;
    let program = musl("hello.c");
    let result = Command::wrapped(&["sh", "-c", script, "sh"])
        .arg("run")
        .arg(&program)
        .run();
    assert!(result.out().starts_with("status "), "{}", result.out());
    // head goes after the first line; the program must not be left writing for ever.
    let script = r#""$@" | head -c 10 >/dev/null; echo done"#;
    let result = Command::wrapped(&["sh", "-c", script, "sh"])
        .args("run")
        .arg(busybox())
        .args("yes")
        .run();
    assert_eq!(result.expect(0).out(), "done\n");
}

#[test]
fn the_report_tells_what_became_of_guests_processes_and_segments() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let path = scratch.path().join("report.json");
    let result = Command::tombolo()
        .arg("--report")
        .arg(&path)
        .args("run -n 2 --vcpus 2 --procs 2")
        .arg(musl("ring.c"))
        .args("200")
        .run();
    result.expect(0);
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(path).expect("the report")).expect("the report is JSON");
    let guests = report["guests"].as_array().expect("guests");
    assert_eq!(guests.len(), 2);
    for guest in guests {
        assert_eq!(guest["end"], "done", "{report:#}");
        assert_eq!(guest["processes"].as_array().map(Vec::len), Some(2), "{report:#}");
        assert!(
            guest["processes"]
                .as_array()
                .is_some_and(|p| p.iter().all(|p| p["wait_status"] == 0)),
            "{report:#}"
        );
        assert_eq!(guest["attaches"], 2, "{report:#}");
        assert!(
            guest["start"]["first_program_ns"]
                .as_u64()
                .is_some_and(|ns| ns > 0),
            "{report:#}"
        );
        assert!(
            guest["vcpus"][0]["exits"]
                .as_object()
                .is_some_and(|exits| !exits.is_empty()),
            "{report:#}"
        );
    }
    let segment = &report["segments"][0];
    assert_eq!(segment["peak_nattch"], 4, "{report:#}");
    assert!(
        segment["destroyed_ns"].as_u64() > segment["created_ns"].as_u64(),
        "{report:#}"
    );
    if report["kvm"] == "software" {
        assert!(
            guests[0]["vcpus"][0]["emulated_instructions"]
                .as_u64()
                .is_some_and(|n| n > 1000),
            "{report:#}"
        );
    }
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let result = Command::tombolo()
        .args("run --timeout 0.3 -n 2")
        .arg(musl("forever.c"))
        .run();
    result.expect(124);
    assert!(result.elapsed >= Duration::from_millis(300) && result.elapsed < Duration::from_secs(60));
    assert!(result.err().starts_with("tombolo: "), "{}", result.err());
}

/// Waits until the command takes signals itself (it blocks them first of all), and then for the guests to be busy.
fn until_it_listens(child: &Child) {
    let interrupt = 1 << (Signal::INT.as_raw() - 1);
    let mask = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the command runs");
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.expect("a mask of signals")
    };
    while mask("SigBlk:") & interrupt == 0 {
        // A shell that starts the tests with `&` lets them ignore it, and the command leaves it so.
        assert_eq!(
            mask("SigIgn:") & interrupt,
            0,
            "SIGINT is ignored here: run the tests in the foreground"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn signals_end_the_run() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let result = Command::tombolo()
            .args("run -n 2 --vcpus 2 --procs 2")
            .arg(musl("forever.c"))
            .run_with(|child| {
                until_it_listens(child);
                kill_process(Pid::from_child(child), signal).expect("the command runs");
            });
        result.expect(status);
        assert!(result.elapsed < Duration::from_secs(60), "{:?}", result.elapsed);
    }
}

#[test]
fn a_signal_ends_a_run_that_waits_for_stdin() {
    let (reader, _writer) = tests::alone(|| std::io::pipe().expect("a pipe"));
    let result = run("cat.c").stdin_from(reader).run_with(|child| {
        until_it_listens(child);
        kill_process(Pid::from_child(child), Signal::INT).expect("the command runs");
    });
    result.expect(130);
}

#[test]
fn a_second_signal_costs_neither_message_nor_report() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report");
    let result = Command::tombolo()
        .args("run -n 2 --vcpus 2 --procs 2 --report")
        .arg(&report)
        .arg(musl("forever.c"))
        .run_with(|child| {
            until_it_listens(child);
            for signal in [Signal::TERM, Signal::INT] {
                kill_process(Pid::from_child(child), signal).expect("the command runs");
            }
        });
    // Which of two that come together is taken first is the host's choice.
    assert!(matches!(result.status, 130 | 143), "{}", result.status);
    assert!(result.err().contains("tombolo: ended by SIG"), "{}", result.err());
    let report = fs::read_to_string(report).expect("a report");
    assert!(report.ends_with("}\n"), "{report}");
}

#[test]
fn what_is_closed_when_the_command_starts_is_closed_in_guests() {
    for (closed, program) in [
        (">&-", "echo x"),
        ("<&-", "cat"),
        ("2>&-", "ls nothing"),
        (">&-", "readlink /proc/self/fd/1"),
        ("<&- 2>&-", "readlink /proc/self/fd/0"),
        (">/dev/null", "echo x"),
        ("1<>/dev/null", "echo x"),
    ] {
        let shell = format!("exec \"$@\" {closed}");
        let shell = ["sh", "-c", &shell, "sh"];
        let guest = Command::wrapped(&shell).args("run busybox").args(program).run();
        let native = Command::other(shell[0])
            .arg(shell[1])
            .arg(shell[2])
            .arg("sh")
            .arg(tests::busybox())
            .args(program)
            .run();
        guest.expect(native.status);
        assert_eq!(guest.out(), native.out(), "{closed} {program}");
        assert!(
            guest.err().ends_with(&native.err()),
            "{closed} {program}: {guest:?}"
        );
    }
    Command::wrapped(&["sh", "-c", "exec \"$@\" >&-", "sh"])
        .args("run --report - busybox true")
        .run()
        .expect(125);
}

#[test]
fn no_file_is_put_where_the_guests_kernel_has_its_own() {
    for name in ["/dev/shm/x", "/dev/null", "/proc/version", "/sys/x", "/tmp"] {
        let file = format!("/etc/passwd:{name}");
        let result = Command::tombolo()
            .args("run --file")
            .arg(file)
            .args("busybox true")
            .run();
        result.expect(125);
        assert!(result.err().contains(name), "{}", result.err());
    }
}

#[test]
fn help_teaches_by_example() {
    for line in ["--help", "run --help", "demo --help"] {
        let result = Command::tombolo().args(line).run();
        assert!(result.expect(0).out().contains("tombolo"), "{}", result.out());
        assert!(result.stderr.is_empty());
    }
    assert!(
        Command::tombolo()
            .args("run --help")
            .run()
            .out()
            .contains("tombolo run -n 2 ./shm")
    );
    assert!(
        Command::tombolo()
            .args("--version")
            .run()
            .expect(0)
            .out()
            .starts_with("tombolo ")
    );
}

#[test]
fn unknown_system_calls_are_named_once_in_the_log() {
    let result = Command::tombolo().args("-vv run").arg(musl("process.c")).run();
    result.expect(0);
    let lines = result
        .err()
        .lines()
        .filter(|line| line.contains("system call 999"))
        .count();
    assert_eq!(lines, 1, "{}", result.err());
    let quiet = run("process.c").run();
    assert!(quiet.stderr.is_empty(), "{}", quiet.err());
}

#[test]
fn a_read_only_key_is_refused_for_writing() {
    let program = musl("read_only_key.c");
    let result = Command::tombolo()
        .arg("run")
        .arg(&program)
        .args(": --read-only 0x6b1")
        .arg(&program)
        .run();
    assert!(
        result
            .expect(0)
            .out()
            .contains("1.0| attach for writing EACCES\n"),
        "{}",
        result.out()
    );
    assert!(
        result.out().contains("1.0| attach for reading ok\n"),
        "{}",
        result.out()
    );
}

#[test]
fn a_program_without_a_slash_is_searched_for() {
    let result = Command::tombolo().args("run busybox echo found").run();
    assert_eq!(result.expect(0).out(), "found\n");
}

#[test]
fn the_demo_shows_what_it_verifies() {
    let result = Command::tombolo().run();
    result.expect(0);
    let out = result.out();
    for part in ["nattch", "read-only", "KVM"] {
        assert!(
            out.to_lowercase().contains(&part.to_lowercase()),
            "{part} is missing: {out}"
        );
    }
    assert!(result.elapsed < Duration::from_secs(20), "{:?}", result.elapsed);
    let json = Command::tombolo().args("demo --format json").run();
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&json.expect(0).stdout);
    assert!(parsed.is_ok(), "{}", json.out());
}

#[test]
fn output_is_there_before_the_program_has_ended() {
    let mut child = tests::alone(|| {
        std::process::Command::new(Command::path())
            .args(["run", "--timeout", "20"])
            .arg(musl("forever.c"))
            .arg("say-so")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts")
    });
    let mut first = [0; 8];
    let read = child.stdout.as_mut().expect("a pipe").read_exact(&mut first);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the command runs");
    child.wait().expect("the command ends");
    assert!(read.is_ok() && &first == b"forever\n", "{first:?}");
}

/// `script` in a shell in which `$T` is the command.
fn shell(script: &str) -> tests::CommandResult {
    let script = format!("T={}; {script}", Command::path().display());
    Command::other("sh").arg("-c").arg(script).run()
}

#[test]
fn a_writer_whose_reader_is_gone_is_ended_by_sigpipe() {
    let result = shell(&format!(
        "{{ $T run {} yes; echo $? >&2; }} | head -n 1",
        busybox().display()
    ));
    assert_eq!(result.expect(0).out(), "y\n");
    assert_eq!(result.err(), "141\n");
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let result = shell(&format!(
        "{{ $T -vvv run {} 2>&1 >/dev/null; echo $? >&3; }} 3>&2 | true",
        musl("clock.c").display()
    ));
    assert_eq!(result.err(), "0\n");
}
