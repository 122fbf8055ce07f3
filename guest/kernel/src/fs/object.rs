//! `/dev/shm`: a directory whose files are the group's, not this guest's ([`abi::object`]).
//!
//! The broker has the names and the objects they lead to. An object that has been looked up is known here as an inode,
//! like any other file but for [`Inode::object`](super::inode::Inode::object), its serial number; owner, mode, times and
//! size are what the broker told last, and are asked for again by every call that is about them. The broker decides who
//! may do what; what is checked here before serves the order of errors.
//!
//! An inode of an object stays while it has users or an area shows it, however many names it has; then this guest lets go
//! of the object. One that was only looked up is let go of when the call is over ([`Files::sweep`]).

use super::inode::{Inode, Kind, NONE, STICKY, Times};
use super::permission::Who;
use super::tree::Entry;
use super::{FileId, Files};
use crate::arch::cpu::Cpu;
use crate::arch::lent::{Lent, gpa_of};
use crate::futex::shared;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use crate::mm::{Memory, Taken};
use crate::process::task::{State, Wait};
use abi::hypercall::Call;
use abi::object::{
    DIRECTORY, NAME_MAX, NOTICE_SHRINK, OPEN_CREATE, OPEN_EXCLUSIVE, ObjectStatus, RENAME_EXCHANGE,
};
use abi::{Errno, PAGE_SIZE};

/// Inodes of objects have these numbers, which those of the tree never have; programs see serial numbers.
const NUMBERS: u64 = 1 << 62;
/// Where names are, for programs.
pub const PATH: &[u8] = b"/dev/shm/";

/// Where the host puts names.
static NAME: Lent<[u8; NAME_MAX]> = Lent::new([0; NAME_MAX]);

/// Asks the broker something about names or rights, on behalf of `who`.
fn ask(who: &Who<'_>, call: Call, args: &[u64]) -> Result<u64, Errno> {
    hypercall::set_groups(who.groups());
    let requester = Requester {
        pid: who.pid,
        euid: who.uid,
        egid: who.gid,
    };
    hypercall::call(call, requester, args)
}

/// Asks it something else.
fn tell(call: Call, args: &[u64]) -> Result<u64, Errno> {
    hypercall::call(call, Requester::default(), args)
}

/// A name as requests have it: it lies in one of the kernel's own rooms.
fn place_of(name: &[u8]) -> [u64; 2] {
    [gpa_of(name), name.len() as u64]
}

/// A name in the directory.
pub struct Listed {
    /// Where to go on.
    pub cursor: u64,
    /// The number of what it leads to.
    pub serial: u64,
    /// How long it is.
    pub len: usize,
}

impl Files {
    /// Whether `directory` is the one whose files are the group's.
    pub fn is_shared(&self, directory: FileId) -> bool {
        directory == self.shm && directory != NONE
    }

    /// The object that `file` is, if it is one.
    pub fn object(&self, file: FileId) -> Option<u64> {
        let serial = self.inodes.get(file).object;
        (serial != 0).then_some(serial)
    }

    /// What `name` leads to.
    pub fn find_object(&mut self, memory: &mut Memory, who: &Who<'_>, name: &[u8]) -> Option<FileId> {
        self.open_object(memory, who, name, 0, 0).ok()
    }

    /// What `name` leads to, made if it isn't there and `flags` ([`OPEN_CREATE`] …) say so; with the rights they ask for.
    ///
    /// # Errors
    /// What the broker says; ENFILE if there is no room for an inode.
    pub fn open_object(
        &mut self,
        memory: &mut Memory,
        who: &Who<'_>,
        name: &[u8],
        flags: u64,
        mode: u16,
    ) -> Result<FileId, Errno> {
        let [gpa, len] = place_of(name);
        ask(who, Call::ObjectOpen, &[flags, 0, gpa, len, mode.into()])?;
        self.know(memory, &hypercall::payload())
    }

    /// Makes an object, and leaves it alone.
    ///
    /// # Errors
    /// As [`Files::open_object`]; EPERM for what is no regular file.
    pub(super) fn make_object(
        &mut self,
        memory: &mut Memory,
        who: &Who<'_>,
        name: &[u8],
        kind: Kind,
        mode: u16,
    ) -> Result<FileId, Errno> {
        if kind != Kind::Regular {
            return Err(Errno::EPERM);
        }
        self.open_object(memory, who, name, OPEN_CREATE | OPEN_EXCLUSIVE, mode)
    }

    /// This guest is to have rights ([`abi::object::OPEN_READ`] …) to an object.
    ///
    /// # Errors
    /// EACCES.
    pub fn allow_object(&self, who: &Who<'_>, serial: u64, rights: u64) -> Result<(), Errno> {
        ask(who, Call::ObjectOpen, &[rights, serial, 0, 0, 0]).map(drop)
    }

    /// The inode of the object that the broker has just told of.
    fn know(&mut self, memory: &mut Memory, status: &ObjectStatus) -> Result<FileId, Errno> {
        let number = NUMBERS | status.serial;
        let file = match self.inodes.with_number(number) {
            Some(file) => file,
            None => {
                let new = Inode {
                    kind: Kind::Regular,
                    number,
                    object: status.serial,
                    ..Inode::default()
                };
                match self.inodes.add(new) {
                    Ok(file) => file,
                    Err(_) => {
                        let _ = tell(Call::ObjectRelease, &[status.serial]);
                        return Err(Errno::ENFILE);
                    }
                }
            }
        };
        let inode = self.inodes.get_mut(file);
        inode.mode = status.mode as u16;
        inode.uid = status.uid;
        inode.gid = status.gid;
        inode.links = status.links;
        inode.times = Times {
            accessed: status.accessed,
            modified: status.modified,
            changed: status.changed,
            born: status.born,
        };
        if inode.users == 0 {
            // When the call is over it is let go of, unless somebody uses it then.
            self.inodes.orphan(file);
            memory.areas.let_go = true;
        }
        memory
            .contents
            .be_object(file, status.serial, status.size, status.resident);
        Ok(file)
    }

    /// Asks the broker how `file` is now, if it is an object or the directory of objects.
    pub fn refresh(&mut self, memory: &mut Memory, file: FileId) {
        if let Some(serial) = self.object(file)
            && tell(Call::ObjectStat, &[serial]).is_ok()
        {
            // It is known.
            let _ = self.know(memory, &hypercall::payload());
        }
        if self.is_shared(file) && tell(Call::ObjectStat, &[DIRECTORY]).is_ok() {
            let status: ObjectStatus = hypercall::payload();
            let directory = self.inodes.get_mut(file);
            directory.directory.count = status.size as u32;
            if status.changed != 0 {
                (directory.times.modified, directory.times.changed) = (status.modified, status.changed);
            }
        }
    }

    /// Another name for an object.
    ///
    /// # Errors
    /// What the broker says; EXDEV if one of the two is this guest's own; ENOENT for a slash at the end.
    pub(super) fn link_object(&self, who: &Who<'_>, file: FileId, at: Entry<'_>) -> Result<(), Errno> {
        let Some(serial) = self.object(file).filter(|_| self.is_shared(at.directory)) else {
            return Err(Errno::EXDEV);
        };
        if at.slash {
            return Err(Errno::ENOENT);
        }
        let [gpa, len] = place_of(at.name);
        ask(who, Call::ObjectLink, &[serial, gpa, len]).map(drop)
    }

    /// Takes a name away.
    ///
    /// # Errors
    /// What the broker says; ENOTDIR if it is to be a directory's.
    pub(super) fn unlink_object(&self, who: &Who<'_>, at: Entry<'_>, directory: bool) -> Result<(), Errno> {
        if at.slash || directory {
            return Err(Errno::ENOTDIR);
        }
        ask(who, Call::ObjectUnlink, &place_of(at.name)).map(drop)
    }

    /// Renames an object.
    ///
    /// # Errors
    /// What the broker says; EXDEV from or to elsewhere.
    pub(super) fn rename_object(
        &self,
        who: &Who<'_>,
        (from, to): (Entry<'_>, Entry<'_>),
        flags: u64,
    ) -> Result<(), Errno> {
        if from.directory != to.directory {
            return Err(Errno::EXDEV);
        }
        if from.slash || to.slash && flags & RENAME_EXCHANGE == 0 {
            return Err(Errno::ENOTDIR);
        }
        let ([from_gpa, from_len], [to_gpa, to_len]) = (place_of(from.name), place_of(to.name));
        let args = [from_gpa, from_len, to_gpa, to_len, flags];
        ask(who, Call::ObjectRename, &args).map(drop)
    }

    /// The name made next after the one that `cursor` was told for (0: the first) is put into `to`.
    pub fn list_objects(&self, cursor: u64, to: &mut [u8; NAME_MAX]) -> Option<Listed> {
        NAME.with(|name| {
            let [gpa, room] = place_of(name);
            let len = tell(Call::ObjectList, &[cursor, gpa, room]).ok()? as usize;
            let [cursor, serial] = hypercall::out();
            to.get_mut(..len)?.copy_from_slice(name.get(..len)?);
            (len > 0).then_some(Listed { cursor, serial, len })
        })
    }

    /// Writes the path of object `serial` to the end of `to`, by a name it has or had last: how long it is, 0 if there is
    /// no room.
    pub(super) fn object_path(&self, serial: u64, to: &mut [u8]) -> usize {
        NAME.with(|name| {
            let [gpa, room] = place_of(name);
            let len = tell(Call::ObjectName, &[serial, gpa, room]).unwrap_or(0) as usize;
            let whole = PATH.len() + len;
            let Some(start) = to.len().checked_sub(whole) else {
                return 0;
            };
            to[start..start + PATH.len()].copy_from_slice(PATH);
            to[start + PATH.len()..].copy_from_slice(&name[..len.min(NAME_MAX)]);
            whole
        })
    }

    /// Whether `file` has no name any more.
    pub fn is_nameless(&self, file: FileId) -> bool {
        match self.object(file) {
            None => self.inodes.get(file).links == 0,
            Some(serial) => {
                let mut room = [0; PATH.len() + NAME_MAX];
                self.object_path(serial, &mut room);
                hypercall::out()[0] == 0
            }
        }
    }

    /// Lets go of object `serial`, which was `file`: nobody uses it here, and no area shows it.
    pub(super) fn release_object(&mut self, memory: &mut Memory, file: FileId, serial: u64) {
        while let Some(range) = memory.take_range(file) {
            if let Err(error) = tell(Call::ObjectUnmap, &[range.gpa.get()]) {
                panic!("the broker refuses to unmap a range of object {serial}: {error}");
            }
        }
        if let Err(error) = tell(Call::ObjectRelease, &[serial]) {
            panic!("the broker refuses to let go of object {serial}: {error}");
        }
    }

    /// The directory is `/dev/shm`, in place of whatever is there.
    pub(super) fn mount_objects(&mut self, directory: FileId) {
        self.shm = directory;
        self.inodes.get_mut(directory).mode = 0o777 | STICKY;
    }
}

impl Kernel {
    /// Looks at what the host has to say about objects: lets go of pages that are gone, has calls made again that can go
    /// on now.
    pub fn take_notices(&mut self, cpu: &'static Cpu) {
        let notices = shared::take_notices();
        if notices == 0 {
            return;
        }
        if notices & NOTICE_SHRINK != 0 {
            self.let_pages_go(cpu);
        }
        // Whatever it was: those who need not go on ask once more and wait again.
        for task in 0..self.tasks.len() as u16 {
            if self.tasks[usize::from(task)].state == State::Parked(Wait::Object) {
                self.tasks[usize::from(task)].retry = true;
                self.wake(cpu, task);
            }
        }
    }

    /// Takes the pages of objects that have become smaller out of all address spaces.
    fn let_pages_go(&mut self, cpu: &'static Cpu) {
        while tell(Call::ObjectNotice, &[]) == Ok(1) {
            let [serial, size] = hypercall::out();
            if let Some(file) = self.files.inodes.with_number(NUMBERS | serial) {
                self.memory.contents.set_size(file, size);
                let gone = (size.next_multiple_of(PAGE_SIZE), crate::mm::contents::MOST_BYTES);
                self.take_from_mappings(cpu, Requester::default(), file, gone, Taken::All);
            }
            if tell(Call::ObjectAck, &[serial]).is_err() {
                return;
            }
        }
    }
}
