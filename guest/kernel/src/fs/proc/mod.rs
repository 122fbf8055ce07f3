//! `/proc` and `/sys`: names that exist while they are looked at. What is in the files is made by [`text`], and given out in
//! pieces by [`kept`].
//!
//! The names are a table ([`table`]). Some of its directories are shown many times: that of a process, by its id, and as
//! that of each of its threads in `task`; and those of its descriptors.

mod descriptor;
pub mod kept;
pub mod maps;
pub mod process;
pub mod smaps;
pub mod system;
mod table;
pub mod text;

use super::Node as AnyNode;
use crate::fs::descriptor::{Descriptor, Descriptors};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::process::descriptors::AllDescriptors;
use crate::process::task::{Tasks, threads_of};
use table::{
    DESCRIPTOR, DESCRIPTOR_INFO, DESCRIPTOR_INFOS, DESCRIPTORS, ENTRIES, Entry, PROCESS, ROOT, SYSFS, TASKS,
};

/// What an entry of the table is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    /// A link with a text for its target.
    Link(&'static [u8]),
    /// The link to the directory of whoever looks.
    OwnDirectory,
    /// The link to the directory of the thread that looks.
    OwnThread,
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
    /// `/proc/PID/smaps`.
    SizedMaps,
    /// `/proc/PID/auxv`.
    Auxiliary,
    /// `/proc/PID/mountinfo`.
    MountInfo,
    /// `/proc/PID/oom_score_adj`.
    OomAdjustment,
    /// `/proc/PID/fdinfo/N`.
    DescriptorInfo,
    /// `/proc/vmstat`.
    MemoryNumbers,
    /// `/proc/sys/fs/file-nr`.
    OpenCount,
    /// `/proc/sys/kernel/random/uuid`.
    Uuid,
    /// `/proc/sys/kernel/random/boot_id`.
    BootId,
    /// `/sys/devices/system/cpu/online`, `possible`, `present`.
    CpuRange,
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

/// Something in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its entry in the table.
    entry: u8,
    /// Which descriptor's.
    fd: u16,
    /// Which process's, by id; 0 if no process's.
    pid: u32,
    /// Which of its threads', by id; 0 if the whole process's.
    thread: u32,
}

/// Where the processes' directories come in a listing, after the entries of the table.
const PROCESSES_FROM: u64 = 0x1000;

impl Node {
    /// `/proc` itself.
    pub const ROOT: Node = Node::top(ROOT);
    /// `/sys`.
    pub const SYSFS: Node = Node::top(SYSFS);

    const fn top(entry: u8) -> Node {
        Node {
            entry,
            fd: 0,
            pid: 0,
            thread: 0,
        }
    }

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

    /// The id of the thread it is about; 0 if it is about none, or all of a process.
    pub fn thread(self) -> u32 {
        self.thread
    }

    /// Whether it is `fdinfo` or in there: only who may look into the process may look there.
    pub fn tells_of_descriptors(self) -> bool {
        matches!(self.entry, DESCRIPTOR_INFOS | DESCRIPTOR_INFO)
    }

    /// Whether it is in `/sys`.
    pub fn is_in_sysfs(self) -> bool {
        self.entry == SYSFS || self.parent().is_some_and(Node::is_in_sysfs)
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
        let (of_thread, id) = match self.thread {
            0 => (0, self.pid),
            thread => (1 << 60, thread),
        };
        of_thread | u64::from(id) << 24 | u64::from(self.fd) << 8 | (u64::from(self.entry) + 1)
    }

    /// How many names lead to it: what Linux says of directories is how many are in them.
    pub fn links(self, seen: Seen<'_>) -> u64 {
        if !self.is_directory() {
            return 1;
        }
        if self.entry == TASKS {
            return 2 + self.process(seen).map_or(0, |process| process.threads.into());
        }
        let below = ENTRIES[1..]
            .iter()
            .filter(|entry| self.has(entry) && entry.kind == Kind::Directory);
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

    /// The number of the thread it is about.
    pub fn thread_place(self, seen: Seen<'_>) -> Option<u16> {
        let process = self.place(seen)? as u16;
        threads_of(seen.tasks, seen.processes, process)
            .find(|&task| seen.tasks[usize::from(task)].id == self.thread)
    }

    /// Whether `entry` is in this directory, by a name of its own.
    fn has(self, entry: &Entry) -> bool {
        // The directory of a thread has no threads.
        let inner = self.thread != 0 && entry.name == b"task";
        entry.parent == self.entry && !entry.name.is_empty() && !inner
    }

    /// The descriptors of the process it is about, as long as that has threads.
    fn descriptors(self, seen: Seen<'_>) -> Option<&Descriptors> {
        match self.thread {
            0 => seen.descriptors_of(self.place(seen)?),
            _ => Some(&seen.descriptors[seen.tasks[usize::from(self.thread_place(seen)?)].descriptors]),
        }
    }

    /// What the descriptor it is about means.
    pub fn descriptor(self, seen: Seen<'_>) -> Option<Descriptor> {
        if !matches!(self.entry, DESCRIPTOR | DESCRIPTOR_INFO) {
            return None;
        }
        self.descriptors(seen)?.get(self.fd.into())
    }

    /// Whether it is still there: its process may have ended, or its descriptor been closed.
    pub fn exists(self, seen: Seen<'_>) -> bool {
        if self.pid == 0 {
            return true;
        }
        if let DESCRIPTOR | DESCRIPTOR_INFO = self.entry {
            return self.descriptor(seen).is_some();
        }
        match self.thread {
            0 => self.process(seen).is_some(),
            _ => self.thread_place(seen).is_some(),
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
            ROOT | SYSFS => None,
            PROCESS if self.thread != 0 => Some(Node {
                thread: 0,
                ..self.with_entry(TASKS.into())
            }),
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
            (TASKS, Some(thread)) => Node {
                thread: if thread == 0 { return None } else { thread },
                ..self.with_entry(PROCESS.into())
            },
            (DESCRIPTORS | DESCRIPTOR_INFOS, Some(fd)) => self.of_descriptor(fd)?,
            _ => {
                let known = |entry: &Entry| entry.name == name && self.has(entry);
                self.with_entry(ENTRIES.iter().position(known)?)
            }
        };
        found.exists(seen).then_some(found)
    }

    /// What there is of descriptor `fd` in this directory of descriptors.
    fn of_descriptor(self, fd: u32) -> Option<Node> {
        let entry = match self.entry {
            DESCRIPTORS => DESCRIPTOR,
            _ => DESCRIPTOR_INFO,
        };
        Some(Node {
            fd: u16::try_from(fd).ok()?,
            ..self.with_entry(entry.into())
        })
    }

    /// The first thing in this directory after place `after`, and its own place.
    pub fn next_after(self, after: u64, seen: Seen<'_>) -> Option<(u64, Node)> {
        if !self.exists(seen) {
            return None;
        }
        if let DESCRIPTORS | DESCRIPTOR_INFOS = self.entry {
            let descriptors = self.descriptors(seen)?;
            let fd = (after as u32..descriptors.end()).find(|&fd| descriptors.get(fd).is_some())?;
            return Some((u64::from(fd) + 1, self.of_descriptor(fd)?));
        }
        if self.entry == TASKS {
            // By their ids, which rise: whoever ends meanwhile hides nobody.
            let threads = threads_of(seen.tasks, seen.processes, self.place(seen)? as u16);
            let ids = threads.map(|task| seen.tasks[usize::from(task)].id);
            let thread = ids.filter(|&id| u64::from(id) > after).min()?;
            let node = Node {
                thread,
                ..self.with_entry(PROCESS.into())
            };
            return Some((thread.into(), node));
        }
        let in_table = (after as usize + 1..ENTRIES.len()).find(|&at| self.has(&ENTRIES[at]));
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
            PROCESS if self.thread != 0 => decimal_at_end(self.thread.into(), to),
            PROCESS => decimal_at_end(self.pid.into(), to),
            DESCRIPTOR | DESCRIPTOR_INFO => decimal_at_end(self.fd.into(), to),
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
        let top: &[u8] = if at == Node::SYSFS { b"/sys" } else { b"/proc" };
        start -= at_end(top, &mut to[..start]);
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

    /// Writes the target of any other link to the end of `to`: how long it is. `own` and `thread` are the ids of whoever
    /// looks.
    pub fn target(self, (own, thread): (u32, u32), to: &mut [u8]) -> usize {
        match self.entry().kind {
            Kind::Link(target) => at_end(target, to),
            Kind::OwnDirectory => decimal_at_end(own.into(), to),
            Kind::OwnThread => {
                let end = to.len();
                let mut len = decimal_at_end(thread.into(), to);
                len += at_end(b"/task/", &mut to[..end - len]);
                len + decimal_at_end(own.into(), &mut to[..end - len])
            }
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
