//! The setuid and setgid families, groups and sessions, by Linux's rules (credentials(7), kernel/sys.c). Having
//! the effective user id 0 stands for every capability.

use super::Call;
use crate::process::{Credentials, limits};
use abi::Errno;
use abi::hypercall::MAX_GROUPS;

/// "Leave this one as it is".
const KEEP: u32 = u32::MAX;
const MOST_GROUPS_ON_LINUX: u64 = 65536;

/// Which family: user or group ids.
#[derive(Clone, Copy)]
pub enum Ids {
    /// User ids.
    User = 0,
    /// Group ids.
    Group = 1,
}

fn ids(credentials: &mut Credentials, which: Ids) -> &mut [u32; 3] {
    match which {
        Ids::User => &mut credentials.uid,
        Ids::Group => &mut credentials.gid,
    }
}

/// Ids have been set: the one for files follows the effective one. A process that is another user's than `before` learns
/// at its next execve(2) whether that one has too many (`flag_nproc_exceeded` in Linux).
fn follow(call: &mut Call<'_>, which: Ids, old: &Credentials) {
    let before = old.uid[0];
    let credentials = &mut call.process().credentials;
    credentials.fs[which as usize] = ids(credentials, which)[1];
    let user = credentials.uid[0];
    if let Ids::User = which
        && user != before
    {
        let [most, _] = call.process().limit(limits::NPROC);
        // It is one of that user's already.
        let exceeds = user != 0 && call.kernel.tasks_of(user) > most.saturating_add(1);
        call.process().exceeds = exceeds;
    }
    changed(call, old);
}

/// The caller's credentials have been set. Who is somebody else now can't be looked at, and forgets whose end it wanted to
/// be told of (`commit_creds` in Linux).
fn changed(call: &mut Call<'_>, before: &Credentials) {
    let now = &call.process().credentials;
    if [now.uid[1], now.gid[1]] != [before.uid[1], before.gid[1]] || now.fs != before.fs {
        call.task().death_signal = 0;
        call.with_space(|space, _, _| space.dumpable = false);
    }
}

/// setuid(2), setgid(2).
pub fn set_id(call: &mut Call<'_>, which: Ids) -> Result<u64, Errno> {
    let id = call.args[0] as u32;
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    let before = call.process().credentials;
    let privileged = before.is_privileged();
    let old = ids(&mut call.process().credentials, which);
    if privileged {
        *old = [id; 3];
    } else if id == old[0] || id == old[2] {
        old[1] = id;
    } else {
        return Err(Errno::EPERM);
    }
    follow(call, which, &before);
    Ok(0)
}

/// setreuid(2), setregid(2).
pub fn set_re(call: &mut Call<'_>, which: Ids) -> Result<u64, Errno> {
    let [real, effective, ..] = call.args.map(|id| id as u32);
    let before = call.process().credentials;
    let privileged = before.is_privileged();
    let old = ids(&mut call.process().credentials, which);
    let mut new = *old;
    if real != KEEP {
        if !privileged && real != old[0] && real != old[1] {
            return Err(Errno::EPERM);
        }
        new[0] = real;
    }
    if effective != KEEP {
        if !privileged && !old.contains(&effective) {
            return Err(Errno::EPERM);
        }
        new[1] = effective;
    }
    if real != KEEP || effective != KEEP && effective != old[0] {
        new[2] = new[1];
    }
    *old = new;
    follow(call, which, &before);
    Ok(0)
}

/// setresuid(2), setresgid(2).
pub fn set_res(call: &mut Call<'_>, which: Ids) -> Result<u64, Errno> {
    let wanted = call.args.map(|id| id as u32);
    let before = call.process().credentials;
    let privileged = before.is_privileged();
    let old = ids(&mut call.process().credentials, which);
    let wanted = &wanted[..3];
    if !privileged && wanted.iter().any(|id| *id != KEEP && !old.contains(id)) {
        return Err(Errno::EPERM);
    }
    for (id, wanted) in old.iter_mut().zip(wanted) {
        if *wanted != KEEP {
            *id = *wanted;
        }
    }
    follow(call, which, &before);
    Ok(0)
}

/// getresuid(2), getresgid(2).
pub fn get_res(call: &mut Call<'_>, which: Ids) -> Result<u64, Errno> {
    let values = *ids(&mut call.process().credentials, which);
    let to = call.args;
    for (value, to) in values.iter().zip(to) {
        call.write(to, value)?;
    }
    Ok(0)
}

/// setfsuid(2), setfsgid(2): returns the one there was. There are no files it would matter for.
pub fn set_fs(call: &mut Call<'_>, which: Ids) -> Result<u64, Errno> {
    let wanted = call.args[0] as u32;
    let old = call.process().credentials;
    let credentials = &mut call.process().credentials;
    let privileged = credentials.is_privileged();
    let known = *ids(credentials, which);
    let fs = &mut credentials.fs[which as usize];
    let before = *fs;
    if wanted != KEEP && (privileged || wanted == before || known.contains(&wanted)) {
        *fs = wanted;
    }
    changed(call, &old);
    Ok(u64::from(before))
}

/// getgroups(2).
pub fn getgroups(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [size, to, ..] = call.args;
    let size = size as u32 as i32;
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = call.process().credentials;
    let groups = credentials.groups();
    if size > 0 {
        if (size as usize) < groups.len() {
            return Err(Errno::EINVAL);
        }
        call.write(to, groups)?;
    }
    Ok(groups.len() as u64)
}

/// setgroups(2): [`MAX_GROUPS`] at most, where Linux has 65536.
pub fn setgroups(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [size, from, ..] = call.args;
    let size = size as u32 as u64;
    if !call.process().credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    if size > MOST_GROUPS_ON_LINUX {
        return Err(Errno::EINVAL);
    }
    if size > MAX_GROUPS as u64 {
        return Err(Errno::ENOMEM);
    }
    let mut bytes = [0; 4 * MAX_GROUPS];
    let bytes = &mut bytes[..4 * size as usize];
    call.with_space(|space, memory, world| space.read(memory, world, from, bytes))?;
    let credentials = &mut call.process().credentials;
    for (group, bytes) in credentials.groups.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *group = u32::from_le_bytes(*bytes);
    }
    credentials.group_count = size as u32;
    // Linux keeps them sorted, and tells them so.
    credentials.groups[..size as usize].sort_unstable();
    Ok(0)
}

/// The number of the process with id `pid`, or with a thread that has it; the caller's own for 0.
fn process_of(call: &mut Call<'_>, pid: u64) -> Result<u16, Errno> {
    match pid as u32 {
        0 => Ok(call.task().process),
        pid => call.kernel.find_process_of(pid).ok_or(Errno::ESRCH),
    }
}

/// setpgid(2).
pub fn setpgid(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, group, ..] = call.args;
    if (group as u32 as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let own = call.task().process;
    let target = process_of(call, pid)?;
    if pid as u32 != 0 && call.kernel.processes[usize::from(target)].pid != pid as u32 {
        return Err(Errno::EINVAL);
    }
    let processes = &call.kernel.processes;
    let (process, caller) = (&processes[usize::from(target)], &processes[usize::from(own)]);
    if target != own && process.parent != own {
        return Err(Errno::ESRCH);
    }
    if process.session != caller.session || process.session == process.pid {
        return Err(Errno::EPERM);
    }
    let group = if group as u32 == 0 {
        process.pid
    } else {
        group as u32
    };
    let there = |other: &crate::process::Process| {
        other.pid != 0 && other.group == group && other.session == caller.session
    };
    if group != process.pid && !processes.iter().any(there) {
        return Err(Errno::EPERM);
    }
    call.kernel.processes[usize::from(target)].group = group;
    Ok(0)
}

/// The process outside that starts everyone: a group and a session of its own.
const INIT: u64 = 1;

/// getpgid(2).
pub fn getpgid(call: &mut Call<'_>) -> Result<u64, Errno> {
    if call.args[0] == INIT {
        return Ok(INIT);
    }
    let target = process_of(call, call.args[0])?;
    Ok(u64::from(call.kernel.processes[usize::from(target)].group))
}

/// getsid(2).
pub fn getsid(call: &mut Call<'_>) -> Result<u64, Errno> {
    if call.args[0] == INIT {
        return Ok(INIT);
    }
    let target = process_of(call, call.args[0])?;
    Ok(u64::from(call.kernel.processes[usize::from(target)].session))
}

/// setsid(2).
pub fn setsid(call: &mut Call<'_>) -> Result<u64, Errno> {
    let pid = call.process().pid;
    if call
        .kernel
        .processes
        .iter()
        .any(|process| process.pid != 0 && process.group == pid)
    {
        return Err(Errno::EPERM);
    }
    let process = call.process();
    (process.group, process.session) = (pid, pid);
    Ok(u64::from(pid))
}
