//! Linux's side: runs a program's copies on the host, with the environment the command gives them.
//!
//! They run in an IPC namespace of their own (ipc_namespaces(7)), so that keys and identifiers start afresh, as in a
//! group of guests. That takes the right to make one: tests run as root.

// UNSAFETY: unshare(2) can take away file descriptors that others rely on; here it changes the IPC namespace only. What
// runs between fork and exec must be safe in a process that had other threads; it is signal(2).
#![expect(
    unsafe_code,
    reason = "unshare is unsafe in rustix for flags that are not used here; Command::pre_exec"
)]

use crate::finished::ProcessResult;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::UnshareFlags;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One copy to start: who it is, what it is, and what it reads.
pub(crate) struct Copy<'a> {
    pub(crate) guest: u32,
    pub(crate) process: u32,
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [Vec<u8>],
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: &'a [u8],
    /// User and group, if not this process's.
    pub(crate) user: Option<(u32, u32)>,
}

/// Runs all copies at once and waits for them. Copies that are not done in time are killed and have no status. One run at a
/// time: memory that is locked counts for the user, wherever it is locked.
pub(crate) fn run(copies: &[Copy<'_>], timeout: Duration) -> BTreeMap<(u32, u32), ProcessResult> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A namespace belongs to a thread and what it starts; this thread's is gone with its last process.
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            // SAFETY: CLONE_NEWIPC alone touches neither descriptors nor memory.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWIPC) }
                .expect("an IPC namespace of its own for programs on the host: run the tests as root");
            run_here(copies, timeout)
        });
        runner
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_here(copies: &[Copy<'_>], timeout: Duration) -> BTreeMap<(u32, u32), ProcessResult> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = |copy: &Copy<'_>, name: &str| {
        scratch
            .path()
            .join(format!("{}.{}.{name}", copy.guest, copy.process))
    };
    let mut children: Vec<Child> = Vec::new();
    for copy in copies {
        let stdin = file(copy, "stdin");
        fs::File::create(&stdin)
            .and_then(|mut f| f.write_all(copy.stdin))
            .expect("a temporary file");
        let create = |name| fs::File::create(file(copy, name)).expect("a temporary file");
        let mut command = Command::new(copy.program);
        if let Some((uid, gid)) = copy.user {
            // Another user need not be able to reach the target directory.
            let reachable = scratch.path().join("program");
            fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))
                .and_then(|()| fs::copy(copy.program, &reachable))
                .expect("a temporary file");
            command = Command::new(reachable);
            command.uid(uid).gid(gid);
        }
        command
            .args(copy.args.iter().map(|arg| os_string(arg)))
            .env_clear()
            .envs(copy.env.iter().cloned());
        command.stdin(fs::File::open(&stdin).expect("a temporary file"));
        command.stdout(create("stdout")).stderr(create("stderr"));
        // A group of its own: what a copy leaves behind can be told from what others run, and is ended with it.
        command.process_group(0);
        by_default(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", copy.program.display()));
        children.push(child);
    }
    let start = Instant::now();
    let mut results = BTreeMap::new();
    for (copy, mut child) in copies.iter().zip(children) {
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                end_group(&child);
                break Some(status);
            }
            if start.elapsed() > timeout {
                // The group first: while the child is not waited for, its number is nobody else's.
                end_group(&child);
                child.kill().expect("a child can be killed");
                child.wait().expect("a child can be waited for");
                break None;
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let status = status.map(|status| match status.signal() {
            Some(signal) => 128 | signal as u8,
            None => status.code().unwrap_or(0) as u8,
        });
        let read = |name| fs::read(file(copy, name)).expect("a temporary file");
        let result = ProcessResult {
            stdout: read("stdout"),
            stderr: read("stderr"),
            status,
        };
        results.insert((copy.guest, copy.process), result);
    }
    results
}

/// Starts `command` with every signal's default action. What this process ignores, because whoever started it had it so
/// (nohup, a shell's background, Python), programs would ignore, too.
pub(crate) fn by_default(command: &mut Command) {
    let reset = || {
        for signal in 1..libc::SIGRTMAX() {
            // SAFETY: SIG_DFL is no function of anybody's; what can't be set is refused.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls signal(2), which is safe there (signal-safety(7)), and nothing else.
    unsafe { command.pre_exec(reset) };
}

/// Kills all that is left of the group that `child` led, so that a program that goes wrong spins for no longer than its
/// test. (As long as any of the group is there, no other process gets its number.)
fn end_group(child: &Child) {
    match kill_process_group(Pid::from_child(child), Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("process group {}: {error}", child.id()),
    }
}

fn os_string(bytes: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

/// The distribution's static busybox.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn busybox() -> PathBuf {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    let path = found.expect("a static busybox: install busybox-static");
    let output = Command::new(&path).arg("true").stdin(Stdio::null()).output();
    assert!(
        output.is_ok_and(|o| o.status.success()),
        "{} does not run",
        path.display()
    );
    path
}
