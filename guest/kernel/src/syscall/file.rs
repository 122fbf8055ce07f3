//! What can be known of descriptors 0 to 2 and of the few paths there are: the root directory, `.`, `/tmp`, and
//! the programs' own files. Directories have the same device and inode number in every guest of a group, and
//! a program's number follows from its name, so `ftok` gives the same key everywhere.

use super::{Call, io, procfs};
use crate::arch::given;
use crate::hypercall;
use crate::time;
use abi::Errno;
use abi::boot::BootFile;
use abi::hypercall::{Call as Host, STDIO_FSTAT, STDIO_TERMIOS, STDIO_WINSIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;
const F_SETFL: u64 = 4;
const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u64 = 0x1000;
/// AT_SYMLINK_NOFOLLOW and AT_NO_AUTOMOUNT change nothing here.
const AT_KNOWN: u64 = AT_EMPTY_PATH | 0x100 | 0x800;
/// Longest path looked at. Linux's PATH_MAX is 4096; but a buffer on the stack is cleared first, and no file
/// here has a longer name.
const PATH_MAX: usize = 512;
/// The one link.
const EXE: &[u8] = b"/proc/self/exe";
const MODE_REGULAR: u32 = 0o100_000;
const MODE_DIRECTORY: u32 = 0o040_755;
const MODE_STICKY_DIRECTORY: u32 = 0o041_777;
const MODE_PROGRAM: u32 = 0o100_755;

/// `struct stat` of x86-64 (asm/stat.h).
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    blksize: i64,
    blocks: i64,
    times: [i64; 6],
    unused: [i64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144);

fn stat_descriptor(call: &mut Call<'_>, fd: u64, to: u64) -> Result<u64, Errno> {
    if let Some((which, permissions)) = procfs::opened(call, fd) {
        let dev = call.kernel.boot().tree_id;
        let mode = MODE_REGULAR | permissions;
        let stat = Stat {
            dev,
            ino: procfs::inode(which),
            nlink: 1,
            mode,
            blksize: 1024,
            ..Stat::default()
        };
        call.write(to, &stat)?;
        return Ok(0);
    }
    let fd = io::descriptor(call, fd)?;
    let who = call.requester();
    hypercall::call(Host::Stdio, who, &[u64::from(fd), STDIO_FSTAT])?;
    let stat: Stat = hypercall::payload();
    call.write(to, &stat)?;
    Ok(0)
}

/// FNV-1a, so that a name has the same inode number in every guest.
fn number_of(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }) >> 16
}

/// The guest's file with this name and its number. A relative name means the file whose name ends so: programs
/// know themselves by the name they were started by, in a directory that is not here.
fn find(call: &Call<'_>, path: &[u8]) -> Option<(u32, &'static BootFile)> {
    let files = given::files(call.kernel.boot());
    let relative = match path {
        [b'/', ..] => None,
        [b'.', b'/', rest @ ..] => Some(rest),
        rest => Some(rest),
    };
    let ends_so = |name: &[u8]| match relative {
        None => name == path,
        Some(rest) => name
            .strip_suffix(rest)
            .is_some_and(|before| before.ends_with(b"/")),
    };
    let at = files.iter().position(|file| ends_so(given::bytes(file.name)))?;
    Some((at as u32, &files[at]))
}

/// The number of the program file whose name lies at `address`.
///
/// # Errors
/// As execve(2): EFAULT, ENOENT, EACCES for what is there but no program.
pub fn program_at(call: &mut Call<'_>, address: u64) -> Result<u32, Errno> {
    let mut buffer = [0; PATH_MAX];
    let path = call.read_path(address, &mut buffer)?;
    if path == EXE {
        return Ok(call.process().file);
    }
    if let Some((number, _)) = find(call, path) {
        return Ok(number);
    }
    // Directories, and files nobody may execute.
    path_stat(call, path)?;
    Err(Errno::EACCES)
}

fn path_stat(call: &mut Call<'_>, path: &[u8]) -> Result<Stat, Errno> {
    let boot = call.kernel.boot();
    let now = time::realtime().wrapping_sub(time::monotonic()) / time::NS_PER_S;
    let mut stat = Stat {
        dev: boot.tree_id,
        nlink: 2,
        blksize: 4096,
        ..Stat::default()
    };
    stat.times = [now as i64, 0, now as i64, 0, now as i64, 0];
    let trimmed = match path {
        [] => return Err(Errno::ENOENT),
        [b'/', rest @ ..] => rest,
        rest => rest,
    };
    match trimmed {
        b"" | b"." | b"./" | b".." | b"../" | b"./." => {
            (stat.ino, stat.mode) = (boot.tree_id, MODE_DIRECTORY)
        }
        b"tmp" | b"tmp/" => (stat.ino, stat.mode) = (boot.tree_id + 1, MODE_STICKY_DIRECTORY),
        _ if let Some((which, permissions)) = procfs::find(path) => {
            (stat.ino, stat.nlink, stat.blksize) = (procfs::inode(which), 1, 1024);
            stat.mode = MODE_REGULAR | permissions;
        }
        _ if procfs::is_below_file(path) => return Err(Errno::ENOTDIR),
        _ => {
            let (_, file) = find(call, path).ok_or(Errno::ENOENT)?;
            stat.ino = number_of(given::bytes(file.name));
            (stat.mode, stat.nlink) = (MODE_PROGRAM, 1);
            stat.size = file.contents.len as i64;
            stat.blocks = (stat.size + 511) / 512;
        }
    }
    Ok(stat)
}

/// stat(2), lstat(2): there are no symbolic links.
pub fn stat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, ..] = call.args;
    let mut buffer = [0; PATH_MAX];
    let path = call.read_path(path, &mut buffer)?;
    let stat = path_stat(call, path)?;
    call.write(to, &stat)?;
    Ok(0)
}

/// fstat(2).
pub fn fstat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, to, ..] = call.args;
    stat_descriptor(call, fd, to)
}

/// newfstatat(2).
pub fn newfstatat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, path, to, flags, ..] = call.args;
    if flags & !AT_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let mut buffer = [0; PATH_MAX];
    // Linux takes a null pointer for the empty path here since 6.11.
    let path = if path == 0 && flags & AT_EMPTY_PATH != 0 {
        &[]
    } else {
        call.read_path(path, &mut buffer)?
    };
    let stat = match (path, fd as u32 as i32) {
        ([], AT_FDCWD) if flags & AT_EMPTY_PATH != 0 => path_stat(call, b".")?,
        ([], fd) if flags & AT_EMPTY_PATH != 0 => {
            return stat_descriptor(call, fd as u32 as u64, to);
        }
        ([], _) => return Err(Errno::ENOENT),
        ([b'/', ..], _) | (_, AT_FDCWD) => path_stat(call, path)?,
        (_, fd) => {
            io::descriptor(call, fd as u32 as u64)?;
            return Err(Errno::ENOTDIR);
        }
    };
    call.write(to, &stat)?;
    Ok(0)
}

/// ioctl(2): window size and terminal settings, as the host's descriptor has them.
pub fn ioctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, request, to, ..] = call.args;
    if procfs::is_open(call, fd) {
        return Err(Errno::ENOTTY);
    }
    let fd = u64::from(io::descriptor(call, fd)?);
    let who = call.requester();
    match request as u32 as u64 {
        TIOCGWINSZ => {
            hypercall::call(Host::Stdio, who, &[fd, STDIO_WINSIZE])?;
            let size: [u8; 8] = hypercall::payload();
            call.write(to, &size)?;
        }
        TCGETS => {
            hypercall::call(Host::Stdio, who, &[fd, STDIO_TERMIOS])?;
            let settings: [u8; 36] = hypercall::payload();
            call.write(to, &settings)?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// fcntl(2): what libraries ask of a descriptor before they use it.
pub fn fcntl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, command, ..] = call.args;
    let mode = match procfs::mode(call, fd) {
        Some(mode) => mode,
        // Reading from 0, writing to 1 and 2.
        None => u64::from(io::descriptor(call, fd)? != 0),
    };
    match command as u32 as u64 {
        F_GETFL => Ok(mode),
        // There is nothing to close at exec, and no other way of reading and writing: taken, without effect.
        F_GETFD | F_SETFD | F_SETFL => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// close(2).
pub fn close(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    if procfs::is_open(call, fd) {
        procfs::close(call, fd);
        return Ok(0);
    }
    let fd = io::descriptor(call, fd)?;
    call.descriptors().closed |= 1 << fd;
    Ok(0)
}

/// getcwd(2): every program starts in the root directory.
pub fn getcwd(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, len, ..] = call.args;
    if len < 2 {
        return Err(Errno::ERANGE);
    }
    call.write(to, b"/\0")?;
    Ok(2)
}

/// readlink(2): the only link is /proc/self/exe.
pub fn readlink(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, len, ..] = call.args;
    if len as u32 as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let mut buffer = [0; PATH_MAX];
    let path = call.read_path(path, &mut buffer)?;
    if path == EXE {
        let boot = call.kernel.boot();
        let file = call.process().file as usize;
        let name = given::files(boot)
            .get(file)
            .map_or(&b""[..], |file| given::bytes(file.name));
        let name = &name[..name.len().min(len as usize)];
        call.write(to, name)?;
        return Ok(name.len() as u64);
    }
    path_stat(call, path)?;
    // There is such a file, and it is no link.
    Err(Errno::EINVAL)
}
