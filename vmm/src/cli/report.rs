//! `--report`: the outcome as JSON, with the command line and the date, in a file that is either whole or not there.

use super::closed;
use abi::boot::BootFlags;
use anyhow::{Context, Result, bail};
use rustix::fs::{Access, access};
use serde::Serialize;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tombolo::outcome::Outcome;

/// What the file holds: this and [`Outcome`]'s own fields.
#[derive(Serialize)]
struct Report<'a> {
    tombolo: &'static str,
    command_line: Vec<String>,
    /// When the run ended, UTC (RFC 3339).
    date: String,
    exit_status: u8,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// Where a report will go, found to be possible before anything runs.
pub(super) struct Destination {
    /// `None`: stdout.
    file: Option<PathBuf>,
}

impl Destination {
    /// # Errors
    /// If no file can be made at `path`.
    pub(super) fn new(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            if closed::closed().contains(BootFlags::CLOSED_STDOUT) {
                bail!("--report -: stdout is closed");
            }
            return Ok(Destination { file: None });
        }
        if path.is_dir() || path.file_name().is_none() {
            bail!("--report {}: a directory", path.display());
        }
        let checked = if replaceable(path) {
            directory_of(path)
        } else {
            path
        };
        access(checked, Access::WRITE_OK)
            .map_err(io::Error::from)
            .with_context(|| {
                format!(
                    "--report {}: can't write to {}",
                    path.display(),
                    checked.display()
                )
            })?;
        Ok(Destination {
            file: Some(path.to_owned()),
        })
    }

    /// Writes the report.
    ///
    /// # Errors
    /// The host's; then there is no file, or the one that was there before.
    pub(super) fn write(&self, outcome: &Outcome, exit_status: u8) -> Result<()> {
        let report = Report {
            tombolo: env!("CARGO_PKG_VERSION"),
            command_line: std::env::args_os()
                .map(|word: OsString| word.to_string_lossy().into_owned())
                .collect(),
            date: rfc3339(SystemTime::now()),
            exit_status,
            outcome,
        };
        let mut text = serde_json::to_vec_pretty(&report).context("--report")?;
        text.push(b'\n');
        match &self.file {
            None => io::stdout().lock().write_all(&text).context("--report -: stdout"),
            Some(path) => write_file(path, &text).with_context(|| format!("--report {}", path.display())),
        }
    }
}

/// Whether a new file may take the place of what `path` names: not of a pipe or a device.
fn replaceable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Writes all or nothing: a file beside it gets the text, then the name.
fn write_file(path: &Path, text: &[u8]) -> io::Result<()> {
    if !replaceable(path) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(text);
    }
    // A symbolic link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
    if written.is_err() {
        // It may not even exist; the first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

/// A moment in UTC, to the second; the days since 1970 become a date of the proleptic Gregorian calendar.
fn rfc3339(moment: SystemTime) -> String {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        month + 1,
        days + 1
    )
}

#[cfg(test)]
mod tests {
    use super::super::verdict::tests::outcome;
    use super::*;
    use tombolo::outcome::GuestEnd;

    /// A directory of this test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tombolo-report-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn names(&self) -> Vec<OsString> {
            fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn dates_are_utc_and_know_leap_years() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }

    #[test]
    fn a_report_is_json_with_the_outcome_and_replaces_an_older_one() {
        let scratch = Scratch::new("json");
        let path = scratch.0.join("run.json");
        fs::write(&path, "old").unwrap();
        let outcome = outcome(vec![(GuestEnd::Done, vec![Some(256)])]);
        Destination::new(&path).unwrap().write(&outcome, 1).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            (report["exit_status"].as_u64(), report["elapsed_ns"].as_u64()),
            (Some(1), Some(7))
        );
        assert_eq!(report["guests"][0]["processes"][0]["wait_status"], 256);
        assert!(report["command_line"].is_array() && report["date"].is_string());
        assert_eq!(scratch.names(), ["run.json"]);
    }

    #[test]
    fn a_place_where_no_file_can_be_is_refused_beforehand() {
        let scratch = Scratch::new("refused");
        assert!(Destination::new(&scratch.0).is_err());
        assert!(Destination::new(&scratch.0.join("missing/run.json")).is_err());
        assert!(Destination::new(Path::new("/dev/null")).is_ok());
        assert!(Destination::new(Path::new("-")).is_ok());
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let scratch = Scratch::new("failed");
        assert!(write_file(&scratch.0.join("missing/run.json"), b"x").is_err());
        assert!(scratch.names().is_empty());
    }
}
