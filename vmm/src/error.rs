//! The third party's errors: what goes wrong in the VMM itself or on the host.
//!
//! A program's fault is an [`abi::Errno`]; a guest kernel's is a [`crate::outcome::GuestFault`]. Neither a
//! program nor a guest can cause a [`VmmError`].

use std::io;
use std::path::PathBuf;

/// An error of the VMM or the host. Its message names the object, the value and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// /dev/kvm can't be used.
    #[error("{0}")]
    Kvm(String),
    /// A call to KVM failed.
    #[error("{what}: {source}")]
    KvmCall {
        /// What was tried.
        what: &'static str,
        /// KVM's answer.
        source: io::Error,
    },
    /// A call to the host failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: String,
        /// The host's answer.
        source: io::Error,
    },
    /// A configuration that can't be run.
    #[error("{0}")]
    Config(String),
    /// A program's file is not there or can't be read.
    #[error("{}: {source}", path.display())]
    ProgramFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is to travel with a guest is not there or can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that can't be run.
    #[error("{}: {reason}", path.display())]
    NotRunnable {
        /// The file.
        path: PathBuf,
        /// Why not, and what would help.
        reason: String,
    },
    /// A kernel image that can't be booted.
    #[error("guest kernel image: {0}")]
    KernelImage(String),
}

impl VmmError {
    /// The command's exit status for this error: 127 for a missing program, 126 for one that can't be run,
    /// 125 for everything else, as `env` and shells have it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            VmmError::ProgramFile { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            VmmError::ProgramFile { .. } | VmmError::NotRunnable { .. } => 126,
            _ => 125,
        }
    }
}
