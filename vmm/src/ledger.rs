//! What is remembered of one guest while it runs, for its outcome.

use crate::outcome::{KvmKind, ProcessOutcome, StartTimes, Tables};
use abi::Errno;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// The first process of a group that failed, as (guest, process).
pub type FirstFailure = Arc<OnceLock<(u32, u32)>>;

/// One guest's record.
#[derive(Debug)]
pub struct Ledger {
    guest: u32,
    started: Instant,
    first_failure: FirstFailure,
    record: Mutex<Record>,
}

/// What a guest's record holds.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its processes.
    pub processes: Vec<ProcessOutcome>,
    /// When it came how far.
    pub start: StartTimes,
    /// Its KVM, once its kernel has said so.
    pub kvm: Option<KvmKind>,
    /// Successful attaches.
    pub attaches: u64,
    /// Free frames at the first and the last report.
    pub free_frames: Option<(u64, u64)>,
    /// What was in use at the first and the last report.
    pub tables: Option<(Tables, Tables)>,
}

impl Ledger {
    /// An empty record of a guest with `processes` processes, in a run that began at `started`.
    #[must_use]
    pub fn new(guest: u32, processes: usize, started: Instant, first_failure: FirstFailure) -> Ledger {
        let process = |index| ProcessOutcome {
            process: index as u32,
            pid: 0,
            wait_status: None,
            started_ns: None,
            ended_ns: None,
        };
        let record = Record {
            processes: (0..processes).map(process).collect(),
            start: StartTimes::default(),
            kvm: None,
            attaches: 0,
            free_frames: None,
            tables: None,
        };
        Ledger {
            guest,
            started,
            first_failure,
            record: Mutex::new(record),
        }
    }

    /// Notes how far the guest's start has come, in nanoseconds after the run's.
    pub fn note(&self, step: impl FnOnce(&mut StartTimes) -> &mut Option<u64>) {
        let now = self.now();
        step(&mut self.lock().start).get_or_insert(now);
    }

    /// The kernel is up and has found out what it runs on.
    pub fn kernel_ready(&self, ring0_emulated: bool) {
        let kind = if ring0_emulated {
            KvmKind::Software
        } else {
            KvmKind::Hardware
        };
        self.lock().kvm.get_or_insert(kind);
        self.note(|start| &mut start.kernel_ready_ns);
    }

    /// Whether the guest was started with a process of this number.
    #[must_use]
    pub fn knows(&self, process: u32) -> bool {
        (process as usize) < self.lock().processes.len()
    }

    /// A process is about to execute its first instruction.
    ///
    /// # Errors
    /// EINVAL if there is no such process.
    pub fn process_started(&self, index: u32, pid: u32) -> Result<(), Errno> {
        self.note(|start| &mut start.first_program_ns);
        let now = self.now();
        let mut record = self.lock();
        let process = record.processes.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        process.started_ns.get_or_insert(now);
        process.pid = pid;
        Ok(())
    }

    /// A process has ended; only the first report of an end counts.
    ///
    /// # Errors
    /// EINVAL if there is no such process.
    pub fn process_ended(&self, index: u32, pid: u32, wait_status: u32) -> Result<(), Errno> {
        let now = self.now();
        let mut record = self.lock();
        let process = record.processes.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        if process.wait_status.is_none() {
            process.wait_status = Some(wait_status);
            process.ended_ns = Some(now);
            process.pid = pid;
            if wait_status != 0 {
                let _ = self.first_failure.set((self.guest, index));
            }
        }
        Ok(())
    }

    /// An attach succeeded.
    pub fn attached(&self) {
        self.lock().attaches += 1;
    }

    /// The kernel counted its free frames.
    pub fn usage(&self, free_frames: u64) {
        let mut record = self.lock();
        let first = record.free_frames.map_or(free_frames, |(first, _)| first);
        record.free_frames = Some((first, free_frames));
    }

    /// The kernel counted what is in use in its tables.
    pub fn tables(&self, tables: Tables) {
        let mut record = self.lock();
        let first = record.tables.map_or(tables, |(first, _)| first);
        record.tables = Some((first, tables));
    }

    /// A copy of everything.
    #[must_use]
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
