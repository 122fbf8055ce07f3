//! What `/proc` tells of one process, or of one of its threads.

use super::Node;
use super::text::Text;
use crate::arch::machine::tsc;
use crate::kernel::Kernel;
use crate::mm::MemoryUse;
use crate::mm::{AddressSpace, Memory};
use crate::process::limits::COUNT;
use crate::process::task::{NAME, State, Task, threads_of};
use crate::process::{NOBODY, Process};
use crate::syscall::usage;
use crate::time;
use abi::{Errno, PAGE_SIZE};

/// A hundredth of a second: what times are told in (USER_HZ).
const TICK: u64 = 10_000_000;
/// The process outside that started everyone.
const INIT: u64 = 1;

/// Whom a text is about, by numbers in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The process.
    pub process: usize,
    /// One of its threads, in `/proc/PID/task/TID`.
    pub thread: Option<u16>,
}

/// Whom `node` is about.
///
/// # Errors
/// ESRCH if it has ended.
pub fn subject(kernel: &Kernel, node: Node) -> Result<Subject, Errno> {
    let process = node.place(kernel.seen()).ok_or(Errno::ESRCH)?;
    let thread = match node.thread() {
        0 => None,
        _ => Some(node.thread_place(kernel.seen()).ok_or(Errno::ESRCH)?),
    };
    Ok(Subject { process, thread })
}

/// The process it is about.
fn process(kernel: &Kernel, subject: Subject) -> &Process {
    &kernel.processes[subject.process]
}

/// What the thread is called, or the first one of the process; nothing once that has ended.
pub fn command(kernel: &Kernel, subject: Subject) -> &[u8] {
    let first = |task: &&Task| task.id == process(kernel, subject).pid;
    let named = match subject.thread {
        Some(thread) => Some(&kernel.tasks[usize::from(thread)]),
        None => tasks(kernel, subject).find(first),
    };
    let Some(task) = named else {
        return b"";
    };
    let len = task.name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
    &task.name[..len]
}

/// The name as `status` tells it: on one line.
fn escaped(kernel: &Kernel, subject: Subject, text: &mut Text<'_>) {
    for &byte in command(kernel, subject) {
        match byte {
            b'\n' => text.str("\\n"),
            b'\\' => text.str("\\\\"),
            _ => text.bytes(&[byte]),
        };
    }
}

/// The memory of a process, as long as it has threads.
fn space(kernel: &Kernel, subject: Subject) -> Option<&AddressSpace> {
    let space = tasks(kernel, subject).next()?.space;
    Some(&kernel.spaces[space])
}

/// The memory of a process, as long as it has threads, and all memory.
pub fn memory_of(kernel: &Kernel, subject: Subject) -> Option<(&AddressSpace, &Memory)> {
    Some((space(kernel, subject)?, &kernel.memory))
}

/// The threads of the process.
fn tasks(kernel: &Kernel, subject: Subject) -> impl Iterator<Item = &Task> {
    threads_of(kernel.tasks, kernel.processes, subject.process as u16)
        .map(|task| &kernel.tasks[usize::from(task)])
}

/// The thread it is about, or the oldest one of the process.
fn task(kernel: &Kernel, subject: Subject) -> Option<&Task> {
    match subject.thread {
        Some(thread) => Some(&kernel.tasks[usize::from(thread)]),
        None => tasks(kernel, subject).last(),
    }
}

/// Its state, which is the thread's, or the first one's of the process (fs/proc/array.c): a letter, and what that stands
/// for.
fn state(kernel: &Kernel, subject: Subject) -> (&'static str, &'static str) {
    if !process(kernel, subject).lives() {
        return ("Z", "zombie");
    }
    if process(kernel, subject).stopped {
        return ("T", "stopped");
    }
    let id = own_id(kernel, subject);
    let whose = tasks(kernel, subject).find(|task| task.id == id);
    match whose.map(|task| task.state) {
        // It has ended, and stays a name for the others.
        None => ("Z", "zombie"),
        Some(State::Running | State::Ready) => ("R", "running"),
        Some(_) => ("S", "sleeping"),
    }
}

/// The number of the thread, or of the process.
fn own_id(kernel: &Kernel, subject: Subject) -> u32 {
    match subject.thread {
        Some(thread) => kernel.tasks[usize::from(thread)].id,
        None => process(kernel, subject).pid,
    }
}

fn parent(kernel: &Kernel, subject: Subject) -> u64 {
    match process(kernel, subject).parent {
        NOBODY => INIT,
        parent => kernel.processes[usize::from(parent)].pid.into(),
    }
}

/// Signals it ignores, and those it has handlers for.
fn actions(kernel: &Kernel, subject: Subject) -> (u64, u64) {
    let process = process(kernel, subject);
    if !process.lives() {
        return (0, 0);
    }
    let actions = &kernel.actions[process.actions];
    let (mut ignored, mut caught) = (0, 0);
    for signal in 1..=64u32 {
        match actions.get(signal)[0] {
            0 => {}
            1 => ignored |= 1 << (signal - 1),
            _ => caught |= 1 << (signal - 1),
        }
    }
    (ignored, caught)
}

fn memory_use(kernel: &Kernel, subject: Subject) -> MemoryUse {
    space(kernel, subject)
        .map(|space| space.memory_use(&kernel.memory))
        .unwrap_or_default()
}

/// `/proc/PID/stat` (proc_pid_stat(5)). What is not known is 0.
pub fn stat(kernel: &mut Kernel, subject: Subject, text: &mut Text<'_>) {
    let process = process(kernel, subject);
    text.dec(own_id(kernel, subject).into()).str(" (");
    text.bytes(command(kernel, subject)).str(") ");
    text.str(state(kernel, subject).0);
    let used = memory_use(kernel, subject);
    let layout = space(kernel, subject)
        .map(|space| space.layout())
        .unwrap_or_default();
    let ran = match subject.thread {
        Some(thread) => usage::of_task(kernel, thread),
        None => usage::of_process(kernel, subject.process as u16),
    };
    let ticks = |tsc: u64| time::nanoseconds(tsc) / TICK;
    let (mut pending, mut blocked, mut cpu) = (0, 0, 0);
    if let Some(task) = task(kernel, subject) {
        (pending, blocked, cpu) = (task.pending.set(), task.blocked, task.last_cpu);
    }
    let (ignored, caught) = actions(kernel, subject);
    // As the clock that counts from the host's start has it.
    let born = subject
        .thread
        .map_or(process.born, |thread| kernel.tasks[usize::from(thread)].born);
    let began = (time::monotonic() - time::nanoseconds(tsc().wrapping_sub(born))) / TICK;
    let known = (1 << 31) - 1;
    let fields = [
        parent(kernel, subject),
        process.group.into(),
        process.session.into(),
    ];
    for field in fields {
        text.str(" ").dec(field);
    }
    // No terminal; flags and faults.
    text.str(" 0 -1 0 0 0 0 0");
    let threads = tasks(kernel, subject).count() as u64;
    let (user, no) = (ticks(ran), 0);
    let fields = [
        [user, no, ticks(process.children_ran), no, 20, no, threads, no],
        [
            began,
            used.bytes,
            used.resident / PAGE_SIZE,
            process.limit(5)[0],
            no,
            no,
            layout.stack,
            no,
        ],
        [
            no,
            pending & known,
            blocked & known,
            ignored & known,
            caught & known,
            no,
            no,
            no,
        ],
        [17, cpu.into(), no, no, no, no, no, no],
        [
            no,
            layout.brk,
            layout.arguments.0,
            layout.arguments.1,
            layout.environment.0,
            layout.environment.1,
            no,
            no,
        ],
    ];
    for field in fields.as_flattened().iter().take(39) {
        text.str(" ").dec(*field);
    }
    text.str("\n");
}

/// `/proc/PID/statm`: pages.
pub fn memory(kernel: &mut Kernel, subject: Subject, text: &mut Text<'_>) {
    let used = memory_use(kernel, subject);
    let pages = [used.bytes, used.resident, used.shared, used.code, 0, used.data, 0];
    for (index, bytes) in pages.into_iter().enumerate() {
        if index > 0 {
            text.str(" ");
        }
        text.dec(bytes / PAGE_SIZE);
    }
    text.str("\n");
}

/// `/proc/PID/status`.
pub fn status(kernel: &mut Kernel, subject: Subject, text: &mut Text<'_>) {
    let process = process(kernel, subject);
    text.str("Name:\t");
    escaped(kernel, subject, text);
    text.str("\nUmask:\t").oct(process.umask.into(), 4);
    let (letter, word) = state(kernel, subject);
    text.str("\nState:\t")
        .str(letter)
        .str(" (")
        .str(word)
        .str(")\nTgid:\t");
    text.dec(process.pid.into())
        .str("\nNgid:\t0\nPid:\t")
        .dec(own_id(kernel, subject).into());
    text.str("\nPPid:\t")
        .dec(parent(kernel, subject))
        .str("\nTracerPid:\t0\n");
    let credentials = &process.credentials;
    for (name, ids, fs) in [
        ("Uid:", credentials.uid, credentials.fs[0]),
        ("Gid:", credentials.gid, credentials.fs[1]),
    ] {
        text.str(name);
        for id in [ids[0], ids[1], ids[2], fs] {
            text.str("\t").dec(id.into());
        }
        text.str("\n");
    }
    let open = kernel
        .seen()
        .descriptors_of(subject.process)
        .map_or(0, |descriptors| descriptors.end());
    text.str("FDSize:\t")
        .dec(u64::from(open.max(64).next_power_of_two()));
    text.str("\nGroups:\t");
    for group in credentials.groups() {
        text.dec((*group).into()).str(" ");
    }
    text.str("\n");
    if process.lives() {
        let used = memory_use(kernel, subject);
        let lines = [
            ("VmPeak:\t", used.bytes),
            ("VmSize:\t", used.bytes),
            ("VmLck:\t", used.locked),
            ("VmPin:\t", 0),
            ("VmHWM:\t", used.resident),
            ("VmRSS:\t", used.resident),
            ("VmData:\t", used.data),
            ("VmStk:\t", used.stack),
            ("VmExe:\t", used.code),
            ("VmSwap:\t", 0),
        ];
        for (name, bytes) in lines {
            text.str(name).dec_wide(bytes / 1024, 8).str(" kB\n");
        }
    }
    let threads = tasks(kernel, subject).count() as u64;
    text.str("Threads:\t").dec(threads.max(1)).str("\n");
    let (mut pending, mut blocked, mut cpus) = (0, 0, 0);
    if let Some(task) = task(kernel, subject) {
        (pending, blocked, cpus) = (task.pending.set(), task.blocked, task.affinity);
    }
    let (ignored, caught) = actions(kernel, subject);
    let sets = [
        ("SigPnd:\t", pending),
        ("ShdPnd:\t", process.pending.set()),
        ("SigBlk:\t", blocked),
        ("SigIgn:\t", ignored),
        ("SigCgt:\t", caught),
    ];
    for (name, set) in sets {
        text.str(name).hex(set, 16).str("\n");
    }
    // Capabilities follow the user ids.
    let all = 0x1ff_ffff_ffff;
    let (permitted, effective) = (credentials.uid.contains(&0), credentials.is_privileged());
    for (name, has) in [
        ("CapInh:\t", false),
        ("CapPrm:\t", permitted),
        ("CapEff:\t", effective),
        ("CapBnd:\t", true),
        ("CapAmb:\t", false),
    ] {
        text.str(name).hex(if has { all } else { 0 }, 16).str("\n");
    }
    text.str("NoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed:\t")
        .hex(cpus.into(), 1)
        .str("\n");
}

/// Which of the strings on its stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Strings {
    /// `/proc/PID/cmdline`.
    Arguments,
    /// `/proc/PID/environ`.
    Environment,
    /// `/proc/PID/auxv`, which is none.
    Auxiliary,
}

/// The arguments, the environment or the auxiliary vector, as they lie in the process's memory now.
pub fn strings(kernel: &mut Kernel, subject: Subject, which: Strings, text: &mut Text<'_>) {
    let Some(space) = space(kernel, subject) else {
        return;
    };
    let layout = space.layout();
    let (mut at, end) = match which {
        Strings::Arguments => layout.arguments,
        Strings::Environment => layout.environment,
        Strings::Auxiliary => layout.auxiliary,
    };
    let mut piece = [0; 64];
    while at < end && !text.is_full() {
        let len = ((end - at) as usize).min(piece.len());
        let got = space.peek(&kernel.memory, at, &mut piece[..len]);
        text.bytes(&piece[..got]);
        at += len as u64;
    }
}

/// `/proc/PID/limits`.
pub fn limits(kernel: &mut Kernel, subject: Subject, text: &mut Text<'_>) {
    const NAMES: [(&str, &str); COUNT] = [
        ("cpu time", "seconds"),
        ("file size", "bytes"),
        ("data size", "bytes"),
        ("stack size", "bytes"),
        ("core file size", "bytes"),
        ("resident set", "bytes"),
        ("processes", "processes"),
        ("open files", "files"),
        ("locked memory", "bytes"),
        ("address space", "bytes"),
        ("file locks", "locks"),
        ("pending signals", "signals"),
        ("msgqueue size", "bytes"),
        ("nice priority", ""),
        ("realtime priority", ""),
        ("realtime timeout", "us"),
    ];
    let spaces = "                          ";
    text.str("Limit                     Soft Limit           Hard Limit           Units     \n");
    let column = |text: &mut Text<'_>, len: usize, width: usize| {
        text.str(&spaces[..width.saturating_sub(len)]);
    };
    for (which, (name, unit)) in NAMES.into_iter().enumerate() {
        text.str("Max ").str(name);
        column(text, name.len() + 4, 26);
        for value in process(kernel, subject).limit(which) {
            let mut digits = [0; 20];
            let len = if value == u64::MAX {
                text.str("unlimited");
                9
            } else {
                let len = super::decimal_at_end(value, &mut digits);
                text.bytes(&digits[20 - len..]);
                len
            };
            column(text, len, 21);
        }
        text.str(unit);
        column(text, unit.len(), 10);
        text.str("\n");
    }
}
