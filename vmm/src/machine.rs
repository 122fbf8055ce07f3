//! One guest: its virtual machine, its vCPU threads, and the order in which all of it ends.
//!
//! [`Machine::new`] builds a guest that has not run yet; [`Machine::run`] runs it on threads of its own and
//! returns what became of it, when nothing of it is left. It reaches segments only through
//! [`SegmentService`]. The first reason why a vCPU stopped decides how the guest ended; the others are told to
//! stop then. [`Stop`] ends it from outside.

use crate::boot::{self, Plan};
use crate::broker::{Inbox, Reach, SegmentService};
use crate::clock::Clock;
use crate::config::{GuestConfig, Output};
use crate::device::stdin::StdinDevice;
use crate::error::VmmError;
use crate::hypercall::{Service, ServiceParts};
use crate::image::KernelImage;
use crate::inspect::Observer;
use crate::kvm::{KvmHost, Vm};
use crate::ledger::Ledger;
use crate::memory::GuestRam;
use crate::outcome::{GuestEnd, GuestFault, GuestOutcome, KvmKind, VcpuOutcome};
use crate::vcpu::kick::Kick;
use crate::vcpu::{self, StopReason, Vcpu};
use abi::memory::WindowLayout;
use paging::GuestPhys;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a vCPU that was told to stop may take before it is told again: it may have gone back to a blocking
/// call between its look at the flag and the signal.
const KICK_AGAIN: Duration = Duration::from_millis(20);

/// What a machine has from its group.
#[derive(Clone)]
pub struct Surroundings {
    /// /dev/kvm.
    pub host: Arc<KvmHost>,
    /// The kernel to boot.
    pub kernel: Arc<KernelImage>,
    /// Guests in the group.
    pub guests: u32,
    /// Where each guest's windows lie.
    pub windows: WindowLayout,
    /// The group's clock, read when the first vCPU is there to say what the TSC's frequency is.
    pub clock: Arc<OnceLock<Clock>>,
    /// The authority on segments.
    pub segments: Arc<dyn SegmentService>,
    /// Where programs' output goes.
    pub output: Arc<dyn Output>,
    /// Who looks on.
    pub observer: Option<Arc<dyn Observer>>,
}

/// A guest.
pub struct Machine {
    guest: u32,
    segments: Arc<dyn SegmentService>,
    ledger: Arc<Ledger>,
    vcpus: Vec<Vcpu>,
    kick: Arc<Kick>,
    events: (Sender<Event>, Receiver<Event>),
    vm: Arc<Vm>,
    tasks: GuestPhys,
}

/// Ends a machine from outside.
#[derive(Clone)]
pub struct Stop {
    kick: Arc<Kick>,
    events: Sender<Event>,
}

enum Event {
    /// A vCPU stopped.
    Stopped {
        index: usize,
        reason: StopReason,
        outcome: VcpuOutcome,
    },
    /// Somebody outside wants the machine to end.
    Asked,
    /// Somebody outside has found out that the guest does what it must not, or does not do what it must.
    Faulty(GuestFault),
}

impl Machine {
    /// Builds guest number `guest`. Nothing of it runs yet.
    ///
    /// # Errors
    /// [`VmmError::Config`] if it does not fit its RAM; otherwise what KVM or the host refused.
    pub fn new(
        around: &Surroundings,
        guest: u32,
        config: &GuestConfig,
        stdin: StdinDevice,
        ledger: Arc<Ledger>,
    ) -> Result<Machine, VmmError> {
        let vm = Arc::new(around.host.create_vm(GuestRam::new(config.memory)?)?);
        let mut fds = Vec::new();
        for index in 0..config.vcpus {
            fds.push(around.host.create_vcpu(&vm, index, config.vcpus)?);
        }
        ledger.note(|start| &mut start.vm_created_ns);
        // 0 where KVM does not know: then the clock measures it.
        let tsc_khz = fds.first().and_then(|fd| fd.get_tsc_khz().ok()).unwrap_or(0);
        let clock = *around.clock.get_or_init(|| Clock::read(tsc_khz.into()));
        let plan = Plan {
            kernel: &around.kernel,
            guest,
            guests: around.guests,
            config,
            windows: around.windows,
            clock,
        };
        let loaded = boot::load(vm.ram(), &plan)?;
        for (index, fd) in fds.iter().enumerate() {
            vcpu::set_initial(fd, &around.host, &around.kernel, &loaded, index as u32)?;
        }
        ledger.note(|start| &mut start.loaded_ns);
        let service = Arc::new(Service::new(ServiceParts {
            guest,
            vm: Arc::clone(&vm),
            kernel: Arc::clone(&around.kernel),
            areas: loaded.areas,
            segments: Arc::clone(&around.segments),
            output: Arc::clone(&around.output),
            stdin,
            ledger: Arc::clone(&ledger),
            observer: around.observer.clone(),
        }));
        let kick = Kick::new()?;
        let vcpus = (0..).zip(fds).map(|(index, fd)| Vcpu {
            index,
            fd,
            service: Arc::clone(&service),
            kick: Arc::clone(&kick),
            windows: around.windows,
            inject: config.inject,
        });
        let vcpus = vcpus.collect();
        let segments = Arc::clone(&around.segments);
        Ok(Machine {
            guest,
            segments,
            ledger,
            vcpus,
            kick,
            events: channel(),
            vm,
            tasks: loaded.tasks,
        })
    }

    /// Its virtual machine, for the windows to register their memory with.
    #[must_use]
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// Where its tasks' wake-ups go.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        let stop = self.stop();
        let end = move |fault| stop.fail(fault);
        Inbox::new(Arc::clone(&self.vm) as Arc<dyn Reach>, self.tasks, Box::new(end))
    }

    /// What ends it from outside.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop {
            kick: Arc::clone(&self.kick),
            events: self.events.0.clone(),
        }
    }

    /// Runs the guest to its end, then takes it apart.
    #[must_use]
    pub fn run(mut self) -> (GuestOutcome, Option<KvmKind>) {
        self.ledger.note(|start| &mut start.entered_ns);
        let count = self.vcpus.len();
        let mut threads = Vec::new();
        let mut end = None;
        for vcpu in std::mem::take(&mut self.vcpus) {
            match self.start(vcpu) {
                Ok(thread) => threads.push(thread),
                Err(why) => {
                    end = Some(GuestEnd::HostError(why));
                    self.kick.stop();
                    break;
                }
            }
        }
        let mut outcomes = vec![VcpuOutcome::default(); count];
        let end = self.supervise(threads.len(), end, &mut outcomes);

        // The order matters. First all vCPUs are joined: from here on nothing runs in the guest. A thread that
        // panicked outside of `Vcpu::run` has told nobody, but is gone as well.
        for thread in threads {
            let _ = thread.join();
        }
        // Then its tasks no longer wait, robust locks they held are marked for others (that takes its RAM and its
        // windows), its attaches end, and its windows are unmapped: no vCPU can touch what another guest gets.
        let window_ranges = self.segments.guest_gone(self.guest);
        // Then the machine goes: its service went with the vCPUs (and with it whoever waited for stdin), the
        // window's registrar and the inbox with the broker's record of it, so this is the last owner (but for a
        // neighbour that interrupts it this very moment); then, as `Vm` says, its RAM.
        let Machine {
            guest, ledger, vm, ..
        } = self;
        drop(vm);
        ledger.note(|start| &mut start.gone_ns);
        let record = ledger.record();
        let outcome = GuestOutcome {
            guest,
            end,
            processes: record.processes,
            start: record.start,
            vcpus: outcomes,
            attaches: record.attaches,
            free_frames: record.free_frames,
            tables: record.tables,
            window_ranges,
        };
        (outcome, record.kvm)
    }

    fn start(&self, vcpu: Vcpu) -> Result<JoinHandle<()>, String> {
        let (index, events) = (vcpu.index, self.events.0.clone());
        let run = move || {
            let (reason, outcome) = vcpu.run();
            // Fails only if the supervisor is gone, and then nobody asks.
            let _ = events.send(Event::Stopped {
                index: index as usize,
                reason,
                outcome,
            });
        };
        std::thread::Builder::new()
            .name(format!("guest {} vCPU {index}", self.guest))
            .spawn(run)
            .map_err(|error| format!("thread for vCPU {index}: {error}"))
    }

    /// Waits until `running` vCPUs have stopped; the first reason is how the guest ended.
    fn supervise(
        &self,
        mut running: usize,
        mut end: Option<GuestEnd>,
        outcomes: &mut [VcpuOutcome],
    ) -> GuestEnd {
        while running > 0 {
            let event = if self.kick.stopping() {
                match self.events.1.recv_timeout(KICK_AGAIN) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.kick.stop();
                        continue;
                    }
                    other => other.ok(),
                }
            } else {
                self.events.1.recv().ok()
            };
            match event {
                Some(Event::Stopped {
                    index,
                    reason,
                    outcome,
                }) => {
                    running -= 1;
                    if let Some(place) = outcomes.get_mut(index) {
                        *place = outcome;
                    }
                    end.get_or_insert(match reason {
                        StopReason::Done => GuestEnd::Done,
                        StopReason::Fault(fault) => GuestEnd::Fault(fault),
                        StopReason::Stopped => GuestEnd::Stopped,
                        StopReason::Failed(why) => GuestEnd::HostError(why),
                    });
                    self.kick.stop();
                }
                Some(Event::Asked) => {
                    end.get_or_insert(GuestEnd::Stopped);
                }
                Some(Event::Faulty(fault)) => {
                    end.get_or_insert(GuestEnd::Fault(fault));
                    self.kick.stop();
                }
                // Can't be: this machine holds a sender itself.
                None => break,
            }
        }
        end.unwrap_or(GuestEnd::Stopped)
    }
}

impl Stop {
    /// Ends the guest for something it did, or did not do. Returns at once.
    pub(crate) fn fail(&self, fault: GuestFault) {
        let _ = self.events.send(Event::Faulty(fault));
        self.kick.stop();
    }

    /// Makes the guest end, whatever it does. Returns at once; may be called more than once, from any thread.
    pub fn stop(&self) {
        // The supervisor hears of it first, so that this, and not a vCPU's answer, is how the guest ended.
        let _ = self.events.send(Event::Asked);
        self.kick.stop();
    }
}
