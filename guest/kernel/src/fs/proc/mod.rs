//! `/proc`: names that exist while they are looked at. What is in the files is made by [`text`].
//!
//! The names are a table. Two of its directories are shown many times: that of a process, by its id, and that of
//! its descriptors.

pub mod maps;
pub mod process;
pub mod system;
pub mod text;

use super::Node as AnyNode;
use crate::fs::descriptor::{Descriptor, Descriptors};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::process::descriptors::AllDescriptors;
use crate::process::task::{Tasks, threads_of};
use abi::hypercall::{
    PROC_SHM, PROC_SHM_NEXT_ID, PROC_SHM_RMID_FORCED, PROC_SHMALL, PROC_SHMMAX, PROC_SHMMNI,
};

/// What an entry of the table is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    /// A link with a text for its target.
    Link(&'static [u8]),
    /// The link to the directory of whoever looks.
    OwnDirectory,
    /// A link that is followed without a path.
    Jump(Jump),
    File(File),
}

/// Where such a link leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jump {
    Exe,
    Cwd,
    Root,
    Descriptor,
}

/// The files, by what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The broker's text of this number.
    Broker(u64),
    /// Always the same.
    Fixed(&'static str),
    /// `/proc/meminfo`.
    MemInfo,
    /// `/proc/cpuinfo`.
    CpuInfo,
    /// `/proc/stat`.
    Stat,
    /// `/proc/uptime`.
    Uptime,
    /// `/proc/loadavg`.
    LoadAverage,
    /// `/proc/PID/stat`.
    ProcessStat,
    /// `/proc/PID/statm`.
    ProcessMemory,
    /// `/proc/PID/status`.
    ProcessStatus,
    /// `/proc/PID/cmdline`.
    CommandLine,
    /// `/proc/PID/environ`.
    Environment,
    /// `/proc/PID/comm`.
    Command,
    /// `/proc/PID/maps`.
    Maps,
    /// `/proc/PID/limits`.
    Limits,
}

/// What is there while a name is looked at.
#[derive(Clone, Copy)]
pub struct Seen<'k> {
    /// All processes.
    pub processes: &'k [Process],
    /// Their threads.
    pub tasks: &'k Tasks,
    /// What these have open.
    pub descriptors: &'k AllDescriptors,
}

impl Kernel {
    /// What there is to see now.
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            processes: self.processes,
            tasks: self.tasks,
            descriptors: &self.descriptors,
        }
    }
}

impl<'k> Seen<'k> {
    /// The descriptors of process `number`, that is of its oldest thread.
    pub fn descriptors_of(self, number: usize) -> Option<&'k Descriptors> {
        let leader = threads_of(self.tasks, self.processes, number as u16).last()?;
        Some(&self.descriptors[self.tasks[usize::from(leader)].descriptors])
    }
}

struct Entry {
    name: &'static [u8],
    parent: u8,
    mode: u16,
    kind: Kind,
}

const fn entry(parent: u8, name: &'static [u8], mode: u16, kind: Kind) -> Entry {
    Entry {
        name,
        parent,
        mode,
        kind,
    }
}

const fn directory(parent: u8, name: &'static [u8]) -> Entry {
    entry(parent, name, 0o555, Kind::Directory)
}

const fn link(parent: u8, name: &'static [u8], kind: Kind) -> Entry {
    entry(parent, name, 0o777, kind)
}

const fn file(parent: u8, name: &'static [u8], file: File) -> Entry {
    entry(parent, name, 0o444, Kind::File(file))
}

const fn fixed(parent: u8, name: &'static [u8], text: &'static str) -> Entry {
    file(parent, name, File::Fixed(text))
}

/// A setting that root may change.
const fn setting(parent: u8, name: &'static [u8], which: u64) -> Entry {
    entry(parent, name, 0o644, Kind::File(File::Broker(which)))
}

const ROOT: u8 = 0;
const SYS: u8 = 1;
const KERNEL: u8 = 2;
const VM: u8 = 3;
const FS: u8 = 4;
const SYSVIPC: u8 = 5;
const PROCESS: u8 = 6;
const DESCRIPTORS: u8 = 7;
const DESCRIPTOR: u8 = 8;

/// All names, directories before what is in them. Values of settings are those of the Linux the calls were checked
/// against.
static ENTRIES: &[Entry] = &[
    directory(ROOT, b""),
    directory(ROOT, b"sys"),
    directory(SYS, b"kernel"),
    directory(SYS, b"vm"),
    directory(SYS, b"fs"),
    directory(ROOT, b"sysvipc"),
    // Shown under the id of each process.
    directory(ROOT, b""),
    entry(PROCESS, b"fd", 0o500, Kind::Directory),
    entry(DESCRIPTORS, b"", 0o700, Kind::Jump(Jump::Descriptor)),
    link(ROOT, b"self", Kind::OwnDirectory),
    link(ROOT, b"mounts", Kind::Link(b"self/mounts")),
    file(ROOT, b"meminfo", File::MemInfo),
    file(ROOT, b"cpuinfo", File::CpuInfo),
    file(ROOT, b"stat", File::Stat),
    file(ROOT, b"uptime", File::Uptime),
    file(ROOT, b"loadavg", File::LoadAverage),
    fixed(
        ROOT,
        b"version",
        "Linux version 6.18.0-tombolo (tombolo) #1 SMP\n",
    ),
    fixed(ROOT, b"filesystems", "nodev\tproc\nnodev\ttmpfs\n"),
    file(SYSVIPC, b"shm", File::Broker(PROC_SHM)),
    fixed(SYSVIPC, b"sem", system::SEMAPHORES),
    fixed(SYSVIPC, b"msg", system::QUEUES),
    setting(KERNEL, b"shmmax", PROC_SHMMAX),
    setting(KERNEL, b"shmall", PROC_SHMALL),
    setting(KERNEL, b"shmmni", PROC_SHMMNI),
    // Who may write to that one is a matter of capabilities, which root has (`ipc_permissions`).
    file(KERNEL, b"shm_next_id", File::Broker(PROC_SHM_NEXT_ID)),
    setting(KERNEL, b"shm_rmid_forced", PROC_SHM_RMID_FORCED),
    fixed(KERNEL, b"sem", "32000\t1024000000\t500\t32000\n"),
    fixed(KERNEL, b"msgmax", "8192\n"),
    fixed(KERNEL, b"msgmnb", "16384\n"),
    fixed(KERNEL, b"msgmni", "32000\n"),
    fixed(KERNEL, b"ostype", "Linux\n"),
    fixed(KERNEL, b"osrelease", "6.18.0-tombolo\n"),
    fixed(KERNEL, b"version", "#1 SMP\n"),
    fixed(KERNEL, b"hostname", "tombolo\n"),
    fixed(KERNEL, b"domainname", "(none)\n"),
    fixed(KERNEL, b"pid_max", "4194304\n"),
    fixed(KERNEL, b"threads-max", "256\n"),
    fixed(KERNEL, b"ngroups_max", "32\n"),
    fixed(KERNEL, b"cap_last_cap", "40\n"),
    fixed(KERNEL, b"overflowuid", "65534\n"),
    fixed(KERNEL, b"overflowgid", "65534\n"),
    fixed(KERNEL, b"randomize_va_space", "0\n"),
    fixed(KERNEL, b"tainted", "0\n"),
    fixed(VM, b"max_map_count", "16384\n"),
    fixed(VM, b"mmap_min_addr", "65536\n"),
    fixed(VM, b"overcommit_memory", "0\n"),
    fixed(VM, b"nr_hugepages", "0\n"),
    fixed(FS, b"file-max", "4096\n"),
    fixed(FS, b"nr_open", "4096\n"),
    fixed(FS, b"pipe-max-size", "65536\n"),
    link(PROCESS, b"exe", Kind::Jump(Jump::Exe)),
    link(PROCESS, b"cwd", Kind::Jump(Jump::Cwd)),
    link(PROCESS, b"root", Kind::Jump(Jump::Root)),
    file(PROCESS, b"stat", File::ProcessStat),
    file(PROCESS, b"statm", File::ProcessMemory),
    file(PROCESS, b"status", File::ProcessStatus),
    file(PROCESS, b"cmdline", File::CommandLine),
    entry(PROCESS, b"environ", 0o400, Kind::File(File::Environment)),
    file(PROCESS, b"comm", File::Command),
    file(PROCESS, b"maps", File::Maps),
    file(PROCESS, b"limits", File::Limits),
    fixed(PROCESS, b"mounts", system::MOUNTS),
];

/// Something in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its entry in the table.
    entry: u8,
    /// Which descriptor's.
    fd: u16,
    /// Which process's, by id; 0 if no process's.
    pid: u32,
}

/// Where the processes' directories come in a listing, after the entries of the table.
const PROCESSES_FROM: u64 = 0x1000;

impl Node {
    /// `/proc` itself.
    pub const ROOT: Node = Node {
        entry: ROOT,
        fd: 0,
        pid: 0,
    };

    fn entry(self) -> &'static Entry {
        &ENTRIES[usize::from(self.entry) % ENTRIES.len()]
    }

    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        self.entry().kind == Kind::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_link(self) -> bool {
        !self.is_directory() && self.file().is_none()
    }

    /// Which file it is, if it is one.
    pub fn file(self) -> Option<File> {
        match self.entry().kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    /// The id of the process it is about; 0 if it is about none.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// The file type of `st_mode`.
    pub fn type_bits(self) -> u32 {
        match self.entry().kind {
            Kind::Directory => 0o040_000,
            Kind::File(_) => 0o100_000,
            _ => 0o120_000,
        }
    }

    /// Its permissions.
    pub fn mode(self) -> u16 {
        self.entry().mode
    }

    /// `st_ino`.
    pub fn number(self) -> u64 {
        u64::from(self.pid) << 24 | u64::from(self.fd) << 8 | (u64::from(self.entry) + 1)
    }

    /// How many names lead to it: what Linux says of directories is how many are in them.
    pub fn links(self) -> u64 {
        if !self.is_directory() {
            return 1;
        }
        let below = ENTRIES[1..]
            .iter()
            .filter(|entry| entry.parent == self.entry && entry.kind == Kind::Directory);
        2 + below.count() as u64
    }

    /// Its owner and group.
    pub fn owner(self, seen: Seen<'_>) -> (u32, u32) {
        match self.process(seen) {
            Some(process) => (process.credentials.uid[1], process.credentials.gid[1]),
            None => (0, 0),
        }
    }

    /// The process it is about.
    fn process(self, seen: Seen<'_>) -> Option<&Process> {
        self.place(seen).map(|place| &seen.processes[place])
    }

    /// The number of the process it is about.
    pub fn place(self, seen: Seen<'_>) -> Option<usize> {
        if self.pid == 0 {
            return None;
        }
        seen.processes.iter().position(|process| process.pid == self.pid)
    }

    /// The descriptors of the process it is about, as long as that has threads.
    fn descriptors(self, seen: Seen<'_>) -> Option<&Descriptors> {
        seen.descriptors_of(self.place(seen)?)
    }

    /// What the descriptor it is means.
    fn descriptor(self, seen: Seen<'_>) -> Option<Descriptor> {
        self.descriptors(seen)?.get(self.fd.into())
    }

    /// Whether it is still there: its process may have ended, or its descriptor been closed.
    pub fn exists(self, seen: Seen<'_>) -> bool {
        match self.process(seen) {
            Some(_) if self.entry == DESCRIPTOR => self.descriptor(seen).is_some(),
            Some(_) => true,
            None => self.pid == 0,
        }
    }

    fn with_entry(self, entry: usize) -> Node {
        Node {
            entry: entry as u8,
            fd: 0,
            ..self
        }
    }

    /// The directory it is in; the root is in none.
    pub fn parent(self) -> Option<Node> {
        match self.entry {
            ROOT => None,
            PROCESS => Some(Node::ROOT),
            _ => Some(self.with_entry(self.entry().parent.into())),
        }
    }

    /// What `name` leads to in this directory.
    pub fn lookup(self, name: &[u8], seen: Seen<'_>) -> Option<Node> {
        if !self.exists(seen) {
            return None;
        }
        let found = match (self.entry, number(name)) {
            (ROOT, Some(pid)) => Node {
                pid: if pid == 0 { return None } else { pid },
                ..self.with_entry(PROCESS.into())
            },
            (DESCRIPTORS, Some(fd)) => Node {
                fd: u16::try_from(fd).ok()?,
                ..self.with_entry(DESCRIPTOR.into())
            },
            _ => {
                let known =
                    |entry: &Entry| entry.parent == self.entry && entry.name == name && !name.is_empty();
                self.with_entry(ENTRIES.iter().position(known)?)
            }
        };
        found.exists(seen).then_some(found)
    }

    /// The first thing in this directory after place `after`, and its own place.
    pub fn next_after(self, after: u64, seen: Seen<'_>) -> Option<(u64, Node)> {
        if !self.exists(seen) {
            return None;
        }
        if self.entry == DESCRIPTORS {
            let descriptors = self.descriptors(seen)?;
            let fd = (after as u32..descriptors.end()).find(|&fd| descriptors.get(fd).is_some())?;
            let node = Node {
                fd: fd as u16,
                ..self.with_entry(DESCRIPTOR.into())
            };
            return Some((u64::from(fd) + 1, node));
        }
        let in_table = (after as usize + 1..ENTRIES.len())
            .find(|&at| ENTRIES[at].parent == self.entry && !ENTRIES[at].name.is_empty());
        if after < PROCESSES_FROM
            && let Some(at) = in_table
        {
            return Some((at as u64, self.with_entry(at)));
        }
        if self.entry != ROOT {
            return None;
        }
        let slot = (after.saturating_sub(PROCESSES_FROM - 1) as usize..seen.processes.len())
            .find(|&slot| seen.processes[slot].pid != 0)?;
        let node = Node {
            pid: seen.processes[slot].pid,
            ..self.with_entry(PROCESS.into())
        };
        Some((PROCESSES_FROM + slot as u64, node))
    }

    /// Writes its name to the end of `to`: how long it is.
    pub fn name(self, to: &mut [u8]) -> usize {
        match self.entry {
            PROCESS => decimal_at_end(self.pid.into(), to),
            DESCRIPTOR => decimal_at_end(self.fd.into(), to),
            _ => at_end(self.entry().name, to),
        }
    }

    /// Writes its path to the end of `to`.
    pub fn path(self, to: &mut [u8]) -> &[u8] {
        let mut start = to.len();
        let mut at = self;
        while let Some(parent) = at.parent() {
            start -= at.name(&mut to[..start]);
            start -= at_end(b"/", &mut to[..start]);
            at = parent;
        }
        start -= at_end(b"/proc", &mut to[..start]);
        &to[start..]
    }

    /// Where it leads, if it is a link that is followed without a path: `Some(None)` if that is nowhere.
    pub fn jump(self, seen: Seen<'_>) -> Option<Option<AnyNode>> {
        let Kind::Jump(jump) = self.entry().kind else {
            return None;
        };
        let process = self.process(seen).filter(|process| process.lives());
        Some(process.and_then(|process| match jump {
            Jump::Exe => Some(AnyNode::File(process.exe)),
            Jump::Cwd => Some(process.directory),
            Jump::Root => Some(AnyNode::ROOT),
            Jump::Descriptor => Some(AnyNode::Open(self.descriptor(seen)?.open)),
        }))
    }

    /// Writes the target of any other link to the end of `to`: how long it is. `own` is the id of whoever looks.
    pub fn target(self, own: u32, to: &mut [u8]) -> usize {
        match self.entry().kind {
            Kind::Link(target) => at_end(target, to),
            Kind::OwnDirectory => decimal_at_end(own.into(), to),
            _ => 0,
        }
    }
}

/// A number in the only way it is written.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || text.len() > 1 && text[0] == b'0' {
        return None;
    }
    text.iter().try_fold(0u32, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

fn at_end(text: &[u8], to: &mut [u8]) -> usize {
    match to.len().checked_sub(text.len()) {
        Some(start) => {
            to[start..].copy_from_slice(text);
            text.len()
        }
        None => 0,
    }
}

/// Writes `value` in decimal to the end of `to`: how many digits.
pub fn decimal_at_end(mut value: u64, to: &mut [u8]) -> usize {
    let mut start = to.len();
    while start > 0 {
        start -= 1;
        to[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.len() - start
}
