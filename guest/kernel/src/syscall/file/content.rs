//! Bytes between programs and the pages of files. They are copied from where they lie to where they are to lie; what
//! lies in a row is copied at once, by the host where ring 0 is emulated.

use super::{object, open_file, pipe, stdio};
use crate::fs::FileId;
use crate::fs::open::{OpenFile, What};
use crate::mm::contents::Page;
use crate::mm::{Access, Memory, Run, World};
use crate::syscall::Call;
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

/// Memory of a program.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Its first byte.
    pub address: u64,
    /// How many bytes.
    pub len: u64,
}

/// Copies that are still to be made; those that continue each other are made as one.
struct Copies {
    to: GuestPhys,
    from: GuestPhys,
    len: u64,
}

impl Copies {
    const NONE: Copies = Copies {
        to: GuestPhys::new(0),
        from: GuestPhys::new(0),
        len: 0,
    };

    fn add(&mut self, world: &mut impl World, to: GuestPhys, from: GuestPhys, len: u64) {
        if self.len > 0 && to == self.to.add(self.len) && from == self.from.add(self.len) {
            self.len += len;
        } else {
            self.make(world);
            *self = Copies { to, from, len };
        }
    }

    fn make(&mut self, world: &mut impl World) {
        if self.len > 0 {
            world.copy(self.to, self.from, self.len);
            self.len = 0;
        }
    }
}

/// The piece of `len` bytes at `offset` that lies in one page: the page's number, where in it, and how much.
fn piece(offset: u64, len: u64) -> (u64, u64, u64) {
    let into = offset % PAGE_SIZE;
    (offset / PAGE_SIZE, into, len.min(PAGE_SIZE - into))
}

/// Writes a program's bytes at `offset` into a regular file: how many.
///
/// # Errors
/// EFAULT or ENOSPC if not even the first one can be.
pub fn write(call: &mut Call<'_>, file: FileId, offset: u64, region: Region) -> Result<u64, Errno> {
    let had_image = call.kernel.memory.contents.has_image(file);
    let (done, result) = call.with_space(|space, memory, world| {
        let mut copies = Copies::NONE;
        let mut done = 0;
        let result = loop {
            if done == region.len {
                break Ok(());
            }
            let (from, left) = (region.address.wrapping_add(done), region.len - done);
            let run = match space.run(memory, world, from, left, Access::Read) {
                Ok(run) => run,
                Err(error) => break Err(error),
            };
            let place = offset + done;
            match run {
                Run::Ram(from, len) => {
                    let (moved, result) = write_ram(memory, world, &mut copies, (file, place), from, len);
                    done += moved;
                    if result.is_err() {
                        break result;
                    }
                }
                Run::Segment(len) => {
                    let (page, into, len) = piece(place, len);
                    let moved = memory
                        .own_page(world, file, page, len == PAGE_SIZE)
                        .and_then(|frame| space.copy_in(memory, world, from, frame.add(into), len));
                    match moved {
                        Ok(()) => done += len,
                        Err(error) => break Err(error),
                    }
                }
            }
            memory.extend_file(file, offset + done);
        };
        copies.make(world);
        if done > 0 {
            memory.extend_file(file, offset + done);
        }
        (done, result)
    });
    if had_image && done > 0 {
        let who = call.requester();
        // Where the image was shown, the file's own pages are now.
        call.kernel.unshow(call.cpu, who, file, offset, offset + done);
    }
    if done == 0 { result.map(|()| 0) } else { Ok(done) }
}

/// Writes `len` bytes of RAM at a place in a file: how many could be, and why not more.
fn write_ram(
    memory: &mut Memory,
    world: &mut impl World,
    copies: &mut Copies,
    (file, place): (FileId, u64),
    from: GuestPhys,
    len: u64,
) -> (u64, Result<(), Errno>) {
    let mut done = 0;
    while done < len {
        let (page, into, len) = piece(place + done, len - done);
        match memory.own_page(world, file, page, len == PAGE_SIZE) {
            Ok(frame) => copies.add(world, frame.add(into), from.add(done), len),
            Err(error) => return (done, Err(error)),
        }
        done += len;
    }
    (done, Ok(()))
}

/// Reads bytes at `offset` of a regular file into a program's memory: how many, fewer than asked for at the end.
///
/// # Errors
/// EFAULT if not even the first one can be.
pub fn read(call: &mut Call<'_>, file: FileId, offset: u64, region: Region) -> Result<u64, Errno> {
    let left = call.kernel.memory.contents.size(file).saturating_sub(offset);
    let len = region.len.min(left);
    let (done, result) = call.with_space(|space, memory, world| {
        let mut copies = Copies::NONE;
        let mut done = 0;
        let result = loop {
            if done == len {
                break Ok(());
            }
            let to = region.address.wrapping_add(done);
            match space.run(memory, world, to, len - done, Access::Write) {
                Err(error) => break Err(error),
                Ok(Run::Ram(to, run)) => {
                    let end = done + run;
                    while done < end {
                        let to = to.add(run - (end - done));
                        let (page, into, len) = piece(offset + done, end - done);
                        match memory.file_page(file, page) {
                            Page::Own(frame) | Page::Image(frame) => {
                                copies.add(world, to, frame.add(into), len);
                            }
                            Page::Hole => {
                                copies.make(world);
                                world.zero(&[(to, len)]);
                            }
                        }
                        done += len;
                    }
                }
                Ok(Run::Segment(run)) => {
                    let (page, into, len) = piece(offset + done, run);
                    let moved = match memory.file_page(file, page) {
                        Page::Own(frame) | Page::Image(frame) => {
                            space.copy_out(memory, world, to, frame.add(into), len)
                        }
                        Page::Hole => space.clear_out(memory, world, to, len).map(|_| ()),
                    };
                    match moved {
                        Ok(()) => done += len,
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        copies.make(world);
        (done, result)
    });
    if done == 0 { result.map(|()| 0) } else { Ok(done) }
}

/// What came of [`send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes have been sent.
    Bytes(u64),
    /// The caller is parked.
    Waits,
}

/// Sends `len` bytes at `offset` of a regular file to what descriptor `to` is open for; `skip` of them have been
/// sent before the caller waited.
///
/// # Errors
/// As write(2), if nothing has been sent.
pub fn send(
    call: &mut Call<'_>,
    file: FileId,
    offset: u64,
    len: u64,
    skip: u64,
    to: u64,
) -> Result<Sent, Errno> {
    let (number, open) = open_file(call, to)?;
    let mut done = skip;
    while done < len {
        let (page, into, run) = piece(offset + done, len - done);
        let moved = if let Some(serial) = call.kernel.files.object(file) {
            object::with_bytes(call, serial, offset + done, run, |call, from, got| {
                send_piece(call, (number, &open), Some(from), got)
            })
        } else {
            let from = match call.kernel.memory.file_page(file, page) {
                Page::Own(frame) | Page::Image(frame) => Some(frame.add(into)),
                Page::Hole => None,
            };
            send_piece(call, (number, &open), from, run)
        };
        match moved {
            // An object has become shorter.
            Ok(0) => break,
            Ok(moved) => done += moved,
            // As Linux: what a pipe has room for at once is all it gets.
            Err(Errno::EAGAIN) if done > 0 && matches!(open.what, What::Writer(_)) => break,
            Err(Errno::EAGAIN) if !open.is_non_blocking() => {
                let wait = match open.what {
                    What::Writer(pipe) => crate::process::task::Wait::Pipe(pipe),
                    _ => crate::process::task::Wait::Input,
                };
                call.wait(wait, done, None);
                return Ok(Sent::Waits);
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(Sent::Bytes(done))
}

/// Sends `len` bytes from `from`, or zeros, to an open file.
fn send_piece(
    call: &mut Call<'_>,
    (number, open): (u16, &OpenFile),
    from: Option<GuestPhys>,
    len: u64,
) -> Result<u64, Errno> {
    if len == 0 {
        return Ok(0);
    }
    match open.what {
        What::Stdio(which) => stdio::send(call, which, from, len),
        What::Writer(pipe) => pipe::send(call, pipe, from, len),
        What::File(target) => send_to_file(call, target, number, from, len),
        _ => Err(Errno::EINVAL),
    }
}

/// Copies `len` bytes from `from`, or zeros, to where the open file `number`, a regular file, is.
fn send_to_file(
    call: &mut Call<'_>,
    target: FileId,
    number: u16,
    from: Option<GuestPhys>,
    len: u64,
) -> Result<u64, Errno> {
    use crate::fs::inode::Kind;
    match call.kernel.files.inodes.get(target).kind {
        Kind::Regular => {}
        Kind::Device(crate::fs::device::Device::Full) => return Err(Errno::ENOSPC),
        Kind::Device(_) => return Ok(len),
        _ => return Err(Errno::EINVAL),
    }
    let offset = call.kernel.files.open.get(number).offset;
    if let Some(serial) = call.kernel.files.object(target) {
        let written = object::write_ram(serial, offset, from, len)?;
        call.kernel.files.open.get_mut(number).offset = offset + written;
        return Ok(written);
    }
    let len = super::transfer::may_write(call, target, offset, len)?;
    let (page, into, len) = piece(offset, len);
    let had_image = call.kernel.memory.contents.has_image(target);
    call.with_space(|_, memory, world| {
        let frame = memory.own_page(world, target, page, len == PAGE_SIZE)?;
        match from {
            Some(from) => world.copy(frame.add(into), from, len),
            None => world.zero(&[(frame.add(into), len)]),
        }
        memory.extend_file(target, offset + len);
        Ok(())
    })?;
    if had_image {
        let who = call.requester();
        call.kernel.unshow(call.cpu, who, target, offset, offset + len);
    }
    call.kernel.files.open.get_mut(number).offset = offset + len;
    Ok(len)
}
