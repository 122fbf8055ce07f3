//! When files were read and changed, said by programs: utimensat and its older kin.

use super::attribute::node_of_descriptor;
use super::object;
use super::path::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, By};
use crate::fs::permission::WRITE;
use crate::syscall::Call;
use crate::time;
use abi::Errno;
use abi::object as broker;

const HERE: u64 = AT_FDCWD as u64;
const UTIME_NOW: u64 = 0x3fff_ffff;
const UTIME_OMIT: u64 = 0x3fff_fffe;

/// utimensat(2).
pub fn utimensat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, times, flags, ..] = call.args;
    let times: Option<[[u64; 2]; 2]> = if times == 0 { None } else { Some(call.read(times)?) };
    let valid = |[_, ns]: [u64; 2]| ns < time::NS_PER_S || ns == UTIME_NOW || ns == UTIME_OMIT;
    if !times.iter().flatten().all(|time| valid(*time)) {
        return Err(Errno::EINVAL);
    }
    set_times_at(call, directory, path, times, flags)
}

/// utime(2): seconds.
pub fn utime(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, times, ..] = call.args;
    let times: Option<[u64; 2]> = if times == 0 { None } else { Some(call.read(times)?) };
    let times = times.map(|times| times.map(|seconds| [seconds, 0]));
    set_times_at(call, HERE, path, times, 0)
}

/// utimes(2): microseconds.
pub fn utimes(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, times, ..] = call.args;
    set_microseconds(call, HERE, path, times)
}

/// futimesat(2).
pub fn futimesat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, times, ..] = call.args;
    set_microseconds(call, directory, path, times)
}

fn set_microseconds(call: &mut Call<'_>, directory: u64, path: u64, times: u64) -> Result<u64, Errno> {
    let times: Option<[[u64; 2]; 2]> = if times == 0 { None } else { Some(call.read(times)?) };
    if times.iter().flatten().any(|[_, us]| *us >= 1_000_000) {
        return Err(Errno::EINVAL);
    }
    let times = times.map(|times| times.map(|[seconds, us]| [seconds, us * 1000]));
    set_times_at(call, directory, path, times, 0)
}

/// Sets the times of what `path` names, or of what is open as `directory`, to now or as `times` say, which are valid.
fn set_times_at(
    call: &mut Call<'_>,
    directory: u64,
    path: u64,
    times: Option<[[u64; 2]; 2]>,
    flags: u64,
) -> Result<u64, Errno> {
    if times.is_some_and(|[access, modify]| access[1] == UTIME_OMIT && modify[1] == UTIME_OMIT) {
        return Ok(0);
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = if path == 0 && directory as u32 as i32 as i64 != AT_FDCWD as i64 {
        // futimens(3).
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        node_of_descriptor(call, directory)?
    } else {
        call.node_at_or_itself(directory, path, flags)?
    };
    let Some(file) = call.file_of(node)? else {
        return Ok(0);
    };
    let now = time::realtime();
    let all_now = times.is_none_or(|times| times.iter().all(|[_, ns]| *ns == UTIME_NOW));
    if let Some(serial) = call.kernel.files.object(file) {
        return set_times(call, serial, times.filter(|_| !all_now), now);
    }
    let walker = call.walker(By::Effective);
    let inode = walker.files.inodes.get(file);
    if !walker.who.owns(inode.uid) {
        if !all_now {
            return Err(Errno::EPERM);
        }
        walker.who.check(WRITE, inode)?;
    }
    let to = &mut walker.files.inodes.get_mut(file).times;
    let [access, modify] = times.unwrap_or([[0, UTIME_NOW]; 2]);
    for (to, [seconds, ns]) in [(&mut to.accessed, access), (&mut to.modified, modify)] {
        match ns {
            UTIME_OMIT => {}
            UTIME_NOW => *to = now,
            ns => *to = seconds.wrapping_mul(time::NS_PER_S).wrapping_add(ns),
        }
    }
    to.changed = now;
    Ok(0)
}

/// Sets the times of an object: all to now, or as the call says.
fn set_times(call: &mut Call<'_>, serial: u64, times: Option<[[u64; 2]; 2]>, now: u64) -> Result<u64, Errno> {
    let Some(times) = times else {
        return object::set(call, serial, broker::SET_NOW, 0, (0, 0), [0; 2]);
    };
    let mut what = 0;
    let told = times.map(|[seconds, ns]| match ns {
        UTIME_NOW => now,
        ns => seconds.wrapping_mul(time::NS_PER_S).wrapping_add(ns),
    });
    for (bit, [_, ns]) in [broker::SET_ACCESSED, broker::SET_MODIFIED]
        .into_iter()
        .zip(times)
    {
        what |= if ns == UTIME_OMIT { 0 } else { bit };
    }
    object::set(call, serial, what, 0, (0, 0), told)
}
