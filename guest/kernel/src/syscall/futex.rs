//! futex(2): waiting for a word and waking those who do. What Linux checks, in its order, was found out by asking it
//! (tests/programs/conf_futex.c).

use super::time::Timespec;
use super::{Attempt, Call, Reply};
use crate::arch::machine::tsc;
use crate::futex::place::{Place, Scope};
use crate::mm::{Access, Word};
use crate::process::task::Wait;
use crate::time;
use ::futex::{
    FUTEX_BITSET_MATCH_ANY, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE,
    FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP, WakeOp,
};
use abi::Errno;

/// futex(2).
pub fn futex(call: &mut Call<'_>) -> Reply {
    let [_, operation, value, timeout, _, value3] = call.args;
    let operation = operation as u32 as u64;
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    // The time comes first of all.
    let deadline = match command {
        FUTEX_WAIT => relative(call, timeout),
        FUTEX_WAIT_BITSET => absolute(call, timeout, realtime),
        _ => Ok(None),
    };
    let deadline = match deadline {
        Ok(deadline) => deadline,
        Err(error) => return Reply::Error(error),
    };
    if realtime && command != FUTEX_WAIT_BITSET {
        return Reply::Error(Errno::ENOSYS);
    }
    match command {
        FUTEX_WAIT => wait(call, value as u32, FUTEX_BITSET_MATCH_ANY, deadline),
        FUTEX_WAIT_BITSET => wait(call, value as u32, value3 as u32, deadline),
        FUTEX_WAKE => wake(call, value, FUTEX_BITSET_MATCH_ANY).into(),
        FUTEX_WAKE_BITSET => wake(call, value, value3 as u32).into(),
        FUTEX_REQUEUE => requeue(call, None).into(),
        FUTEX_CMP_REQUEUE => requeue(call, Some(value3 as u32)).into(),
        FUTEX_WAKE_OP => wake_op(call).into(),
        // Those with priority inheritance among them: the libraries tell their callers that there are none.
        _ => Reply::Error(Errno::ENOSYS),
    }
}

/// The deadline `timeout` names from now on.
fn relative(call: &mut Call<'_>, timeout: u64) -> Result<Option<u64>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let ns = call.read::<Timespec>(timeout)?.checked()?;
    Ok(Some(time::deadline_in(ns)))
}

/// The deadline `timeout` names by a clock's value.
fn absolute(call: &mut Call<'_>, timeout: u64, realtime: bool) -> Result<Option<u64>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let ns = call.read::<Timespec>(timeout)?.checked()?;
    let now = if realtime {
        time::realtime()
    } else {
        time::monotonic()
    };
    Ok(Some(time::deadline_in(ns.saturating_sub(now))))
}

fn scope(call: &Call<'_>) -> Scope {
    if call.args[1] & FUTEX_PRIVATE_FLAG != 0 {
        Scope::Private
    } else {
        Scope::Shared
    }
}

fn place(call: &mut Call<'_>, address: u64, access: Access) -> Result<Place, Errno> {
    let scope = scope(call);
    call.kernel.place_of(call.cpu, call.task, address, scope, access)
}

fn word(call: &mut Call<'_>, address: u64, access: Access) -> Result<Word, Errno> {
    call.with_space(|space, memory, world| space.word(memory, world, address, access))
}

/// How many an argument asks to wake: Linux wakes one even for 0 or less (kernel/futex/waitwake.c).
fn at_least_one(count: u64) -> u64 {
    i64::from(count as u32 as i32).max(1) as u64
}

fn wait(call: &mut Call<'_>, expected: u32, bitset: u32, deadline: Option<u64>) -> Reply {
    let deadline = match call.attempt {
        Attempt::First => deadline,
        // The first one holds.
        Attempt::Again => deadline.and(Some(call.task().deadline)),
    };
    match begin_wait(call, expected, bitset, deadline) {
        Ok(()) => Reply::Parked,
        Err(error) => Reply::Error(error),
    }
}

fn begin_wait(call: &mut Call<'_>, expected: u32, bitset: u32, deadline: Option<u64>) -> Result<(), Errno> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let [address, ..] = call.args;
    let place = place(call, address, Access::Read)?;
    let is_over = deadline.is_some_and(|deadline| deadline <= tsc());
    let wait = match place {
        Place::Segment(word) if !is_over => {
            call.kernel.wait_shared(call.task, word, expected, bitset)?;
            Wait::SharedFutex
        }
        _ => {
            if word(call, address, Access::Read)?.load() != expected {
                return Err(Errno::EAGAIN);
            }
            match place {
                Place::Local(key) if !is_over => Wait::Futex { key, bitset },
                _ => return Err(Errno::ETIMEDOUT),
            }
        }
    };
    call.kernel.park(call.cpu, call.task, wait, deadline);
    if let Wait::Futex { key, .. } = wait {
        call.kernel.futexes.add(call.kernel.tasks, key, call.task);
    }
    Ok(())
}

fn wake(call: &mut Call<'_>, count: u64, bitset: u32) -> Result<u64, Errno> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let [address, ..] = call.args;
    let place = place(call, address, Access::Read)?;
    call.kernel.wake_at(call.cpu, place, at_least_one(count), bitset)
}

/// Wakes some, and has others wait for a second word, if the first is `expected` (or whatever it is).
fn requeue(call: &mut Call<'_>, expected: Option<u32>) -> Result<u64, Errno> {
    let [address, _, wake, requeue, second, _] = call.args;
    let (wake, requeue) = (wake as u32, requeue as u32);
    if (wake as i32) < 0 || (requeue as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let from = place(call, address, Access::Read)?;
    let to = place(call, second, Access::Read)?;
    if let (Place::Segment(from), Place::Segment(to)) = (from, to) {
        return call
            .kernel
            .requeue_shared(call.cpu, (from, to), (wake, requeue), expected);
    }
    if let Some(expected) = expected
        && word(call, address, Access::Read)?.load() != expected
    {
        return Err(Errno::EAGAIN);
    }
    let (cpu, wake, requeue) = (call.cpu, u64::from(wake), u64::from(requeue));
    match (from, to) {
        (Place::Local(from), Place::Local(to)) => {
            let woken = call.kernel.wake_futex(cpu, from, wake, FUTEX_BITSET_MATCH_ANY);
            let kernel = &mut *call.kernel;
            Ok(woken + kernel.futexes.requeue(kernel.tasks, from, to, requeue))
        }
        // Nobody can be in two kernels' queues by turns. A waiter may be woken without a reason (futex(2)), so those
        // that were to be moved are woken: they look at their word and wait again, where they have to.
        (from, _) => call
            .kernel
            .wake_at(cpu, from, wake + requeue, FUTEX_BITSET_MATCH_ANY),
    }
}

/// Changes the second word, wakes waiters of the first, and, depending on what the second was, of that.
fn wake_op(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, _, count, second_count, second, encoded] = call.args;
    let first = place(call, address, Access::Read)?;
    let other = place(call, second, Access::Write)?;
    let op = WakeOp::decode(encoded as u32).ok_or(Errno::ENOSYS)?;
    let target = word(call, second, Access::Write)?;
    let old = loop {
        let old = target.load();
        if target.compare_exchange(old, op.apply(old)) {
            break old;
        }
    };
    let both = op.compare(old).ok_or(Errno::ENOSYS)?;
    let (kernel, cpu) = (&mut *call.kernel, call.cpu);
    let mut woken = kernel.wake_at(cpu, first, at_least_one(count), FUTEX_BITSET_MATCH_ANY)?;
    if both {
        woken += kernel.wake_at(cpu, other, at_least_one(second_count), FUTEX_BITSET_MATCH_ANY)?;
    }
    Ok(woken)
}
