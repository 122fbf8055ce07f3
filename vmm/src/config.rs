//! What a caller of the library asks for: a [`GroupConfig`] of guests, validated once by
//! [`GroupConfig::check`] and trusted from then on.
//!
//! Everything here is plain data. The command line fills it (`cli/`), tests fill it directly, and
//! [`crate::group::Group::start`] takes it.

use crate::broker::{BrokerLimits, GuestPolicy, Quota};
use crate::error::VmmError;
use crate::guest_file::{GuestFile, check_names};
use crate::image::Program;
use crate::inspect::Observer;
use abi::boot::BootFlags;
use abi::memory::{WINDOW_CHUNK, WindowLayout};
use abi::{Errno, MAX_GUESTS, MAX_TASKS, MAX_VCPUS};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Least RAM of a guest, in bytes: the kernel with its tables and a small program.
pub const MIN_MEMORY: u64 = 16 << 20;
/// RAM of a guest unless asked otherwise, in bytes. Pages never touched cost nothing.
pub const DEFAULT_MEMORY: u64 = 256 << 20;

/// A group of guests that share segments: one run of the command.
pub struct GroupConfig {
    /// The guests, in the order of their numbers.
    pub guests: Vec<GuestConfig>,
    /// End everything after this long.
    pub timeout: Option<Duration>,
    /// What the first process of the first guest reads.
    pub stdin: Stdin,
    /// Where programs' output goes.
    pub output: Arc<dyn Output>,
    /// Limits of the group's segments.
    pub limits: BrokerLimits,
    /// The kernel image to boot; `None` is the one built into the library.
    pub kernel: Option<Arc<[u8]>>,
    /// Looks into the guests while they run; tests use it. `None` costs nothing.
    pub observer: Option<Arc<dyn Observer>>,
}

/// One guest.
#[derive(Clone)]
pub struct GuestConfig {
    /// Virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// RAM in bytes, rounded up to 2 MiB.
    pub memory: u64,
    /// Processes to start, at least one.
    pub processes: Vec<ProcessConfig>,
    /// Which keys this guest may only read.
    pub policy: GuestPolicy,
    /// How much this guest may make at one time.
    pub quota: Quota,
    /// User id of the processes. With another than 0 no claim of this guest to be another user is believed.
    pub uid: u32,
    /// Group id of the processes.
    pub gid: u32,
    /// Files that travel with it beside the programs; no two of all these have the same name, none lies below another, and
    /// there are at most [`MAX_FILES`](abi::boot::MAX_FILES) of them and the directories they lie in.
    pub files: Vec<Arc<GuestFile>>,
    /// Switches for the guest kernel; tests use them.
    pub flags: BootFlags,
    /// A fault to inject, for tests.
    pub inject: Option<InjectedFault>,
}

/// One process of a guest.
#[derive(Clone)]
pub struct ProcessConfig {
    /// The program it runs; processes of a guest that share the `Arc` share the image's pages.
    pub program: Arc<Program>,
    /// Arguments, the program's name first.
    pub args: Vec<Vec<u8>>,
    /// Environment, `NAME=value`; TOMBOLO_GUEST, TOMBOLO_GUESTS, TOMBOLO_PROC, TOMBOLO_PROCS are added.
    pub env: Vec<Vec<u8>>,
}

/// What the first process of the first guest reads from descriptor 0. All others read the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// The command's own stdin.
    Inherit,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

/// A fault that a test wants to see handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// KVM_RUN of vCPU `vcpu` fails with EIO after this many exits of that vCPU.
    RunError {
        /// Which vCPU.
        vcpu: u32,
        /// Exits before it.
        after_exits: u64,
    },
    /// vCPU `vcpu` is made to triple-fault (its IDT is taken away) after this many exits.
    TripleFault {
        /// Which vCPU.
        vcpu: u32,
        /// Exits before it.
        after_exits: u64,
    },
    /// The thread of vCPU `vcpu` panics after this many exits.
    ThreadPanic {
        /// Which vCPU.
        vcpu: u32,
        /// Exits before it.
        after_exits: u64,
    },
}

/// Takes what programs write to their descriptors 1 and 2.
pub trait Output: Send + Sync {
    /// Bytes from process `process` of guest `guest`, for `descriptor` 1 or 2: how many of them are taken. It must
    /// not wait: the caller is a vCPU whose kernel may hold its lock.
    ///
    /// # Errors
    /// EAGAIN if none is taken now; then [`Output::awaited`] says what to wait for. Otherwise the error the
    /// program's write returns, such as EPIPE.
    fn write(&self, guest: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno>;

    /// What becomes writable when `descriptor`, 1 or 2, takes bytes again; `None` if it takes some now.
    fn awaited(&self, descriptor: u32) -> Option<BorrowedFd<'_>> {
        let _ = descriptor;
        None
    }
}

impl GroupConfig {
    /// Checks every number against its limit.
    ///
    /// # Errors
    /// [`VmmError::Config`], which names the guest, the value and the limit.
    pub fn check(&self, phys_bits: u32) -> Result<WindowLayout, VmmError> {
        let count = self.guests.len();
        if count == 0 || count > MAX_GUESTS {
            return Err(VmmError::Config(format!(
                "{count} guests: a group has 1 to {MAX_GUESTS}"
            )));
        }
        let layout = WindowLayout::new(phys_bits, count);
        debug_assert!(layout.size >= WINDOW_CHUNK);
        for (index, guest) in self.guests.iter().enumerate() {
            guest.check(index, &layout)?;
        }
        Ok(layout)
    }
}

impl GuestConfig {
    /// Names of the files it brings along: programs, each once, then the others.
    fn file_names(&self) -> impl Iterator<Item = &[u8]> {
        let mut programs: Vec<&Arc<Program>> = Vec::new();
        for ProcessConfig { program, .. } in &self.processes {
            if !programs.iter().any(|known| Arc::ptr_eq(known, program)) {
                programs.push(program);
            }
        }
        let programs = programs.into_iter().map(|program| program.name());
        programs.chain(self.files.iter().map(|file| file.name()))
    }

    fn check(&self, index: usize, layout: &WindowLayout) -> Result<(), VmmError> {
        let config = |text: String| Err(VmmError::Config(format!("guest {index}: {text}")));
        if self.vcpus == 0 || self.vcpus as usize > MAX_VCPUS {
            return config(format!("{} vCPUs: a guest has 1 to {MAX_VCPUS}", self.vcpus));
        }
        if self.processes.is_empty() || self.processes.len() > MAX_TASKS {
            return config(format!(
                "{} processes: a guest starts 1 to {MAX_TASKS}",
                self.processes.len()
            ));
        }
        if self.memory < MIN_MEMORY {
            return config(format!(
                "{} bytes of memory are too little: at least {} MiB are needed",
                self.memory,
                MIN_MEMORY >> 20
            ));
        }
        for (id, what) in [(self.uid, "user"), (self.gid, "group")] {
            if id == u32::MAX {
                return config(format!("{id} is nobody's {what} id: it stands for no change"));
            }
        }
        if let Err(why) = check_names(self.file_names()) {
            return config(why);
        }
        let most = layout.max_ram();
        if self.memory > most {
            return config(format!(
                "{} bytes of memory: at most {} GiB lie below the windows on this CPU",
                self.memory,
                most >> 30
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Program;

    #[test]
    fn files_need_names_of_their_own_and_ids_must_be_someones() {
        let program = Arc::new(Program::builtin("demo").unwrap());
        let file = |name: &str| Arc::new(GuestFile::from_bytes(name, *b"").unwrap());
        let check = |files: Vec<Arc<GuestFile>>, uid, gid| {
            let process = ProcessConfig {
                program: Arc::clone(&program),
                args: vec![],
                env: vec![],
            };
            let guest = GuestConfig {
                vcpus: 1,
                memory: DEFAULT_MEMORY,
                processes: vec![process.clone(), process],
                policy: GuestPolicy::default(),
                quota: Quota::default(),
                uid,
                gid,
                files,
                flags: BootFlags::empty(),
                inject: None,
            };
            guest
                .check(3, &WindowLayout::new(39, 1))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(vec![file("/a"), file("/b")], 1, u32::MAX - 1), Ok(()));
        for (files, name) in [
            (vec![file("/a"), file("/b"), file("/a")], "/a"),
            (vec![file("/tombolo/demo")], "/tombolo/demo"),
        ] {
            let message = check(files, 0, 0).unwrap_err();
            assert_eq!(message, format!("guest 3: two files are named {name}"));
        }
        assert!(check(vec![], u32::MAX, 0).unwrap_err().contains("user id"));
        assert!(check(vec![], 0, u32::MAX).unwrap_err().contains("group id"));
    }
}
