//! What is done with descriptors themselves: dup, fcntl, ioctl.

use super::lock::{self, F_GETLK, F_OFD_GETLK, F_OFD_SETLKW, F_SETLKW};
use super::open::{free_descriptor, install, told};
use super::{memfd, open_file};
use crate::fs::descriptor::{Descriptor, MOST};
use crate::fs::open::{CHANGEABLE, O_CLOEXEC, O_NONBLOCK, O_PATH, OpenFile, What};
use crate::fs::pipe::CAPACITY;
use crate::hypercall;
use crate::syscall::{Call, Reply};
use abi::Errno;
use abi::hypercall::{Call as Host, STDIO_TERMIOS, STDIO_WINSIZE};

const F_DUPFD: u64 = 0;
const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;
const F_SETFL: u64 = 4;
const F_DUPFD_CLOEXEC: u64 = 1030;
const F_SETPIPE_SZ: u64 = 1031;
const F_GETPIPE_SZ: u64 = 1032;
const F_ADD_SEALS: u64 = 1033;
const F_GET_SEALS: u64 = 1034;
const FD_CLOEXEC: u64 = 1;
const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const FIONREAD: u64 = 0x541b;
const FIONBIO: u64 = 0x5421;
const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;

/// One descriptor more for an open file: the lowest free one from `from` on.
fn another(call: &mut Call<'_>, fd: u64, from: u32, close_on_exec: bool) -> Result<u64, Errno> {
    let (open, _) = open_file(call, fd)?;
    free_descriptor(call, from)?;
    call.kernel.files.open.hold(open);
    install(call, open, from, close_on_exec)
}

/// dup(2).
pub fn dup(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    another(call, fd, 0, false)
}

/// Has descriptor `to` mean what `from` does.
fn replace(call: &mut Call<'_>, from: u64, to: u64, close_on_exec: bool) -> Result<u64, Errno> {
    let to = to as u32;
    if u64::from(to) >= super::open::most_descriptors(call) || to >= MOST {
        return Err(Errno::EBADF);
    }
    let (open, _) = open_file(call, from)?;
    let own = call.task().descriptors;
    call.kernel.files.open.hold(open);
    call.kernel.close(call.cpu, own, to);
    let descriptor = Descriptor { open, close_on_exec };
    let set = call.kernel.set_descriptor(own, to, descriptor);
    if let Err(error) = set {
        call.kernel.release_open(call.cpu, open);
        return Err(error);
    }
    Ok(to.into())
}

/// dup2(2).
pub fn dup2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from, to, ..] = call.args;
    if from as u32 == to as u32 {
        open_file(call, from)?;
        return Ok(u64::from(to as u32));
    }
    replace(call, from, to, false)
}

/// dup3(2).
pub fn dup3(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from, to, flags, ..] = call.args;
    if flags as u32 & !O_CLOEXEC != 0 || from as u32 == to as u32 {
        return Err(Errno::EINVAL);
    }
    replace(call, from, to, flags as u32 & O_CLOEXEC != 0)
}

/// Sets whether descriptor `fd` is closed when another program is run.
fn set_close_on_exec(call: &mut Call<'_>, fd: u64, close_on_exec: bool) -> Result<u64, Errno> {
    let (open, _) = open_file(call, fd)?;
    let own = call.task().descriptors;
    let descriptor = Descriptor { open, close_on_exec };
    call.kernel.set_descriptor(own, fd as u32, descriptor)?;
    Ok(0)
}

/// fcntl(2).
pub fn fcntl(call: &mut Call<'_>) -> Reply {
    let [fd, command, argument, ..] = call.args;
    let (number, open) = match open_file(call, fd) {
        Ok(found) => found,
        Err(error) => return Reply::Error(error),
    };
    let command = command as u32 as u64;
    let allowed = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
    if open.flags & O_PATH != 0 && !allowed {
        return Reply::Error(Errno::EBADF);
    }
    if matches!(command, F_GETLK..=F_SETLKW | F_OFD_GETLK..=F_OFD_SETLKW) {
        return lock::control(call, (number, &open), command, argument);
    }
    control(call, (fd, number, &open), command, argument).into()
}

fn control(
    call: &mut Call<'_>,
    (fd, number, open): (u64, u16, &OpenFile),
    command: u64,
    argument: u64,
) -> Result<u64, Errno> {
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let from = argument as u32;
            if u64::from(from) >= super::open::most_descriptors(call) {
                return Err(Errno::EINVAL);
            }
            another(call, fd, from, command == F_DUPFD_CLOEXEC)
        }
        F_GETFD => {
            let descriptor = call.descriptors().get(fd as u32).ok_or(Errno::EBADF)?;
            Ok(u64::from(descriptor.close_on_exec))
        }
        F_SETFD => set_close_on_exec(call, fd, argument & FD_CLOEXEC != 0),
        F_GETFL => Ok(told(open.flags).into()),
        F_SETFL => {
            let open = call.kernel.files.open.get_mut(number);
            open.flags = open.flags & !CHANGEABLE | argument as u32 & CHANGEABLE;
            Ok(0)
        }
        F_ADD_SEALS => memfd::add_seals(call, open, argument),
        F_GET_SEALS => memfd::seals(call, open),
        F_GETPIPE_SZ => call.pipe_of(number).map(|_| CAPACITY).ok_or(Errno::EBADF),
        // The one size there is; a smaller one would be rounded up to it.
        F_SETPIPE_SZ => match call.pipe_of(number) {
            None => Err(Errno::EBADF),
            Some(_) if argument as u32 as i32 <= 0 => Err(Errno::EINVAL),
            Some(_) if argument as u32 as u64 <= CAPACITY => Ok(CAPACITY),
            Some(_) => Err(Errno::EPERM),
        },
        _ => Err(Errno::EINVAL),
    }
}

/// ioctl(2): window size and terminal settings, as the host's descriptor has them; how much there is to read.
pub fn ioctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, request, to, ..] = call.args;
    let (number, open) = open_file(call, fd)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let request = request as u32 as u64;
    match request {
        FIOCLEX | FIONCLEX => return set_close_on_exec(call, fd, request == FIOCLEX),
        FIONBIO => {
            let on: u32 = call.read(to)?;
            let open = call.kernel.files.open.get_mut(number);
            open.flags = open.flags & !O_NONBLOCK | if on != 0 { O_NONBLOCK } else { 0 };
            return Ok(0);
        }
        _ => {}
    }
    match (open.what, request) {
        (What::Stdio(which), TIOCGWINSZ) => {
            let who = call.requester();
            hypercall::call(Host::Stdio, who, &[which.into(), STDIO_WINSIZE])?;
            let size: [u8; 8] = hypercall::payload();
            call.write(to, &size)?;
            Ok(0)
        }
        (What::Stdio(which), TCGETS) => {
            let who = call.requester();
            hypercall::call(Host::Stdio, who, &[which.into(), STDIO_TERMIOS])?;
            let settings: [u8; 36] = hypercall::payload();
            call.write(to, &settings)?;
            Ok(0)
        }
        (What::Reader(pipe) | What::Writer(pipe), FIONREAD) => {
            let there = call.kernel.files.pipes.get(pipe).bytes() as u32;
            call.write(to, &there)?;
            Ok(0)
        }
        (What::File(file), FIONREAD) => {
            use crate::fs::inode::Kind;
            if call.kernel.files.inodes.get(file).kind != Kind::Regular {
                return Err(Errno::ENOTTY);
            }
            let left = super::transfer::size_of_file(call, file).wrapping_sub(open.offset);
            call.write(to, &(left as u32))?;
            Ok(0)
        }
        _ => Err(Errno::ENOTTY),
    }
}
