//! Capabilities (capabilities(7)), as far as there are any: who has the user id 0 has all of them, others none. So they
//! can be asked for, and what there is can be set again; to give up single ones is refused.

use super::Call;
use crate::process::Credentials;
use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The last one there is (CAP_CHECKPOINT_RESTORE).
pub const LAST: u64 = 40;
const ALL: u64 = (1 << (LAST + 1)) - 1;

/// Versions of the structures; the first has one word of each set, the others two.
const VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];

/// `struct __user_cap_header_struct`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: a word of each set.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Effective and permitted ones. With a user id 0 that is not the effective one they can be had again.
fn of(credentials: &Credentials) -> [u64; 2] {
    let set = |has: bool| if has { ALL } else { 0 };
    [
        set(credentials.is_privileged()),
        set(credentials.uid.contains(&0)),
    ]
}

/// How many words of each set the caller's structures have.
///
/// # Errors
/// EFAULT; EINVAL for an unknown version, with the newest one told.
fn words(call: &mut Call<'_>, header: u64) -> Result<usize, Errno> {
    let version: u32 = call.read(header)?;
    match VERSIONS.iter().position(|known| *known == version) {
        Some(0) => Ok(1),
        Some(_) => Ok(2),
        None => {
            call.write(header, &VERSIONS[2])?;
            Err(Errno::EINVAL)
        }
    }
}

/// capget(2).
pub fn capget(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [header, to, ..] = call.args;
    let words = match words(call, header) {
        // It is how to ask for the version.
        Err(Errno::EINVAL) if to == 0 => return Ok(0),
        Ok(_) if to == 0 => return Ok(0),
        words => words?,
    };
    let Header { pid, .. } = call.read(header)?;
    let number = match pid {
        ..0 => return Err(Errno::EINVAL),
        0 => call.task().process,
        pid => call.kernel.find_process_of(pid as u32).ok_or(Errno::ESRCH)?,
    };
    let [effective, permitted] = of(&call.kernel.processes[usize::from(number)].credentials);
    let word = |at: usize| Word {
        effective: (effective >> (32 * at)) as u32,
        permitted: (permitted >> (32 * at)) as u32,
        inheritable: 0,
    };
    let told = [word(0), word(1)];
    call.write(to, &told[..words])?;
    Ok(0)
}

/// capset(2).
pub fn capset(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [header, from, ..] = call.args;
    let words = words(call, header)?;
    let Header { pid, .. } = call.read(header)?;
    if pid != 0 && pid as u32 != call.task().id {
        return Err(Errno::EPERM);
    }
    let mut given = [Word::default(); 2];
    let bytes = given[..words].as_mut_bytes();
    call.with_space(|space, memory, world| space.read(memory, world, from, bytes))?;
    let set = |part: fn(&Word) -> u32| (u64::from(part(&given[0])) | u64::from(part(&given[1])) << 32) & ALL;
    let wanted = [set(|word| word.effective), set(|word| word.permitted)];
    let may = wanted == of(&call.process().credentials) && set(|word| word.inheritable) == 0;
    if may { Ok(0) } else { Err(Errno::EPERM) }
}

/// What prctl(PR_CAPBSET_READ) says of capability `which`: none can be lost for good.
///
/// # Errors
/// EINVAL if there is no such one.
pub fn in_bounds(which: u64) -> Result<u64, Errno> {
    if which <= LAST { Ok(1) } else { Err(Errno::EINVAL) }
}
