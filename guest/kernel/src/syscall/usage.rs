//! How long threads and processes ran, and what the guest has. All of the time counts as the program's own: the kernel's
//! share is not told apart.

use super::Call;
use crate::arch::machine::tsc;
use crate::kernel::Kernel;
use crate::process::task::{State, threads_of};
use crate::time::{self, NS_PER_S};
use abi::clock::id;
use abi::{Errno, PAGE_SIZE};
use zerocopy::{Immutable, IntoBytes};

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;
/// Nanoseconds in a tick of times(2).
const TICK_NS: u64 = NS_PER_S / 100;

/// `struct rusage`: seconds and microseconds of user time; the rest is zero.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub struct Usage {
    seconds: u64,
    microseconds: u64,
    rest: [u64; 16],
}

impl Usage {
    /// Of who ran for so many TSC ticks.
    pub fn new(ticks: u64) -> Usage {
        let ns = time::nanoseconds(ticks);
        Usage {
            seconds: ns / NS_PER_S,
            microseconds: ns % NS_PER_S / 1000,
            rest: [0; 16],
        }
    }
}

/// TSC ticks that task `task` has run.
pub fn of_task(kernel: &Kernel, task: u16) -> u64 {
    let task = &kernel.tasks[usize::from(task)];
    match task.state {
        State::Running => task.ran + tsc().wrapping_sub(task.since),
        _ => task.ran,
    }
}

/// TSC ticks that the threads of process `number` have run, those that have ended included.
pub fn of_process(kernel: &Kernel, number: u16) -> u64 {
    let threads = threads_of(kernel.tasks, kernel.processes, number);
    let living: u64 = threads.map(|task| of_task(kernel, task)).sum();
    living + kernel.processes[usize::from(number)].ran
}

/// getrusage(2).
pub fn getrusage(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [who, to, ..] = call.args;
    let number = call.task().process;
    let ticks = match who as u32 as i32 {
        RUSAGE_SELF => of_process(call.kernel, number),
        RUSAGE_CHILDREN => call.process().children_ran,
        RUSAGE_THREAD => of_task(call.kernel, call.task),
        _ => return Err(Errno::EINVAL),
    };
    call.write(to, &Usage::new(ticks))?;
    Ok(0)
}

/// times(2).
pub fn times(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, ..] = call.args;
    let number = call.task().process;
    let ticks = |tsc_ticks| time::nanoseconds(tsc_ticks) / TICK_NS;
    let own = ticks(of_process(call.kernel, number));
    let children = ticks(call.process().children_ran);
    call.write_if(to, &[own, 0, children, 0])?;
    Ok(time::monotonic() / TICK_NS)
}

/// `struct sysinfo`.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct SystemInfo {
    uptime: u64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    /// Shared, buffers; swap, all and free.
    others: [u64; 4],
    threads: u16,
    padding: [u16; 3],
    high: [u64; 2],
    unit: u32,
    end: u32,
}

/// sysinfo(2): of this guest, but that the clock it has been up by is the host's. Load is told as zero.
pub fn sysinfo(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, ..] = call.args;
    let tasks = call.kernel.tasks.iter();
    let info = SystemInfo {
        uptime: time::read(id::BOOTTIME).unwrap_or_default().div_ceil(NS_PER_S),
        total_ram: call.kernel.memory.frames.total() * PAGE_SIZE,
        free_ram: call.kernel.memory.frames.free_frames() * PAGE_SIZE,
        threads: tasks.filter(|task| task.state != State::Free).count() as u16,
        unit: 1,
        ..SystemInfo::default()
    };
    call.write(to, &info)?;
    Ok(0)
}
