//! Where and how threads are to run. Where is done; how (policy and priority) is kept and told, without effect: every
//! thread has its turn.

use super::Call;
use super::time::Timespec;
use crate::process::limits;
use crate::process::sched::TURN_NS;
use abi::Errno;

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;
/// Policies that Linux gives priorities for, but takes by other calls only.
const SCHED_DEADLINE: u32 = 6;
const SCHED_EXT: u32 = 7;
/// Largest priority of SCHED_FIFO and SCHED_RR.
const MOST_PRIORITY: u32 = 99;
/// Linux's turn of SCHED_RR.
const RR_TURN_NS: u64 = 100_000_000;
/// Size of the kernel's CPU sets in bytes: one word, since there are at most 16 vCPUs.
const CPU_SET: u64 = 8;

fn is_realtime(policy: u32) -> bool {
    matches!(policy, SCHED_FIFO | SCHED_RR)
}

/// The task with id `id`, the caller itself for 0.
fn target(call: &mut Call<'_>, id: u64) -> Result<u16, Errno> {
    match id as u32 {
        0 => Ok(call.task),
        id if id == call.task().id => Ok(call.task),
        id => call.kernel.find_task(id).ok_or(Errno::ESRCH),
    }
}

/// May the caller say how task `target` runs? (Its effective user is the target's real or effective one; else it takes
/// CAP_SYS_NICE.)
fn may(call: &mut Call<'_>, target: u16) -> bool {
    let user = call.process().credentials.uid[1];
    let [real, effective, _] = call.kernel.process(target).credentials.uid;
    user == 0 || user == real || user == effective
}

/// sched_yield(2).
pub fn sched_yield(call: &mut Call<'_>) -> Result<u64, Errno> {
    call.kernel.yield_now(call.cpu, call.task);
    Ok(0)
}

/// sched_getaffinity(2): returns the size of the kernel's set.
pub fn sched_getaffinity(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, len, set, ..] = call.args;
    if len < CPU_SET || len % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(call, id)?;
    let mask = u64::from(call.kernel.tasks[usize::from(target)].affinity);
    call.write(set, &mask)?;
    Ok(CPU_SET)
}

/// sched_setaffinity(2): for the caller itself it takes effect before it returns.
pub fn sched_setaffinity(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, len, set, ..] = call.args;
    let mut bytes = [0u8; 8];
    let take = (len as usize).min(bytes.len());
    call.with_space(|space, memory, world| space.read(memory, world, set, &mut bytes[..take]))?;
    let target = target(call, id)?;
    if !may(call, target) {
        return Err(Errno::EPERM);
    }
    let all = u32::MAX >> (32 - call.kernel.vcpus);
    let mask = u64::from_le_bytes(bytes) as u32 & all;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    call.kernel.set_affinity(call.cpu, target, mask);
    Ok(0)
}

/// Where `struct sched_param`, a priority, is, and whose.
fn parameter(call: &mut Call<'_>, id: u64, at: u64) -> Result<u32, Errno> {
    if at == 0 || (id as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    call.read(at)
}

fn set(call: &mut Call<'_>, id: u64, policy: Option<u32>, priority: u32) -> Result<u64, Errno> {
    let target = target(call, id)?;
    let before = u32::from(call.kernel.tasks[usize::from(target)].policy);
    let policy = policy.unwrap_or(before);
    let known = matches!(policy, SCHED_OTHER | SCHED_BATCH | SCHED_IDLE) || is_realtime(policy);
    if !known || priority > MOST_PRIORITY || is_realtime(policy) != (priority != 0) {
        return Err(Errno::EINVAL);
    }
    let root = call.process().credentials.is_privileged();
    let [most, _] = call.kernel.process(target).limit(limits::RTPRIO);
    let raised = is_realtime(policy) && (most == 0 || u64::from(priority) > most);
    // From SCHED_IDLE it takes the right to be as nice as it is.
    let nice = i64::from(call.kernel.tasks[usize::from(target)].nice);
    let [least, _] = call.kernel.process(target).limit(limits::NICE);
    let woken = before == SCHED_IDLE && policy != SCHED_IDLE && (20 - nice) as u64 > least;
    if !root && (raised || woken || !may(call, target)) {
        return Err(Errno::EPERM);
    }
    let entry = &mut call.kernel.tasks[usize::from(target)];
    (entry.policy, entry.priority) = (policy as u8, priority as u8);
    Ok(0)
}

/// sched_setscheduler(2). SCHED_RESET_ON_FORK is not known.
pub fn sched_setscheduler(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, policy, from, ..] = call.args;
    if (policy as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = parameter(call, id, from)?;
    set(call, id, Some(policy as u32), priority)
}

/// sched_setparam(2).
pub fn sched_setparam(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, from, ..] = call.args;
    let priority = parameter(call, id, from)?;
    set(call, id, None, priority)
}

/// sched_getscheduler(2).
pub fn sched_getscheduler(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, ..] = call.args;
    if (id as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(call, id)?;
    Ok(u64::from(call.kernel.tasks[usize::from(target)].policy))
}

/// sched_getparam(2).
pub fn sched_getparam(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, to, ..] = call.args;
    if to == 0 || (id as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(call, id)?;
    let priority = u32::from(call.kernel.tasks[usize::from(target)].priority);
    call.write(to, &priority)?;
    Ok(0)
}

/// sched_get_priority_max(2) and sched_get_priority_min(2): what it is for the policies that have priorities is `value`.
pub fn priority_bound(call: &mut Call<'_>, value: u64) -> Result<u64, Errno> {
    match call.args[0] as u32 {
        policy if is_realtime(policy) => Ok(value),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE | SCHED_EXT => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_rr_get_interval(2).
pub fn sched_rr_get_interval(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, to, ..] = call.args;
    if (id as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(call, id)?;
    let turn = match u32::from(call.kernel.tasks[usize::from(target)].policy) {
        SCHED_FIFO => 0,
        SCHED_RR => RR_TURN_NS,
        _ => TURN_NS,
    };
    call.write(to, &Timespec::new(turn))?;
    Ok(0)
}
