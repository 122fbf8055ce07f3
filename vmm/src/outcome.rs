//! What became of a run: plain data, made by [`crate::group::Group::wait`], shown by the command and
//! written as JSON by `--report`. Field names are the report's keys.

use crate::broker::{ObjectLife, SegmentLife};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A finished run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What kind of KVM it ran on; `None` if no guest came so far as to say.
    pub kvm: Option<KvmKind>,
    /// The guests, in the order of their numbers.
    pub guests: Vec<GuestOutcome>,
    /// Every segment that was.
    pub segments: Vec<SegmentLife>,
    /// Every shared memory object (`/dev/shm`) that was.
    pub objects: Vec<ObjectLife>,
    /// Wall time from start to end, nanoseconds.
    pub elapsed_ns: u64,
    /// The process (guest, process) that was the first to end with a non-zero status.
    pub first_failure: Option<(u32, u32)>,
    /// Why the run was cut short, if it was.
    pub stopped: Option<StopRequest>,
}

/// The two kinds of KVM there are for our purposes, as the guest kernel's boot probe found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KvmKind {
    /// Ring 0 runs natively (VMX, SVM).
    Hardware,
    /// Ring 0 is emulated one instruction at a time.
    Software,
}

impl fmt::Display for KvmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvmKind::Hardware => "hardware (VMX or SVM)",
            KvmKind::Software => "software (ring 0 is emulated, ring 3 runs natively)",
        })
    }
}

/// Why a run was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopRequest {
    /// The time given with `--timeout` was over.
    Timeout,
    /// This signal came (SIGINT, SIGTERM, SIGHUP).
    Signal(i32),
}

/// What became of one guest.
#[derive(Clone, Debug, Serialize)]
pub struct GuestOutcome {
    /// Its number.
    pub guest: u32,
    /// How it ended.
    pub end: GuestEnd,
    /// Its processes, in the order of their numbers.
    pub processes: Vec<ProcessOutcome>,
    /// When it came how far.
    pub start: StartTimes,
    /// Each vCPU's exits and instructions.
    pub vcpus: Vec<VcpuOutcome>,
    /// Successful attaches in its life.
    pub attaches: u64,
    /// Free frames after boot, before the first program ran, and at the end, as its kernel counted them.
    pub free_frames: Option<(u64, u64)>,
    /// What was in use in its kernel's tables at the same moments, where tests ask for it
    /// ([`abi::boot::BootFlags::TEST_COUNT_TABLES`]).
    pub tables: Option<(Tables, Tables)>,
    /// Ranges of its windows that still showed something at the end, and objects it still held, together.
    pub window_ranges: u64,
}

/// What is in use in a kernel's tables, as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Areas of memory.
    pub areas: u64,
    /// Processes, those included that have ended and that nobody has waited for.
    pub processes: u64,
    /// Tasks.
    pub tasks: u64,
    /// Open files.
    pub open_files: u64,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestEnd {
    /// All its processes ended, and its kernel said so.
    Done,
    /// Its kernel did something it must not.
    Fault(GuestFault),
    /// It was ended from outside.
    Stopped,
    /// The VMM or the host failed it: the message.
    HostError(String),
}

/// What a guest kernel did wrong. Ends that guest, and no other.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum GuestFault {
    /// It panicked; `text` is its whole epitaph: message, registers, backtrace with symbols.
    #[error("kernel panic on vCPU {vcpu}: {message}")]
    Panic {
        /// The vCPU.
        vcpu: u32,
        /// The message, escaped.
        message: String,
        /// Message, registers and backtrace, several lines.
        text: String,
    },
    /// It wrote where it may only read.
    #[error("vCPU {vcpu} wrote to read-only shared memory at GPA {gpa:#x} (instruction at {rip:#x})")]
    ReadOnlyWrite {
        /// The vCPU.
        vcpu: u32,
        /// Guest-physical address written to; 0 where KVM does not tell.
        gpa: u64,
        /// The instruction.
        rip: u64,
    },
    /// It used guest-physical memory that is not there.
    #[error("vCPU {vcpu} used memory it does not have at GPA {gpa:#x} (instruction at {rip:#x})")]
    NoMemoryThere {
        /// The vCPU.
        vcpu: u32,
        /// Guest-physical address; 0 where KVM does not tell.
        gpa: u64,
        /// The instruction.
        rip: u64,
    },
    /// It kept pages of an object that had become smaller.
    #[error(
        "did not give back pages of shared memory object {object}, which became smaller, in {waited_ms} ms"
    )]
    NoAnswer {
        /// The object's number.
        object: u64,
        /// How long it had.
        waited_ms: u64,
    },
    /// A vCPU triple-faulted or shut down.
    #[error("vCPU {vcpu} triple-faulted at {rip:#x}")]
    TripleFault {
        /// The vCPU.
        vcpu: u32,
        /// The instruction.
        rip: u64,
    },
    /// KVM could not go on with a vCPU.
    #[error("vCPU {vcpu} left KVM with {exit} at {rip:#x}")]
    UnexpectedExit {
        /// The vCPU.
        vcpu: u32,
        /// What KVM said.
        exit: String,
        /// The instruction.
        rip: u64,
    },
}

/// What became of one process.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessOutcome {
    /// Its number within the guest.
    pub process: u32,
    /// Its process id.
    pub pid: u32,
    /// Its Linux wait status (as waitpid gives it), `None` if the guest ended first.
    pub wait_status: Option<u32>,
    /// Its first instruction, nanoseconds after the run's start.
    pub started_ns: Option<u64>,
    /// Its end, nanoseconds after the run's start.
    pub ended_ns: Option<u64>,
}

impl ProcessOutcome {
    /// The status as a shell shows it: the exit code, or 128 + signal; `None` if it did not end by itself.
    #[must_use]
    pub fn shell_status(&self) -> Option<u8> {
        let status = self.wait_status?;
        let signal = status & 0x7f;
        Some(if signal == 0 {
            (status >> 8) as u8
        } else {
            128 | signal as u8
        })
    }
}

/// Nanoseconds after the run's start at which a guest came how far; `None` if it did not.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StartTimes {
    /// Its VM and vCPUs exist.
    pub vm_created_ns: Option<u64>,
    /// Kernel, programs and boot structures lie in its RAM.
    pub loaded_ns: Option<u64>,
    /// Its vCPUs run.
    pub entered_ns: Option<u64>,
    /// Its kernel is up.
    pub kernel_ready_ns: Option<u64>,
    /// Its first program's first instruction.
    pub first_program_ns: Option<u64>,
    /// It is gone, with all that it held.
    pub gone_ns: Option<u64>,
}

/// One vCPU's figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VcpuOutcome {
    /// Exits to the VMM, by kind.
    pub exits: BTreeMap<String, u64>,
    /// Requests, by name.
    pub hypercalls: BTreeMap<String, u64>,
    /// Instructions KVM emulated, where it counts them; on the software KVM these are the ring-0 instructions.
    pub emulated_instructions: Option<u64>,
}
