//! One vCPU and its thread: runs until it has a reason to stop, serves what the guest asks on the way.
//!
//! | file | what |
//! |---|---|
//! | `exit` | why KVM_RUN returned, as an owned enum |
//! | `kick` | getting the thread out of KVM_RUN |
//! | `regs` | the first registers |
//! | `inject` | faults that tests ask for |
//!
//! [`StopReason`] is the closed list of reasons. A vCPU that stopped is never run again: after a store that the
//! hypervisor refused the guest would go on as if it had succeeded (PLATFORM.md).

mod exit;
mod inject;
pub mod kick;
mod regs;

pub use regs::set_initial;

use crate::config::InjectedFault;
use crate::epitaph;
use crate::hypercall::Service;
use crate::kvm::emulated_instructions;
use crate::outcome::{GuestFault, VcpuOutcome};
use abi::hypercall::{Call, EXIT_DONE, EXIT_PANIC, PORT_EXIT, PORT_HYPERCALL};
use abi::memory::WindowLayout;
use exit::Exit;
use kick::Kick;
use kvm_ioctls::VcpuFd;
use paging::GuestPhys;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a vCPU stopped for good.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// The guest kernel said that all its processes have ended.
    Done,
    /// The guest kernel did something it must not.
    Fault(GuestFault),
    /// It was asked to ([`Kick`]).
    Stopped,
    /// The VMM or the host failed: the message.
    Failed(String),
}

/// One vCPU, ready to run.
pub struct Vcpu {
    /// Its number in the guest.
    pub index: u32,
    /// KVM's side of it.
    pub fd: VcpuFd,
    /// What the guest may ask for.
    pub service: Arc<Service>,
    /// How to stop it.
    pub kick: Arc<Kick>,
    /// Where the windows lie: tells a refused store from a stray access.
    pub windows: WindowLayout,
    /// A fault to inject.
    pub inject: Option<InjectedFault>,
}

impl Vcpu {
    /// Runs on the calling thread until there is a reason to stop. A panic on the way ends here, as a
    /// [`StopReason::Failed`].
    #[must_use]
    pub fn run(mut self) -> (StopReason, VcpuOutcome) {
        let mut counts = Counts::NONE;
        let reason = {
            let _running = self.kick.clone().enter(&mut self.fd);
            catch_unwind(AssertUnwindSafe(|| self.run_until_stop(&mut counts))).unwrap_or_else(|panic| {
                StopReason::Failed(format!(
                    "the thread of vCPU {} panicked: {}",
                    self.index,
                    panic_text(&*panic)
                ))
            })
        };
        (reason, counts.outcome(emulated_instructions(&self.fd)))
    }

    fn run_until_stop(&mut self, counts: &mut Counts) -> StopReason {
        let mut exits = 0;
        self.service.vcpu_starts(self.index);
        loop {
            if self.kick.stopping() {
                return StopReason::Stopped;
            }
            if let Err(reason) = inject::inject(self.inject, &self.fd, self.index, exits) {
                return reason;
            }
            let exit = Exit::next(&mut self.fd);
            exits += 1;
            counts.exits[exit.kind()] += 1;
            match exit {
                Exit::Out {
                    port: PORT_HYPERCALL,
                    value,
                    width: 4,
                } => match self.service.serve(&self.fd, self.index, value) {
                    Some(call) => counts.calls[call as usize] += 1,
                    None => return self.unexpected(&exit),
                },
                Exit::Interrupted => self.fd.set_kvm_immediate_exit(0),
                exit => return self.stop_reason(&exit),
            }
        }
    }

    fn stop_reason(&self, exit: &Exit) -> StopReason {
        let vcpu = self.index;
        match *exit {
            Exit::Out {
                port: PORT_EXIT,
                value: EXIT_DONE,
                width: 4,
            } => StopReason::Done,
            Exit::Out {
                port: PORT_EXIT,
                value: EXIT_PANIC,
                width: 4,
            } => {
                let (message, text) = epitaph::read(self.service.as_ref(), vcpu);
                StopReason::Fault(GuestFault::Panic { vcpu, message, text })
            }
            Exit::MmioWrite(gpa) if self.is_read_only(gpa) => StopReason::Fault(GuestFault::ReadOnlyWrite {
                vcpu,
                gpa: gpa.get(),
                rip: self.rip(),
            }),
            // Loads from what is spliced there succeed, so this was a store, or a load from a hole; KVM does not say.
            Exit::MmioRead(gpa) | Exit::MmioWrite(gpa) | Exit::MemoryFault(gpa) => {
                StopReason::Fault(GuestFault::NoMemoryThere {
                    vcpu,
                    gpa: gpa.get(),
                    rip: self.rip(),
                })
            }
            Exit::BadAddress => StopReason::Fault(GuestFault::NoMemoryThere {
                vcpu,
                gpa: 0,
                rip: self.rip(),
            }),
            Exit::Shutdown => StopReason::Fault(GuestFault::TripleFault {
                vcpu,
                rip: self.rip(),
            }),
            Exit::Failed(_) => StopReason::Failed(format!("KVM_RUN of vCPU {vcpu}: {}", exit.describe())),
            _ => self.unexpected(exit),
        }
    }

    fn unexpected(&self, exit: &Exit) -> StopReason {
        let exit = exit.describe();
        StopReason::Fault(GuestFault::UnexpectedExit {
            vcpu: self.index,
            exit,
            rip: self.rip(),
        })
    }

    fn is_read_only(&self, gpa: GuestPhys) -> bool {
        let offset = gpa.get().wrapping_sub(self.windows.ro_base);
        offset < self.windows.size
    }

    /// The instruction the vCPU stopped at; 0 if even that can't be found out.
    fn rip(&self) -> u64 {
        self.fd.get_regs().map_or(0, |regs| regs.rip)
    }
}

/// Call numbers are small: a slot for each.
const CALLS: usize = {
    let (mut most, mut at) = (0, 0);
    while at < Call::ALL.len() {
        if Call::ALL[at] as usize >= most {
            most = Call::ALL[at] as usize + 1;
        }
        at += 1;
    }
    most
};

struct Counts {
    exits: [u64; Exit::KINDS.len()],
    calls: [u64; CALLS],
}

impl Counts {
    const NONE: Counts = Counts {
        exits: [0; Exit::KINDS.len()],
        calls: [0; CALLS],
    };

    fn outcome(&self, emulated_instructions: Option<u64>) -> VcpuOutcome {
        let counted = |(name, count): (String, u64)| (count > 0).then_some((name, count));
        VcpuOutcome {
            exits: (Exit::KINDS.iter().map(|name| (*name).to_owned()).zip(self.exits))
                .filter_map(counted)
                .collect(),
            hypercalls: (Call::ALL.iter())
                .map(|call| (format!("{call:?}"), self.calls[*call as usize]))
                .filter_map(counted)
                .collect(),
            emulated_instructions,
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
