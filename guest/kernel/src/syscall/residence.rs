//! mlock and its kin, mincore.

use super::Call;
use crate::mm::area::Advice;
use crate::mm::is_below_end;
use crate::mm::residence::RESIDENT;
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const MLOCK_ONFAULT: u64 = 1;
const MCL_CURRENT: u64 = 1;
const MCL_FUTURE: u64 = 2;
const MCL_ONFAULT: u64 = 4;

fn locks(on_fault: u64) -> Advice {
    if on_fault == 0 {
        Advice::LOCKED
    } else {
        Advice::LOCKS
    }
}

/// mlock(2).
pub fn mlock(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, ..] = call.args;
    call.with_space(|space, memory, world| space.lock(memory, world, address, len, Advice::LOCKED))?;
    Ok(0)
}

/// mlock2(2).
pub fn mlock2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, flags, ..] = call.args;
    if flags as u32 as u64 & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    let how = locks(flags & MLOCK_ONFAULT);
    call.with_space(|space, memory, world| space.lock(memory, world, address, len, how))?;
    Ok(0)
}

/// munlock(2).
pub fn munlock(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, ..] = call.args;
    call.with_space(|space, memory, world| space.unlock(memory, world, address, len))?;
    Ok(0)
}

/// mlockall(2).
pub fn mlockall(call: &mut Call<'_>) -> Result<u64, Errno> {
    let flags = u64::from(call.args[0] as u32);
    if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let how = locks(flags & MCL_ONFAULT);
    let now = (flags & MCL_CURRENT != 0).then_some(how);
    let later = if flags & MCL_FUTURE != 0 {
        how
    } else {
        Advice::empty()
    };
    call.with_space(|space, memory, world| space.lock_all(memory, world, now, later))?;
    Ok(0)
}

/// munlockall(2).
pub fn munlockall(call: &mut Call<'_>) -> Result<u64, Errno> {
    call.with_space(|space, memory, world| space.unlock_all(memory, world));
    Ok(0)
}

/// mincore(2).
pub fn mincore(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, to, ..] = call.args;
    if address % PAGE_SIZE != 0 {
        return Err(Errno::EINVAL);
    }
    if !is_below_end(address, len) {
        return Err(Errno::ENOMEM);
    }
    let pages = len.div_ceil(PAGE_SIZE);
    if !is_below_end(to, pages) {
        return Err(Errno::EFAULT);
    }
    let mut there = [0; RESIDENT];
    let mut done = 0;
    while done < pages {
        let at = GuestVirt::new(address + done * PAGE_SIZE);
        let seen = call.with_space(|space, memory, _| space.in_core(memory, at, pages - done, &mut there))?;
        call.write(to + done, &there[..seen])?;
        done += seen as u64;
    }
    Ok(0)
}
