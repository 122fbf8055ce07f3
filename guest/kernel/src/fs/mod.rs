//! The files of a guest: a tree in memory, what is open in it, pipes, devices, and `/proc`.
//!
//! | file | what |
//! |---|---|
//! | [`inode`] | what there is: kind, owner, mode, times, and how many names and users it has |
//! | [`names`] | which names lead to what: the entries of all directories |
//! | [`tree`] | making, linking, renaming and removing |
//! | `removal` | how what is in the tree comes to its end |
//! | [`mount`] | what is there before any program has made anything |
//! | [`permission`] | who may do what |
//! | [`walk`] | from a path to what it names |
//! | [`open`] | open files ("descriptions"): what descriptors that came from each other share |
//! | [`descriptor`] | a process's descriptors |
//! | [`lock`] | locks on files |
//! | [`object`] | `/dev/shm`, whose files are the group's |
//! | [`pipe`] | pipes |
//! | [`epoll`] | what is watched |
//! | [`seal`] | what can never be done to a file again |
//! | [`device`] | `/dev/null` and its kin |
//! | `shown` | files that areas show: mappings follow their pages |
//! | [`proc`] | the names in `/proc`, and their texts |
//! | [`stat`] | what stat(2) and its kin tell |
//!
//! Bytes of files are pages of [`crate::mm::contents`], under the same numbers. System calls are in
//! [`crate::syscall`]; they take names and bytes from programs and have the work done here.
//!
//! A path leads to a [`Node`]: something in the tree, something in `/proc`, which exists while it is looked at, or
//! what a descriptor is open for. The first walk makes the tree ([`mount`]); a guest whose programs never
//! name a file has none.
//!
//! Rules:
//! * An inode lives as long as it has a name, a user (an open file, a working directory, a running program) or an
//!   area that shows it.
//! * Tables are of fixed size and pages come from RAM; when either is used up the answer is ENOSPC, ENFILE or
//!   EMFILE.
//! * Errors come in Linux's order, as its own tests and programs see it.
//!
//! Everything runs under the kernel's one lock.

pub mod descriptor;
pub mod device;
pub mod epoll;
pub mod inode;
pub mod lock;
pub mod mount;
pub mod names;
pub mod object;
pub mod open;
pub mod permission;
pub mod pipe;
pub mod proc;
mod removal;
pub mod seal;
mod shown;
pub mod stat;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod walk;

pub use crate::mm::FileId;

use epoll::Sets;
use inode::Inodes;
use lock::Locks;
use names::Names;
use open::OpenFiles;
use pipe::Pipes;

/// Longest name of one file (NAME_MAX).
pub const NAME_MAX: usize = 255;
/// Longest path with its NUL (PATH_MAX).
pub const PATH_MAX: usize = 4096;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Something in the tree.
    File(FileId),
    /// Something in `/proc`.
    Proc(proc::Node),
    /// What an open file, by its number, is open for (`/proc/self/fd/1`).
    Open(u16),
}

impl Node {
    /// The root directory.
    pub const ROOT: Node = Node::File(inode::ROOT);
}

/// All files of the guest.
pub struct Files {
    /// What there is.
    pub inodes: Inodes,
    /// By which names.
    pub names: Names,
    /// What is open.
    pub open: OpenFiles,
    /// Locks on files.
    pub locks: Locks,
    /// Pipes.
    pub pipes: Pipes,
    /// What epoll watches.
    pub epolls: Sets,
    /// How many open files read signals.
    pub signal_readers: u32,
    /// Whether the tree has been made.
    mounted: bool,
    /// The directory in whose place `/proc` is.
    proc: FileId,
    /// The directory in whose place `/sys` is.
    sys: FileId,
    /// The directory in whose place `/dev/shm` is, once it has been looked for.
    shm: FileId,
    /// The host has answered EAGAIN to a request about an object, with this number: the call is to wait.
    pub refused: Option<u64>,
}

impl Files {
    /// No files, until [`Files::init`].
    pub const fn empty() -> Files {
        Files {
            inodes: Inodes::empty(),
            names: Names::empty(),
            open: OpenFiles::empty(),
            locks: Locks::empty(),
            pipes: Pipes::empty(),
            epolls: Sets::empty(),
            signal_readers: 0,
            mounted: false,
            proc: inode::NONE,
            sys: inode::NONE,
            shm: inode::NONE,
            refused: None,
        }
    }

    /// Whether the tree has been made.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// What is in the place of `directory`, if that is where `/proc` or `/sys` is.
    pub fn proc_in_place_of(&self, directory: FileId) -> Option<proc::Node> {
        if directory == self.proc {
            Some(proc::Node::ROOT)
        } else {
            (directory == self.sys).then_some(proc::Node::SYSFS)
        }
    }

    /// Slots of tables that are in use, beside what the root needs: for the count at the end, when there should be
    /// none.
    pub fn in_use(&self) -> u64 {
        let root = u32::from(self.inodes.get(inode::ROOT).kind != inode::Kind::Free);
        u64::from(self.inodes.live() - root)
            + u64::from(self.names.live())
            + u64::from(self.open.live())
            + u64::from(self.locks.live())
            + self.pipes.live()
            + self.epolls.live()
    }

    /// Takes the room for the tables. Once.
    pub fn init(&mut self) {
        self.inodes.init();
        self.names.init();
        self.open.init();
        self.pipes.init();
        self.epolls.init();
    }
}
