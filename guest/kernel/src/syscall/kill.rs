//! Sending signals to processes, groups and threads, with or without a value.

use super::Call;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::process::signal::LAST;
use crate::process::signal::info::{self, Info, SI_TKILL, SI_USER};
use crate::process::signal::send::{self, Target};
use crate::process::start::INIT;
use abi::Errno;

/// May the caller send `signal` to process `target`?
fn may(call: &mut Call<'_>, target: u16, signal: u32) -> bool {
    let own = call.task().process;
    let processes = &call.kernel.processes;
    own == target || processes[usize::from(own)].may_send(&processes[usize::from(target)], signal)
}

/// Checks whether the caller could send `signal` to process `target`. The order of errors is Linux's: no such process, no
/// such signal, no permission.
fn check(call: &mut Call<'_>, target: u16, signal: u32) -> Result<(), Errno> {
    if signal > LAST {
        Err(Errno::EINVAL)
    } else if !may(call, target, signal) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

/// Sends what `info` says to process `number`; signal 0 only asks whether it could. One that has ended takes anything.
fn send(call: &mut Call<'_>, number: u16, info: &Info) -> Result<(), Errno> {
    check(call, number, info.signal)?;
    if info.signal == 0 {
        return Ok(());
    }
    send::send(call.kernel, call.cpu, Target::Process(number), info)
}

/// What anyone may ask of init, which is outside: it takes what only root may send, and nothing comes of it.
fn send_to_init(call: &mut Call<'_>, signal: u32) -> Result<(), Errno> {
    if signal > LAST {
        Err(Errno::EINVAL)
    } else if call.process().credentials.is_privileged() {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The process with id `pid`, or the one that has a thread with this id.
fn find_process(call: &mut Call<'_>, pid: u32) -> Result<u16, Errno> {
    let own = call.task().process;
    if call.process().pid == pid {
        return Ok(own);
    }
    call.kernel.find_process_of(pid).ok_or(Errno::ESRCH)
}

/// Sends to the process with id `pid`, or the one that has a thread with this id.
fn send_to(call: &mut Call<'_>, pid: u32, info: &Info) -> Result<(), Errno> {
    if pid == INIT {
        return send_to_init(call, info.signal);
    }
    let target = find_process(call, pid)?;
    send(call, target, info)
}

/// Sends to the thread with id `id`, if `group` is none or its process's.
fn send_to_thread(call: &mut Call<'_>, group: Option<u32>, id: u32, info: &Info) -> Result<(), Errno> {
    if id == INIT && group.is_none_or(|group| group == INIT) {
        return send_to_init(call, info.signal);
    }
    let task = if call.task().id == id {
        Some(call.task)
    } else {
        call.kernel.find_task(id)
    };
    let process = match task {
        Some(task) => call.kernel.tasks[usize::from(task)].process,
        // A first thread that has ended is there as long as its process, and takes anything.
        None => call.kernel.find_process(id).ok_or(Errno::ESRCH)?,
    };
    if group.is_some_and(|group| group != call.kernel.processes[usize::from(process)].pid) {
        return Err(Errno::ESRCH);
    }
    check(call, process, info.signal)?;
    match task {
        Some(task) if info.signal != 0 => send::send(call.kernel, call.cpu, Target::Task(task), info),
        _ => Ok(()),
    }
}

/// Sends to every process `meant` accepts. Succeeds if one took it.
fn send_to_all(call: &mut Call<'_>, info: &Info, meant: impl Fn(&Process) -> bool) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    for target in 0..call.kernel.processes.len() as u16 {
        let process = &call.kernel.processes[usize::from(target)];
        if process.pid == 0 || !meant(process) {
            continue;
        }
        match (send(call, target, info), result) {
            (Ok(()), _) => result = Ok(()),
            (Err(error), Err(_)) => result = Err(error),
            (Err(_), Ok(())) => {}
        }
    }
    result
}

/// What a receiver is told of the caller.
fn from_caller(call: &mut Call<'_>, signal: u64, code: i32) -> Info {
    let process = call.process();
    Info::sent(signal as u32, code, process.pid, process.credentials.uid[0])
}

/// kill(2): one process, one's own group (0), another group (negative), or everyone but oneself (-1).
pub fn kill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, signal, ..] = call.args;
    let info = from_caller(call, signal, SI_USER);
    let own = call.process();
    let (own_pid, own_group) = (own.pid, own.group);
    match pid as u32 as i32 {
        i32::MIN => Err(Errno::ESRCH),
        -1 => send_to_all(call, &info, |process| process.pid != own_pid),
        0 => send_to_all(call, &info, |process| process.group == own_group),
        1.. => send_to(call, pid as u32, &info),
        group => send_to_all(call, &info, |process| process.group == group.unsigned_abs()),
    }
    .map(|()| 0)
}

/// tkill(2).
pub fn tkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, signal, ..] = call.args;
    if id as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = from_caller(call, signal, SI_TKILL);
    send_to_thread(call, None, id as u32, &info).map(|()| 0)
}

/// tgkill(2).
pub fn tgkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [group, id, signal, ..] = call.args;
    if group as u32 as i32 <= 0 || id as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = from_caller(call, signal, SI_TKILL);
    send_to_thread(call, Some(group as u32), id as u32, &info).map(|()| 0)
}

/// What a program says is to come with `signal`, at `address`.
fn read_info(call: &mut Call<'_>, address: u64, signal: u64) -> Result<Info, Errno> {
    let mut info: Info = call.read(address)?;
    info.signal = signal as u32;
    if !info.is_known() {
        // What nobody knows the meaning of must not be longer than what is kept of it.
        let rest: [u64; info::REST / 8] = call.read(address.wrapping_add(size_of::<Info>() as u64))?;
        if rest != [0; info::REST / 8] {
            return Err(Errno::E2BIG);
        }
    }
    Ok(info)
}

/// Nobody can pretend to be the kernel, or kill(2) or tkill(2), which say who they are; but to oneself.
fn check_forgery(call: &mut Call<'_>, info: &Info, id: u64) -> Result<(), Errno> {
    if (info.code >= 0 || info.code == SI_TKILL) && id as u32 != own_id(call.kernel, call.task) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

fn own_id(kernel: &Kernel, task: u16) -> u32 {
    kernel.tasks[usize::from(task)].id
}

/// rt_sigqueueinfo(2), which sigqueue(3) is made of.
pub fn sigqueueinfo(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, signal, from, ..] = call.args;
    let info = read_info(call, from, signal)?;
    check_forgery(call, &info, pid)?;
    if pid as u32 as i32 <= 0 {
        return Err(Errno::ESRCH);
    }
    send_to(call, pid as u32, &info).map(|()| 0)
}

/// rt_tgsigqueueinfo(2), which pthread_sigqueue(3) is made of.
pub fn tgsigqueueinfo(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [group, id, signal, from, ..] = call.args;
    let info = read_info(call, from, signal)?;
    if group as u32 as i32 <= 0 || id as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    check_forgery(call, &info, id)?;
    send_to_thread(call, Some(group as u32), id as u32, &info).map(|()| 0)
}
