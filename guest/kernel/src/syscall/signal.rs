//! Signal actions and masks, recorded; signals to oneself, by default action.

use super::Call;
use crate::process::Action;
use crate::process::signal::{self, LAST, SIGKILL, SIGSTOP};
use abi::Errno;

/// Bytes of the kernel's signal set.
const SET: u64 = 8;
const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);
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
    let bytes = (call.task().pending & call.task().blocked).to_le_bytes();
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

/// Sends `number` to the caller; 0 only asks whether it could.
fn to_self(call: &mut Call<'_>, number: u64) -> Result<u64, Errno> {
    if number as u32 != 0 {
        signal::send(call.kernel, call.task, valid(number)?);
    }
    Ok(0)
}

fn no_other(call: &mut Call<'_>, id: u32) -> Errno {
    // Other processes of this guest are there, but sending to them comes with process control.
    if call
        .kernel
        .processes
        .iter()
        .any(|process| process.pid == id && id != 0)
    {
        Errno::EPERM
    } else {
        Errno::ESRCH
    }
}

/// kill(2): oneself, or one's group (0), which is oneself.
pub fn kill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [pid, number, ..] = call.args;
    if number as u32 > LAST {
        return Err(Errno::EINVAL);
    }
    let pid = pid as u32;
    if pid == 0 || pid == call.process().pid {
        to_self(call, number)
    } else {
        Err(no_other(call, pid))
    }
}

/// tkill(2).
pub fn tkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, number, ..] = call.args;
    if id as u32 as i32 <= 0 || number as u32 > LAST {
        return Err(Errno::EINVAL);
    }
    if id as u32 == call.task().id {
        to_self(call, number)
    } else {
        Err(no_other(call, id as u32))
    }
}

/// tgkill(2).
pub fn tgkill(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [group, id, number, ..] = call.args;
    if group as u32 as i32 <= 0 || id as u32 as i32 <= 0 || number as u32 > LAST {
        return Err(Errno::EINVAL);
    }
    if group as u32 == call.process().pid && id as u32 == call.task().id {
        to_self(call, number)
    } else {
        Err(no_other(call, id as u32))
    }
}
