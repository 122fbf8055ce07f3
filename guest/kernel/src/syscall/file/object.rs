//! Bytes, size and attributes of objects: the broker's, so that all guests see the same ([`crate::fs::object`]).
//!
//! The host copies between an object and RAM, never through a window. What lies in shared memory passes through a page of
//! the kernel's own.

use super::buffers::{Buffers, each};
use super::content::Region;
use super::transfer::{At, moved_on};
use crate::arch::lent::{Lent, gpa_of};
use crate::fs::FileId;
use crate::fs::open::{O_APPEND, OpenFile};
use crate::fs::permission::Who;
use crate::hypercall::{self, Requester};
use crate::mm::contents::MOST_BYTES;
use crate::mm::{Access, Run};
use crate::process::limits;
use crate::process::signal::SIGXFSZ;
use crate::process::task::Wait;
use crate::syscall::{Attempt, Call, Reply};
use abi::hypercall::{Call as Host, MAX_WRITE};
use abi::object::AT_END;
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

/// For bytes on their way between an object and shared memory.
static PAGE: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

fn ask(what: Host, args: &[u64]) -> Result<u64, Errno> {
    hypercall::call(what, Requester::default(), args)
}

/// Makes a call that may have to wait for other guests.
pub fn or_wait(call: &mut Call<'_>, work: fn(&mut Call<'_>) -> Result<u64, Errno>) -> Reply {
    call.kernel.files.refused = None;
    match (work(call), call.kernel.files.refused.take()) {
        (Err(Errno::EAGAIN), Some(number)) => call.wait(Wait::Object, number, None),
        (result, _) => result.into(),
    }
}

/// The host has answered EAGAIN: the call is made again when it is worth it, with this number.
fn refused(call: &mut Call<'_>, number: u64) -> Errno {
    call.kernel.files.refused = Some(number);
    Errno::EAGAIN
}

/// Makes object `serial` so long.
///
/// # Errors
/// ENOSPC; EAGAIN: see [`or_wait`].
pub fn resize(call: &mut Call<'_>, file: FileId, serial: u64, size: u64) -> Result<(), Errno> {
    let number = match call.attempt {
        Attempt::First => 0,
        Attempt::Again => call.task().moved,
    };
    match ask(Host::ObjectResize, &[serial, size, number]) {
        Ok(_) => {
            call.kernel.memory.contents.set_size(file, size);
            Ok(())
        }
        Err(Errno::EAGAIN) => {
            let [number, _] = hypercall::out();
            Err(refused(call, number))
        }
        Err(error) => Err(error),
    }
}

/// Reads bytes at `offset` into a program's memory: how many, fewer than asked for at the end.
///
/// # Errors
/// EFAULT if not even the first one can be.
pub fn read(call: &mut Call<'_>, serial: u64, offset: u64, region: Region) -> Result<u64, Errno> {
    let mut done = 0;
    while done < region.len {
        let moved = read_some(
            call,
            serial,
            offset + done,
            Region {
                address: region.address.wrapping_add(done),
                len: region.len - done,
            },
        );
        match moved {
            Ok((got, asked)) => {
                done += got;
                if got < asked {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// How many bytes were read, and how many were asked for: those that lie in a row.
fn read_some(call: &mut Call<'_>, serial: u64, offset: u64, region: Region) -> Result<(u64, u64), Errno> {
    let Region { address, len } = region;
    let from_host = |to: GuestPhys, len: u64| ask(Host::ObjectRead, &[serial, offset, to.get(), len]);
    call.with_space(
        |space, memory, world| match space.run(memory, world, address, len, Access::Write)? {
            Run::Ram(to, run) => {
                let run = run.min(MAX_WRITE);
                Ok((from_host(to, run)?, run))
            }
            Run::Segment(run) => PAGE.with(|page| {
                let (page, run) = (GuestPhys::new(gpa_of(page)), run.min(PAGE_SIZE));
                let got = from_host(page, run)?;
                space.copy_out(memory, world, address, page, got)?;
                Ok((got, run))
            }),
        },
    )
}

/// Writes a program's bytes at `offset`, or at the end ([`AT_END`]): how many, and the offset after them.
///
/// # Errors
/// EFAULT, ENOSPC, EFBIG, EAGAIN (see [`or_wait`]) if not even the first one can be.
pub fn write(call: &mut Call<'_>, serial: u64, offset: u64, region: Region) -> Result<(u64, u64), Errno> {
    let (mut done, mut end) = (0, offset);
    while done < region.len {
        let at = if offset == AT_END { AT_END } else { offset + done };
        let (address, len) = (region.address.wrapping_add(done), region.len - done);
        let to_host = |from: GuestPhys, len: u64| {
            let written = ask(Host::ObjectWrite, &[serial, at, from.get(), len])?;
            let [end, _] = hypercall::out();
            Ok((written, end))
        };
        let moved = call.with_space(|space, memory, world| {
            match space.run(memory, world, address, len, Access::Read)? {
                Run::Ram(from, run) => to_host(from, run.min(MAX_WRITE)),
                Run::Segment(run) => PAGE.with(|page| {
                    let (page, run) = (GuestPhys::new(gpa_of(page)), run.min(PAGE_SIZE));
                    space.copy_in(memory, world, address, page, run)?;
                    to_host(page, run)
                }),
            }
        });
        match moved {
            Ok((written, after)) => {
                done += written;
                end = after;
            }
            Err(error) if done > 0 => {
                let _ = error;
                break;
            }
            Err(Errno::EAGAIN) => return Err(refused(call, 0)),
            Err(error) => return Err(error),
        }
    }
    Ok((done, end))
}

/// Writes what is in `buffers` to an object that is open as `number`.
pub fn write_from<B: Buffers>(
    call: &mut Call<'_>,
    file: FileId,
    number: u16,
    open: &OpenFile,
    buffers: &B,
    at: At,
) -> Reply {
    let Some(serial) = call.kernel.files.object(file) else {
        return Reply::Error(Errno::EBADF);
    };
    let append = open.flags & O_APPEND != 0;
    let start = at.or(open.offset);
    let [most, _] = call.process().limit(limits::FSIZE);
    let mut end = start;
    call.kernel.files.refused = None;
    let done = each(call, buffers, |call, region, done| {
        let mut from = start + done;
        if append {
            call.kernel.files.refresh(&mut call.kernel.memory, file);
            from = call.kernel.memory.contents.size(file);
        }
        let room = most.min(MOST_BYTES).saturating_sub(from);
        if room == 0 {
            if from >= most {
                call.signal_itself(SIGXFSZ);
            }
            return Err(Errno::EFBIG);
        }
        let region = Region {
            len: region.len.min(room),
            ..region
        };
        let (written, after) = write(call, serial, if append { AT_END } else { from }, region)?;
        end = after;
        Ok(written)
    });
    match done {
        Err(Errno::EAGAIN) if call.kernel.files.refused.take().is_some() => call.wait(Wait::Object, 0, None),
        Err(error) => Reply::Error(error),
        Ok(done) => {
            if done > 0 {
                moved_on(call, number, at, end);
            }
            Reply::Value(done)
        }
    }
}

/// Reads at most a page at `offset`, and lets `work` have it: where it lies, and how many bytes.
///
/// # Errors
/// Those of the broker and of `work`.
pub fn with_bytes<R>(
    call: &mut Call<'_>,
    serial: u64,
    offset: u64,
    len: u64,
    work: impl FnOnce(&mut Call<'_>, GuestPhys, u64) -> Result<R, Errno>,
) -> Result<R, Errno> {
    PAGE.with(|page| {
        let page = GuestPhys::new(gpa_of(page));
        let got = ask(
            Host::ObjectRead,
            &[serial, offset, page.get(), len.min(PAGE_SIZE)],
        )?;
        work(call, page, got)
    })
}

/// Writes `len` bytes of RAM, or of zeros, at `offset`: a page of these at most.
///
/// # Errors
/// ENOSPC, EFBIG; EBUSY while the object is becoming smaller.
pub fn write_ram(serial: u64, offset: u64, from: Option<GuestPhys>, len: u64) -> Result<u64, Errno> {
    let written = match from {
        Some(from) => ask(Host::ObjectWrite, &[serial, offset, from.get(), len]),
        None => PAGE.with(|page| {
            page.fill(0);
            ask(
                Host::ObjectWrite,
                &[serial, offset, gpa_of(page), len.min(PAGE_SIZE)],
            )
        }),
    };
    written.map_err(|error| {
        if error == Errno::EAGAIN {
            Errno::EBUSY
        } else {
            error
        }
    })
}

/// Changes mode, owner or times: which ([`abi::object::SET_MODE`] …), mode, user and group, times.
///
/// # Errors
/// EPERM, EACCES.
pub fn set(
    call: &mut Call<'_>,
    serial: u64,
    what: u64,
    mode: u32,
    (uid, gid): (u32, u32),
    times: [u64; 2],
) -> Result<u64, Errno> {
    let process = call.process();
    let who = Who::new(&process.credentials);
    let requester = Requester {
        pid: process.pid,
        euid: who.uid,
        egid: who.gid,
    };
    hypercall::set_groups(who.groups());
    let ids = u64::from(gid) << 32 | u64::from(uid);
    let args = [serial, what, mode.into(), ids, times[0], times[1]];
    hypercall::call(Host::ObjectSet, requester, &args).map(|_| 0)
}
