//! shmget, shmat, shmdt, shmctl: the guest's half.
//!
//! The broker knows every rule about segments; this side knows addresses. An attach goes in Linux's order
//! (ipc/shm.c, do_shmat): what is wrong with the address as such, then id and permission (the broker), then
//! whether there is room (the broker is told how much, so that it counts nothing in vain), then the mapping.
//! Attaches are counted where mappings are made and destroyed: by SHM_ATTACH here, and by
//! [`crate::mm::World`]'s two functions when a mapping is split or goes.

use crate::hypercall::{self, Requester};
use crate::mm::Place;
use crate::mm::area::{Prot, SegmentRef, Window};
use crate::process::limits;
use crate::syscall::Call;
use abi::Errno;
use abi::hypercall::Call as Host;
use abi::ipc::{
    IPC_CREAT, IPC_INFO, IPC_PRIVATE, IPC_SET, IPC_STAT, SHM_EXEC, SHM_INFO, SHM_RDONLY, SHM_REMAP, SHM_RND,
    SHM_STAT, SHM_STAT_ANY, SHMLBA, ShmInfo, ShmInfo64, ShmidDs,
};
use abi::memory::USER_END;
use paging::{GuestPhys, GuestVirt};

/// Asks the broker something it checks permissions for.
fn ask(call: &mut Call<'_>, what: Host, args: &[u64]) -> Result<u64, Errno> {
    let process = call.process();
    hypercall::set_groups(process.credentials.groups());
    hypercall::call(what, process.requester(), args)
}

/// shmget(2).
pub fn get(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [key, size, flags, ..] = call.args;
    let task = call.task();
    // Whether it makes one only the host knows.
    task.made_segments |= flags as u32 & IPC_CREAT != 0 || key as u32 as i32 == IPC_PRIVATE;
    let id = u64::from(task.id);
    ask(
        call,
        Host::ShmGet,
        &[key as u32 as u64, size, flags as u32 as u64, id],
    )
}

/// Task `id`, which may have made segments, has ended.
pub fn maker_ended(id: u32) {
    // The host has nothing to refuse.
    let _ = hypercall::call(Host::ShmMakerEnded, Requester::default(), &[u64::from(id)]);
}

/// The address `shmaddr` and `flags` name, or `None` for one of the kernel's choice.
fn address(shmaddr: u64, flags: u32) -> Result<Option<u64>, Errno> {
    let remap = flags & SHM_REMAP != 0;
    match shmaddr {
        0 if remap => Err(Errno::EINVAL),
        0 => Ok(None),
        given if given % SHMLBA == 0 => Ok(Some(given)),
        given if flags & SHM_RND != 0 => {
            let down = given - given % SHMLBA;
            if down == 0 && remap {
                Err(Errno::EINVAL)
            } else {
                Ok(Some(down))
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// How many bytes there may be for the attach, and the error if they are too few: what is checked after id and
/// permission, in Linux's order. First the place as such (do_shmat), then all that mmap would say.
fn rooms(call: &mut Call<'_>, at: Option<u64>, flags: u32) -> [(u64, Errno); 2] {
    let replaces = flags & SHM_REMAP != 0;
    call.with_space(|space, memory, _| {
        let start = at.map(GuestVirt::new);
        let first = match at {
            // A segment that would end beyond the last address of all is EINVAL before it is too much. How large it
            // is only the broker knows: a page is the least.
            Some(at) if at >= 0u64.wrapping_sub(SHMLBA) && !replaces => (0, Errno::EINVAL),
            Some(at) if at >= USER_END => (0, Errno::ENOMEM),
            Some(at) if replaces => (USER_END - at, Errno::ENOMEM),
            Some(at) => match space.room_at(memory, start) {
                free if at + free >= USER_END => (free, Errno::ENOMEM),
                free => (free, Errno::EINVAL),
            },
            None => (space.room_at(memory, None), Errno::ENOMEM),
        };
        let place = match start {
            None => Place::Chosen,
            Some(at) if replaces => Place::Replacing(at),
            Some(at) => Place::Free(at),
        };
        let second = match space.can_attach(memory, place) {
            Ok(()) => {
                let replaced = start.filter(|_| replaces);
                let most = space.may_attach(memory, replaced);
                match space.lockable(memory) {
                    lockable if lockable < most => (lockable, Errno::EAGAIN),
                    _ => (most, Errno::ENOMEM),
                }
            }
            Err(errno) => (0, errno),
        };
        [first, second]
    })
}

/// shmat(2).
pub fn attach(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, shmaddr, flags, ..] = call.args;
    let (id, flags) = (id as u32 as i32, flags as u32);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let at = address(shmaddr, flags)?;
    let [(room, no_room), (most, too_much)] = rooms(call, at, flags);
    let [no_room, too_much] = [no_room, too_much].map(|errno| errno.raw() as u64);
    let wanted = u64::from(flags & (SHM_RDONLY | SHM_EXEC));
    let args = [id as u64, wanted, room, no_room, most, too_much];
    let key = ask(call, Host::ShmAttach, &args)?;
    let [gpa, size] = hypercall::out();

    let (window, mut prot) = if flags & SHM_RDONLY != 0 {
        (Window::ReadOnly, Prot::READ)
    } else {
        (Window::ReadWrite, Prot::READ | Prot::WRITE)
    };
    prot.set(Prot::EXECUTE, flags & SHM_EXEC != 0);
    let gpa = GuestPhys::new(gpa);
    let segment = SegmentRef {
        id,
        window,
        attach: 0,
        key: key as u32 as i32,
        gpa,
        size,
        offset: 0,
    };
    let mapped = call.with_space(|space, memory, world| match at.map(GuestVirt::new) {
        Some(at) if flags & SHM_REMAP != 0 => space.attach_replacing(memory, world, at, segment, prot),
        at => space.attach(memory, world, at, segment, prot),
    });
    match mapped {
        Ok(address) => {
            let space = call.task().space;
            if !call.kernel.spaces[space].locks_new().is_empty() {
                let end = address.add(segment.mapped_size());
                call.with_space(|space, memory, world| {
                    let _ = space.fill_range(memory, world, address, end);
                });
            }
            Ok(address.get())
        }
        Err(error) => {
            // Counted, but not mapped: undo.
            let who = call.requester();
            hypercall::call(Host::ShmDetach, who, &[id as u64, window.raw(), 1])?;
            Err(error)
        }
    }
}

/// shmdt(2).
pub fn detach(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [shmaddr, ..] = call.args;
    if !shmaddr.is_multiple_of(SHMLBA) {
        return Err(Errno::EINVAL);
    }
    call.with_space(|space, memory, world| space.detach(memory, world, GuestVirt::new(shmaddr)))?;
    Ok(0)
}

/// shmctl(2). The broker checks; here structures are copied, at the places in the order of errors where
/// Linux does it.
pub fn control(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, command, buffer, ..] = call.args;
    let (id, command) = (id as u32 as i32, command as u32 as i32);
    if command < 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if command == IPC_SET {
        let wanted: ShmidDs = call.read(buffer)?;
        hypercall::set_payload(&wanted);
    }
    // What the caller may lock; one more, so that 0 can mean that a kernel does not say.
    let process = call.process();
    let ([memlock, _], user) = (process.limit(limits::MEMLOCK), process.credentials.uid[0]);
    let result = ask(
        call,
        Host::ShmControl,
        &[
            id as u64,
            command as u64,
            memlock.saturating_add(1),
            u64::from(user),
        ],
    )?;
    match command {
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let state: ShmidDs = hypercall::payload();
            call.write(buffer, &state)?;
        }
        IPC_INFO => {
            let limits: ShmInfo64 = hypercall::payload();
            call.write(buffer, &limits)?;
        }
        SHM_INFO => {
            let totals: ShmInfo = hypercall::payload();
            call.write(buffer, &totals)?;
        }
        _ => {}
    }
    Ok(result)
}
