//! Bytes between programs and the command's stdin, stdout and stderr.
//!
//! Bytes do not pass through the kernel: the host is told the guest-physical runs behind the program's
//! buffer. Only a buffer in a segment is copied through a page of the kernel's own, because hypercall
//! buffers lie in RAM, never in a window. The host never waits: when there is nothing to read, or no room, it says
//! EAGAIN, and sends the event interrupt when that has changed; meanwhile the caller is parked.

use super::buffers::{Buffers, MOST};
use super::content::Region;
use crate::arch::lent::{Lent, gpa_of};
use crate::fs::open::OpenFile;
use crate::fs::stat::Stat;
use crate::hypercall;
use crate::mm::{Access, Run};
use crate::process::signal::SIGPIPE;
use crate::process::task::Wait;
use crate::syscall::{Attempt, Call, Reply};
use abi::hypercall::{Call as Host, MAX_WRITE, STDIO_FSTAT};
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

/// For bytes on their way between a segment and the host.
pub static BOUNCE: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// Is the caller the process that the command's stdin goes to?
pub fn owns_stdin(call: &mut Call<'_>) -> bool {
    call.kernel.boot().guest == 0 && call.process().origin == 0
}

/// What the host says of descriptor `which`.
///
/// # Errors
/// The host's.
pub fn status(call: &mut Call<'_>, which: u8) -> Result<Stat, Errno> {
    let who = call.requester();
    hypercall::call(Host::Stdio, who, &[u64::from(which), STDIO_FSTAT])?;
    Ok(hypercall::payload())
}

/// Hands bytes to the host, run by run: how many it took, and why not more.
fn write_region(call: &mut Call<'_>, which: u8, region: Region) -> (u64, Result<(), Errno>) {
    let who = call.requester();
    let index = u64::from(call.process().origin);
    let mut done = 0;
    while done < region.len {
        let (at, rest) = (
            region.address.wrapping_add(done),
            (region.len - done).min(MAX_WRITE),
        );
        let run = call.with_space(|space, memory, world| space.run(memory, world, at, rest, Access::Read));
        let taken = match run {
            Ok(Run::Ram(gpa, run)) => {
                hypercall::call(Host::Write, who, &[which.into(), gpa.get(), run, index])
            }
            Ok(Run::Segment(run)) => {
                let run = run.min(PAGE_SIZE);
                BOUNCE.with(|page| {
                    let gpa = gpa_of(page);
                    let page = &mut page[..run as usize];
                    call.with_space(|space, memory, world| space.read(memory, world, at, page))?;
                    hypercall::call(Host::Write, who, &[which.into(), gpa, run, index])
                })
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(0) => break,
            Ok(taken) => done += taken.min(rest),
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// write(2) and its kin. A blocking write is done when all bytes are.
pub fn write<B: Buffers>(call: &mut Call<'_>, which: u8, open: &OpenFile, buffers: &B) -> Reply {
    let before = if call.attempt == Attempt::Again {
        call.task().moved
    } else {
        0
    };
    let mut done = 0;
    let mut result = Ok(());
    for index in 0..buffers.count() {
        let region = match buffers.get(call, index) {
            Ok(region) => region,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        let len = region.len.min(MOST - done);
        let skip = before.saturating_sub(done).min(len);
        let rest = Region {
            address: region.address.wrapping_add(skip),
            len: len - skip,
        };
        let (written, why) = write_region(call, which, rest);
        done += skip + written;
        result = why;
        if skip + written < len {
            break;
        }
    }
    match result {
        Err(Errno::EAGAIN) if !open.is_non_blocking() => call.wait(Wait::Input, done, None),
        Err(Errno::EPIPE) => {
            call.signal_itself(SIGPIPE);
            if done > 0 {
                Reply::Value(done)
            } else {
                Reply::Error(Errno::EPIPE)
            }
        }
        Err(error) if done == 0 => Reply::Error(error),
        _ => Reply::Value(done),
    }
}

/// Hands `len` bytes of RAM at `from`, or zeros, to the host: how many it took.
///
/// # Errors
/// The host's.
pub fn send(call: &mut Call<'_>, which: u8, from: Option<GuestPhys>, len: u64) -> Result<u64, Errno> {
    let who = call.requester();
    let index = u64::from(call.process().origin);
    let taken = match from {
        Some(from) => hypercall::call(Host::Write, who, &[which.into(), from.get(), len, index]),
        None => BOUNCE.with(|page| {
            let gpa = gpa_of(page);
            page[..len as usize].fill(0);
            hypercall::call(Host::Write, who, &[which.into(), gpa, len, index])
        }),
    };
    if taken == Err(Errno::EPIPE) {
        call.signal_itself(SIGPIPE);
    }
    taken.map(|taken| taken.min(len))
}

/// Reads into the program's memory once; EAGAIN if there is nothing yet.
fn read_region(call: &mut Call<'_>, region: Region) -> Result<u64, Errno> {
    let who = call.requester();
    let Region { address, len } = region;
    match call.with_space(|space, memory, world| space.run(memory, world, address, len, Access::Write))? {
        Run::Ram(gpa, run) => hypercall::call(Host::Read, who, &[gpa.get(), run]),
        Run::Segment(run) => BOUNCE.with(|page| {
            let gpa = gpa_of(page);
            let got = hypercall::call(Host::Read, who, &[gpa, run.min(PAGE_SIZE)])?;
            let page = &page[..(got as usize).min(page.len())];
            call.with_space(|space, memory, world| space.write(memory, world, address, page))?;
            Ok(got)
        }),
    }
}

/// read(2) and its kin: fills the first buffer that has room; a short read is always allowed. Only the first process
/// of the first guest, and what comes from it, has a stdin; the others read its end, as in mpirun.
pub fn read<B: Buffers>(call: &mut Call<'_>, open: &OpenFile, buffers: &B) -> Reply {
    for index in 0..buffers.count() {
        let region = match buffers.get(call, index) {
            Ok(region) => region,
            Err(error) => return Reply::Error(error),
        };
        if region.len == 0 {
            continue;
        }
        if !owns_stdin(call) {
            return Reply::Value(0);
        }
        return match read_region(call, region) {
            Err(Errno::EAGAIN) if !open.is_non_blocking() => call.wait(Wait::Input, 0, None),
            other => other.into(),
        };
    }
    Reply::Value(0)
}
