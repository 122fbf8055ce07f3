//! Who the caller is, what system this is, and what it may use.

use super::personality::UNAME26;
use super::{Call, panic_if_asked};
use crate::process::limits::{self, COUNT};
use abi::Errno;

/// One field of `struct utsname`.
const FIELD: usize = 65;
/// What `uname` says: system, node, release, version, machine, domain. The release is that of the Linux the
/// calls were checked against, because programs parse it.
const NAMES: [&str; 6] = ["Linux", "tombolo", "6.18.0-tombolo", "#1 SMP", "x86_64", "(none)"];

/// The release for programs that take anything else for too new: 60 more than the second number, as Linux has it.
const OLD_RELEASE: &str = "2.6.78-tombolo";

/// getpid(2).
pub fn getpid(call: &mut Call<'_>) -> Result<u64, Errno> {
    panic_if_asked(call);
    Ok(u64::from(call.process().pid))
}

/// uname(2).
pub fn uname(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, ..] = call.args;
    let mut names = [[0u8; FIELD]; NAMES.len()];
    for (field, name) in names.iter_mut().zip(NAMES) {
        field[..name.len()].copy_from_slice(name.as_bytes());
    }
    if call.task().personality & UNAME26 != 0 {
        names[2] = [0; FIELD];
        names[2][..OLD_RELEASE.len()].copy_from_slice(OLD_RELEASE.as_bytes());
    }
    call.write(to, names.as_flattened())?;
    Ok(0)
}

/// What RLIMIT_NOFILE may be at most (`fs.nr_open` in Linux).
const MOST_FILES: u64 = 1 << 20;

fn which_limit(which: u64) -> Result<usize, Errno> {
    let which = which as u32 as usize;
    if which < COUNT {
        Ok(which)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Sets a limit of process number `number`, in Linux's order (`do_prlimit`).
fn set_limit(call: &mut Call<'_>, number: u16, which: usize, new: [u64; 2]) -> Result<(), Errno> {
    let privileged = call.process().credentials.is_privileged();
    let process = &mut call.kernel.processes[usize::from(number)];
    if new[0] > new[1] {
        return Err(Errno::EINVAL);
    }
    if which == limits::NOFILE && new[1] > MOST_FILES {
        return Err(Errno::EPERM);
    }
    if new[1] > process.limit(which)[1] && !privileged {
        return Err(Errno::EPERM);
    }
    process.set_limit(which, new);
    Ok(())
}

/// getrlimit(2).
pub fn getrlimit(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, to, ..] = call.args;
    let limit = call.process().limit(which_limit(which)?);
    call.write(to, &limit)?;
    Ok(0)
}

/// setrlimit(2).
pub fn setrlimit(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, from, ..] = call.args;
    let new = call.read(from)?;
    let own = call.task().process;
    set_limit(call, own, which_limit(which)?, new)?;
    Ok(0)
}

/// prlimit64(2).
pub fn prlimit64(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, which, new, old, ..] = call.args;
    let new = if new == 0 { None } else { Some(call.read(new)?) };
    let own = call.task().process;
    let number = match pid as u32 {
        0 => own,
        pid => call.kernel.find_process_of(pid).ok_or(Errno::ESRCH)?,
    };
    let target = &call.kernel.processes[usize::from(number)].credentials;
    let caller = &call.kernel.processes[usize::from(own)].credentials;
    // All of its ids must be the caller's real ones (`check_prlimit_permission`).
    let same = target.uid == [caller.uid[0]; 3] && target.gid == [caller.gid[0]; 3];
    if number != own && !same && !caller.is_privileged() {
        return Err(Errno::EPERM);
    }
    let which = which_limit(which)?;
    let before = call.kernel.processes[usize::from(number)].limit(which);
    if let Some(new) = new {
        set_limit(call, number, which, new)?;
    }
    call.write_if(old, &before)?;
    Ok(0)
}
