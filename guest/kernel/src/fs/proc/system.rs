//! What `/proc` tells of the guest as a whole.

use super::kept::{Cursor, END, START};
use super::text::Text;
use crate::arch::lent::gpa_of;
use crate::arch::machine::tsc;
use crate::fs::open::MOST_OPEN;
use crate::fs::stat::Device;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use crate::process::task::State;
use crate::time;
use abi::hypercall::{Call as Host, PROC_SHM};
use abi::{Errno, PAGE_SIZE};

/// Segments have places in a table, which their ids give away (`ipc/util.h`).
const SEGMENT_PLACES: u64 = 1 << 15;

/// `/proc/sysvipc/sem`: there are none.
pub const SEMAPHORES: &str =
    "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
/// `/proc/sysvipc/msg`: there are none.
pub const QUEUES: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
/// `/proc/PID/mounts`.
pub const MOUNTS: &str = "tmpfs / tmpfs rw,relatime 0 0\nproc /proc proc rw,relatime 0 0\n\
    sysfs /sys sysfs rw,relatime 0 0\ntmpfs /dev/shm tmpfs rw,relatime 0 0\n";
/// `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
pub fn mount_info(kernel: &Kernel, text: &mut Text<'_>) {
    let tree = kernel.boot().tree_id;
    let mounts = [
        (Device::Tree, "/", "tmpfs tmpfs"),
        (Device::Proc, "/proc", "proc proc"),
        (Device::Sys, "/sys", "sysfs sysfs"),
        (Device::Objects, "/dev/shm", "tmpfs tmpfs"),
    ];
    for (device, at, kind) in mounts {
        text.dec(device.mount())
            .str(" ")
            .dec(Device::Tree.mount())
            .str(" 0:");
        text.dec(tree + device as u64).str(" / ").str(at);
        text.str(" rw,relatime - ").str(kind).str(" rw\n");
    }
}

/// The table of segments from `cursor` on, in whole lines: how long that is, and where it goes on. Cursors are 0 for the
/// first line, then the place of the next segment and 1, so that one which is removed meanwhile hides no other.
///
/// # Errors
/// What the broker says.
pub fn segments(who: Requester, cursor: Cursor, room: &mut [u8]) -> Result<(usize, Cursor), Errno> {
    let args = [PROC_SHM, cursor, gpa_of(room), room.len() as u64];
    let len = (hypercall::call(Host::ProcRead, who, &args)? as usize).min(room.len());
    let text = &room[..len];
    let line = text[..len.saturating_sub(1)]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    // The second column.
    let mut words = text[line..]
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let digits = words.nth(1).unwrap_or_default().iter();
    let id = digits.fold(0u64, |id, digit| {
        id.wrapping_mul(10).wrapping_add((digit & 0x0f).into())
    });
    let next = match (len, line) {
        (0, _) => END,
        (_, 0) if cursor == START => 1,
        _ => id % SEGMENT_PLACES + 2,
    };
    Ok((len, next))
}

/// `/proc/meminfo`.
pub fn memory(kernel: &mut Kernel, text: &mut Text<'_>) {
    let kib = PAGE_SIZE / 1024;
    let frames = &kernel.memory.frames;
    let held = kernel.memory.contents.held() * kib;
    let (total, free) = (frames.total() * kib, frames.free_frames() * kib);
    let lines = [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", free),
        ("Buffers:", 0),
        ("Cached:", held),
        ("SwapCached:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("Shmem:", held),
        ("CommitLimit:", total / 2),
    ];
    let line = |text: &mut Text<'_>, name: &str, value: u64| {
        text.str(name).dec_wide(value, 24 - name.len()).str(" kB\n");
    };
    for (name, value) in lines {
        line(text, name, value);
    }
    text.str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n");
    line(text, "Hugepagesize:", 2048);
}

/// The part of `/proc/cpuinfo` about vCPU `index`; which comes next.
pub fn cpu(kernel: &Kernel, index: Cursor, text: &mut Text<'_>) -> Cursor {
    let khz = kernel.boot().tsc_khz;
    text.str("processor\t: ").dec(index);
    text.str("\nvendor_id\t: Tombolo\nmodel name\t: virtual CPU\ncpu MHz\t\t: ");
    text.dec(khz / 1000).str(".").dec(khz % 1000 / 100).str("00");
    text.str("\ncpu cores\t: ").dec(kernel.vcpus.into());
    text.str(
        "\nflags\t\t: fpu tsc msr cx8 apic cmov mmx fxsr sse sse2 syscall nx lm constant_tsc hypervisor\n\n",
    );
    if index + 1 < kernel.vcpus.into() {
        index + 1
    } else {
        END
    }
}

/// The vCPUs there are (Documentation/admin-guide/cputopology.rst).
pub fn cpu_range(kernel: &Kernel, text: &mut Text<'_>) {
    text.str("0");
    if kernel.vcpus > 1 {
        text.str("-").dec((kernel.vcpus - 1).into());
    }
    text.str("\n");
}

/// `/proc/vmstat`: what is counted of it.
pub fn memory_numbers(kernel: &Kernel, text: &mut Text<'_>) {
    let held = kernel.memory.contents.held();
    let numbers = [
        ("nr_free_pages ", kernel.memory.frames.free_frames()),
        ("nr_file_pages ", held),
        ("nr_shmem ", held),
        ("pswpin ", 0),
        ("pswpout ", 0),
    ];
    for (name, number) in numbers {
        text.str(name).dec(number).str("\n");
    }
}

/// `/proc/sys/fs/file-nr`: open files, none to spare, and the most there can be.
pub fn file_numbers(kernel: &Kernel, text: &mut Text<'_>) {
    let open = kernel.files.open.live();
    text.dec(open.into()).str("\t0\t").dec(MOST_OPEN as u64).str("\n");
}

/// A random number as RFC 9562 has it (version 4).
pub fn uuid(mut random: [u8; 16], text: &mut Text<'_>) {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    for (index, byte) in random.into_iter().enumerate() {
        if let 4 | 6 | 8 | 10 = index {
            text.str("-");
        }
        text.hex(byte.into(), 2);
    }
    text.str("\n");
}

/// `/proc/sys/kernel/random/boot_id`: one number for as long as the guest lives.
pub fn boot_id(kernel: &mut Kernel, text: &mut Text<'_>) {
    if kernel.boot_id == [0; 16] {
        kernel.boot_id = kernel.random();
    }
    uuid(kernel.boot_id, text);
}

/// Nanoseconds since the guest began.
fn since_start() -> u64 {
    time::monotonic()
}

/// Nanoseconds that vCPU `index` has run tasks.
fn busy(kernel: &Kernel, index: u32) -> u64 {
    let now = kernel
        .tasks
        .iter()
        .find(|task| task.state == State::Running && u32::from(task.last_cpu) == index);
    let turn = now.map_or(0, |task| tsc().wrapping_sub(task.since));
    time::nanoseconds(kernel.sched.busy(index) + turn)
}

/// `/proc/stat`. All the time a vCPU does not idle counts as its program's.
pub fn stat(kernel: &mut Kernel, text: &mut Text<'_>) {
    const TICK: u64 = 10_000_000;
    let line = |text: &mut Text<'_>, busy: u64, idle: u64| {
        text.str(" ").dec(busy / TICK).str(" 0 0 ").dec(idle / TICK);
        text.str(" 0 0 0 0 0 0\n");
    };
    let times = |index| {
        let busy = busy(kernel, index);
        (busy, since_start().saturating_sub(busy))
    };
    let all = (0..kernel.vcpus)
        .map(times)
        .fold((0, 0), |(busy, idle), more| (busy + more.0, idle + more.1));
    text.str("cpu ");
    line(text, all.0, all.1);
    for index in 0..kernel.vcpus {
        let (busy, idle) = times(index);
        text.str("cpu").dec(index.into());
        line(text, busy, idle);
    }
    let born = time::realtime().wrapping_sub(time::monotonic()) / time::NS_PER_S;
    let running = kernel
        .tasks
        .iter()
        .filter(|task| matches!(task.state, State::Running | State::Ready));
    let running = running.count() as u64;
    text.str("intr 0\nctxt 0\nbtime ").dec(born);
    text.str("\nprocesses ").dec(kernel.ids.last().into());
    text.str("\nprocs_running ")
        .dec(running)
        .str("\nprocs_blocked 0\n");
}

/// `/proc/uptime`.
pub fn uptime(kernel: &mut Kernel, text: &mut Text<'_>) {
    let now = since_start();
    let busy: u64 = (0..kernel.vcpus).map(|index| busy(kernel, index)).sum();
    let idle = (now * u64::from(kernel.vcpus)).saturating_sub(busy);
    text.hundredths(now).str(" ").hundredths(idle).str("\n");
}

/// `/proc/loadavg`: averages are not kept.
pub fn load_average(kernel: &mut Kernel, text: &mut Text<'_>) {
    let (mut running, mut all) = (0, 0);
    for task in kernel.tasks.iter() {
        all += u64::from(task.state != State::Free);
        running += u64::from(matches!(task.state, State::Running | State::Ready));
    }
    text.str("0.00 0.00 0.00 ").dec(running).str("/").dec(all);
    text.str(" ").dec(kernel.ids.last().into()).str("\n");
}
