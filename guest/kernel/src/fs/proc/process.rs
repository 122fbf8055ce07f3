//! What `/proc` tells of one process.

use super::text::Text;
use crate::kernel::Kernel;
use crate::mm::MemoryUse;
use crate::mm::{AddressSpace, Memory};
use crate::process::NOBODY;
use crate::process::limits::COUNT;
use crate::process::task::{NAME, State, Task, threads_of};
use crate::syscall::usage;
use crate::time;
use abi::PAGE_SIZE;

/// A hundredth of a second: what times are told in (USER_HZ).
const TICK: u64 = 10_000_000;
/// The process outside that started everyone.
const INIT: u64 = 1;

/// What the first thread of process `number` is called; nothing once it has ended.
pub fn command(kernel: &Kernel, number: usize) -> &[u8] {
    let pid = kernel.processes[number].pid;
    let Some(leader) = tasks(kernel, number).find(|task| task.id == pid) else {
        return b"";
    };
    let len = leader.name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
    &leader.name[..len]
}

/// The memory of process `number`, as long as it has threads.
fn space(kernel: &Kernel, number: usize) -> Option<&AddressSpace> {
    let space = tasks(kernel, number).next()?.space;
    Some(&kernel.spaces[space])
}

/// The memory of process `number`, and all memory.
pub fn memory_of(kernel: &Kernel, number: usize) -> Option<(&AddressSpace, &Memory)> {
    Some((space(kernel, number)?, &kernel.memory))
}

/// The threads of process `number`.
fn tasks(kernel: &Kernel, number: usize) -> impl Iterator<Item = &Task> {
    threads_of(kernel.tasks, kernel.processes, number as u16).map(|task| &kernel.tasks[usize::from(task)])
}

/// Its oldest thread.
fn leader(kernel: &Kernel, number: usize) -> Option<&Task> {
    tasks(kernel, number).last()
}

/// Its state: a letter, and what that stands for.
fn state(kernel: &Kernel, number: usize) -> (&'static str, &'static str) {
    if !kernel.processes[number].lives() {
        return ("Z", "zombie");
    }
    if kernel.processes[number].stopped {
        return ("T", "stopped");
    }
    let runs = |task: &Task| matches!(task.state, State::Running | State::Ready);
    if tasks(kernel, number).any(runs) {
        ("R", "running")
    } else {
        ("S", "sleeping")
    }
}

fn parent(kernel: &Kernel, number: usize) -> u64 {
    match kernel.processes[number].parent {
        NOBODY => INIT,
        parent => kernel.processes[usize::from(parent)].pid.into(),
    }
}

/// Signals it ignores, and those it has handlers for.
fn actions(kernel: &Kernel, number: usize) -> (u64, u64) {
    let process = &kernel.processes[number];
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

fn memory_use(kernel: &Kernel, number: usize) -> MemoryUse {
    space(kernel, number)
        .map(|space| space.memory_use(&kernel.memory))
        .unwrap_or_default()
}

/// `/proc/PID/stat` (proc_pid_stat(5)). What is not known is 0.
pub fn stat(kernel: &mut Kernel, number: usize, text: &mut Text<'_>) {
    let process = &kernel.processes[number];
    text.dec(process.pid.into()).str(" (");
    text.bytes(command(kernel, number)).str(") ");
    text.str(state(kernel, number).0);
    let used = memory_use(kernel, number);
    let layout = space(kernel, number)
        .map(|space| space.layout())
        .unwrap_or_default();
    let ran = usage::of_process(kernel, number as u16);
    let (mut pending, mut blocked, mut cpu) = (0, 0, 0);
    if let Some(task) = leader(kernel, number) {
        (pending, blocked, cpu) = (task.pending.set(), task.blocked, task.last_cpu);
    }
    let (ignored, caught) = actions(kernel, number);
    let known = (1 << 31) - 1;
    let fields = [
        parent(kernel, number),
        process.group.into(),
        process.session.into(),
    ];
    for field in fields {
        text.str(" ").dec(field);
    }
    // No terminal; flags and faults.
    text.str(" 0 -1 0 0 0 0 0");
    let threads = tasks(kernel, number).count() as u64;
    let (user, no) = (time::nanoseconds(ran) / TICK, 0);
    let fields = [
        [user, no, no, no, 20, no, threads, no],
        [
            no,
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
pub fn memory(kernel: &mut Kernel, number: usize, text: &mut Text<'_>) {
    let used = memory_use(kernel, number);
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
pub fn status(kernel: &mut Kernel, number: usize, text: &mut Text<'_>) {
    let process = &kernel.processes[number];
    text.str("Name:\t").bytes(command(kernel, number));
    text.str("\nUmask:\t").oct(process.umask.into(), 4);
    let (letter, word) = state(kernel, number);
    text.str("\nState:\t")
        .str(letter)
        .str(" (")
        .str(word)
        .str(")\nTgid:\t");
    text.dec(process.pid.into())
        .str("\nNgid:\t0\nPid:\t")
        .dec(process.pid.into());
    text.str("\nPPid:\t")
        .dec(parent(kernel, number))
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
        .descriptors_of(number)
        .map_or(0, |descriptors| descriptors.end());
    text.str("FDSize:\t")
        .dec(u64::from(open.max(64).next_power_of_two()));
    text.str("\nGroups:\t");
    for group in credentials.groups() {
        text.dec((*group).into()).str(" ");
    }
    text.str("\n");
    if process.lives() {
        let used = memory_use(kernel, number);
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
    let threads = tasks(kernel, number).count() as u64;
    text.str("Threads:\t").dec(threads.max(1)).str("\n");
    let (mut pending, mut blocked, mut cpus) = (0, 0, 0);
    if let Some(task) = leader(kernel, number) {
        (pending, blocked, cpus) = (task.pending.set(), task.blocked, task.affinity);
    }
    let (ignored, caught) = actions(kernel, number);
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
}

/// The arguments or environment, as they lie in the process's memory now.
pub fn strings(kernel: &mut Kernel, number: usize, which: Strings, text: &mut Text<'_>) {
    let Some(space) = space(kernel, number) else {
        return;
    };
    let layout = space.layout();
    let (mut at, end) = match which {
        Strings::Arguments => layout.arguments,
        Strings::Environment => layout.environment,
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
pub fn limits(kernel: &mut Kernel, number: usize, text: &mut Text<'_>) {
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
        for value in kernel.processes[number].limit(which) {
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
