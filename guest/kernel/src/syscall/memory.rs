//! mmap, munmap, mprotect, mremap, remap_file_pages, madvise, msync, brk.

use super::Call;
use super::file::open_file;
use crate::fs::device::Device;
use crate::fs::inode::Kind;
use crate::fs::open::{O_PATH, What};
use crate::fs::seal::Seals;
use crate::mm::Placement;
use crate::mm::area::{Advice, Backing, FilePart, Prot};
use crate::mm::contents::MOST_BYTES;
use abi::memory::USER_END;
use abi::{Errno, PAGE_SIZE};
use paging::GuestVirt;

const MAP_SHARED: u64 = 1;
/// As MAP_SHARED, but flags that are not known are refused.
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_TYPE: u64 = 0xf;
const MAP_PRIVATE: u64 = 2;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_LOCKED: u64 = 0x2000;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x1_0000;
const MAP_STACK: u64 = 0x2_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

fn prot(bits: u64) -> Result<Prot, Errno> {
    // PROT_SEM (8) and PROT_GROWSDOWN/UP are taken by Linux; growing is for stacks, which here have their size.
    if bits & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Prot::from_bits_truncate(bits as u8))
}

/// Shared memory of `len` bytes; of a length there can't be, the rest says.
fn shared_anonymous(call: &mut Call<'_>, len: u64) -> Backing {
    let len = len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0);
    let byte = call.kernel.shared_bytes;
    if len <= USER_END {
        // A page more, so that it is never one with what comes to lie behind it.
        call.kernel.shared_bytes += len + PAGE_SIZE;
    }
    Backing::SharedAnonymous {
        byte,
        first: byte,
        len,
    }
}

/// mmap(2).
pub fn mmap(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, bits, flags, ..] = call.args;
    // Unknown protection bits are ignored here (mmap(2) keeps only those it knows).
    let prot = Prot::from_bits_truncate(bits as u8 & 7);
    let all = Prot::READ | Prot::WRITE | Prot::EXECUTE;
    let (backing, may) = match (flags & MAP_ANONYMOUS != 0, flags & MAP_TYPE) {
        (false, _) => file_behind(call, len, prot, flags)?,
        (true, MAP_SHARED) => (shared_anonymous(call, len), all),
        (true, MAP_PRIVATE) => (Backing::Anonymous, all),
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
    let mut advice = Advice::empty();
    advice.set(Advice::SMALL, flags & MAP_STACK != 0);
    advice.set(Advice::LOCKED, flags & MAP_LOCKED != 0);
    let mapped = call.with_space(|space, memory, world| {
        if advice.contains(Advice::LOCKED) {
            space.may_lock()?;
        }
        space.map_advised(memory, world, placement, len, prot, may, backing, advice)
    });
    let start = mapped?;
    if let Backing::File(_) = backing {
        call.with_space(|space, memory, world| {
            let shown = space.show_object(memory, world, start);
            if shown.is_err() {
                // What was made can be unmade: nothing was there before, or it is gone.
                let _ = space.unmap(memory, world, start, len);
            }
            shown
        })?;
    }
    fill_new(call, start.get(), len, flags);
    Ok(start.get())
}

/// Makes the pages of a new mapping if `flags` (of mmap) or a mlockall say so, as far as they can be made.
fn fill_new(call: &mut Call<'_>, start: u64, len: u64, flags: u64) {
    let space = call.task().space;
    let asked = flags & MAP_LOCKED != 0 || flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
    if !asked && call.kernel.spaces[space].locks_new().is_empty() {
        return;
    }
    let end = GuestVirt::new(start.saturating_add(len).next_multiple_of(PAGE_SIZE));
    call.with_space(|space, memory, world| {
        let _ = space.fill_range(memory, world, GuestVirt::new(start), end);
    });
}

/// What is behind a mapping of the file that the call names, and the most that mprotect may grant there.
///
/// # Errors
/// EBADF, EINVAL for a crooked offset or no length, EOVERFLOW beyond any file, EACCES for what the file was not opened
/// for, EPERM for what it is sealed against, ENODEV for what can't be mapped, ENOSPC.
fn file_behind(call: &mut Call<'_>, len: u64, prot: Prot, flags: u64) -> Result<(Backing, Prot), Errno> {
    /// Those that mmap(2) knows and MAP_SHARED_VALIDATE takes.
    const KNOWN: u64 = 0x10_ffff;
    let [.., fd, offset] = call.args;
    if offset % PAGE_SIZE != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, open) = open_file(call, fd)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let end = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    offset
        .checked_add(end)
        .filter(|end| *end <= MOST_BYTES)
        .ok_or(Errno::EOVERFLOW)?;
    let shared = match flags & MAP_TYPE {
        MAP_SHARED => true,
        MAP_SHARED_VALIDATE if flags & !KNOWN != 0 => return Err(Errno::EOPNOTSUPP),
        MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let mut may = Prot::all();
    if shared && !open.can_write() {
        may -= Prot::WRITE;
    }
    if !open.can_read() || !may.contains(prot) {
        return Err(Errno::EACCES);
    }
    let What::File(file) = open.what else {
        return Err(Errno::ENODEV);
    };
    match (call.kernel.files.inodes.get(file).kind, shared) {
        (Kind::Regular, _) => {}
        (Kind::Device(Device::Zero), true) => return Ok((shared_anonymous(call, len), may)),
        (Kind::Device(Device::Zero), false) => return Ok((Backing::Anonymous, may)),
        _ => return Err(Errno::ENODEV),
    }
    let seals = call.kernel.files.inodes.get(file).seals;
    if shared && seals.is_some_and(|seals| seals.intersects(Seals::WRITING)) {
        if prot.contains(Prot::WRITE) && may.contains(Prot::WRITE) {
            return Err(Errno::EPERM);
        }
        may -= Prot::WRITE;
    }
    if may.contains(Prot::WRITE) && shared {
        let who = call.requester();
        call.kernel.own_image(call.cpu, who, file)?;
    }
    let part = FilePart { file, offset, shared };
    Ok((Backing::File(part), may))
}

/// msync(2): what is in memory is all there is.
pub fn msync(call: &mut Call<'_>) -> Result<u64, Errno> {
    const ASYNC: u64 = 1;
    const INVALIDATE: u64 = 2;
    const SYNC: u64 = 4;
    let [address, len, flags, ..] = call.args;
    if flags & !(ASYNC | INVALIDATE | SYNC) != 0
        || flags & (ASYNC | SYNC) == ASYNC | SYNC
        || address % PAGE_SIZE != 0
    {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    let end = address.checked_add(len).ok_or(Errno::ENOMEM)?;
    call.with_space(|space, memory, _| {
        let (mut at, mut gaps) = (GuestVirt::new(address), false);
        while at.get() < end {
            let area = space.first_area(memory, at).ok_or(Errno::ENOMEM)?;
            gaps |= area.start > at;
            if area.start.get() < end && flags & INVALIDATE != 0 && area.advice.contains(Advice::LOCKED) {
                return Err(Errno::EBUSY);
            }
            at = area.end;
        }
        if gaps { Err(Errno::ENOMEM) } else { Ok(0) }
    })
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
    if new_len > old_len {
        call.with_space(|space, memory, world| {
            let (from, end) = (moved.add(old_len), moved.add(new_len));
            let locked = space
                .area_at(memory, moved)
                .is_some_and(|area| area.advice.contains(Advice::LOCKED));
            if locked {
                let _ = space.fill_range(
                    memory,
                    world,
                    from.align_down(PAGE_SIZE),
                    end.align_down(PAGE_SIZE),
                );
            }
        });
    }
    Ok(moved.get())
}

/// remap_file_pages(2).
pub fn remap_file_pages(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [start, size, prot, page, flags, _] = call.args;
    if prot != 0 {
        return Err(Errno::EINVAL);
    }
    let at = GuestVirt::new(start);
    call.with_space(|space, memory, world| space.rearrange(memory, world, at, size, page))?;
    let at = at.align_down(PAGE_SIZE).get();
    fill_new(
        call,
        at,
        size & !(PAGE_SIZE - 1),
        flags & MAP_NONBLOCK | MAP_POPULATE,
    );
    Ok(0)
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
    let (before, now) = call
        .with_space(|space, memory, world| (space.program_break(), space.set_break(memory, world, wanted)));
    if now > before {
        fill_new(
            call,
            before & !(PAGE_SIZE - 1),
            now - (before & !(PAGE_SIZE - 1)),
            0,
        );
    }
    Ok(now)
}
