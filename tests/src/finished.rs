//! What came of a run: each copy's output and status, and how the guests ended.

use abi::Errno;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tombolo::config::Output;
use tombolo::outcome::{GuestEnd, Outcome};

/// What became of one copy.
#[derive(Clone, Debug, Default)]
pub struct ProcessResult {
    /// What it wrote to descriptor 1.
    pub stdout: Vec<u8>,
    /// What it wrote to descriptor 2.
    pub stderr: Vec<u8>,
    /// Its exit status as a shell shows it, if it ended by itself.
    pub status: Option<u8>,
}

/// A finished run in guests.
pub struct Finished {
    /// What the library says of it.
    pub outcome: Outcome,
    /// Each copy, by guest and process.
    pub processes: BTreeMap<(u32, u32), ProcessResult>,
}

impl Finished {
    pub(crate) fn new(outcome: Outcome, mut written: BTreeMap<(u32, u32, u32), Vec<u8>>) -> Finished {
        let mut processes = BTreeMap::new();
        for guest in &outcome.guests {
            for process in &guest.processes {
                let mut take = |fd| {
                    written
                        .remove(&(guest.guest, process.process, fd))
                        .unwrap_or_default()
                };
                let result = ProcessResult {
                    stdout: take(1),
                    stderr: take(2),
                    status: process.shell_status(),
                };
                processes.insert((guest.guest, process.process), result);
            }
        }
        assert!(
            written.is_empty(),
            "output of processes that are not: {:?}",
            written.keys()
        );
        Finished { outcome, processes }
    }

    /// What process `process` of guest `guest` wrote to stdout.
    #[must_use]
    pub fn stdout(&self, guest: u32, process: u32) -> String {
        text(&self.processes[&(guest, process)].stdout)
    }

    /// What it wrote to stderr.
    #[must_use]
    pub fn stderr(&self, guest: u32, process: u32) -> String {
        text(&self.processes[&(guest, process)].stderr)
    }

    /// Its exit status as a shell shows it.
    #[must_use]
    pub fn status(&self, guest: u32, process: u32) -> Option<u8> {
        self.processes[&(guest, process)].status
    }

    /// How guest `guest` ended.
    #[must_use]
    pub fn end(&self, guest: u32) -> &GuestEnd {
        &self.outcome.guests[guest as usize].end
    }

    /// Every guest must be done and every copy have ended with `status`.
    ///
    /// # Panics
    /// If not.
    pub fn expect_all(&self, status: u8) -> &Finished {
        for guest in &self.outcome.guests {
            assert_eq!(guest.end, GuestEnd::Done, "guest {}: {self:#?}", guest.guest);
        }
        for (copy, process) in &self.processes {
            assert_eq!(process.status, Some(status), "status of copy {copy:?}: {self:#?}");
        }
        self
    }
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:#?}", self.outcome)?;
        for ((guest, process), result) in &self.processes {
            writeln!(f, "--- copy {guest}.{process}: status {:?}", result.status)?;
            writeln!(
                f,
                "stdout: {}\nstderr: {}",
                last(&result.stdout),
                last(&result.stderr)
            )?;
        }
        Ok(())
    }
}

/// The end of what was written, for a message.
fn last(bytes: &[u8]) -> String {
    text(&bytes[bytes.len().saturating_sub(2000)..])
}

/// The first line that differs, and how many bytes there are.
pub(crate) fn difference(there: &[u8], here: &[u8]) -> String {
    let (there_lines, here_lines) = (text(there), text(here));
    let (mut there_lines, mut here_lines) = (there_lines.lines(), here_lines.lines());
    for number in 1.. {
        match (there_lines.next(), here_lines.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return format!("line {number} is {a:?} in the guest and {b:?} on Linux"),
        }
    }
    let at = there.iter().zip(here).position(|(a, b)| a != b);
    format!(
        "{} bytes and {}, first different at {at:?}",
        there.len(),
        here.len()
    )
}

/// Text for a person: at most the first 20 kB, whatever the bytes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(20_000)]).into_owned()
}

/// What programs have written, by guest, process and descriptor.
#[derive(Default)]
pub(crate) struct Captured {
    written: Mutex<BTreeMap<(u32, u32, u32), Vec<u8>>>,
}

impl Captured {
    pub(crate) fn take(&self) -> BTreeMap<(u32, u32, u32), Vec<u8>> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Output for Captured {
    fn write(&self, guest: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written
            .entry((guest, process, descriptor))
            .or_default()
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
}
