//! `tombolo run`: programs of one's own in guests that share their segments.

use super::args::{Common, Part, Prefix, Run};
use super::output::{Lines, Streams};
use super::report::Destination;
use super::signals::Signals;
use super::values::FileArg;
use super::{closed, tell, verdict};
use abi::boot::BootFlags;
use anyhow::{Context, Result};
use rustix::fs::{Access, access};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tombolo::broker::BrokerLimits;
use tombolo::config::{GroupConfig, GuestConfig, Output, ProcessConfig, Stdin};
use tombolo::error::VmmError;
use tombolo::group::Group;
use tombolo::guest_file::GuestFile;
use tombolo::image::Program;
use tombolo::outcome::{Outcome, StopRequest};

/// Where programs are looked for without a PATH, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Runs the programs; the result is the command's exit status.
///
/// # Errors
/// What kept it from starting, or the report from being written.
pub(super) fn run(run: &Run, common: &Common) -> Result<u8> {
    let report = common.report.as_deref().map(Destination::new).transpose()?;
    let search = std::env::var_os("PATH");
    let mut guests = Vec::new();
    for part in &run.parts {
        guests.extend(guests_of(part, search.as_deref())?);
    }
    let lines = match run.prefix {
        Prefix::Always => Lines::Prefixed,
        Prefix::Auto if run.processes() > 1 => Lines::Prefixed,
        Prefix::Auto | Prefix::Never => Lines::Plain,
    };
    let deadline = run.timeout.and_then(|time| Instant::now().checked_add(time));
    let streams = Arc::new(Streams::of_command(lines, deadline).context("stdout and stderr")?);

    // Before the group starts threads: they must inherit the mask.
    let signals = Signals::block().context("signals")?;
    let output: Arc<dyn Output> = Arc::<Streams>::clone(&streams);
    let group = Group::start(GroupConfig {
        guests,
        timeout: run.timeout,
        stdin: Stdin::Inherit,
        output,
        limits: BrokerLimits {
            shm: run.limits,
            ..BrokerLimits::default()
        },
        kernel: None,
        observer: None,
    })?;
    let stopper = group.stopper();
    let abandoned = Arc::clone(&streams);
    signals.on_first(move |signal| {
        abandoned.abandon();
        stopper.stop(StopRequest::Signal(signal));
    });
    let outcome = group.wait();
    streams.finish();
    log_outcome(&outcome);

    let status = verdict::exit_status(&outcome);
    for message in verdict::messages(&outcome, run.timeout) {
        tell(message);
    }
    if let Some(report) = report {
        report.write(&outcome, status)?;
    }
    Ok(status)
}

fn guests_of(part: &Part, search: Option<&OsStr>) -> Result<Vec<GuestConfig>, VmmError> {
    let program = Arc::new(Program::load(find(&part.program, search)?)?);
    let words = std::iter::once(&part.program).chain(&part.args);
    let process = ProcessConfig {
        program,
        args: words.map(|word| word.as_bytes().to_vec()).collect(),
        env: part.env.clone(),
    };
    let guest = GuestConfig {
        vcpus: part.vcpus,
        memory: part.memory,
        processes: vec![process; part.procs as usize],
        policy: part.policy.clone(),
        quota: part.quota,
        uid: part.uid,
        gid: part.gid,
        files: part.files.iter().map(load_file).collect::<Result<_, _>>()?,
        flags: log_flags() | closed::closed(),
        inject: None,
    };
    Ok(vec![guest; part.guests as usize])
}

/// # Errors
/// A [`VmmError`] that names the option.
fn load_file(file: &FileArg) -> Result<Arc<GuestFile>, VmmError> {
    match GuestFile::load(&file.host, file.guest.as_deref()) {
        Ok(loaded) => Ok(Arc::new(loaded)),
        Err(error) => Err(VmmError::Config(format!("--file {error}"))),
    }
}

/// For `-v`: what became of each guest.
pub(super) fn log_outcome(outcome: &Outcome) {
    for guest in &outcome.guests {
        let millis = |time: Option<u64>| time.map(|ns| ns as f64 / 1e6);
        tracing::info!(
            kvm = ?outcome.kvm,
            kernel_ready_ms = millis(guest.start.kernel_ready_ns),
            first_program_ms = millis(guest.start.first_program_ns),
            gone_ms = millis(guest.start.gone_ns),
            attaches = guest.attaches,
            "guest {}: {:?}",
            guest.guest,
            guest.end
        );
        for process in &guest.processes {
            let status = process.shell_status();
            tracing::info!(
                pid = process.pid,
                ?status,
                "guest {} process {} ended",
                guest.guest,
                process.process
            );
        }
    }
    for life in &outcome.segments {
        tracing::info!(key = life.key, size = life.size, attaches = ?life.attaches, "segment {}", life.id);
    }
    for life in &outcome.objects {
        tracing::info!(size = life.peak_size, ranges = ?life.ranges, "/dev/shm/{}", life.name.escape_debug());
    }
}

/// Guest kernels make debug messages only if they will be shown.
pub(super) fn log_flags() -> BootFlags {
    if tracing::enabled!(tracing::Level::DEBUG) {
        BootFlags::LOG_DEBUG
    } else {
        BootFlags::empty()
    }
}

/// The file that `program` names: itself if there is a slash in it, else the first of this name in `search` that can
/// be executed.
///
/// # Errors
/// [`VmmError::ProgramFile`]: not found, or found but not executable.
fn find(program: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, VmmError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let mut refused = None;
    for directory in std::env::split_paths(search.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // An empty entry means the current directory.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &directory
        };
        let file = directory.join(program);
        if !file.is_file() {
            continue;
        }
        match access(&file, Access::EXEC_OK) {
            Ok(()) => return Ok(file),
            Err(errno) => {
                refused = refused.or(Some(VmmError::ProgramFile {
                    path: file,
                    source: errno.into(),
                }))
            }
        }
    }
    Err(refused.unwrap_or_else(|| VmmError::ProgramFile {
        path: program.into(),
        source: io::Error::new(io::ErrorKind::NotFound, "not found in PATH"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_with_a_slash_is_not_searched() {
        assert_eq!(
            find(OsStr::new("./sh"), Some(OsStr::new("/bin"))).unwrap(),
            Path::new("./sh")
        );
    }

    #[test]
    fn a_name_without_a_slash_is_the_first_executable_file_in_path() {
        let root = std::env::temp_dir().join(format!("tombolo-path-{}", std::process::id()));
        for (directory, mode) in [("one", 0o644), ("two", 0o755), ("three", 0o755)] {
            fs::create_dir_all(root.join(directory)).unwrap();
            let file = root.join(directory).join("prog");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = |names: &[&str]| std::env::join_paths(names.iter().map(|name| root.join(name))).unwrap();
        let found = find(OsStr::new("prog"), Some(&path(&["none", "one", "two", "three"])));
        let only_refused = find(OsStr::new("prog"), Some(&path(&["one"])));
        let none = find(OsStr::new("prog"), Some(&path(&["none"])));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.unwrap(), root.join("two/prog"));
        assert_eq!(only_refused.unwrap_err().exit_status(), 126);
        let none = none.unwrap_err();
        assert_eq!(
            (none.exit_status(), none.to_string()),
            (127, "prog: not found in PATH".into())
        );
    }
}
