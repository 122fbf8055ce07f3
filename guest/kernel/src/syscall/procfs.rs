//! The files of System V shared memory: /proc/sysvipc/shm and /proc/sys/kernel/shm*.
//!
//! Their text is the broker's, asked for with each read. Descriptors that came from each other by fork mean one
//! open file, with one offset.

use super::{Call, io};
use crate::arch::lent::{Lent, gpa_of};
use crate::hypercall;
use crate::process::limits;
use abi::hypercall::{
    Call as Host, PROC_SHM, PROC_SHM_NEXT_ID, PROC_SHM_RMID_FORCED, PROC_SHMALL, PROC_SHMMAX, PROC_SHMMNI,
};
use abi::{Errno, PAGE_SIZE};

/// Descriptors a process can have beside 0 to 2.
const MOST: usize = 13;
const FIRST: u64 = 3;
const O_ACCMODE: u64 = 3;
const O_RDONLY: u64 = 0;
const O_WRONLY: u64 = 1;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_DIRECTORY: u64 = 0o200_000;
const AT_FDCWD: i32 = -100;
const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;

/// The files, by the numbers the host knows them by.
const NAMES: [(&[u8], u64); 6] = [
    (b"/proc/sysvipc/shm", PROC_SHM),
    (b"/proc/sys/kernel/shmmax", PROC_SHMMAX),
    (b"/proc/sys/kernel/shmall", PROC_SHMALL),
    (b"/proc/sys/kernel/shmmni", PROC_SHMMNI),
    (b"/proc/sys/kernel/shm_next_id", PROC_SHM_NEXT_ID),
    (b"/proc/sys/kernel/shm_rmid_forced", PROC_SHM_RMID_FORCED),
];

/// An open file: what descriptors that came from each other by fork share.
#[derive(Clone, Copy)]
pub struct OpenFile {
    /// Descriptors that mean it; 0 in a free slot.
    users: u16,
    which: u8,
    mode: u8,
    offset: u64,
}

/// All open files of the guest.
pub type OpenFiles = [OpenFile; MOST_OPEN];

/// Most open files of a guest.
const MOST_OPEN: usize = 256;

impl OpenFile {
    /// None.
    pub const NONE: OpenFile = OpenFile {
        users: 0,
        which: 0,
        mode: 0,
        offset: 0,
    };

    /// Whether a descriptor means it.
    pub const fn is_open(&self) -> bool {
        self.users > 0
    }
}

/// A process's descriptors from 3 on: numbers of open files plus 1, 0 where there is none.
#[derive(Clone, Copy)]
pub struct Files([u16; MOST]);

impl Files {
    /// None is open.
    pub const NONE: Files = Files([0; MOST]);

    fn open(&self) -> impl Iterator<Item = usize> {
        self.0
            .into_iter()
            .filter_map(|entry| usize::from(entry).checked_sub(1))
    }

    /// Another process has the same descriptors now.
    pub fn shared(&self, all: &mut OpenFiles) {
        for file in self.open() {
            all[file].users += 1;
        }
    }

    /// The process has ended.
    pub fn close_all(&mut self, all: &mut OpenFiles) {
        for file in self.open() {
            all[file].users -= 1;
        }
        *self = Files::NONE;
    }
}

/// The inode number of file `which`.
pub const fn inode(which: u64) -> u64 {
    100 + which
}

/// Whether `path` leads through one of these files, as if it were a directory.
pub fn is_below_file(path: &[u8]) -> bool {
    NAMES.iter().any(|(name, _)| {
        path.strip_prefix(*name)
            .is_some_and(|rest| rest.starts_with(b"/"))
    })
}

/// For text on its way between a program and the host.
static TEXT: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// The number and permissions of the file with this name.
pub fn find(path: &[u8]) -> Option<(u64, u32)> {
    let (_, which) = NAMES.iter().find(|(name, _)| *name == path)?;
    let permissions = match *which {
        // Who may write to that one is a matter of capabilities, which root has (`ipc_permissions`).
        PROC_SHM | PROC_SHM_NEXT_ID => 0o444,
        _ => 0o644,
    };
    Some((*which, permissions))
}

/// Where a process keeps descriptor `fd`.
fn place(fd: u64) -> Option<usize> {
    (fd as u32 as u64)
        .checked_sub(FIRST)
        .map(|at| at as usize)
        .filter(|at| *at < MOST)
}

/// The open file that descriptor `fd` means, if it is one of these.
fn file<'a>(call: &'a mut Call<'_>, fd: u64) -> Option<&'a mut OpenFile> {
    let at = place(fd)?;
    let number = usize::from(call.descriptors().files.0[at]).checked_sub(1)?;
    call.kernel.open_files.get_mut(number)
}

/// Whether `fd` is one of these files.
pub fn is_open(call: &mut Call<'_>, fd: u64) -> bool {
    file(call, fd).is_some()
}

/// How `fd` was opened: O_RDONLY, O_WRONLY or O_RDWR.
pub fn mode(call: &mut Call<'_>, fd: u64) -> Option<u64> {
    file(call, fd).map(|file| u64::from(file.mode))
}

/// Number and permissions of the file that `fd` is open for.
pub fn opened(call: &mut Call<'_>, fd: u64) -> Option<(u64, u32)> {
    let which = file(call, fd)?.which;
    NAMES
        .iter()
        .find(|(_, number)| *number == u64::from(which))
        .and_then(|(name, _)| find(name))
}

/// open(2).
pub fn open(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, flags, ..] = call.args;
    open_path(call, path, flags)
}

/// openat(2): the names are absolute, so the directory does not matter.
pub fn openat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, flags, ..] = call.args;
    let mut first = [0];
    call.with_space(|space, memory, world| space.read(memory, world, path, &mut first))?;
    if first != *b"/" && directory as u32 as i32 != AT_FDCWD {
        io::descriptor(call, directory)?;
        return Err(Errno::ENOTDIR);
    }
    open_path(call, path, flags)
}

fn open_path(call: &mut Call<'_>, path: u64, flags: u64) -> Result<u64, Errno> {
    let mut buffer = [0; 64];
    let path = match call.read_path(path, &mut buffer) {
        // Longer than any name there is.
        Err(Errno::ENAMETOOLONG) => return Err(Errno::ENOENT),
        path => path?,
    };
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    // Looked for before the file is, as in Linux.
    let [most, _] = call.process().limit(limits::NOFILE);
    let files = &call.descriptors().files.0;
    let at = files
        .iter()
        .position(|entry| *entry == 0)
        .filter(|at| FIRST + (*at as u64) < most)
        .ok_or(Errno::EMFILE)?;
    if is_below_file(path) {
        return Err(Errno::ENOTDIR);
    }
    let (which, permissions) = find(path).ok_or(Errno::ENOENT)?;
    if flags & O_CREAT != 0 && flags & O_EXCL != 0 {
        return Err(Errno::EEXIST);
    }
    if flags & O_DIRECTORY != 0 {
        return Err(Errno::ENOTDIR);
    }
    let mode = flags & O_ACCMODE;
    let credentials = &call.process().credentials;
    // All of them are root's; others may read.
    if mode != O_RDONLY && !credentials.is_privileged() {
        return Err(Errno::EACCES);
    }
    debug_assert!(permissions & 0o444 == 0o444);
    let number = call
        .kernel
        .open_files
        .iter()
        .position(|file| file.users == 0)
        .ok_or(Errno::ENFILE)?;
    call.kernel.open_files[number] = OpenFile {
        users: 1,
        which: which as u8,
        mode: mode as u8,
        offset: 0,
    };
    call.descriptors().files.0[at] = number as u16 + 1;
    Ok(FIRST + at as u64)
}

/// close(2) of one of these files.
pub fn close(call: &mut Call<'_>, fd: u64) {
    if let Some(file) = file(call, fd) {
        file.users -= 1;
        if let Some(at) = place(fd) {
            call.descriptors().files.0[at] = 0;
        }
    }
}

/// Reads at most `len` bytes at `offset`; `deliver` gets them to where they are wanted.
fn read_at(
    call: &mut Call<'_>,
    fd: u64,
    len: u64,
    offset: u64,
    deliver: impl FnOnce(&mut Call<'_>, &[u8]) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let file = *file(call, fd).ok_or(Errno::EBADF)?;
    if u64::from(file.mode) == O_WRONLY {
        return Err(Errno::EBADF);
    }
    let which = u64::from(file.which);
    // A limit is read in one piece; there is nothing after it (kernel/sysctl.c).
    if len == 0 || which != PROC_SHM && offset != 0 {
        return Ok(0);
    }
    let who = call.requester();
    TEXT.with(|text| {
        let gpa = gpa_of(text);
        let got = hypercall::call(Host::ProcRead, who, &[which, offset, gpa, len.min(PAGE_SIZE)])?;
        let text = &text[..(got as usize).min(text.len())];
        deliver(call, text)?;
        Ok(text.len() as u64)
    })
}

fn deliver(call: &mut Call<'_>, to: u64, text: &[u8]) -> Result<(), Errno> {
    call.with_space(|space, memory, world| space.write(memory, world, to, text))
}

/// Writes `len` bytes at `offset`; `fetch` gets the first of them, as many as there is room for.
fn write_at(
    call: &mut Call<'_>,
    fd: u64,
    len: u64,
    offset: u64,
    fetch: impl FnOnce(&mut Call<'_>, &mut [u8]) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let file = *file(call, fd).ok_or(Errno::EBADF)?;
    if u64::from(file.mode) == O_RDONLY {
        return Err(Errno::EBADF);
    }
    let which = u64::from(file.which);
    if which == PROC_SHM {
        return Err(Errno::EIO);
    }
    if len == 0 {
        return Ok(0);
    }
    // Strict sysctl writes (kernel.sysctl_writes_strict=1): only at the start does a write change anything.
    if offset != 0 {
        return Ok(len);
    }
    let who = call.requester();
    TEXT.with(|text| {
        let take = len.min(PAGE_SIZE);
        let text = &mut text[..take as usize];
        fetch(call, text)?;
        let taken = hypercall::call(Host::ProcWrite, who, &[which, gpa_of(text), take])?;
        // Linux looks at the first page of a longer text, and takes the rest unseen.
        Ok(len - (take - taken.min(take)))
    })
}

/// read(2) of one of these files.
pub fn read(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [_, to, len, ..] = call.args;
    read_delivered(call, len, |call, text| deliver(call, to, text))
}

/// As [`read`], of `len` bytes at most, which `deliver` gets to where they are wanted.
pub fn read_delivered(
    call: &mut Call<'_>,
    len: u64,
    deliver: impl FnOnce(&mut Call<'_>, &[u8]) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    let offset = file(call, fd).ok_or(Errno::EBADF)?.offset;
    let got = read_at(call, fd, len, offset, deliver)?;
    if let Some(file) = file(call, fd) {
        file.offset += got;
    }
    Ok(got)
}

/// write(2) to one of these files.
pub fn write(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [_, from, len, ..] = call.args;
    write_fetched(call, len, |call, text| fetch(call, from, text))
}

fn fetch(call: &mut Call<'_>, from: u64, text: &mut [u8]) -> Result<(), Errno> {
    call.with_space(|space, memory, world| space.read(memory, world, from, text))
}

/// As [`write()`], of `len` bytes that `fetch` gets.
pub fn write_fetched(
    call: &mut Call<'_>,
    len: u64,
    fetch: impl FnOnce(&mut Call<'_>, &mut [u8]) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    let offset = file(call, fd).ok_or(Errno::EBADF)?.offset;
    let taken = write_at(call, fd, len, offset, fetch)?;
    if let Some(file) = file(call, fd) {
        file.offset += taken;
    }
    Ok(taken)
}

/// pread64(2) and pwrite64(2): descriptors 0 to 2 can't seek.
fn positioned(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, _, _, offset, ..] = call.args;
    if (offset as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    if !is_open(call, fd) {
        io::descriptor(call, fd)?;
        return Err(Errno::ESPIPE);
    }
    Ok(offset)
}

/// pread64(2).
pub fn pread(call: &mut Call<'_>) -> Result<u64, Errno> {
    let offset = positioned(call)?;
    let [fd, to, len, ..] = call.args;
    read_at(call, fd, len, offset, |call, text| deliver(call, to, text))
}

/// pwrite64(2).
pub fn pwrite(call: &mut Call<'_>) -> Result<u64, Errno> {
    let offset = positioned(call)?;
    let [fd, from, len, ..] = call.args;
    write_at(call, fd, len, offset, |call, text| fetch(call, from, text))
}

/// lseek(2).
pub fn lseek(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, offset, whence, ..] = call.args;
    let Some(file) = file(call, fd) else {
        io::descriptor(call, fd)?;
        return Err(Errno::ESPIPE);
    };
    let base = match whence as u32 as u64 {
        SEEK_SET => 0,
        SEEK_CUR => file.offset as i64,
        // Neither kind of file knows where it ends.
        _ => return Err(Errno::EINVAL),
    };
    let new = base
        .checked_add(offset as i64)
        .filter(|new| *new >= 0)
        .ok_or(Errno::EINVAL)?;
    file.offset = new as u64;
    Ok(new as u64)
}
