//! futex(2): waiting for a word and waking those who do, within this guest.

use super::time::Timespec;
use super::{Attempt, Call, Reply};
use crate::arch::context::Context;
use crate::mm::area::Backing;
use crate::mm::{Access, Run};
use crate::process::task::{FutexKey, Wait};
use crate::time;
use abi::Errno;
use paging::GuestVirt;

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAKE_BITSET: u64 = 10;
const FUTEX_PRIVATE_FLAG: u64 = 128;
const FUTEX_CLOCK_REALTIME: u64 = 256;
const EVERY_BIT: u32 = u32::MAX;

/// What the word at `address` is, and its value. Reading it comes first, so that it has a page.
fn key(call: &mut Call<'_>, address: u64) -> Result<(FutexKey, u32), Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let word: u32 = call.read(address)?;
    let space = call.task().space;
    let flagged = call.args[1] & FUTEX_PRIVATE_FLAG != 0;
    let private = FutexKey::Private {
        space,
        address,
        flagged,
    };
    if flagged {
        return Ok((private, word));
    }
    let key = call.with_space(|space, memory, world| {
        let Some(area) = space.area_at(memory, GuestVirt::new(address)) else {
            return Err(Errno::EFAULT);
        };
        match area.backing {
            Backing::Segment(segment) => {
                let offset = segment.offset + (address - area.start.get());
                Ok(FutexKey::Segment(segment.id, offset))
            }
            Backing::SharedAnonymous => match space.run(memory, world, address, 4, Access::Read)? {
                Run::Ram(gpa, _) => Ok(FutexKey::Shared(gpa.get())),
                Run::Segment(_) => Err(Errno::EFAULT),
            },
            Backing::Anonymous | Backing::Image { .. } => Ok(private),
        }
    })?;
    Ok((key, word))
}

/// futex(2).
pub fn futex(call: &mut Call<'_>) -> Reply {
    let [address, operation, value, timeout, _, bits] = call.args;
    let operation = operation as u32 as u64;
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    match operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME) {
        // FUTEX_CLOCK_REALTIME goes with absolute times only (futex(2)).
        FUTEX_WAIT if realtime => Reply::Error(Errno::ENOSYS),
        FUTEX_WAIT => wait(call, address, value as u32, EVERY_BIT, |call| {
            relative(call, timeout)
        }),
        FUTEX_WAIT_BITSET => wait(call, address, value as u32, bits as u32, |call| {
            absolute(call, timeout, realtime)
        }),
        FUTEX_WAKE => wake(call, address, value, EVERY_BIT).into(),
        FUTEX_WAKE_BITSET => wake(call, address, value, bits as u32).into(),
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

fn wait(
    call: &mut Call<'_>,
    address: u64,
    expected: u32,
    bitset: u32,
    deadline: impl FnOnce(&mut Call<'_>) -> Result<Option<u64>, Errno>,
) -> Reply {
    let prepared = deadline(call).and_then(|deadline| {
        if bitset == 0 {
            return Err(Errno::EINVAL);
        }
        Ok((deadline, key(call, address)?))
    });
    match prepared {
        Err(error) => Reply::Error(error),
        Ok((_, (_, word))) if word != expected => Reply::Error(Errno::EAGAIN),
        Ok((deadline, (key, _))) => {
            let deadline = match call.attempt {
                Attempt::First => deadline,
                // The first one holds.
                Attempt::Again => deadline.and(Some(call.task().deadline)),
            };
            call.kernel
                .park(call.cpu, call.task, Wait::Futex { key, bitset }, deadline);
            call.kernel.futexes.add(call.kernel.tasks, key, call.task);
            Reply::Parked
        }
    }
}

fn wake(call: &mut Call<'_>, address: u64, count: u64, bitset: u32) -> Result<u64, Errno> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let (key, _) = key(call, address)?;
    // Linux wakes one even for 0 or less (kernel/futex/waitwake.c).
    let count = i64::from(count as u32 as i32).max(1) as u64;
    let mut woken = 0;
    while woken < count
        && let Some(task) = call.kernel.futexes.take(call.kernel.tasks, key, bitset)
    {
        Context::of(task).set_result(0);
        call.kernel.wake(call.cpu, task);
        woken += 1;
    }
    Ok(woken)
}

/// The calling task ends: the word at `address` becomes 0, and one that waits for that is woken (`CLONE_CHILD_CLEARTID` in
/// clone(2): as FUTEX_WAKE without the private flag).
pub fn clear_and_wake(call: &mut Call<'_>, address: u64) {
    if call.write(address, &0u32).is_ok() {
        call.args = [address, FUTEX_WAKE, 1, 0, 0, 0];
        let _ = wake(call, address, 1, EVERY_BIT);
    }
}
