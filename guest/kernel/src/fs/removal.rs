//! How what is in the tree comes to its end: names go, then users, then the inode and its pages.
//!
//! What has lost its last name while it is in use stays, and with it the directory that name was in ([`Inode::behind`]):
//! `..` of a removed directory leads there, and paths of what was removed go through it.

use super::inode::{Directory, Inode, Kind, NONE, ROOT};
use super::{FileId, Files, Node};
use crate::mm::Memory;

impl Files {
    /// Takes the name `record` away.
    pub(super) fn remove(&mut self, memory: &mut Memory, record: u16, now: u64) {
        let (file, directory) = (self.names.get(record).file, self.names.get(record).parent);
        self.detach(record, now);
        let inode = self.inodes.get_mut(file);
        inode.times.changed = now;
        if inode.kind == Kind::Directory {
            inode.links = 0;
            self.inodes.get_mut(directory).links -= 1;
        } else {
            inode.links -= 1;
        }
        self.forget(record, file);
        self.leave_behind(directory, file);
        self.settle(memory, file);
    }

    /// `file` has lost a name in `directory`: if it was the last one, that directory stays as long as it does.
    pub(super) fn leave_behind(&mut self, directory: FileId, file: FileId) {
        if self.inodes.get(file).links == 0 {
            self.inodes.get_mut(file).behind = directory;
            self.hold(directory);
        }
    }

    /// Takes `record` out of its directory's list.
    pub(super) fn detach(&mut self, record: u16, now: u64) {
        let directory = self.names.get(record).parent;
        let (before, next) = self.names.detach(record);
        let parent = self.inodes.get_mut(directory);
        if parent.directory.first == record {
            parent.directory.first = next;
        }
        if parent.directory.last == record {
            parent.directory.last = before;
        }
        parent.directory.count -= 1;
        (parent.times.modified, parent.times.changed) = (now, now);
    }

    /// `record`, out of its directory, leads to `file` no more: it is kept if it was the last one.
    fn forget(&mut self, record: u16, file: FileId) {
        let Inode { links, name, .. } = *self.inodes.get(file);
        if name != record {
            self.names.discard(record);
        } else if links > 0 {
            self.names.discard(record);
            self.inodes.get_mut(file).name = self.names.any_of(file, record).unwrap_or(0);
        }
    }

    /// Lets go of `file` if neither a name nor a user is left.
    pub(super) fn settle(&mut self, memory: &mut Memory, file: FileId) {
        let inode = self.inodes.get(file);
        let named = inode.links > 0 && inode.object == 0;
        if named || inode.users > 0 || inode.kind == Kind::Free {
            return;
        }
        if memory.areas.shows(file) {
            self.inodes.orphan(file);
        } else if inode.listed {
            // Whoever goes through the list finds it.
            memory.areas.let_go = true;
        } else {
            self.free(memory, file);
        }
    }

    /// Frees `file`, and removed directories that were in use only because of it, one after the other.
    fn free(&mut self, memory: &mut Memory, file: FileId) {
        let mut at = file;
        while at != NONE {
            let Inode { name, behind, .. } = *self.inodes.get(at);
            if name != 0 {
                self.names.discard(name);
            }
            if let Some(serial) = self.object(at) {
                self.release_object(memory, at, serial);
            }
            memory.empty_file(at);
            self.inodes.remove(at);
            at = NONE;
            if behind != NONE {
                let directory = self.inodes.get_mut(behind);
                directory.users -= 1;
                if directory.users == 0 && directory.links == 0 {
                    at = behind;
                }
            }
        }
    }

    /// Lets go of what areas showed longer than it had a name or a user.
    pub fn sweep(&mut self, memory: &mut Memory) {
        let mut list = self.inodes.orphans();
        while let Some(file) = self.inodes.next_orphan(&mut list) {
            if self.inodes.get(file).users > 0 {
                // An object that has come into use.
            } else if memory.areas.shows(file) {
                self.inodes.orphan(file);
            } else {
                self.free(memory, file);
            }
        }
    }

    /// One user more of `file`.
    pub fn hold(&mut self, file: FileId) {
        self.inodes.get_mut(file).users += 1;
    }

    /// One user less of `file`.
    pub fn release(&mut self, memory: &mut Memory, file: FileId) {
        self.inodes.get_mut(file).users -= 1;
        self.settle(memory, file);
    }

    /// As [`Files::hold`], if it is something in the tree.
    pub fn hold_node(&mut self, node: Node) {
        if let Node::File(file) = node {
            self.hold(file);
        }
    }

    /// As [`Files::release`], if it is something in the tree.
    pub fn release_node(&mut self, memory: &mut Memory, node: Node) {
        if let Node::File(file) = node {
            self.release(memory, file);
        }
    }

    /// Takes the whole tree away: for the count of frames at the end. Whatever is still in use, or can't be reached
    /// from the root, keeps what it holds.
    pub fn unmount(&mut self, memory: &mut Memory) {
        if !self.mounted {
            return;
        }
        let mut at = ROOT;
        loop {
            let Directory { first, parent, .. } = self.inodes.get(at).directory;
            if first != 0 {
                let file = self.names.get(first).file;
                if self.inodes.get(file).directory.first != 0 {
                    at = file;
                } else {
                    self.remove(memory, first, 0);
                }
            } else if at == ROOT {
                break;
            } else {
                at = FileId(parent);
            }
        }
        self.sweep(memory);
        self.mounted = false;
    }
}
