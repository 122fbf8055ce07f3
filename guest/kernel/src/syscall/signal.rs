//! Signal actions and masks, recorded; sending signals, which act by default.

use super::Call;
use crate::process::signal::{self, LAST, SIGKILL, SIGSTOP, UNBLOCKABLE};
use crate::process::{Action, Process};
use abi::Errno;

/// Bytes of the kernel's signal set.
const SET: u64 = 8;
const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;
const SS_DISABLE: u64 = 2;
const SS_AUTODISARM: u64 = 1 << 31;
/// Smallest alternate stack, bytes (MINSIGSTKSZ).
const MINSIGSTKSZ: u64 = 2048;

fn valid(number: u64) -> Result<u32, Errno> {
    let number = number as u32;
    if (1..=LAST).contains(&number) {
        Ok(number)
    } else {
        Err(Errno::EINVAL)
    }
}

/// rt_sigaction(2).
pub fn sigaction(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [number, new, old, size, ..] = call.args;
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let new: Option<Action> = if new == 0 { None } else { Some(call.read(new)?) };
    let number = valid(number)?;
    if new.is_some() && (number == SIGKILL || number == SIGSTOP) {
        return Err(Errno::EINVAL);
    }
    let before = call.process().action(number);
    if let Some(mut action) = new {
        let [.., mask] = &mut action;
        *mask &= !UNBLOCKABLE;
        call.process().set_action(number, action);
    }
    call.write_if(old, &before)?;
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn sigprocmask(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [how, new, old, size, ..] = call.args;
    if size != SET {
        return Err(Errno::EINVAL);
    }
    let before = call.task().blocked;
    if new != 0 {
        let set: u64 = call.read(new)?;
        let mask = match how as u32 as u64 {
            SIG_BLOCK => before | set,
            SIG_UNBLOCK => before & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        call.task().blocked = mask & !UNBLOCKABLE;
        signal::mask_changed(call.kernel, call.cpu, call.task);
    }
    call.write_if(old, &before)?;
    Ok(0)
}

/// rt_sigpending(2).
pub fn sigpending(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, size, ..] = call.args;
    if size > SET {
        return Err(Errno::EINVAL);
    }
    let pending = call.task().pending | call.process().pending;
    let bytes = (pending & call.task().blocked).to_le_bytes();
    call.write(to, &bytes[..size as usize])?;
    Ok(0)
}

/// sigaltstack(2). `stack_t` is address, flags (32 bits, padded), size.
pub fn sigaltstack(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [new, old, ..] = call.args;
    let new: Option<[u64; 3]> = if new == 0 { None } else { Some(call.read(new)?) };
    let mut before = call.task().alternate_stack;
    if before[2] == 0 {
        before[1] = SS_DISABLE;
    }
    if let Some([address, flags, size]) = new {
        let flags = flags & u64::from(u32::MAX);
        call.task().alternate_stack = match flags & !SS_AUTODISARM {
            SS_DISABLE => [0, 0, 0],
            0 | 1 if size < MINSIGSTKSZ => return Err(Errno::ENOMEM),
            0 | 1 => [address, flags & SS_AUTODISARM, size],
            _ => return Err(Errno::EINVAL),
        };
    }
    call.write_if(old, &before)?;
    Ok(0)
}

/// May the caller send signals to process `target`? (kill(2): the sender's real or effective user id is the
/// target's real or saved one.)
fn may(call: &mut Call<'_>, target: u16) -> bool {
    let sender = call.process().credentials.uid;
    let [real, _, saved] = call.kernel.processes[usize::from(target)].credentials.uid;
    sender[1] == 0 || sender[..2].iter().any(|&id| id == real || id == saved)
}

/// The process outside that everyone descends from.
const INIT: u32 = 1;

/// Checks whether the caller could send `number` to process `target`. The order of errors is Linux's: no such process, no
/// such signal, no permission.
fn check(call: &mut Call<'_>, target: u16, number: u64) -> Result<(), Errno> {
    if number as u32 > LAST {
        Err(Errno::EINVAL)
    } else if !may(call, target) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

/// Sends `number` to process `target`; 0 only asks whether it could. One that has ended takes anything.
fn send(call: &mut Call<'_>, target: u16, number: u64) -> Result<(), Errno> {
    check(call, target, number)?;
    if number as u32 != 0 && call.kernel.processes[usize::from(target)].lives() {
        signal::send_to_process(call.kernel, call.cpu, target, number as u32);
    }
    Ok(())
}

/// What anyone may ask of init, which is outside: it takes what only root may send, and nothing comes of it.
fn send_to_init(call: &mut Call<'_>, number: u64) -> Result<u64, Errno> {
    match number as u32 {
        number if number > LAST => Err(Errno::EINVAL),
        _ if call.process().credentials.is_privileged() => Ok(0),
        _ => Err(Errno::EPERM),
    }
}

/// Sends to the process with id `pid`, or the one that has a thread with this id.
fn send_to(call: &mut Call<'_>, pid: u32, number: u64) -> Result<u64, Errno> {
    if pid == INIT {
        return send_to_init(call, number);
    }
    let target = call.kernel.find_process_of(pid).ok_or(Errno::ESRCH)?;
    send(call, target, number).map(|()| 0)
}

/// Sends to the thread with id `id`, if `group` is none or its process's.
fn send_to_thread(call: &mut Call<'_>, group: Option<u32>, id: u32, number: u64) -> Result<u64, Errno> {
    if id == INIT && group.is_none_or(|group| group == INIT) {
        return send_to_init(call, number);
    }
    let target = call.kernel.find_process_of(id).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| group != call.kernel.processes[usize::from(target)].pid) {
        return Err(Errno::ESRCH);
    }
    check(call, target, number)?;
    // A first thread that has ended is there as long as its process, and takes anything.
    if number as u32 != 0
        && let Some(task) = call.kernel.find_task(id)
    {
        signal::send(call.kernel, call.cpu, task, number as u32);
    }
    Ok(0)
}

/// Sends to every process `meant` accepts. Succeeds if one took it.
fn send_to_all(call: &mut Call<'_>, number: u64, meant: impl Fn(&Process) -> bool) -> Result<u64, Errno> {
    let mut result = Err(Errno::ESRCH);
    for target in 0..call.kernel.processes.len() as u16 {
        let process = &call.kernel.processes[usize::from(target)];
        if process.pid == 0 || !meant(process) {
            continue;
        }
        match (send(call, target, number), result) {
            (Ok(()), _) => result = Ok(0),
            (Err(error), Err(_)) => result = Err(error),
            (Err(_), Ok(_)) => {}
        }
    }
    result
}

/// kill(2): one process, one's own group (0), another group (negative), or everyone but oneself (-1).
pub fn kill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, number, ..] = call.args;
    let own = call.process();
    let (own_pid, own_group) = (own.pid, own.group);
    match pid as u32 as i32 {
        i32::MIN => Err(Errno::ESRCH),
        -1 => send_to_all(call, number, |process| process.pid != own_pid),
        0 => send_to_all(call, number, |process| process.group == own_group),
        1.. => send_to(call, pid as u32, number),
        group => send_to_all(call, number, |process| process.group == group.unsigned_abs()),
    }
}

/// tkill(2).
pub fn tkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, number, ..] = call.args;
    if id as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(call, None, id as u32, number)
}

/// tgkill(2).
pub fn tgkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [group, id, number, ..] = call.args;
    if group as u32 as i32 <= 0 || id as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(call, Some(group as u32), id as u32, number)
}
