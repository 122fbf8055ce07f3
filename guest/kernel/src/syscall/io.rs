//! read, write, poll on the command's stdin, stdout and stderr; random bytes.
//!
//! Bytes do not pass through the kernel: the host is told the guest-physical runs behind the program's
//! buffer. Only a buffer in a segment is copied through a page of the kernel's own, because hypercall
//! buffers lie in RAM, never in a window.

use super::{Attempt, Call, Reply, procfs};
use crate::arch::lent::{Lent, gpa_of};
use crate::hypercall;
use crate::mm::{Access, Run};
use crate::process::signal::SIGPIPE;
use crate::process::signal::info::{Info, SI_USER};
use crate::process::signal::send::{self, Target};
use crate::process::task::Wait;
use crate::time;
use abi::hypercall::{Call as Host, MAX_WRITE};
use abi::{Errno, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most bytes one call moves (Linux's MAX_RW_COUNT).
const MOST: u64 = 0x7fff_f000;
const MOST_VECTORS: u64 = 1024;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct IoVec {
    base: u64,
    len: u64,
}

/// For bytes on their way between a segment and the host.
static BOUNCE: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;
const POLLNVAL: i16 = 0x20;
const POLLRDNORM: i16 = 0x40;
const POLLWRNORM: i16 = 0x100;

/// Which of 0, 1, 2 this is, if it is open.
pub fn descriptor(call: &mut Call<'_>, fd: u64) -> Result<u32, Errno> {
    let fd = fd as u32;
    if fd > 2 || call.descriptors().closed & 1 << fd != 0 {
        Err(Errno::EBADF)
    } else {
        Ok(fd)
    }
}

/// Is the caller the process that the command's stdin goes to?
fn owns_stdin(call: &mut Call<'_>) -> bool {
    call.kernel.boot().guest == 0 && call.process().origin == 0
}

/// Hands `len` bytes at `address` to the host, run by run. Returns how many were taken.
fn write_bytes(call: &mut Call<'_>, fd: u32, address: u64, len: u64) -> Result<u64, Errno> {
    let who = call.requester();
    let index = u64::from(call.process().origin);
    let mut done = 0;
    while done < len {
        let (at, rest) = (address.wrapping_add(done), (len - done).min(MAX_WRITE));
        let run = call.with_space(|space, memory, world| space.run(memory, world, at, rest, Access::Read));
        let taken = match run {
            Ok(Run::Ram(gpa, run)) => {
                hypercall::call(Host::Write, who, &[u64::from(fd), gpa.get(), run, index])
            }
            Ok(Run::Segment(run)) => {
                let run = run.min(PAGE_SIZE);
                BOUNCE.with(|page| {
                    let gpa = gpa_of(page);
                    let page = &mut page[..run as usize];
                    call.with_space(|space, memory, world| space.read(memory, world, at, page))?;
                    hypercall::call(Host::Write, who, &[u64::from(fd), gpa, run, index])
                })
            }
            Err(error) => Err(error),
        };
        if taken == Err(Errno::EPIPE) {
            let process = call.process();
            let info = Info::sent(SIGPIPE, SI_USER, process.pid, process.credentials.uid[0]);
            let _ = send::send(call.kernel, call.cpu, Target::Task(call.task), &info);
        }
        match taken {
            Ok(0) => break,
            Ok(taken) => done += taken.min(rest),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// write(2).
pub fn write(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, address, len, ..] = call.args;
    if procfs::is_open(call, fd) {
        return procfs::write(call);
    }
    let fd = descriptor(call, fd)?;
    write_bytes(call, fd, address, len.min(MOST))
}

/// How many vectors of an array are kept at hand.
const AT_HAND: usize = 8;

/// A program's array of vectors, all of it checked before anything is moved (readv(2): EINVAL and EFAULT come
/// first). Those beyond the first few are read again when their turn comes, and checked again.
struct Vectors {
    first: [IoVec; AT_HAND],
    array: u64,
    count: u64,
}

impl Vectors {
    fn new(call: &mut Call<'_>, array: u64, count: u64) -> Result<Vectors, Errno> {
        if count > MOST_VECTORS {
            return Err(Errno::EINVAL);
        }
        let mut vectors = Vectors {
            first: [IoVec { base: 0, len: 0 }; AT_HAND],
            array,
            count,
        };
        let here = &mut vectors.first[..AT_HAND.min(count as usize)];
        call.with_space(|space, memory, world| space.read(memory, world, array, here.as_mut_bytes()))?;
        if here.iter().any(|vector| vector.len > i64::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        for index in AT_HAND as u64..count {
            vectors.get(call, index)?;
        }
        Ok(vectors)
    }

    fn get(&self, call: &mut Call<'_>, index: u64) -> Result<IoVec, Errno> {
        if let Some(vector) = self.first.get(index as usize) {
            return Ok(*vector);
        }
        let vector: IoVec = call.read(self.array.wrapping_add(index * size_of::<IoVec>() as u64))?;
        if vector.len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(vector)
    }

    /// Bytes of all of them together.
    fn total(&self, call: &mut Call<'_>) -> Result<u64, Errno> {
        let mut total = 0u64;
        for index in 0..self.count {
            total = total.saturating_add(self.get(call, index)?.len);
        }
        Ok(total.min(MOST))
    }

    /// Puts `text` where they say, one vector after the other.
    fn scatter(&self, call: &mut Call<'_>, text: &[u8]) -> Result<(), Errno> {
        let mut rest = text;
        for index in 0..self.count {
            let vector = self.get(call, index)?;
            let (piece, after) = rest.split_at(rest.len().min(vector.len as usize));
            call.with_space(|space, memory, world| space.write(memory, world, vector.base, piece))?;
            rest = after;
        }
        Ok(())
    }

    /// Fills `text` with their bytes, one vector after the other.
    fn gather(&self, call: &mut Call<'_>, text: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        for index in 0..self.count {
            let vector = self.get(call, index)?;
            let piece = (text.len() - done).min(vector.len as usize);
            let to = &mut text[done..done + piece];
            call.with_space(|space, memory, world| space.read(memory, world, vector.base, to))?;
            done += piece;
        }
        Ok(())
    }
}

/// writev(2).
pub fn writev(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, array, count, ..] = call.args;
    if procfs::is_open(call, fd) {
        let vectors = Vectors::new(call, array, count)?;
        let total = vectors.total(call)?;
        return procfs::write_fetched(call, total, |call, text| vectors.gather(call, text));
    }
    let fd = descriptor(call, fd)?;
    let vectors = Vectors::new(call, array, count)?;
    let mut done = 0u64;
    for index in 0..vectors.count {
        let part = vectors.get(call, index).and_then(|vector| {
            let len = vector.len.min(MOST - done.min(MOST));
            write_bytes(call, fd, vector.base, len).map(|written| (written, len))
        });
        match part {
            Ok((written, len)) => {
                done += written;
                if written < len {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Reads into the program's memory once; EAGAIN if there is nothing yet.
fn read_bytes(call: &mut Call<'_>, address: u64, len: u64) -> Result<u64, Errno> {
    let who = call.requester();
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

/// Parks the caller until the host has input.
fn wait_for_input(call: &mut Call<'_>, deadline: Option<u64>) -> Reply {
    call.kernel.park(call.cpu, call.task, Wait::Input, deadline);
    Reply::Parked
}

fn read_one(call: &mut Call<'_>, address: u64, len: u64) -> Reply {
    if len == 0 || !owns_stdin(call) {
        return Reply::Value(0);
    }
    match read_bytes(call, address, len.min(MOST)) {
        Err(Errno::EAGAIN) => wait_for_input(call, None),
        other => other.into(),
    }
}

/// read(2). Only the first process of the first guest has a stdin; the others read its end, as in mpirun.
pub fn read(call: &mut Call<'_>) -> Reply {
    let [fd, address, len, ..] = call.args;
    if procfs::is_open(call, fd) {
        return procfs::read(call).into();
    }
    match descriptor(call, fd) {
        Ok(0) => read_one(call, address, len),
        // As a pipe or file opened for writing.
        Ok(_) => Reply::Error(Errno::EBADF),
        Err(error) => Reply::Error(error),
    }
}

/// readv(2): fills the first vector that has room; a short read is always allowed.
pub fn readv(call: &mut Call<'_>) -> Reply {
    let [fd, array, count, ..] = call.args;
    if procfs::is_open(call, fd) {
        let read = Vectors::new(call, array, count).and_then(|vectors| {
            let total = vectors.total(call)?;
            procfs::read_delivered(call, total, |call, text| vectors.scatter(call, text))
        });
        return read.into();
    }
    match descriptor(call, fd) {
        Ok(0) => {}
        Ok(_) => return Reply::Error(Errno::EBADF),
        Err(error) => return Reply::Error(error),
    }
    let with_room = Vectors::new(call, array, count).and_then(|vectors| {
        for index in 0..vectors.count {
            let vector = vectors.get(call, index)?;
            if vector.len > 0 {
                return Ok(vector);
            }
        }
        Ok(IoVec { base: 0, len: 0 })
    });
    match with_room {
        Ok(vector) => read_one(call, vector.base, vector.len),
        Err(error) => Reply::Error(error),
    }
}

/// What of `events` descriptor `fd` is ready for.
fn ready(call: &mut Call<'_>, fd: i32, events: i16) -> i16 {
    match descriptor(call, fd as u32 as u64) {
        Err(_) => POLLNVAL,
        Ok(0) => {
            let wanted = events & (POLLIN | POLLRDNORM);
            let who = call.requester();
            if wanted != 0 && owns_stdin(call) && hypercall::call(Host::ReadReady, who, &[]).is_err() {
                0
            } else {
                wanted
            }
        }
        Ok(_) => events & (POLLOUT | POLLWRNORM),
    }
}

/// poll(2).
pub fn poll(call: &mut Call<'_>) -> Reply {
    let [array, count, timeout, ..] = call.args;
    if count > 1024 {
        return Reply::Error(Errno::EINVAL);
    }
    let mut found = 0;
    for index in 0..count {
        let at = array.wrapping_add(index * size_of::<PollFd>() as u64);
        let mut entry: PollFd = match call.read(at) {
            Ok(entry) => entry,
            Err(error) => return Reply::Error(error),
        };
        entry.revents = if entry.fd < 0 {
            0
        } else {
            ready(call, entry.fd, entry.events)
        };
        found += u64::from(entry.revents != 0);
        if let Err(error) = call.write(at, &entry) {
            return Reply::Error(error);
        }
    }
    let timeout = timeout as u32 as i32;
    let again = call.attempt == Attempt::Again;
    if found > 0 || timeout == 0 || again && call.task().expired {
        return Reply::Value(found);
    }
    let deadline = if timeout < 0 {
        None
    } else if again {
        // Input came, but not for it: the first deadline holds.
        Some(call.task().deadline)
    } else {
        Some(time::deadline_in(timeout as u64 * 1_000_000))
    };
    wait_for_input(call, deadline)
}

const GRND_KNOWN: u64 = 7;

/// getrandom(2), from the host's generator.
pub fn getrandom(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, len, flags, ..] = call.args;
    // GRND_RANDOM and GRND_INSECURE exclude each other.
    if flags & !GRND_KNOWN != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(i32::MAX as u64);
    let who = call.requester();
    let mut done = 0;
    while done < len {
        let at = address.wrapping_add(done);
        let rest = (len - done).min(PAGE_SIZE);
        let run = call.with_space(|space, memory, world| space.run(memory, world, at, rest, Access::Write));
        let filled = match run {
            Ok(Run::Ram(gpa, run)) => hypercall::call(Host::Random, who, &[gpa.get(), run]).map(|_| run),
            Ok(Run::Segment(run)) => BOUNCE.with(|page| {
                let gpa = gpa_of(page);
                let run = run.min(PAGE_SIZE);
                hypercall::call(Host::Random, who, &[gpa, run])?;
                let page = &page[..run as usize];
                call.with_space(|space, memory, world| space.write(memory, world, at, page))?;
                Ok(run)
            }),
            Err(error) => Err(error),
        };
        match filled {
            Ok(filled) => done += filled,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
