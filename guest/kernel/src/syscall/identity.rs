//! Who the caller is, what system this is, and what it may use.

use super::{Call, panic_if_asked};
use crate::process::LIMITS;
use abi::Errno;

/// One field of `struct utsname`.
const FIELD: usize = 65;
/// What `uname` says: system, node, release, version, machine, domain. The release is that of the Linux the
/// calls were checked against, because programs parse it.
const NAMES: [&str; 6] = ["Linux", "tombolo", "6.18.0-tombolo", "#1 SMP", "x86_64", "(none)"];

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
    call.write(to, names.as_flattened())?;
    Ok(0)
}

fn which_limit(which: u64) -> Result<usize, Errno> {
    let which = which as u32 as usize;
    if which < LIMITS {
        Ok(which)
    } else {
        Err(Errno::EINVAL)
    }
}

fn set_limit(call: &mut Call<'_>, which: usize, new: [u64; 2]) -> Result<(), Errno> {
    let root = call.process().credentials.uid[1] == 0;
    let process = call.process();
    if new[0] > new[1] {
        return Err(Errno::EINVAL);
    }
    if new[1] > process.limit(which)[1] && !root {
        return Err(Errno::EPERM);
    }
    process.limits[which] = new;
    process.limits_set |= 1 << which;
    Ok(())
}

/// getrlimit(2).
pub fn getrlimit(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, to, ..] = call.args;
    let limit = call.process().limit(which_limit(which)?);
    call.write(to, &limit)?;
    Ok(0)
}

/// setrlimit(2). Limits are kept and told, not enforced.
pub fn setrlimit(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [which, from, ..] = call.args;
    let new = call.read(from)?;
    set_limit(call, which_limit(which)?, new)?;
    Ok(0)
}

/// prlimit64(2), of the caller only.
pub fn prlimit64(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, which, new, old, ..] = call.args;
    let new = if new == 0 { None } else { Some(call.read(new)?) };
    let own = call.task().process;
    if pid as u32 != 0 && call.kernel.find_process_of(pid as u32) != Some(own) {
        return Err(Errno::ESRCH);
    }
    let which = which_limit(which)?;
    let before = call.process().limit(which);
    if let Some(new) = new {
        set_limit(call, which, new)?;
    }
    call.write_if(old, &before)?;
    Ok(0)
}
