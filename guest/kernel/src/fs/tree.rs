//! The tree: making, linking, renaming and removing, with the checks that belong to it, in Linux's order
//! (`fs/namei.c`: `may_create`, `may_delete`, `vfs_rename` …).

use super::inode::{Directory, Inode, Kind, NONE, ROOT, SET_GID, Times};
use super::names::{HASH_START, hash_below, number_of};
use super::permission::{EXECUTE, WRITE, Who};
use super::{FileId, Files};
use crate::mm::Memory;
use abi::Errno;

/// Most names of one file, so that the count programs see stays one.
const MOST_LINKS: u32 = 65_000;
/// `renameat2`: not if there is something already.
pub const RENAME_NOREPLACE: u64 = 1;
/// `renameat2`: the two change places.
pub const RENAME_EXCHANGE: u64 = 2;

/// A directory and a name in it, which may lead to something or not.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The directory.
    pub directory: FileId,
    /// The name.
    pub name: &'a [u8],
    /// A slash follows it: it has to be a directory.
    pub slash: bool,
}

/// What is to be made.
#[derive(Clone, Copy)]
pub struct New {
    /// What it is.
    pub kind: Kind,
    /// Its permissions.
    pub mode: u16,
    /// When.
    pub now: u64,
}

/// Whether what is removed is to be a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// rmdir.
    Directory,
    /// unlink.
    Other,
}

impl Files {
    /// The record of a name.
    fn record(&self, directory: FileId, name: &[u8]) -> Option<u16> {
        let hash = hash_below(self.inodes.get(directory).directory.hash, name);
        self.names.find(directory, hash, name)
    }

    /// What `name` leads to in `directory`.
    pub fn lookup(&self, directory: FileId, name: &[u8]) -> Option<FileId> {
        self.record(directory, name)
            .map(|record| self.names.get(record).file)
    }

    /// Makes something new, without a name.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn make_unnamed(
        &mut self,
        memory: &mut Memory,
        who: (u32, u32),
        new: New,
        number: u64,
    ) -> Result<FileId, Errno> {
        self.sweep(memory);
        let inode = Inode {
            linkable: true,
            ..inode_of(who, new, number)
        };
        self.inodes.add(inode)
    }

    /// Makes something new, called `at`, that belongs to `who`.
    ///
    /// # Errors
    /// EEXIST; ENOENT in a directory that has been removed; EACCES; ENOSPC; EMLINK.
    pub fn make(
        &mut self,
        memory: &mut Memory,
        who: &Who<'_>,
        at: Entry<'_>,
        mut new: New,
    ) -> Result<FileId, Errno> {
        if self.is_shared(at.directory) && !(at.slash && new.kind != Kind::Directory) {
            return self.make_object(memory, who, at.name, new.kind, new.mode);
        }
        if self.record(at.directory, at.name).is_some() {
            return Err(Errno::EEXIST);
        }
        if at.slash && new.kind != Kind::Directory {
            return Err(Errno::ENOENT);
        }
        self.check_make(who, at.directory)?;
        let parent = self.inodes.get(at.directory);
        let mut owner = (who.uid, who.gid);
        if parent.mode & SET_GID != 0 {
            owner.1 = parent.gid;
            if new.kind == Kind::Directory {
                new.mode |= SET_GID;
            }
        }
        if new.kind == Kind::Directory && parent.links >= MOST_LINKS {
            return Err(Errno::EMLINK);
        }
        self.sweep(memory);
        self.place(at, inode_of(owner, new, 0), None)
    }

    /// Whether `who` may make names in `directory`.
    fn check_make(&self, who: &Who<'_>, directory: FileId) -> Result<(), Errno> {
        let parent = self.inodes.get(directory);
        if parent.links == 0 {
            return Err(Errno::ENOENT);
        }
        who.check(WRITE | EXECUTE, parent)
    }

    /// Puts `inode` into the tree as `at`, at slot `slot` or any. Nobody is asked.
    ///
    /// # Errors
    /// ENOSPC.
    pub(super) fn place(
        &mut self,
        at: Entry<'_>,
        mut inode: Inode,
        slot: Option<FileId>,
    ) -> Result<FileId, Errno> {
        let hash = hash_below(self.inodes.get(at.directory).directory.hash, at.name);
        if inode.number == 0 {
            inode.number = number_of(hash);
        }
        if inode.kind == Kind::Directory {
            inode.directory.hash = hash;
            inode.directory.parent = at.directory.0;
        }
        let file = match slot {
            Some(slot) => {
                self.inodes.add_at(slot, inode);
                slot
            }
            None => self.inodes.add(inode)?,
        };
        if let Err(error) = self.enter(at, file, inode.times.changed) {
            self.inodes.remove(file);
            return Err(error);
        }
        Ok(file)
    }

    /// The root directory.
    pub(super) fn place_root(&mut self, number: u64, now: u64) {
        let new = New {
            kind: Kind::Directory,
            mode: 0o755,
            now,
        };
        let mut root = inode_of((0, 0), new, number);
        root.links = 2;
        root.directory = Directory {
            hash: HASH_START,
            parent: ROOT.0,
            ..Directory::default()
        };
        self.inodes.add_at(ROOT, root);
    }

    /// Makes `at`, which is free, lead to `file`, too.
    fn enter(&mut self, at: Entry<'_>, file: FileId, now: u64) -> Result<(), Errno> {
        let parent = self.inodes.get(at.directory);
        let hash = hash_below(parent.directory.hash, at.name);
        let place = (at.directory, parent.directory.last, parent.directory.order);
        let record = self.names.add(place, hash, at.name, file)?;
        let parent = self.inodes.get_mut(at.directory);
        if parent.directory.first == 0 {
            parent.directory.first = record;
        }
        parent.directory.last = record;
        parent.directory.order += 1;
        parent.directory.count += 1;
        (parent.times.modified, parent.times.changed) = (now, now);
        let inode = self.inodes.get_mut(file);
        let old = core::mem::replace(&mut inode.name, record);
        let unlinked = inode.links == 0;
        if inode.kind == Kind::Directory {
            inode.directory.parent = at.directory.0;
            if unlinked {
                inode.links = 2;
            }
            self.inodes.get_mut(at.directory).links += 1;
            return Ok(());
        }
        inode.links += 1;
        if old != 0 && unlinked {
            // It was what a file without a name had been called.
            self.names.discard(old);
        }
        Ok(())
    }

    /// link(2): `at` leads to `file`, too.
    ///
    /// # Errors
    /// EEXIST, EACCES, EPERM for a directory, EMLINK, ENOSPC; ENOENT for what has no name left.
    pub fn link(&mut self, who: &Who<'_>, file: FileId, at: Entry<'_>, now: u64) -> Result<(), Errno> {
        if self.is_shared(at.directory) || self.object(file).is_some() {
            return self.link_object(who, file, at);
        }
        if self.record(at.directory, at.name).is_some() {
            return Err(Errno::EEXIST);
        }
        if at.slash {
            return Err(Errno::ENOENT);
        }
        let inode = self.inodes.get(file);
        if !who.may_link(inode) {
            return Err(Errno::EPERM);
        }
        self.check_make(who, at.directory)?;
        match inode.kind {
            Kind::Directory => return Err(Errno::EPERM),
            _ if inode.links == 0 && !inode.linkable => return Err(Errno::ENOENT),
            _ if inode.links >= MOST_LINKS => return Err(Errno::EMLINK),
            _ => {}
        }
        self.enter(at, file, now)?;
        let inode = self.inodes.get_mut(file);
        inode.times.changed = now;
        inode.linkable = false;
        Ok(())
    }

    /// The record of `at`, if `who` may remove it and it is of the kind that is to go.
    fn removable(&self, who: &Who<'_>, at: Entry<'_>, what: Removed) -> Result<u16, Errno> {
        let record = self.record(at.directory, at.name).ok_or(Errno::ENOENT)?;
        let file = self.names.get(record).file;
        let victim = self.inodes.get(file);
        let is_directory = victim.kind == Kind::Directory;
        if at.slash && what == Removed::Other {
            return Err(if is_directory {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            });
        }
        who.check_remove(self.inodes.get(at.directory), victim)?;
        match what {
            Removed::Directory if !is_directory => Err(Errno::ENOTDIR),
            Removed::Other if is_directory => Err(Errno::EISDIR),
            _ => Ok(record),
        }
    }

    /// unlink(2), rmdir(2).
    ///
    /// # Errors
    /// As those.
    pub fn unlink(
        &mut self,
        memory: &mut Memory,
        who: &Who<'_>,
        at: Entry<'_>,
        what: Removed,
        now: u64,
    ) -> Result<(), Errno> {
        if self.is_shared(at.directory) {
            return self.unlink_object(who, at, what == Removed::Directory);
        }
        if self.lookup(at.directory, at.name) == Some(self.shm) {
            return Err(if what == Removed::Directory {
                Errno::EBUSY
            } else {
                Errno::EISDIR
            });
        }
        let record = self.removable(who, at, what)?;
        let directory = self.inodes.get(self.names.get(record).file).directory;
        if what == Removed::Directory && (directory.count > 0 || directory.unfilled) {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(memory, record, now);
        Ok(())
    }

    /// Whether `directory` is `file` or lies somewhere below it.
    fn is_within(&self, directory: FileId, file: FileId) -> bool {
        let mut at = directory;
        while at != file && at != ROOT && at != NONE {
            at = FileId(self.inodes.get(at).directory.parent);
        }
        at == file
    }

    /// rename(2), renameat2(2).
    ///
    /// # Errors
    /// As those.
    pub fn rename(
        &mut self,
        memory: &mut Memory,
        who: &Who<'_>,
        (from, to): (Entry<'_>, Entry<'_>),
        flags: u64,
        now: u64,
    ) -> Result<(), Errno> {
        if self.is_shared(from.directory) || self.is_shared(to.directory) {
            return self.rename_object(who, (from, to), flags);
        }
        let mounted = |at: Entry<'_>| self.lookup(at.directory, at.name) == Some(self.shm);
        if mounted(from) || mounted(to) {
            return Err(Errno::EBUSY);
        }
        let exchange = flags & RENAME_EXCHANGE != 0;
        let old = self.record(from.directory, from.name).ok_or(Errno::ENOENT)?;
        let file = self.names.get(old).file;
        let new = self.record(to.directory, to.name);
        let target = new.map(|record| self.names.get(record).file);
        if target.is_some() && flags & RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        let is_directory = |file: FileId| self.inodes.get(file).kind == Kind::Directory;
        if exchange {
            let target = target.ok_or(Errno::ENOENT)?;
            if to.slash && !is_directory(target) {
                return Err(Errno::ENOTDIR);
            }
        }
        let directory = is_directory(file);
        if !directory && (from.slash || to.slash && !exchange) {
            return Err(Errno::ENOTDIR);
        }
        if self.is_within(to.directory, file) {
            return Err(Errno::EINVAL);
        }
        if let Some(target) = target
            && is_directory(target)
            && self.is_within(from.directory, target)
        {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if target == Some(file) {
            return Ok(());
        }
        who.check_remove(self.inodes.get(from.directory), self.inodes.get(file))?;
        match target {
            None => self.check_make(who, to.directory)?,
            Some(target) => {
                who.check_remove(self.inodes.get(to.directory), self.inodes.get(target))?;
                match (exchange, directory, is_directory(target)) {
                    (false, true, false) => return Err(Errno::ENOTDIR),
                    (false, false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        // A directory that moves has its `..` changed.
        if from.directory != to.directory {
            for moved in [Some(file), target.filter(|_| exchange)].into_iter().flatten() {
                if is_directory(moved) {
                    who.check(WRITE, self.inodes.get(moved))?;
                }
            }
        }
        if exchange {
            if let (Some(new), Some(target)) = (new, target) {
                self.exchange(old, new, file, target, now);
            }
            return Ok(());
        }
        if let Some(target) = target {
            let there = self.inodes.get(target).directory;
            if directory && (there.count > 0 || there.unfilled) {
                return Err(Errno::ENOTEMPTY);
            }
        }
        // Entering is what can fail; where there is a target, its record serves.
        match new {
            None => {
                self.enter(to, file, now)?;
                if !directory {
                    self.inodes.get_mut(file).links -= 1;
                }
            }
            Some(new) => self.replace(memory, new, file, now),
        }
        self.detach(old, now);
        if directory {
            self.inodes.get_mut(from.directory).links -= 1;
        }
        self.names.discard(old);
        self.inodes.get_mut(file).times.changed = now;
        Ok(())
    }

    /// Has `record` lead to `file` instead of what it leads to, which loses that name. The number of names of
    /// `file` stays as it is, for it loses another one.
    fn replace(&mut self, memory: &mut Memory, record: u16, file: FileId, now: u64) {
        let (target, directory) = (self.names.get(record).file, self.names.get(record).parent);
        self.names.redirect(record, file);
        let parent = self.inodes.get_mut(directory);
        (parent.times.modified, parent.times.changed) = (now, now);
        let inode = self.inodes.get_mut(file);
        inode.name = record;
        if inode.kind == Kind::Directory {
            inode.directory.parent = directory.0;
        }
        let gone = self.inodes.get_mut(target);
        gone.times.changed = now;
        if gone.kind == Kind::Directory {
            // The parent's count stays, too: one directory for another.
            gone.links = 0;
        } else {
            gone.links -= 1;
        }
        let (kept, users) = (gone.links > 0, gone.users);
        if gone.name == record {
            // The record is another's now.
            let name = if kept {
                self.names.any_of(target, record)
            } else if users > 0 || memory.areas.shows(target) {
                self.names.copy_of(record)
            } else {
                None
            };
            self.inodes.get_mut(target).name = name.unwrap_or(0);
        }
        self.leave_behind(directory, target);
        self.settle(memory, target);
    }

    fn exchange(&mut self, old: u16, new: u16, file: FileId, target: FileId, now: u64) {
        let parents = [self.names.get(old).parent, self.names.get(new).parent];
        for (record, parent, now_there) in [(old, parents[0], target), (new, parents[1], file)] {
            self.names.redirect(record, now_there);
            let inode = self.inodes.get_mut(now_there);
            inode.name = record;
            inode.times.changed = now;
            if inode.kind == Kind::Directory {
                inode.directory.parent = parent.0;
                self.inodes.get_mut(parent).links += 1;
            }
            let parent = self.inodes.get_mut(parent);
            (parent.times.modified, parent.times.changed) = (now, now);
        }
        for (parent, was_there) in [(parents[0], file), (parents[1], target)] {
            if self.inodes.get(was_there).kind == Kind::Directory {
                self.inodes.get_mut(parent).links -= 1;
            }
        }
    }

    /// Writes the path of `file` to the end of `to`: where it starts. The root is `/`; of what has been removed it
    /// is the last one.
    pub fn path<'b>(&self, file: FileId, to: &'b mut [u8]) -> &'b [u8] {
        let mut start = to.len();
        if let Some(serial) = self.object(file) {
            start -= self.object_path(serial, to);
            return &to[start..];
        }
        let mut at = file;
        while at != ROOT && at != NONE {
            let name = self.inodes.get(at).name;
            if name == 0 || self.names.len(name) + 1 > start {
                break;
            }
            start -= self.names.len(name);
            self.names.copy(name, &mut to[start..]);
            start -= 1;
            to[start] = b'/';
            at = self.names.get(name).parent;
        }
        if start == to.len() {
            start -= 1;
            to[start] = b'/';
        }
        &to[start..]
    }
}

fn inode_of((uid, gid): (u32, u32), new: New, number: u64) -> Inode {
    Inode {
        kind: new.kind,
        mode: new.mode,
        uid,
        gid,
        number,
        times: Times::all(new.now),
        ..Inode::default()
    }
}
