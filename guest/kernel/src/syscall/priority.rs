//! getpriority(2) and setpriority(2): how nice threads are is kept and told, without effect, as all of scheduling is here.

use super::Call;
use crate::process::limits;
use abi::Errno;
use core::ops::Range;

const PRIO_PROCESS: u32 = 0;
const PRIO_PGRP: u32 = 1;
const PRIO_USER: u32 = 2;
/// The system call tells 20 less what nice says, which is never negative.
const UPSIDE_DOWN: i32 = 20;

/// Where to look for tasks that `which` and `who` mean.
fn candidates(call: &mut Call<'_>, which: u32, who: u32) -> Range<u16> {
    let only = match (which, who) {
        (PRIO_PROCESS, 0) => call.task,
        (PRIO_PROCESS, who) => call.kernel.find_task(who).unwrap_or(0),
        _ => return 0..call.kernel.tasks.len() as u16,
    };
    only..only + 1
}

/// Whether `which` and `who` mean task `task`.
fn means(call: &mut Call<'_>, which: u32, who: u32, task: u16) -> bool {
    let own = call.task;
    let entry = &call.kernel.tasks[usize::from(task)];
    let process = &call.kernel.processes[usize::from(entry.process)];
    let (id, group, user) = (entry.id, process.group, process.credentials.uid[0]);
    if id == 0 {
        return false;
    }
    match (which, who) {
        (PRIO_PROCESS, 0) => task == own,
        (PRIO_PROCESS, who) => id == who,
        (PRIO_PGRP, 0) => group == call.process().group,
        (PRIO_PGRP, who) => group == who,
        (_, 0) => user == call.process().credentials.uid[0],
        (_, who) => user == who,
    }
}

/// getpriority(2): of several threads the least nice one's.
pub fn getpriority(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, who, ..] = call.args.map(|word| word as u32);
    if which > PRIO_USER {
        return Err(Errno::EINVAL);
    }
    let mut most = None;
    for task in candidates(call, which, who) {
        if means(call, which, who, task) {
            let nice = i32::from(call.kernel.tasks[usize::from(task)].nice);
            most = most.max(Some(UPSIDE_DOWN - nice));
        }
    }
    most.map(|value| value as u64).ok_or(Errno::ESRCH)
}

/// Whether the caller may make task `task` as nice as that (`can_nice`).
fn can_be(call: &mut Call<'_>, task: u16, nice: i8) -> bool {
    let [most, _] = call.kernel.process(task).limit(limits::NICE);
    (UPSIDE_DOWN - i32::from(nice)) as u64 <= most || call.process().credentials.is_privileged()
}

/// Makes one of the threads that are meant as nice as that (`set_one_prio`).
fn set(call: &mut Call<'_>, task: u16, nice: i8) -> Result<(), Errno> {
    let [real, effective, _] = call.kernel.process(task).credentials.uid;
    let caller = call.process().credentials.uid[1];
    if caller != 0 && caller != real && caller != effective {
        return Err(Errno::EPERM);
    }
    let before = call.kernel.tasks[usize::from(task)].nice;
    if nice < before && !can_be(call, task, nice) {
        return Err(Errno::EACCES);
    }
    call.kernel.tasks[usize::from(task)].nice = nice;
    Ok(())
}

/// setpriority(2): all threads that are meant, as far as they may be changed; the last one that may not says why.
pub fn setpriority(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, who, nice, ..] = call.args.map(|word| word as u32);
    if which > PRIO_USER {
        return Err(Errno::EINVAL);
    }
    let nice = (nice as i32).clamp(-20, 19) as i8;
    let mut result = Err(Errno::ESRCH);
    for task in candidates(call, which, who) {
        if means(call, which, who, task) {
            match set(call, task, nice) {
                Ok(()) if result == Err(Errno::ESRCH) => result = Ok(0),
                Ok(()) => {}
                Err(error) => result = Err(error),
            }
        }
    }
    result
}
