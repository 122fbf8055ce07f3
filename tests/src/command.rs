//! The command `tombolo`, as a person would run it.
//!
//! Cargo gives a package's tests the path of that package's own executables only, so this one is built here, once a
//! test executable, with the profile and into the target directory that the tests themselves came from. Cargo holds no
//! lock while it runs tests.

use crate::compile::target_dir;
use crate::native::by_default;
use crate::turn::{alone, alone_and_tidy};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, process};

/// One call of the command.
pub struct Command {
    command: process::Command,
    stdin: Vec<u8>,
    stdin_from: Option<Stdio>,
    timeout: Duration,
}

/// What it did.
#[derive(Debug)]
pub struct CommandResult {
    /// Its exit status, 128 + signal if one ended it.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

impl CommandResult {
    /// [`CommandResult::stdout`] as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// [`CommandResult::stderr`] as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The status must be `status`.
    ///
    /// # Panics
    /// If it is not.
    pub fn expect(&self, status: i32) -> &CommandResult {
        assert_eq!(
            self.status,
            status,
            "stdout: {}\nstderr: {}",
            self.out(),
            self.err()
        );
        self
    }
}

impl Command {
    /// `tombolo` without arguments.
    #[must_use]
    pub fn tombolo() -> Command {
        Command::wrapped(&[] as &[&str])
    }

    /// `tombolo` started by another program, `env` or `setpriv` for instance.
    #[must_use]
    pub fn wrapped<A: AsRef<OsStr>>(wrapper: &[A]) -> Command {
        let command = match wrapper.split_first() {
            None => process::Command::new(executable()),
            Some((program, args)) => {
                let mut command = process::Command::new(program);
                command.args(args).arg(executable());
                command
            }
        };
        Command::from(command)
    }

    /// Another program, to compare with.
    #[must_use]
    pub fn other(program: impl AsRef<OsStr>) -> Command {
        Command::from(process::Command::new(program))
    }

    /// Where the built command is.
    #[must_use]
    pub fn path() -> &'static Path {
        executable()
    }

    fn from(mut command: process::Command) -> Command {
        command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        Command {
            command,
            stdin: Vec::new(),
            stdin_from: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.command.arg(arg);
        self
    }

    /// Several more, split at blanks.
    #[must_use]
    pub fn args(mut self, args: &str) -> Command {
        self.command.args(args.split_whitespace());
        self
    }

    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = bytes.into();
        self
    }

    /// What it reads from, instead of [`Command::stdin`].
    #[must_use]
    pub fn stdin_from(mut self, from: impl Into<Stdio>) -> Command {
        self.stdin_from = Some(from.into());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it can't be started or does not end within a minute.
    #[must_use]
    pub fn run(self) -> CommandResult {
        self.run_with(|_| {})
    }

    /// Runs it to its end; `meanwhile` is given the running child.
    ///
    /// # Panics
    /// As [`Command::run`].
    #[must_use]
    pub fn run_with(mut self, meanwhile: impl FnOnce(&mut Child)) -> CommandResult {
        alone_and_tidy("the command", || {
            let file = || tempfile::tempfile().expect("a temporary file");
            let (mut stdin, mut stdout, mut stderr) = (file(), file(), file());
            stdin
                .write_all(&self.stdin)
                .and_then(|()| stdin.rewind())
                .expect("a temporary file");
            let clone = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
            let from = self.stdin_from.take().unwrap_or_else(|| clone(&stdin));
            self.command
                .stdin(from)
                .stdout(clone(&stdout))
                .stderr(clone(&stderr));
            let start = Instant::now();
            by_default(&mut self.command);
            let mut child = self.command.spawn().expect("the command starts");
            meanwhile(&mut child);
            let status = wait(&mut child, self.timeout);
            let elapsed = start.elapsed();
            let read = |file: &mut File| {
                let mut bytes = Vec::new();
                file.rewind()
                    .and_then(|()| file.read_to_end(&mut bytes))
                    .expect("a temporary file");
                bytes
            };
            let (stdout_bytes, stderr_bytes) = (read(&mut stdout), read(&mut stderr));
            drop((stdin, stdout, stderr));
            // The wrapped descriptors of the command itself.
            drop(self.command);
            let status = status.unwrap_or_else(|| {
                panic!(
                    "the command does not end: {}",
                    String::from_utf8_lossy(&stderr_bytes)
                );
            });
            let status = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            CommandResult {
                status,
                stdout: stdout_bytes,
                stderr: stderr_bytes,
                elapsed,
            }
        })
    }
}

/// The child's status, or `None` and it is killed.
fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if start.elapsed() > timeout {
            child
                .kill()
                .and_then(|()| child.wait())
                .expect("a child can be killed");
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The command's path, built if it is not up to date.
fn executable() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| alone(build))
}

fn build() -> PathBuf {
    let target = target_dir();
    let test = env::current_exe().expect("an executable has a path");
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in <target>/<profile>/deps");
    let profile = directory
        .file_name()
        .expect("a profile has a name")
        .to_string_lossy()
        .into_owned();
    let profile = if profile == "debug" { "dev".into() } else { profile };
    let mut cargo = process::Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this test about itself is not meant for the next cargo.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
        {
            cargo.env_remove(name);
        }
    }
    cargo.args([
        "build",
        "--locked",
        "-p",
        "tombolo",
        "--bin",
        "tombolo",
        "--profile",
        &profile,
    ]);
    cargo
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    let output = cargo.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "the command does not build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let built = directory.join("tombolo");
    assert!(
        fs::metadata(&built).is_ok_and(|file| file.is_file()),
        "{} is not there",
        built.display()
    );
    built
}
