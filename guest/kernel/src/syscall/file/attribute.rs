//! What files are, and changes of that: stat and its kin, access, chmod, chown, statfs, truncate, fsync.

use super::path::{AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, By};
use super::transfer::size_of_file;
use super::{object, open, open_file, stdio};
use crate::fs::inode::{Kind, SET_GID, SET_UID};
use crate::fs::open::{O_PATH, What};
use crate::fs::permission::WRITE;
use crate::fs::seal::Seals;
use crate::fs::stat::{Device, Stat, Status, Statx};
use crate::fs::walk::{AtEnd, ROOMS};
use crate::fs::{FileId, NAME_MAX, Node};
use crate::mm::contents::{MOST_BYTES, MOST_FILES};
use crate::process::files::node_of;
use crate::process::limits;
use crate::process::signal::SIGXFSZ;
use crate::syscall::Call;
use crate::time;
use abi::object as broker;
use abi::{Errno, PAGE_SIZE};
use zerocopy::{Immutable, IntoBytes};

const HERE: u64 = AT_FDCWD as u64;
const AT_KNOWN: u64 = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

/// What there is to tell of `node`.
fn status(call: &mut Call<'_>, node: Node) -> Result<Status, Errno> {
    let tree = call.kernel.boot().tree_id;
    match node {
        Node::File(file) => {
            call.walker(By::Effective).mount();
            call.kernel.files.refresh(&mut call.kernel.memory, file);
            Ok(call.kernel.files.status(&call.kernel.memory, file, tree))
        }
        Node::Proc(node) => {
            let seen = call.kernel.seen();
            let mut told = Status::of_proc(node, seen, tree, time::realtime());
            if let Some(descriptor) = node.descriptor(seen).filter(|_| node.is_link()) {
                // What the descriptor allows (`tid_fd_update_inode` in Linux).
                let open = call.kernel.files.open.get(descriptor.open);
                let read = if open.can_read() { 0o500 } else { 0 };
                let write = if open.can_write() { 0o300 } else { 0 };
                told.mode = node.type_bits() | read | write;
            }
            Ok(told)
        }
        Node::Open(open) => match call.kernel.files.open.get(open).what {
            What::Stdio(which) => Ok(stdio::status(call, which)?.status()),
            What::Reader(pipe) | What::Writer(pipe) => Ok(call.kernel.files.pipe_status(pipe, tree)),
            What::File(file) => status(call, Node::File(file)),
            What::Proc(node) => status(call, Node::Proc(node)),
            _ => Ok(Status::anonymous(tree)),
        },
    }
}

/// As [`status`], as `struct stat`: what the host says of its descriptors goes on as it is.
fn tell(call: &mut Call<'_>, node: Node, to: u64) -> Result<u64, Errno> {
    if let Node::Open(open) = node
        && let What::Stdio(which) = call.kernel.files.open.get(open).what
    {
        let stat = stdio::status(call, which)?;
        call.write(to, &stat)?;
        return Ok(0);
    }
    let status = status(call, node)?;
    call.write(to, &Stat::new(&status))?;
    Ok(0)
}

/// stat(2).
pub fn stat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    tell(call, node, to)
}

/// lstat(2).
pub fn lstat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Stay)?;
    tell(call, node, to)
}

/// fstat(2).
pub fn fstat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, to, ..] = call.args;
    let (open, _) = open_file(call, fd)?;
    let node = node_of(&call.kernel.files, open);
    tell(call, node, to)
}

/// newfstatat(2).
pub fn newfstatat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, to, flags, ..] = call.args;
    if flags & !AT_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let node = call.node_at_or_itself(directory, path, flags)?;
    tell(call, node, to)
}

/// statx(2).
pub fn statx(call: &mut Call<'_>) -> Result<u64, Errno> {
    const RESERVED: u64 = 0x8000_0000;
    const SYNC: u64 = 0x6000;
    let [directory, path, flags, mask, to, _] = call.args;
    let flags = flags as u32 as u64;
    if mask & RESERVED != 0 || flags & !(AT_KNOWN | SYNC) != 0 || flags & SYNC == SYNC {
        return Err(Errno::EINVAL);
    }
    let node = call.node_at_or_itself(directory, path, flags)?;
    let status = status(call, node)?;
    call.write(to, &Statx::new(&status, mask as u32))?;
    Ok(0)
}

const F_OK: u64 = 0;
const AT_EACCESS: u64 = 0x200;

fn access_at(call: &mut Call<'_>, at: (u64, u64), wanted: u64, flags: u64) -> Result<u64, Errno> {
    let (wanted, flags) = (wanted as u32 as u64, flags as u32 as u64);
    if wanted & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let by = if flags & AT_EACCESS != 0 {
        By::Effective
    } else {
        By::Real
    };
    let at_end = if flags & AT_SYMLINK_NOFOLLOW != 0 {
        AtEnd::Stay
    } else {
        AtEnd::Follow
    };
    // The walk is made by the same ids, so it is not `node_at`'s.
    let found = ROOMS[0].with(|room| {
        let path = call.path(room, at.0, at.1)?;
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            return Ok(None);
        }
        path.find(&mut call.walker(by), room, at_end).map(Some)
    })?;
    let node = match found {
        Some(node) => node,
        None => call.node_at_or_itself(at.0, 0, AT_EMPTY_PATH)?,
    };
    if wanted == F_OK {
        return Ok(0);
    }
    let mut walker = call.walker(by);
    match node {
        Node::File(file) => {
            walker.mount();
            walker.who.check(wanted as u16, walker.files.inodes.get(file))?;
        }
        Node::Proc(node) => walker.check_proc(node, wanted as u16)?,
        Node::Open(_) => {}
    }
    Ok(0)
}

/// access(2).
pub fn access(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, wanted, ..] = call.args;
    access_at(call, (HERE, path), wanted, 0)
}

/// faccessat(2), the raw call: it has no flags.
pub fn faccessat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, wanted, ..] = call.args;
    access_at(call, (directory, path), wanted, 0)
}

/// faccessat2(2).
pub fn faccessat2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, wanted, flags, ..] = call.args;
    access_at(call, (directory, path), wanted, flags)
}

/// The node of an open file, for calls that change it.
///
/// # Errors
/// EBADF, also if only the place is open (O_PATH).
pub fn node_of_descriptor(call: &mut Call<'_>, fd: u64) -> Result<Node, Errno> {
    let (open, file) = open_file(call, fd)?;
    if file.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(node_of(&call.kernel.files, open))
}

fn change_mode(call: &mut Call<'_>, node: Node, mode: u64) -> Result<u64, Errno> {
    let Some(file) = call.file_of(node)? else {
        return Ok(0);
    };
    if call.kernel.files.is_shared(file) {
        return Err(Errno::EPERM);
    }
    if let Some(serial) = call.kernel.files.object(file) {
        return object::set(
            call,
            serial,
            broker::SET_MODE,
            mode as u32 & 0o7777,
            (0, 0),
            [0; 2],
        );
    }
    let now = time::realtime();
    let walker = call.walker(By::Effective);
    let inode = walker.files.inodes.get(file);
    if inode.kind == Kind::Link {
        return Err(Errno::EOPNOTSUPP);
    }
    if !walker.who.owns(inode.uid) {
        return Err(Errno::EPERM);
    }
    if inode.seals.is_some_and(|seals| seals.contains(Seals::EXECUTE))
        && (inode.mode ^ mode as u16) & 0o111 != 0
    {
        return Err(Errno::EPERM);
    }
    let mut mode = mode as u16 & 0o7777;
    if !walker.who.is_privileged() && !walker.who.is_in(inode.gid) {
        mode &= !SET_GID;
    }
    let inode = walker.files.inodes.get_mut(file);
    inode.mode = mode;
    inode.times.changed = now;
    Ok(0)
}

/// chmod(2).
pub fn chmod(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, mode, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    change_mode(call, node, mode)
}

/// fchmod(2).
pub fn fchmod(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, mode, ..] = call.args;
    let node = node_of_descriptor(call, fd)?;
    change_mode(call, node, mode)
}

/// fchmodat(2), the raw call: it has no flags.
pub fn fchmodat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, mode, ..] = call.args;
    let node = call.node_at(directory, path, AtEnd::Follow)?;
    change_mode(call, node, mode)
}

/// fchmodat2(2).
pub fn fchmodat2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, mode, flags, ..] = call.args;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = call.node_at_or_itself(directory, path, flags)?;
    change_mode(call, node, mode)
}

fn change_owner(call: &mut Call<'_>, node: Node, uid: u64, gid: u64) -> Result<u64, Errno> {
    const KEEP: u32 = u32::MAX;
    let (uid, gid) = (uid as u32, gid as u32);
    let Some(file) = call.file_of(node)? else {
        return Ok(0);
    };
    if call.kernel.files.is_shared(file) {
        return Err(Errno::EPERM);
    }
    if let Some(serial) = call.kernel.files.object(file) {
        let what =
            if uid == KEEP { 0 } else { broker::SET_UID } | if gid == KEEP { 0 } else { broker::SET_GID };
        return object::set(call, serial, what, 0, (uid, gid), [0; 2]);
    }
    let now = time::realtime();
    let walker = call.walker(By::Effective);
    let inode = walker.files.inodes.get(file);
    let who = &walker.who;
    // Without privilege: files stay with their owner, who may give them to a group of their own.
    let may = who.is_privileged()
        || (uid == KEEP || uid == inode.uid && who.uid == inode.uid)
            && (gid == KEEP || who.uid == inode.uid && (who.is_in(gid) || gid == inode.gid));
    // The bits that run a program as its owner or group go; without the group's right to execute that of the group
    // means something else (mandatory locking).
    let group_too = inode.mode & 0o010 != 0;
    let lost = match inode.kind {
        Kind::Directory => 0,
        _ => inode.mode & (SET_UID | if group_too { SET_GID } else { 0 }),
    };
    if !may || lost != 0 && !who.owns(inode.uid) {
        return Err(Errno::EPERM);
    }
    let inode = walker.files.inodes.get_mut(file);
    if uid != KEEP {
        inode.uid = uid;
    }
    if gid != KEEP {
        inode.gid = gid;
    }
    inode.mode &= !lost;
    inode.times.changed = now;
    Ok(0)
}

/// chown(2).
pub fn chown(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, uid, gid, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    change_owner(call, node, uid, gid)
}

/// lchown(2).
pub fn lchown(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, uid, gid, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Stay)?;
    change_owner(call, node, uid, gid)
}

/// fchown(2).
pub fn fchown(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, uid, gid, ..] = call.args;
    let node = node_of_descriptor(call, fd)?;
    change_owner(call, node, uid, gid)
}

/// fchownat(2).
pub fn fchownat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, uid, gid, flags, _] = call.args;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = call.node_at_or_itself(directory, path, flags)?;
    change_owner(call, node, uid, gid)
}

/// `struct statfs`.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct StatFs {
    kind: u64,
    block_size: u64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    files_free: u64,
    id: u64,
    name_len: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

const _: () = assert!(size_of::<StatFs>() == 120);
const TMPFS_MAGIC: u64 = 0x0102_1994;
const PROC_MAGIC: u64 = 0x9fa0;
const SYSFS_MAGIC: u64 = 0x6265_6572;
const PIPE_MAGIC: u64 = 0x5049_5045;
/// The flags told are valid (ST_VALID), and times of reading are kept as with relatime.
const FLAGS: u64 = 0x20 | 0x1000;

fn tell_file_system(call: &mut Call<'_>, node: Node, to: u64) -> Result<u64, Errno> {
    let mut told = StatFs {
        block_size: PAGE_SIZE,
        fragment_size: PAGE_SIZE,
        name_len: NAME_MAX as u64,
        flags: FLAGS,
        ..StatFs::default()
    };
    match node {
        // One without a limit: all zeros, as Linux has it (tmpfs(5)).
        Node::File(file) if call.kernel.files.device(file) == Device::Objects => told.kind = TMPFS_MAGIC,
        Node::File(_) => {
            call.walker(By::Effective).mount();
            let memory = &call.kernel.memory;
            let files = &call.kernel.files.inodes;
            told.kind = TMPFS_MAGIC;
            told.blocks = memory.frames.total() / 2;
            told.free = told
                .blocks
                .saturating_sub(memory.contents.held())
                .min(memory.frames.free_frames());
            told.available = told.free;
            told.files = MOST_FILES as u64;
            told.files_free = files.available().into();
        }
        Node::Proc(node) if node.is_in_sysfs() => told.kind = SYSFS_MAGIC,
        Node::Proc(_) => told.kind = PROC_MAGIC,
        Node::Open(_) => told.kind = PIPE_MAGIC,
    }
    call.write(to, &told)?;
    Ok(0)
}

/// statfs(2).
pub fn statfs(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    tell_file_system(call, node, to)
}

/// fstatfs(2).
pub fn fstatfs(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, to, ..] = call.args;
    let (open, _) = open_file(call, fd)?;
    let node = node_of(&call.kernel.files, open);
    tell_file_system(call, node, to)
}

/// Whether the caller may make `file` `size` bytes long (`inode_newsize_ok` in Linux).
///
/// # Errors
/// EFBIG, with SIGXFSZ beyond the caller's limit.
fn check_size(call: &mut Call<'_>, file: FileId, size: u64) -> Result<(), Errno> {
    if size <= size_of_file(call, file) {
        return Ok(());
    }
    let [most, _] = call.process().limit(limits::FSIZE);
    if size > most {
        call.signal_itself(SIGXFSZ);
    }
    if size > most.min(MOST_BYTES) {
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// Makes a regular file `size` bytes long.
///
/// # Errors
/// ENOSPC, EFBIG, EPERM.
pub fn resize(call: &mut Call<'_>, file: FileId, size: u64) -> Result<(), Errno> {
    check_size(call, file, size)?;
    if let Some(seals) = call.kernel.files.inodes.get(file).seals {
        seals.may_resize(call.kernel.memory.contents.size(file), size)?;
    }
    if let Some(serial) = call.kernel.files.object(file) {
        return object::resize(call, file, serial, size);
    }
    let who = call.requester();
    call.kernel.resize_file(call.cpu, who, file, size)?;
    let now = time::realtime();
    let inode = call.kernel.files.inodes.get_mut(file);
    (inode.times.modified, inode.times.changed) = (now, now);
    inode.mode &= !SET_UID;
    Ok(())
}

/// truncate(2).
pub fn truncate(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, size, ..] = call.args;
    if (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    let file = match node {
        Node::Open(_) => return Err(Errno::EINVAL),
        Node::Proc(node) => {
            let walker = call.walker(By::Effective);
            if node.is_directory() {
                return Err(Errno::EISDIR);
            }
            return walker.check_proc(node, WRITE).map(|()| 0);
        }
        Node::File(file) => file,
    };
    call.walker(By::Effective).mount();
    let walker = call.walker(By::Effective);
    let inode = walker.files.inodes.get(file);
    match inode.kind {
        Kind::Directory => return Err(Errno::EISDIR),
        Kind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    walker.who.check(WRITE, inode)?;
    if open::is_run(&walker, file) {
        return Err(Errno::ETXTBSY);
    }
    if let Some(serial) = walker.files.object(file) {
        walker
            .files
            .allow_object(&walker.who, serial, broker::OPEN_WRITE)?;
    }
    resize(call, file, size)?;
    Ok(0)
}

/// ftruncate(2).
pub fn ftruncate(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, size, ..] = call.args;
    if (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let (_, open) = open_file(call, fd)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    match open.what {
        What::File(file) if call.kernel.files.inodes.get(file).kind == Kind::Regular && open.can_write() => {
            resize(call, file, size)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// fallocate(2): without flags, or with FALLOC_FL_KEEP_SIZE: pages are made when they are written to anyway.
pub fn fallocate(call: &mut Call<'_>) -> Result<u64, Errno> {
    const KEEP_SIZE: u64 = 1;
    let [fd, mode, offset, len, ..] = call.args;
    let (_, open) = open_file(call, fd)?;
    if (offset as i64) < 0 || len as i64 <= 0 {
        return Err(Errno::EINVAL);
    }
    if mode & !KEEP_SIZE != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !open.can_write() {
        return Err(Errno::EBADF);
    }
    let file = match open.what {
        What::File(file) => file,
        What::Reader(_) | What::Writer(_) => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    };
    if call.kernel.files.inodes.get(file).kind != Kind::Regular {
        return Err(Errno::ENODEV);
    }
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= MOST_BYTES)
        .ok_or(Errno::EFBIG)?;
    if let Some(serial) = call.kernel.files.object(file) {
        // Its pages come when they are touched, wherever the host has memory.
        if mode & KEEP_SIZE != 0 || end <= size_of_file(call, file) {
            return Ok(0);
        }
        check_size(call, file, end)?;
        return object::resize(call, file, serial, end).map(|()| 0);
    }
    if let Some(seals) = call.kernel.files.inodes.get(file).seals {
        let size = size_of_file(call, file);
        seals.may_resize(size, end.max(size))?;
    }
    let missing = (end / PAGE_SIZE).saturating_sub(offset / PAGE_SIZE);
    let memory = &mut call.kernel.memory;
    if memory.contents.held() + missing > memory.frames.total() / 2 {
        return Err(Errno::ENOSPC);
    }
    if mode & KEEP_SIZE == 0 {
        check_size(call, file, end)?;
        call.kernel.memory.extend_file(file, end);
    }
    Ok(0)
}

/// fsync(2), fdatasync(2): what is in memory is all there is.
pub fn fsync(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    let (_, open) = open_file(call, fd)?;
    match open.what {
        _ if open.flags & O_PATH != 0 => Err(Errno::EBADF),
        What::File(_) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sync(2).
pub fn sync(_call: &mut Call<'_>) -> Result<u64, Errno> {
    Ok(0)
}
