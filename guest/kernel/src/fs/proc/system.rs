//! What `/proc` tells of the guest as a whole.

use super::text::Text;
use crate::kernel::Kernel;
use crate::process::task::State;
use crate::time;
use abi::PAGE_SIZE;

/// `/proc/sysvipc/sem`: there are none.
pub const SEMAPHORES: &str =
    "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
/// `/proc/sysvipc/msg`: there are none.
pub const QUEUES: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
/// `/proc/PID/mounts`.
pub const MOUNTS: &str = "tmpfs / tmpfs rw 0 0\nproc /proc proc rw 0 0\n";

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

/// `/proc/cpuinfo`.
pub fn cpus(kernel: &mut Kernel, text: &mut Text<'_>) {
    let khz = kernel.boot().tsc_khz;
    for index in 0..u64::from(kernel.vcpus) {
        text.str("processor\t: ").dec(index);
        text.str("\nvendor_id\t: Tombolo\nmodel name\t: virtual CPU\ncpu MHz\t\t: ");
        text.dec(khz / 1000).str(".").dec(khz % 1000 / 100).str("00");
        text.str("\ncpu cores\t: ").dec(kernel.vcpus.into());
        text.str("\nflags\t\t: fpu tsc msr cx8 apic cmov mmx fxsr sse sse2 syscall nx lm constant_tsc hypervisor\n\n");
    }
}

/// Nanoseconds since the guest began.
fn since_start() -> u64 {
    time::monotonic()
}

/// Nanoseconds all tasks that still live have run.
fn ran(kernel: &Kernel) -> u64 {
    let ticks = kernel
        .tasks
        .iter()
        .filter(|task| task.state != State::Free)
        .map(|task| task.ran)
        .sum();
    time::nanoseconds(ticks)
}

/// `/proc/stat`. Which vCPU ran what is not known; all is told of the first.
pub fn stat(kernel: &mut Kernel, text: &mut Text<'_>) {
    const TICK: u64 = 10_000_000;
    let all = since_start() / TICK * u64::from(kernel.vcpus);
    let busy = ran(kernel) / TICK;
    let line = |text: &mut Text<'_>, user: u64, idle: u64| {
        text.str(" ")
            .dec(user)
            .str(" 0 0 ")
            .dec(idle)
            .str(" 0 0 0 0 0 0\n");
    };
    text.str("cpu ");
    line(text, busy, all.saturating_sub(busy));
    for index in 0..u64::from(kernel.vcpus) {
        text.str("cpu").dec(index);
        let user = if index == 0 { busy } else { 0 };
        line(text, user, (since_start() / TICK).saturating_sub(user));
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
    let idle = (now * u64::from(kernel.vcpus)).saturating_sub(ran(kernel));
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
