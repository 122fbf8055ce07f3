//! Signal actions, masks and stacks; waiting for signals.

use super::time::Timespec;
use super::{Attempt, Call, Reply};
use crate::arch::cpu::Cpu;
use crate::arch::entry::TrapFrame;
use crate::kernel::Kernel;
use crate::process::actions::Action;
use crate::process::signal::stack::SignalStack;
use crate::process::signal::{
    Disposition, LAST, SA_KNOWN, SIGKILL, SIGSTOP, UNBLOCKABLE, bit, deliver, send,
};
use crate::process::task::Wait;
use crate::time;
use abi::Errno;

/// Bytes of the kernel's signal set.
const SET: u64 = 8;
const SIG_BLOCK: u64 = 0;
const SIG_UNBLOCK: u64 = 1;
const SIG_SETMASK: u64 = 2;

fn valid(number: u64) -> Result<u32, Errno> {
    let number = number as u32;
    if (1..=LAST).contains(&number) {
        Ok(number)
    } else {
        Err(Errno::EINVAL)
    }
}

fn check_size(size: u64) -> Result<(), Errno> {
    if size == SET { Ok(()) } else { Err(Errno::EINVAL) }
}

/// rt_sigaction(2).
pub fn sigaction(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [number, new, old, size, ..] = call.args;
    check_size(size)?;
    let new: Option<Action> = if new == 0 { None } else { Some(call.read(new)?) };
    let signal = valid(number)?;
    if new.is_some() && (signal == SIGKILL || signal == SIGSTOP) {
        return Err(Errno::EINVAL);
    }
    let own = call.task().process;
    let before = call.kernel.actions_of(own).get(signal);
    if let Some([handler, flags, restorer, mask]) = new {
        let action = [handler, flags & SA_KNOWN, restorer, mask & !UNBLOCKABLE];
        call.kernel.actions_of(own).set(signal, action);
        // What is ignored now is forgotten, although it is blocked (POSIX, sigaction: 3.3.1.3 of the 1990 edition).
        if call.kernel.disposition(own, signal) == Disposition::Ignored {
            send::discard(call.kernel, own, bit(signal));
        }
    }
    call.write_if(old, &before)?;
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn sigprocmask(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [how, new, old, size, ..] = call.args;
    check_size(size)?;
    let before = call.task().blocked;
    if new != 0 {
        let set: u64 = call.read(new)?;
        let mask = match how as u32 as u64 {
            SIG_BLOCK => before | set,
            SIG_UNBLOCK => before & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        deliver::set_mask(call.kernel, call.cpu, call.task, mask);
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
    let pending = call.task().pending.set() | call.process().pending.set();
    let bytes = (pending & call.task().blocked).to_le_bytes();
    call.write(to, &bytes[..size as usize])?;
    Ok(0)
}

/// sigaltstack(2), which depends on where the caller's stack pointer is.
pub fn sigaltstack(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, registers: &mut TrapFrame) {
    let mut call = Call {
        kernel,
        cpu,
        task,
        args: [registers.rdi, registers.rsi, 0, 0, 0, 0],
        attempt: Attempt::First,
    };
    let changed = change_stack(&mut call, registers.rsp);
    registers.rax = changed.map_or_else(|error| error.to_result() as u64, |()| 0);
}

fn change_stack(call: &mut Call<'_>, sp: u64) -> Result<(), Errno> {
    let [new, old, ..] = call.args;
    let new: Option<SignalStack> = if new == 0 { None } else { Some(call.read(new)?) };
    let before = call.task().signal_stack;
    if let Some(new) = new {
        call.task().signal_stack = before.changed(new, sp)?;
    }
    call.write_if(old, &before.told(sp))
}

/// pause(2): until a signal is caught.
pub fn pause(call: &mut Call<'_>) -> Reply {
    call.kernel.park(call.cpu, call.task, Wait::Pause, None);
    Reply::Parked
}

/// rt_sigsuspend(2): until a signal is caught, blocking others meanwhile.
pub fn sigsuspend(call: &mut Call<'_>) -> Reply {
    let [set, size, ..] = call.args;
    if call.attempt == Attempt::First {
        let mask = match check_size(size).and_then(|()| call.read(set)) {
            Ok(mask) => mask,
            Err(error) => return Reply::Error(error),
        };
        call.task().saved_mask = Some(call.task().blocked);
        deliver::set_mask(call.kernel, call.cpu, call.task, mask);
    }
    pause(call)
}

/// rt_sigtimedwait(2): takes one of a set of signals, when there is one.
pub fn sigtimedwait(call: &mut Call<'_>) -> Reply {
    match timedwait(call) {
        Ok(reply) => reply,
        Err(error) => Reply::Error(error),
    }
}

fn timedwait(call: &mut Call<'_>) -> Result<Reply, Errno> {
    let [set, to, timeout, size, ..] = call.args;
    check_size(size)?;
    let set = call.read::<u64>(set)? & !UNBLOCKABLE;
    let span = if timeout == 0 {
        None
    } else {
        Some(call.read::<Timespec>(timeout)?.checked()?)
    };
    if let Some(info) = deliver::take(call.kernel, call.cpu, call.task, !set) {
        call.write_if(to, &info.to_user())?;
        return Ok(Reply::Value(u64::from(info.signal)));
    }
    let again = call.attempt == Attempt::Again;
    if span == Some(0) || again && call.task().expired {
        return Err(Errno::EAGAIN);
    }
    let deadline = match span {
        // The first deadline holds.
        Some(_) if again => Some(call.task().deadline),
        span => span.map(time::deadline_in),
    };
    call.kernel.park(call.cpu, call.task, Wait::Signal(set), deadline);
    Ok(Reply::Parked)
}
