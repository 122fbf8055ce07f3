//! prctl(2): what programs use of it. Everything else is EINVAL, as on a Linux that was built without it.

use super::{Call, capability};
use crate::process::signal::LAST;
use crate::process::task::NAME;
use abi::Errno;

const PR_SET_PDEATHSIG: u32 = 1;
const PR_GET_PDEATHSIG: u32 = 2;
const PR_GET_DUMPABLE: u32 = 3;
const PR_SET_DUMPABLE: u32 = 4;
const PR_GET_KEEPCAPS: u32 = 7;
const PR_SET_KEEPCAPS: u32 = 8;
const PR_GET_TIMING: u32 = 13;
const PR_SET_TIMING: u32 = 14;
const PR_SET_NAME: u32 = 15;
const PR_GET_NAME: u32 = 16;
const PR_GET_SECCOMP: u32 = 21;
const PR_CAPBSET_READ: u32 = 23;
const PR_CAPBSET_DROP: u32 = 24;
const PR_GET_TSC: u32 = 25;
const PR_GET_SECUREBITS: u32 = 27;
const PR_SET_TIMERSLACK: u32 = 29;
const PR_GET_TIMERSLACK: u32 = 30;
const PR_SET_CHILD_SUBREAPER: u32 = 36;
const PR_GET_CHILD_SUBREAPER: u32 = 37;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
const PR_GET_NO_NEW_PRIVS: u32 = 39;
const PR_GET_TID_ADDRESS: u32 = 40;
const PR_CAP_AMBIENT: u32 = 47;

/// prctl(PR_GET_TSC): time-stamps can be read, always.
const PR_TSC_ENABLE: u32 = 1;
/// Nanoseconds a timer may be late, if nobody has said otherwise. (None is late for it here.)
const USUAL_SLACK: u64 = 50_000;

/// prctl(2).
pub fn prctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [what, first, second, third, fourth, _] = call.args;
    let rest = second | third | fourth;
    match what as u32 {
        PR_SET_PDEATHSIG if first > LAST.into() => Err(Errno::EINVAL),
        PR_SET_PDEATHSIG => {
            call.task().death_signal = first as u8;
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            let signal = u32::from(call.task().death_signal);
            call.write(first, &signal).map(|()| 0)
        }
        PR_GET_DUMPABLE => Ok(call.with_space(|space, _, _| space.dumpable).into()),
        PR_SET_DUMPABLE if first > 1 => Err(Errno::EINVAL),
        PR_SET_DUMPABLE => {
            call.with_space(|space, _, _| space.dumpable = first != 0);
            Ok(0)
        }
        // Capabilities go with the user id.
        PR_GET_KEEPCAPS | PR_GET_SECUREBITS | PR_GET_SECCOMP | PR_GET_TIMING => Ok(0),
        PR_SET_KEEPCAPS | PR_SET_TIMING if first == 0 => Ok(0),
        PR_SET_NAME => set_name(call, first),
        PR_GET_NAME => {
            let name = call.task().name;
            call.write(first, &name).map(|()| 0)
        }
        PR_CAPBSET_READ => capability::in_bounds(first),
        PR_CAPBSET_DROP if call.process().credentials.is_privileged() => {
            capability::in_bounds(first).and(Err(Errno::EPERM))
        }
        PR_CAPBSET_DROP => Err(Errno::EPERM),
        PR_CAP_AMBIENT => ambient(first, second, third | fourth),
        PR_GET_TSC => call.write(first, &PR_TSC_ENABLE).map(|()| 0),
        PR_SET_TIMERSLACK => {
            let task = call.task();
            task.slack = if first == 0 { task.slack_at_first } else { first };
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(match call.task().slack {
            0 => USUAL_SLACK,
            slack => slack,
        }),
        PR_SET_CHILD_SUBREAPER => {
            call.process().subreaper = first != 0;
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            let reaps = u32::from(call.process().subreaper);
            call.write(first, &reaps).map(|()| 0)
        }
        PR_SET_NO_NEW_PRIVS if first != 1 || rest != 0 => Err(Errno::EINVAL),
        PR_SET_NO_NEW_PRIVS => {
            // No program has more than who runs it here in any case.
            call.task().no_new_privileges = true;
            Ok(0)
        }
        PR_GET_NO_NEW_PRIVS if first | rest != 0 => Err(Errno::EINVAL),
        PR_GET_NO_NEW_PRIVS => Ok(call.task().no_new_privileges.into()),
        PR_GET_TID_ADDRESS => {
            let address = call.task().clear_child_tid;
            call.write(first, &address).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// A thread's name; what is too long is cut.
fn set_name(call: &mut Call<'_>, address: u64) -> Result<u64, Errno> {
    let mut name = [0; NAME];
    match call.read_path(address, &mut name[..NAME - 1]) {
        Ok(_) | Err(Errno::ENAMETOOLONG) => {}
        Err(error) => return Err(error),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
    name[len..].fill(0);
    call.task().name = name;
    Ok(0)
}

/// Ambient capabilities: none can be, because none is inheritable.
fn ambient(what: u64, capability: u64, rest: u64) -> Result<u64, Errno> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    match what {
        CLEAR_ALL if capability | rest != 0 => Err(Errno::EINVAL),
        CLEAR_ALL => Ok(0),
        _ if capability > capability::LAST || rest != 0 => Err(Errno::EINVAL),
        IS_SET | LOWER => Ok(0),
        RAISE => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}
