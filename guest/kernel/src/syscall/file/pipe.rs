//! pipe, pipe2, and bytes between programs and pipes (pipe(7)).

use super::buffers::Buffers;
use super::content::Region;
use super::open::install;
use crate::fs::open::{O_CLOEXEC, O_DIRECT, O_NONBLOCK, O_RDONLY, O_WRONLY, OpenFile, What};
use crate::fs::pipe::ATOMIC;
use crate::process::signal::SIGPIPE;
use crate::process::task::Wait;
use crate::syscall::{Attempt, Call, Reply};
use crate::time;
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

fn make(call: &mut Call<'_>, to: u64, flags: u64) -> Result<u64, Errno> {
    let flags = flags as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let [uid, gid] = call.process().credentials.fs;
    let cloexec = flags & O_CLOEXEC != 0;
    let kept = flags & O_NONBLOCK;
    let files = &mut call.kernel.files;
    let pipe = files.pipes.add((uid, gid), time::realtime())?;
    let ends = files
        .open
        .add(What::Reader(pipe), O_RDONLY | kept)
        .and_then(
            |reader| match files.open.add(What::Writer(pipe), O_WRONLY | kept) {
                Ok(writer) => Ok((reader, writer)),
                Err(error) => {
                    files.open.release(reader);
                    Err(error)
                }
            },
        );
    let (reader, writer) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            let pipe = files.pipes.get_mut(pipe);
            (pipe.readers, pipe.writers) = (0, 0);
            return Err(error);
        }
    };
    let own = call.task().descriptors;
    let read_fd = match install(call, reader, 0, cloexec) {
        Ok(fd) => fd,
        Err(error) => {
            call.kernel.release_open(call.cpu, writer);
            return Err(error);
        }
    };
    let installed = install(call, writer, 0, cloexec);
    let told = match installed {
        Ok(write_fd) => call.write(to, &[read_fd as u32, write_fd as u32]),
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        call.kernel.close(call.cpu, own, read_fd as u32);
        if let Ok(write_fd) = installed {
            call.kernel.close(call.cpu, own, write_fd as u32);
        }
        return Err(error);
    }
    Ok(0)
}

/// pipe(2).
pub fn pipe(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, ..] = call.args;
    make(call, to, 0)
}

/// pipe2(2).
pub fn pipe2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, flags, ..] = call.args;
    make(call, to, flags)
}

/// Takes what is next in the pipe to a program's memory: how much.
fn take(call: &mut Call<'_>, pipe: u16, region: Region) -> Result<u64, Errno> {
    let mut done = 0;
    while done < region.len
        && let Some((from, there)) = call.kernel.files.pipes.get(pipe).next()
    {
        let len = there.min(region.len - done);
        let to = region.address.wrapping_add(done);
        let copied = call.with_space(|space, memory, world| space.copy_out(memory, world, to, from, len));
        match copied {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        let kernel = &mut *call.kernel;
        let pipe = kernel.files.pipes.get_mut(pipe);
        pipe.consumed(&mut kernel.memory.frames, len);
        done += len;
    }
    Ok(done)
}

/// read(2) and its kin: what there is, as far as there is room.
pub fn read<B: Buffers>(call: &mut Call<'_>, pipe: u16, open: &OpenFile, buffers: &B) -> Reply {
    match buffers.total(call) {
        Ok(0) => return Reply::Value(0),
        Ok(_) => {}
        Err(error) => return Reply::Error(error),
    }
    let there = call.kernel.files.pipes.get(pipe);
    if there.is_empty() {
        return match there.writers {
            0 => Reply::Value(0),
            _ if open.is_non_blocking() => Reply::Error(Errno::EAGAIN),
            _ => call.wait(Wait::Pipe(pipe), 0, None),
        };
    }
    let was_full = there.is_full();
    let got = super::buffers::each(call, buffers, |call, region, _| take(call, pipe, region));
    if was_full && !call.kernel.files.pipes.get(pipe).is_full() {
        call.kernel.wake_pipe(call.cpu, pipe);
    }
    got.into()
}

/// A place in a program's buffers.
struct Cursor {
    index: u64,
    into: u64,
}

impl Cursor {
    /// Goes on by `len` bytes, handing each region on the way to `work`.
    fn advance<B: Buffers>(
        &mut self,
        call: &mut Call<'_>,
        buffers: &B,
        len: u64,
        mut work: impl FnMut(&mut Call<'_>, Region, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len && self.index < buffers.count() {
            let region = buffers.get(call, self.index)?;
            let take = (region.len - self.into.min(region.len)).min(len - done);
            if take > 0 {
                let part = Region {
                    address: region.address.wrapping_add(self.into),
                    len: take,
                };
                work(call, part, done)?;
            }
            done += take;
            self.into += take;
            if self.into >= region.len {
                (self.index, self.into) = (self.index + 1, 0);
            }
        }
        Ok(())
    }
}

/// Copies the next `len` bytes to `to`.
fn bring<B: Buffers>(
    call: &mut Call<'_>,
    buffers: &B,
    cursor: &mut Cursor,
    to: GuestPhys,
    len: u64,
) -> Result<(), Errno> {
    cursor.advance(call, buffers, len, |call, region, done| {
        call.with_space(|space, memory, world| {
            space.copy_in(memory, world, region.address, to.add(done), region.len)
        })
    })
}

/// write(2) and its kin. A blocking write is done when all bytes are; one of no more than [`ATOMIC`] bytes goes in
/// one piece.
pub fn write<B: Buffers>(call: &mut Call<'_>, pipe: u16, open: &OpenFile, buffers: &B) -> Reply {
    let total = match buffers.total(call) {
        Ok(0) => return Reply::Value(0),
        Ok(total) => total,
        Err(error) => return Reply::Error(error),
    };
    let before = if call.attempt == Attempt::Again {
        call.task().moved
    } else {
        0
    };
    let mut cursor = Cursor { index: 0, into: 0 };
    let call_is_new = call.attempt == Attempt::First;
    let was_empty = call.kernel.files.pipes.get(pipe).is_empty();
    let (mut done, result) = (before, cursor.advance(call, buffers, before, |_, _, _| Ok(())));
    let result = result.and_then(|()| put(call, pipe, buffers, &mut cursor, (&mut done, total), call_is_new));
    if done > before && was_empty {
        call.kernel.wake_pipe(call.cpu, pipe);
    }
    match result {
        Err(Errno::EAGAIN) if !open.is_non_blocking() => call.wait(Wait::Pipe(pipe), done, None),
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

/// Puts bytes into the pipe until `total` are `done`.
///
/// # Errors
/// EPIPE without readers, EAGAIN without room, EFAULT, ENOMEM; what was done before is done.
fn put<B: Buffers>(
    call: &mut Call<'_>,
    pipe: u16,
    buffers: &B,
    cursor: &mut Cursor,
    (done, total): (&mut u64, u64),
    first: bool,
) -> Result<(), Errno> {
    let there = call.kernel.files.pipes.get_mut(pipe);
    if there.readers == 0 {
        return Err(Errno::EPIPE);
    }
    // The odd bytes go on in the last page if they fit; in Linux only a write's first look is for that.
    if first && let Some((to, odd)) = there.room_in_last(total) {
        bring(call, buffers, cursor, to, odd)?;
        call.kernel.files.pipes.get_mut(pipe).grew(odd);
        *done += odd;
    }
    while *done < total {
        if call.kernel.files.pipes.get(pipe).is_full() {
            return Err(Errno::EAGAIN);
        }
        let page = call.kernel.memory.frames.take(1).ok_or(Errno::ENOMEM)?;
        let len = (total - *done).min(PAGE_SIZE);
        if let Err(error) = bring(call, buffers, cursor, page.start, len) {
            call.kernel.memory.frames.give_back(page);
            return Err(error);
        }
        call.kernel.files.pipes.get_mut(pipe).push(page.start, len);
        *done += len;
    }
    Ok(())
}

/// Puts `len` bytes of RAM at `from`, or zeros, into the pipe: all of them.
///
/// # Errors
/// As write(2).
pub fn send(call: &mut Call<'_>, pipe: u16, from: Option<GuestPhys>, len: u64) -> Result<u64, Errno> {
    let there = call.kernel.files.pipes.get(pipe);
    if there.readers == 0 {
        call.signal_itself(SIGPIPE);
        return Err(Errno::EPIPE);
    }
    if there.is_full() {
        return Err(Errno::EAGAIN);
    }
    let page = call.kernel.memory.frames.take(1).ok_or(Errno::ENOMEM)?;
    call.with_space(|_, _, world| {
        use crate::mm::World;
        match from {
            Some(from) => world.copy(page.start, from, len),
            None => world.zero(&[(page.start, len)]),
        }
    });
    call.kernel.files.pipes.get_mut(pipe).push(page.start, len);
    call.kernel.wake_pipe(call.cpu, pipe);
    Ok(len)
}

const _: () = assert!(ATOMIC == PAGE_SIZE);
