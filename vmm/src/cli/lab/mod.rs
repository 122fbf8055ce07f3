//! Where measurements are made: one of the built-in programs, run as a process of the host or in guests, by turns.
//!
//! The same bytes run on both sides: natively the ELF file is executed from a sealed memfd ([`native`]), in guests it is
//! the program they are given ([`guests`]). A [`Job`] says how many copies with which arguments; each native copy finds the
//! variables in its environment that a guest's would. What they print comes line by line, while they run.
//!
//! Every vCPU's thread is pinned to a CPU of the host. Native copies pin themselves, as the programs in guests pin
//! themselves to vCPUs.

mod guests;
mod native;

use super::signals::Signals;
use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tombolo::group::Stopper;
use tombolo::image::Program;
use tombolo::outcome::{Outcome, StopRequest};

/// Which side a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// A process of the host for each copy.
    Native,
    /// A guest for each copy, with so many vCPUs.
    Guests {
        /// vCPUs of each guest.
        vcpus: u32,
    },
}

/// What pages of the host the segments of a job lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// What each side does by itself.
    Default,
    /// Of 4 KiB. Natively the program has to see to it.
    Small,
    /// Of 2 MiB. Natively the program has no segment of such; descriptor 0 is a file of so many bytes on them.
    Large {
        /// Its length.
        bytes: u64,
    },
}

/// Something to run.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// On which side.
    pub(super) host: Host,
    /// What its segments lie on.
    pub(super) pages: Pages,
    /// Each copy's arguments, without the program's name.
    pub(super) copies: Vec<Vec<String>>,
}

/// A program, and the machine to run it on.
pub(super) struct Lab {
    program: Arc<Program>,
    image: native::Image,
    cpus: Vec<usize>,
    running: Arc<Mutex<Running>>,
}

/// What runs now, to be stopped when a signal comes.
#[derive(Default)]
struct Running {
    signal: Option<i32>,
    group: Option<Stopper>,
    children: Vec<std::process::Child>,
    /// Process ids of the copies that ran natively last.
    native: Vec<u32>,
}

/// A copy's number and a line it printed.
type Line = (usize, String);

impl Lab {
    /// A lab for the built-in program of that name. Takes over SIGINT and its kin, so there is one lab in a command, made
    /// before there are other threads.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn new(program: &str) -> Result<Lab> {
        let program = Arc::new(Program::builtin(program)?);
        let running: Arc<Mutex<Running>> = Arc::default();
        let signals = Signals::block().context("signals")?;
        let stopped = Arc::clone(&running);
        signals.on_first(move |signal| lock(&stopped).stop(signal));
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        Ok(Lab {
            image: native::Image::new(program.bytes()).context("a memfd for the program")?,
            program,
            cpus: (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect(),
            running,
        })
    }

    /// The CPUs that may be used.
    pub(super) fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// The program's file.
    pub(super) fn program_bytes(&self) -> &[u8] {
        self.program.bytes()
    }

    /// The signal that ended the command's work, if one came.
    pub(super) fn signal(&self) -> Option<i32> {
        lock(&self.running).signal
    }

    /// Process ids of the copies that ran natively last.
    pub(super) fn last_native(&self) -> Vec<u32> {
        lock(&self.running).native.clone()
    }

    /// Runs a job to its end; `line` is given each line and the number of the copy that printed it. The outcome is that
    /// of the guests.
    ///
    /// # Errors
    /// What kept it from starting; which copy failed, and what it said.
    pub(super) fn run(&self, job: &Job, mut line: impl FnMut(usize, &str)) -> Result<Option<Outcome>> {
        if let Some(signal) = self.signal() {
            bail!("ended by signal {signal}");
        }
        let (ended, lines) = self.start(job)?;
        let mut said = None;
        for (copy, text) in lines {
            match text.strip_prefix("error ") {
                // The others only follow it.
                Some(error) if said.is_none() => said = Some(format!("copy {copy}: {error}")),
                Some(_) => {}
                None => line(copy, &text),
            }
        }
        let ended = ended();
        match (self.signal(), said) {
            (Some(signal), _) => bail!("ended by signal {signal}"),
            (None, Some(said)) => bail!("{said}"),
            (None, None) => ended,
        }
    }
}

impl Lab {
    fn start(&self, job: &Job) -> Result<(End<'_>, Receiver<Line>)> {
        let (sender, lines) = channel();
        let ended = match job.host {
            Host::Native => self.start_natively(job, sender)?,
            Host::Guests { vcpus } => self.start_guests(job, vcpus, sender)?,
        };
        Ok((ended, lines))
    }

    /// Runs a job until each copy has said a line, then ends them all as nothing they can do anything about: how long it
    /// takes until they are gone and all that was theirs is given back.
    ///
    /// # Errors
    /// What kept it from starting; what a copy said instead.
    pub(super) fn death(&self, job: &Job) -> Result<Duration> {
        let (ended, lines) = self.start(job)?;
        let mut said = lines.iter().take(job.copies.len());
        let error = said.find_map(|(copy, text)| {
            let error = text.strip_prefix("error ")?;
            Some(format!("copy {copy}: {error}"))
        });
        let began = Instant::now();
        lock(&self.running).kill(libc::SIGKILL);
        // That they did not end by themselves is no news.
        let _ = ended();
        let took = began.elapsed();
        match (self.signal(), error) {
            (Some(signal), _) => bail!("ended by signal {signal}"),
            (None, Some(error)) => bail!("{error}"),
            (None, None) => Ok(took),
        }
    }
}

/// What waits for the end of what was started.
type End<'a> = Box<dyn FnOnce() -> Result<Option<Outcome>> + 'a>;

impl Running {
    fn stop(&mut self, signal: i32) {
        self.signal = Some(signal);
        self.kill(signal);
    }

    fn kill(&mut self, signal: i32) {
        if let Some(group) = &self.group {
            group.stop(StopRequest::Signal(signal));
        }
        for child in &mut self.children {
            // One that has ended needs no signal.
            let _ = child.kill();
        }
    }
}

fn lock(running: &Mutex<Running>) -> std::sync::MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Splits what a copy writes into lines.
struct Lines {
    copy: usize,
    rest: Vec<u8>,
    sender: Sender<Line>,
}

/// Longest line that is kept together, in bytes.
const MAX_LINE: usize = 4096;

impl Lines {
    fn new(copy: usize, sender: Sender<Line>) -> Self {
        Lines {
            copy,
            rest: Vec::new(),
            sender,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() > MAX_LINE {
                let line = String::from_utf8_lossy(&self.rest).trim_end().to_owned();
                self.rest.clear();
                // Fails when nobody wants lines any more.
                let _ = self.sender.send((self.copy, line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let (sender, lines) = channel();
        let mut taker = Lines::new(3, sender);
        taker.take(b"one\ntw");
        taker.take(b"o\nnot ended");
        drop(taker);
        let all: Vec<_> = lines.iter().collect();
        assert_eq!(all, [(3, "one".to_owned()), (3, "two".to_owned())]);
    }
}
