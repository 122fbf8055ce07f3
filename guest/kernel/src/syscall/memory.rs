//! mmap, munmap, mprotect, mremap, madvise, brk: anonymous memory only, there are no files to map.

use super::Call;
use crate::mm::Placement;
use crate::mm::area::{Advice, Backing, Prot};
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const MAP_SHARED: u64 = 1;
const MAP_TYPE: u64 = 0xf;
const MAP_PRIVATE: u64 = 2;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_STACK: u64 = 0x2_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

fn prot(bits: u64) -> Result<Prot, Errno> {
    // PROT_SEM (8) and PROT_GROWSDOWN/UP are taken by Linux; growing is for stacks, which here have their size.
    if bits & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Prot::from_bits_truncate(bits as u8))
}

/// mmap(2).
pub fn mmap(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, bits, flags, ..] = call.args;
    // Unknown protection bits are ignored here (mmap(2) keeps only those it knows).
    let prot = Prot::from_bits_truncate(bits as u8 & 7);
    if flags & MAP_ANONYMOUS == 0 {
        return Err(if call.args[4] as u32 as i32 >= 0 && (call.args[4] as u32) < 3 {
            Errno::ENODEV
        } else {
            Errno::EBADF
        });
    }
    let backing = match flags & MAP_TYPE {
        MAP_SHARED => Backing::SharedAnonymous,
        MAP_PRIVATE => Backing::Anonymous,
        _ => return Err(Errno::EINVAL),
    };
    let at = GuestVirt::new(address);
    let placement = if flags & MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(at)
    } else if flags & MAP_FIXED != 0 {
        Placement::Fixed(at)
    } else if address != 0 {
        Placement::Hint(at)
    } else {
        Placement::Anywhere
    };
    if matches!(placement, Placement::Fixed(_) | Placement::FixedNoReplace(_)) && !at.is_aligned(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let all = Prot::READ | Prot::WRITE | Prot::EXECUTE;
    let mut advice = Advice::empty();
    advice.set(Advice::SMALL, flags & MAP_STACK != 0);
    let mapped = call.with_space(|space, memory, world| {
        space.map_advised(memory, world, placement, len, prot, all, backing, advice)
    })?;
    Ok(mapped.get())
}

/// munmap(2).
pub fn munmap(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, ..] = call.args;
    call.with_space(|space, memory, world| space.unmap(memory, world, GuestVirt::new(address), len))?;
    Ok(0)
}

/// mprotect(2).
pub fn mprotect(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, bits, ..] = call.args;
    let prot = prot(bits)?;
    call.with_space(|space, memory, world| space.protect(memory, world, GuestVirt::new(address), len, prot))?;
    Ok(0)
}

/// mremap(2).
pub fn mremap(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [old, old_len, new_len, flags, new, _] = call.args;
    let moved = call.with_space(|space, memory, world| {
        space.remap(
            memory,
            world,
            GuestVirt::new(old),
            old_len,
            new_len,
            flags,
            GuestVirt::new(new),
        )
    })?;
    Ok(moved.get())
}

/// madvise(2).
pub fn madvise(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, advice, ..] = call.args;
    call.with_space(|space, memory, world| {
        space.advise(memory, world, GuestVirt::new(address), len, advice)
    })?;
    Ok(0)
}

/// brk(2), the raw call: it returns the break, moved or not.
pub fn brk(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [wanted, ..] = call.args;
    Ok(call.with_space(|space, memory, world| space.set_break(memory, world, wanted)))
}
