//! A group of guests that share segments: one run, from start to outcome.
//!
//! [`Group::start`] checks the configuration, builds all guests, each on a thread of its own, and lets them run
//! only when every one of them could be built: nothing a program does is seen if the run can't start as a whole.
//! [`Group::wait`] returns the [`Outcome`]; a [`Stopper`] ends the run from another thread.

use crate::broker::{Broker, GuestRights, SegmentService, SegmentState};
use crate::clock::{Clock, tsc};
use crate::config::{GroupConfig, GuestConfig, Stdin};
use crate::device::stdin::StdinDevice;
use crate::error::VmmError;
use crate::image::KernelImage;
use crate::kvm::{KvmHost, RAM_SLOTS, WindowSlots};
use crate::ledger::{FirstFailure, Ledger};
use crate::machine::{Machine, Stop, Surroundings};
use crate::outcome::{GuestEnd, GuestOutcome, KvmKind, Outcome, StopRequest};
use crate::window::Window;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A run in progress. Dropping it without [`Group::wait`] stops it and waits for its end.
pub struct Group {
    started: Instant,
    timeout: Option<Duration>,
    broker: Arc<Broker>,
    stopper: Stopper,
    first_failure: FirstFailure,
    guests: Vec<JoinHandle<()>>,
    ended: Receiver<Ended>,
}

type Ended = (GuestOutcome, Option<KvmKind>);

/// Ends a run from outside.
#[derive(Clone, Default)]
pub struct Stopper(Arc<Mutex<Stopping>>);

#[derive(Default)]
struct Stopping {
    request: Option<StopRequest>,
    machines: Vec<Stop>,
}

impl Stopper {
    /// Ends the run; the first request is the one the outcome names. Returns at once, from any thread.
    pub fn stop(&self, request: StopRequest) {
        let mut stopping = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stopping.request.get_or_insert(request);
        for machine in &stopping.machines {
            machine.stop();
        }
    }

    fn request(&self) -> Option<StopRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).request
    }

    /// A machine that starts now; it is stopped at once if the run has been.
    fn add(&self, machine: Stop) {
        let mut stopping = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stopping.request.is_some() {
            machine.stop();
        }
        stopping.machines.push(machine);
    }
}

impl Group {
    /// Builds and starts all guests.
    ///
    /// # Errors
    /// A [`VmmError`] if the configuration can't be run, or KVM or the host refuse; then nothing is left behind.
    pub fn start(config: GroupConfig) -> Result<Group, VmmError> {
        let started = Instant::now();
        let host = Arc::new(KvmHost::open()?);
        let windows = config.check(host.phys_bits())?;
        let kernel = Arc::new(KernelImage::parse(config.kernel)?);
        let clock: Arc<OnceLock<Clock>> = Arc::default();
        let broker = Arc::new(Broker::with_clock(config.limits, {
            let clock = Arc::clone(&clock);
            // No guest asks before its clock has been read.
            move || clock.get().map_or(0, |clock| clock.realtime(tsc()) as i64)
        }));
        let around = Surroundings {
            host,
            kernel,
            guests: config.guests.len() as u32,
            windows,
            clock,
            segments: Arc::clone(&broker) as Arc<dyn SegmentService>,
            output: config.output,
            observer: config.observer,
        };
        let (stopper, first_failure) = (Stopper::default(), FirstFailure::default());
        let (built_sender, built) = channel();
        let (ended_sender, ended) = channel();
        let mut stdin = Some(config.stdin);
        let mut guests = Vec::new();
        let mut goes = Vec::new();
        let mut result = Ok(());
        for (guest, guest_config) in (0..).zip(config.guests) {
            let (go, gone) = channel();
            let guest_thread = GuestThread {
                guest,
                ledger: Arc::new(Ledger::new(
                    guest,
                    guest_config.processes.len(),
                    started,
                    Arc::clone(&first_failure),
                )),
                config: guest_config,
                around: around.clone(),
                broker: Arc::clone(&broker),
                stdin: stdin.take(),
                stopper: stopper.clone(),
                built: built_sender.clone(),
                go: gone,
                ended: ended_sender.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("guest {guest}"));
            match thread.spawn(move || guest_thread.run()) {
                Ok(thread) => {
                    guests.push(thread);
                    goes.push(go);
                }
                Err(source) => {
                    result = Err(VmmError::Host {
                        what: format!("thread for guest {guest}"),
                        source,
                    });
                    break;
                }
            }
        }
        drop((built_sender, ended_sender));
        for _ in &guests {
            // A thread that panicked has sent nothing.
            let built = built
                .recv()
                .unwrap_or_else(|_| Err(VmmError::Config("a guest's thread panicked".into())));
            result = result.and(built);
        }
        let group = Group {
            started,
            timeout: config.timeout,
            broker,
            stopper,
            first_failure,
            guests,
            ended,
        };
        match result {
            Ok(()) => {
                for go in goes {
                    let _ = go.send(());
                }
                Ok(group)
            }
            // Without a go every guest takes itself apart; `Group` joins the threads.
            Err(error) => {
                drop(goes);
                Err(error)
            }
        }
    }

    /// The segments there are now.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentState> {
        self.broker.segments()
    }

    /// The segments' owner, to be asked from another thread.
    #[must_use]
    pub fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.broker)
    }

    /// What ends the run from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until all guests are gone (at the latest when the time given is over) and tells what became of them.
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        let mut deadline = self.timeout.and_then(|timeout| self.started.checked_add(timeout));
        let mut outcomes = Vec::new();
        let mut kvm = None;
        loop {
            let ended = match deadline {
                Some(at) => self
                    .ended
                    .recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match ended {
                Ok((outcome, kind)) => {
                    kvm = kvm.or(kind);
                    outcomes.push(outcome);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.stopper.stop(StopRequest::Timeout);
                    deadline = None;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for thread in self.guests.drain(..) {
            let _ = thread.join();
        }
        outcomes.sort_by_key(|outcome| outcome.guest);
        Outcome {
            kvm,
            guests: outcomes,
            segments: self.broker.history(),
            objects: self.broker.object_history(),
            elapsed_ns: self.started.elapsed().as_nanos() as u64,
            first_failure: self.first_failure.get().copied(),
            stopped: self.stopper.request(),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.guests.is_empty() {
            self.stopper.stop(StopRequest::Signal(libc::SIGTERM));
            for thread in self.guests.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// What one guest's thread needs: it builds the guest, waits for the go, runs it.
struct GuestThread {
    guest: u32,
    config: GuestConfig,
    around: Surroundings,
    broker: Arc<Broker>,
    stdin: Option<Stdin>,
    ledger: Arc<Ledger>,
    stopper: Stopper,
    built: Sender<Result<(), VmmError>>,
    go: Receiver<()>,
    ended: Sender<Ended>,
}

impl GuestThread {
    fn run(self) {
        let stdin = match &self.stdin {
            Some(Stdin::Inherit) => StdinDevice::host(),
            Some(Stdin::Bytes(bytes)) => StdinDevice::bytes(bytes.clone()),
            None => StdinDevice::empty(),
        };
        let machine = match self.build(stdin) {
            Ok(machine) => machine,
            Err(error) => {
                let _ = self.built.send(Err(error));
                return;
            }
        };
        self.stopper.add(machine.stop());
        let _ = self.built.send(Ok(()));
        drop(self.built);
        if self.go.recv().is_err() {
            self.broker.guest_gone(self.guest);
            return;
        }
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.run())).unwrap_or_else(|_| {
                self.broker.guest_gone(self.guest);
                (lost(self.guest, &self.ledger), None)
            });
        let _ = self.ended.send(ended);
    }

    fn build(&self, stdin: StdinDevice) -> Result<Machine, VmmError> {
        let machine = Machine::new(
            &self.around,
            self.guest,
            &self.config,
            stdin,
            Arc::clone(&self.ledger),
        )?;
        let slots = Box::new(WindowSlots(Arc::clone(machine.vm())));
        let window = Window::new(self.around.windows, RAM_SLOTS, slots).map_err(|source| VmmError::Host {
            what: format!("guest {}: address space for windows", self.guest),
            source,
        })?;
        let rights = GuestRights {
            policy: self.config.policy.clone(),
            uid: self.config.uid,
            gid: self.config.gid,
            quota: self.config.quota,
        };
        self.broker.add_guest(self.guest, rights, window, machine.inbox());
        Ok(machine)
    }
}

/// The outcome of a guest whose supervisor panicked: ours to mend, but the others go on.
fn lost(guest: u32, ledger: &Ledger) -> GuestOutcome {
    let record = ledger.record();
    GuestOutcome {
        guest,
        end: GuestEnd::HostError("the guest's own thread panicked".into()),
        processes: record.processes,
        start: record.start,
        vcpus: Vec::new(),
        attaches: record.attaches,
        free_frames: record.free_frames,
        tables: record.tables,
        window_ranges: 0,
    }
}
