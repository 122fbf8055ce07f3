//! Copies in guests, one in each.

use super::{End, Job, Lab, Line, Lines, Pages, lock};
use abi::Errno;
use anyhow::{Result, anyhow};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use tombolo::broker::{BrokerLimits, GuestPolicy};
use tombolo::config::{DEFAULT_MEMORY, GroupConfig, GuestConfig, Output, ProcessConfig, Stdin};
use tombolo::group::Group;
use tombolo::inspect::Observer;
use tombolo::outcome::GuestEnd;

/// Takes the guests' output apart.
struct Collected(Vec<Mutex<Lines>>);

impl Output for Collected {
    fn write(&self, guest: u32, _process: u32, _descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        if let Some(lines) = self.0.get(guest as usize) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
        }
        Ok(bytes.len())
    }
}

/// Puts every vCPU on a CPU of its own as long as there are any.
struct Pinned(Vec<usize>);

impl Observer for Pinned {
    fn vcpu_starts(&self, guest: u32, vcpu: u32) {
        let mut set = CpuSet::new();
        set.set(self.0[(guest + vcpu) as usize % self.0.len()]);
        if let Err(error) = sched_setaffinity(None, &set) {
            tracing::warn!("guest {guest} vCPU {vcpu} is not pinned: {error}");
        }
    }
}

impl Lab {
    /// # Errors
    /// What kept the guests from starting.
    pub(super) fn start_guests(&self, job: &Job, vcpus: u32, sender: Sender<Line>) -> Result<End<'_>> {
        let guests = job.copies.iter().map(|arguments| {
            let name = [self.program.name().to_vec()];
            let words = arguments.iter().map(|word| word.clone().into_bytes());
            GuestConfig {
                vcpus,
                memory: DEFAULT_MEMORY,
                processes: vec![ProcessConfig {
                    program: Arc::clone(&self.program),
                    args: name.into_iter().chain(words).collect(),
                    env: Vec::new(),
                }],
                policy: GuestPolicy::default(),
                quota: Default::default(),
                uid: 0,
                gid: 0,
                files: Vec::new(),
                flags: Default::default(),
                inject: None,
            }
        });
        let lines = (0..job.copies.len()).map(|copy| Mutex::new(Lines::new(copy, sender.clone())));
        let group = Group::start(GroupConfig {
            guests: guests.collect(),
            timeout: None,
            stdin: Stdin::Bytes(Vec::new()),
            output: Arc::new(Collected(lines.collect())),
            limits: BrokerLimits {
                large_pages: job.pages != Pages::Small,
                ..BrokerLimits::default()
            },
            kernel: None,
            observer: Some(Arc::new(Pinned(self.cpus.clone()))),
        })?;
        {
            let mut running = lock(&self.running);
            running.group = Some(group.stopper());
            if let Some(signal) = running.signal {
                running.stop(signal);
            }
        }
        // The lines end when the last guest is gone, which takes somebody who waits for it.
        let waiting = std::thread::spawn(move || group.wait());
        Ok(Box::new(move || {
            let outcome = waiting.join().map_err(|_| anyhow!("the run's thread panicked"))?;
            lock(&self.running).group = None;
            for guest in &outcome.guests {
                if guest.end != GuestEnd::Done {
                    return Err(anyhow!("guest {}: {:?}", guest.guest, guest.end));
                }
                if let Some(process) = guest
                    .processes
                    .iter()
                    .find(|process| process.wait_status != Some(0))
                {
                    let status = process.shell_status();
                    return Err(anyhow!(
                        "the program in guest {} ended with {status:?}",
                        guest.guest
                    ));
                }
            }
            Ok(Some(outcome))
        }))
    }
}
