//! open, openat, creat, close; and how a descriptor comes to be.

use super::path::{AT_FDCWD, By};
use crate::fs::device::Device;
use crate::fs::inode::{Inode, Kind};
use crate::fs::names::{hash, number_of};
use crate::fs::open::{
    CHANGEABLE, O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_NOATIME, O_NOFOLLOW,
    O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, What,
};
use crate::fs::permission::{EXECUTE, READ, WRITE};
use crate::fs::proc::File;
use crate::fs::tree::{Entry, New};
use crate::fs::walk::{AtEnd, Last, ROOMS, Walker};
use crate::fs::{FileId, Node, descriptor::Descriptor};
use crate::process::limits;
use crate::syscall::Call;
use crate::time;
use abi::Errno;
use abi::object::{OPEN_CREATE, OPEN_EXCLUSIVE, OPEN_READ, OPEN_WRITE};

/// What of the flags of open(2) an open file keeps.
const KEPT: u32 = O_ACCMODE | CHANGEABLE | O_PATH | O_DIRECTORY | O_NOFOLLOW | O_LARGEFILE;

/// A descriptor that means open file `open`, which has one user for it: the lowest free one from `from` on.
///
/// # Errors
/// EMFILE, ENOMEM; the open file has a user less then.
pub fn install(call: &mut Call<'_>, open: u16, from: u32, close_on_exec: bool) -> Result<u64, Errno> {
    let descriptor = Descriptor { open, close_on_exec };
    let installed = free_descriptor(call, from).and_then(|fd| {
        let own = call.task().descriptors;
        call.kernel.set_descriptor(own, fd, descriptor)?;
        Ok(u64::from(fd))
    });
    if installed.is_err() {
        call.kernel.release_open(call.cpu, open);
    }
    installed
}

/// The lowest free descriptor from `from` on.
///
/// # Errors
/// EMFILE.
pub fn free_descriptor(call: &mut Call<'_>, from: u32) -> Result<u32, Errno> {
    let [most, _] = call.process().limit(limits::NOFILE);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    call.descriptors().lowest_free(from, most)
}

/// How many descriptors the process may have.
pub fn most_descriptors(call: &mut Call<'_>) -> u64 {
    call.process().limit(limits::NOFILE)[0]
}

/// open(2).
pub fn open(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, flags, mode, ..] = call.args;
    open_at(call, AT_FDCWD as u64, path, flags as u32, mode as u16)
}

/// creat(2).
pub fn creat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, mode, ..] = call.args;
    open_at(
        call,
        AT_FDCWD as u64,
        path,
        O_CREAT | O_WRONLY | O_TRUNC,
        mode as u16,
    )
}

/// openat(2).
pub fn openat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, flags, mode, ..] = call.args;
    open_at(call, directory, path, flags as u32, mode as u16)
}

fn open_at(call: &mut Call<'_>, directory: u64, path: u64, flags: u32, mode: u16) -> Result<u64, Errno> {
    const UNNAMED: u32 = O_TMPFILE & !O_DIRECTORY;
    let flags = if flags & O_PATH != 0 {
        flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    } else {
        // As every 64-bit program's open.
        flags | O_LARGEFILE
    };
    let unnamed = flags & O_TMPFILE == O_TMPFILE;
    if flags & UNNAMED != 0 && (!unnamed || flags & O_ACCMODE == O_RDONLY || flags & O_CREAT != 0)
        || flags & O_CREAT != 0 && flags & O_DIRECTORY != 0
    {
        return Err(Errno::EINVAL);
    }
    let umask = call.process().umask;
    let opening = Opening {
        flags,
        mode: mode & 0o7777 & !umask,
        now: time::realtime(),
    };
    ROOMS[0].with(|room| {
        let path = call.path(room, directory, path)?;
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        // Looked for before the file is, as in Linux.
        free_descriptor(call, 0)?;
        let mut walker = call.walker(By::Effective);
        let what = if unnamed {
            let node = path.find(&mut walker, room, AtEnd::Follow)?;
            opening.make_unnamed(&mut walker, node)?
        } else {
            let exclusive = flags & O_CREAT != 0 && flags & O_EXCL != 0;
            let at_end = if flags & O_NOFOLLOW != 0 || exclusive {
                AtEnd::Stay
            } else {
                AtEnd::Follow
            };
            let place = path.walk(&mut walker, room, at_end)?;
            opening.open(&mut walker, &place)?
        };
        // An open file counts as a user of what is open; a pipe's end counts itself.
        let added = walker.files.open.add(what, flags & KEPT);
        match (added, what) {
            (Err(error), _) => {
                if let What::File(file) = what {
                    // It may be one that nobody else has.
                    walker.files.hold(file);
                    walker.files.release(walker.memory, file);
                }
                return Err(error);
            }
            (Ok(open), What::File(file)) => {
                walker.files.hold(file);
                if walker.files.open.get(open).can_write() {
                    walker.files.inodes.get_mut(file).writers += 1;
                }
            }
            (Ok(_), What::Reader(pipe)) => walker.files.pipes.get_mut(pipe).readers += 1,
            (Ok(_), What::Writer(pipe)) => walker.files.pipes.get_mut(pipe).writers += 1,
            (Ok(_), _) => {}
        }
        let open = added?;
        if let (What::File(file), true) = (what, opening.has(O_TRUNC))
            && call.kernel.files.inodes.get(file).kind == Kind::Regular
            && let Err(error) = super::attribute::resize(call, file, 0)
        {
            call.kernel.release_open(call.cpu, open);
            return Err(error);
        }
        install(call, open, 0, flags & O_CLOEXEC != 0)
    })
}

/// How something is opened.
struct Opening {
    flags: u32,
    /// Permissions of what is made.
    mode: u16,
    now: u64,
}

impl Opening {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What of reading and writing is asked for.
    fn wanted(&self) -> u16 {
        let access = match self.flags & O_ACCMODE {
            O_RDONLY => READ,
            O_WRONLY => WRITE,
            _ => READ | WRITE,
        };
        if self.has(O_TRUNC) { access | WRITE } else { access }
    }

    /// The same, as the broker has it.
    fn rights(&self) -> u64 {
        let wanted = self.wanted();
        let read = if wanted & READ != 0 { OPEN_READ } else { 0 };
        read | if wanted & WRITE != 0 { OPEN_WRITE } else { 0 }
    }

    /// Opens what is at `place`, or makes it.
    fn open(&self, walker: &mut Walker<'_>, place: &crate::fs::walk::Place<'_>) -> Result<What, Errno> {
        let create = self.has(O_CREAT);
        let Some(node) = place.node else {
            return match place.last {
                _ if !create => Err(Errno::ENOENT),
                _ if place.slash => Err(Errno::EISDIR),
                Last::Name(name) => self.make(walker, place.directory, name),
                _ => Err(Errno::EISDIR),
            };
        };
        if create {
            if place.slash && matches!(place.last, Last::Name(_)) {
                return Err(Errno::EISDIR);
            }
            if self.has(O_EXCL) {
                return Err(Errno::EEXIST);
            }
            if walker.is_directory(node) {
                return Err(Errno::EISDIR);
            }
        }
        if (self.has(O_DIRECTORY) || place.slash) && !walker.is_directory(node) {
            return Err(Errno::ENOTDIR);
        }
        if walker.is_link(node) && !self.has(O_PATH) {
            return Err(Errno::ELOOP);
        }
        match node {
            Node::File(file) => self.open_file(walker, file),
            Node::Proc(node) if self.has(O_PATH) => Ok(What::Proc(node)),
            Node::Proc(node) if node.is_directory() && self.wanted() & WRITE != 0 => Err(Errno::EISDIR),
            // Nobody writes to what takes nothing (kernfs_fop_open in Linux).
            Node::Proc(node) if node.is_in_sysfs() && self.wanted() & WRITE != 0 => Err(Errno::EACCES),
            Node::Proc(node) => {
                walker.check_proc(node, self.wanted())?;
                if let Some(File::Maps | File::SizedMaps | File::Environment | File::Auxiliary) = node.file()
                {
                    walker.check_look(node)?;
                }
                Ok(What::Proc(node))
            }
            Node::Open(open) => match (walker.files.open.get(open).what, self.flags & O_ACCMODE) {
                (What::Reader(pipe) | What::Writer(pipe), O_RDONLY) => Ok(What::Reader(pipe)),
                (What::Reader(pipe) | What::Writer(pipe), O_WRONLY) => Ok(What::Writer(pipe)),
                // Both ends at once are for FIFOs.
                (What::Reader(_) | What::Writer(_), _) => Err(Errno::EACCES),
                (what, _) if what.anonymous().is_some() => Err(Errno::ENXIO),
                (what, _) => Ok(what),
            },
        }
    }

    fn open_file(&self, walker: &mut Walker<'_>, file: FileId) -> Result<What, Errno> {
        walker.mount();
        let inode = walker.files.inodes.get(file);
        if self.has(O_PATH) {
            return Ok(What::File(file));
        }
        let wanted = self.wanted();
        if inode.kind == Kind::Directory && wanted & WRITE != 0 {
            return Err(Errno::EISDIR);
        }
        walker.who.check(wanted, inode)?;
        if self.has(O_NOATIME) && !walker.who.owns(inode.uid) {
            return Err(Errno::EPERM);
        }
        if let Some(serial) = walker.files.object(file) {
            walker.files.allow_object(&walker.who, serial, self.rights())?;
            return Ok(What::File(file));
        }
        match inode.kind {
            Kind::Device(Device::Tty) => Err(Errno::ENXIO),
            Kind::Regular => {
                if wanted & WRITE != 0 && is_run(walker, file) {
                    return Err(Errno::ETXTBSY);
                }
                Ok(What::File(file))
            }
            _ => Ok(What::File(file)),
        }
    }

    fn new_file(&self) -> New {
        New {
            kind: Kind::Regular,
            mode: self.mode,
            now: self.now,
        }
    }

    /// Makes a regular file.
    fn make(&self, walker: &mut Walker<'_>, directory: Node, name: &[u8]) -> Result<What, Errno> {
        let Node::File(directory) = directory else {
            // Nothing can be made in /proc, where a name that is not there is not there, nor in /sys.
            return Err(match directory {
                Node::Proc(node) if node.is_in_sysfs() => Errno::EACCES,
                _ => Errno::ENOENT,
            });
        };
        if walker.files.is_shared(directory) {
            // Another guest may make it meanwhile.
            let exclusive = if self.has(O_EXCL) { OPEN_EXCLUSIVE } else { 0 };
            let flags = self.rights() | OPEN_CREATE | exclusive;
            let Walker {
                files, memory, who, ..
            } = walker;
            return files
                .open_object(memory, who, name, flags, self.mode)
                .map(What::File);
        }
        let at = Entry {
            directory,
            name,
            slash: false,
        };
        let file = walker
            .files
            .make(walker.memory, &walker.who, at, self.new_file())?;
        Ok(What::File(file))
    }

    /// Makes a file without a name (O_TMPFILE).
    fn make_unnamed(&self, walker: &mut Walker<'_>, directory: Node) -> Result<What, Errno> {
        let Node::File(directory) = directory else {
            return Err(if walker.is_directory(directory) {
                Errno::EOPNOTSUPP
            } else {
                Errno::ENOTDIR
            });
        };
        walker.mount();
        let inode: &Inode = walker.files.inodes.get(directory);
        if inode.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        walker.who.check(WRITE | EXECUTE, inode)?;
        if walker.files.is_shared(directory) {
            return Err(Errno::EOPNOTSUPP);
        }
        // A number that no path gives.
        let number = number_of(hash(self.now, b"unnamed"));
        let owner = (walker.who.uid, walker.who.gid);
        let file = walker
            .files
            .make_unnamed(walker.memory, owner, self.new_file(), number)?;
        Ok(What::File(file))
    }
}

/// Whether a process runs `file`.
pub fn is_run(walker: &Walker<'_>, file: FileId) -> bool {
    walker.files.inodes.get(file).users > 0
        && walker
            .seen
            .processes
            .iter()
            .any(|process| process.lives() && process.exe == file)
}

/// close(2).
pub fn close(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    let own = call.task().descriptors;
    if call.kernel.close(call.cpu, own, fd as u32) {
        Ok(0)
    } else {
        Err(Errno::EBADF)
    }
}

/// close_range(2).
pub fn close_range(call: &mut Call<'_>) -> Result<u64, Errno> {
    const CLOEXEC: u64 = 4;
    const UNSHARE: u64 = 2;
    let [first, last, flags, ..] = call.args;
    let (first, last) = (first as u32, last as u32);
    if flags & !(CLOEXEC | UNSHARE) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        call.kernel.unshare_descriptors(call.cpu, call.task)?;
    }
    let own = call.task().descriptors;
    let end = call.descriptors().end().min(last.saturating_add(1));
    for fd in first..end {
        if flags & CLOEXEC == 0 {
            call.kernel.close(call.cpu, own, fd);
        } else if let Some(descriptor) = call.descriptors().get(fd) {
            let kept = Descriptor {
                close_on_exec: true,
                ..descriptor
            };
            call.kernel.set_descriptor(own, fd, kept)?;
        }
    }
    Ok(0)
}

/// Flags that F_GETFL tells of an open file.
pub const fn told(flags: u32) -> u32 {
    flags & (O_ACCMODE | CHANGEABLE | O_PATH | O_DIRECTORY | O_NOFOLLOW | O_LARGEFILE)
}

const _: () = assert!(O_RDWR == 2);
