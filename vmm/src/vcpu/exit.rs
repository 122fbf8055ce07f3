//! Why KVM_RUN returned, as a value of our own: what KVM reports is read once, here.
// UNSAFETY: reads the union in kvm_run that describes internal errors.
#![expect(unsafe_code, reason = "kvm_run's union")]

use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_run};
use kvm_ioctls::{VcpuExit, VcpuFd};
use paging::GuestPhys;
use std::io;

/// Why a vCPU came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// A write to a port; `value` is the first four bytes.
    Out {
        /// The port.
        port: u16,
        /// What was written.
        value: u32,
        /// How many bytes.
        width: usize,
    },
    /// A read from a port.
    In {
        /// The port.
        port: u16,
    },
    /// A load where no memory is.
    MmioRead(GuestPhys),
    /// A store where no memory, or only readable memory is.
    MmioWrite(GuestPhys),
    /// An access that the host could not back, where KVM knows the address.
    MemoryFault(GuestPhys),
    /// An access that the host could not back, where KVM does not tell which.
    BadAddress,
    /// A triple fault.
    Shutdown,
    /// KVM can't go on; the text says why.
    InternalError(String),
    /// A signal, or `immediate_exit`.
    Interrupted,
    /// KVM_RUN failed.
    Failed(i32),
    /// Anything else: its name.
    Other(String),
}

impl Exit {
    /// Kinds of exit, as the report names them.
    pub(super) const KINDS: [&str; 11] = [
        "out",
        "in",
        "mmio_read",
        "mmio_write",
        "memory_fault",
        "bad_address",
        "shutdown",
        "internal_error",
        "interrupted",
        "failed",
        "other",
    ];

    /// Index into [`Exit::KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Exit::Out { .. } => 0,
            Exit::In { .. } => 1,
            Exit::MmioRead(_) => 2,
            Exit::MmioWrite(_) => 3,
            Exit::MemoryFault(_) => 4,
            Exit::BadAddress => 5,
            Exit::Shutdown => 6,
            Exit::InternalError(_) => 7,
            Exit::Interrupted => 8,
            Exit::Failed(_) => 9,
            Exit::Other(_) => 10,
        }
    }

    /// Runs the vCPU until the next exit.
    pub(super) fn next(vcpu: &mut VcpuFd) -> Exit {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                let mut value = [0; 4];
                let width = data.len();
                value[..width.min(4)].copy_from_slice(&data[..width.min(4)]);
                Exit::Out {
                    port,
                    value: u32::from_le_bytes(value),
                    width,
                }
            }
            Ok(VcpuExit::IoIn(port, _)) => Exit::In { port },
            Ok(VcpuExit::MmioRead(gpa, _)) => Exit::MmioRead(GuestPhys::new(gpa)),
            Ok(VcpuExit::MmioWrite(gpa, _)) => Exit::MmioWrite(GuestPhys::new(gpa)),
            Ok(VcpuExit::MemoryFault { gpa, .. }) => Exit::MemoryFault(GuestPhys::new(gpa)),
            Ok(VcpuExit::Shutdown) => Exit::Shutdown,
            Ok(VcpuExit::InternalError) => Exit::InternalError(internal_error(vcpu.get_kvm_run())),
            Ok(VcpuExit::Intr) => Exit::Interrupted,
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                Exit::Other(format!("failed entry, hardware reason {reason:#x}, CPU {cpu}"))
            }
            Ok(other) => Exit::Other(format!("{other:?}")),
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => Exit::Interrupted,
                libc::EFAULT | libc::EHWPOISON => Exit::BadAddress,
                errno => Exit::Failed(errno),
            },
        }
    }

    /// The exit in words, for a fault's message.
    pub(super) fn describe(&self) -> String {
        match self {
            Exit::Out { port, value, width } => {
                format!("a {width}-byte write of {value:#x} to port {port:#x}")
            }
            Exit::In { port } => format!("a read of port {port:#x}"),
            Exit::InternalError(text) | Exit::Other(text) => text.clone(),
            Exit::Failed(errno) => io::Error::from_raw_os_error(*errno).to_string(),
            other => Exit::KINDS[other.kind()].into(),
        }
    }
}

fn internal_error(run: &kvm_run) -> String {
    // SAFETY: the exit reason was KVM_EXIT_INTERNAL_ERROR, so this member is the one KVM filled; all are integers.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    if internal.suberror != KVM_INTERNAL_ERROR_EMULATION {
        return format!("an internal error, suberror {}", internal.suberror);
    }
    // Linux, KVM_INTERNAL_ERROR_EMULATION: data[0] flags (bit 0: instruction bytes follow), then their number and
    // up to 15 bytes.
    let bytes: Vec<u8> = internal.data[1..3]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let count = usize::from(bytes[0]).min(15);
    if internal.ndata >= 3 && internal.data[0] & 1 != 0 && count > 0 {
        let code: Vec<String> = bytes[1..=count]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        return format!("an instruction that KVM can't emulate ({})", code.join(" "));
    }
    "an instruction that KVM can't emulate".into()
}
