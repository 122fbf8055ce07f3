//! Inodes: what there is in the tree, whatever it is called.
//!
//! The table is of fixed size; an inode's place in it is its [`FileId`]. The number programs see (`st_ino`) is
//! another one: it follows from the path the file was made under, so that a file of the same name has the same
//! number in every guest of a group, and `ftok` the same key. Two that live have different numbers.

use super::FileId;
use super::device::Device;
use super::seal::Seals;
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use crate::mm::contents::MOST_FILES;
use abi::Errno;
use abi::boot::MAX_FILES;

/// No inode.
pub const NONE: FileId = FileId(0);
/// The root directory.
pub const ROOT: FileId = FileId(1);
/// The files that travel with the guest have the numbers from here on, in the order of the boot information.
pub const FIRST_GIVEN: u16 = 2;

/// The set-user-id bit.
pub const SET_UID: u16 = 0o4000;
/// The set-group-id bit.
pub const SET_GID: u16 = 0o2000;
/// Only its owner and the directory's may remove a file.
pub const STICKY: u16 = 0o1000;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the slot is free.
    #[default]
    Free,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link; its target is its contents.
    Link,
    /// A device.
    Device(Device),
}

impl Kind {
    /// The file type of `st_mode`.
    pub const fn type_bits(self) -> u32 {
        match self {
            Kind::Free => 0,
            Kind::Regular => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Link => 0o120_000,
            Kind::Device(_) => 0o020_000,
        }
    }

    /// `d_type` of getdents64(2): the type bits, shifted.
    pub const fn entry_type(self) -> u8 {
        (self.type_bits() >> 12) as u8
    }
}

/// Times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last read.
    pub accessed: u64,
    /// Contents last changed.
    pub modified: u64,
    /// Inode last changed.
    pub changed: u64,
    /// Made.
    pub born: u64,
}

impl Times {
    /// All of them are `now`.
    pub const fn all(now: u64) -> Times {
        Times {
            accessed: now,
            modified: now,
            changed: now,
            born: now,
        }
    }
}

/// What only a directory has.
#[derive(Clone, Copy, Default)]
pub struct Directory {
    /// The hash of its path when it was made; that of what is in it goes on from there.
    pub hash: u64,
    /// The directory it is in; the root is in itself.
    pub parent: u16,
    /// The first and last of its names, in the order they were made; 0 is none.
    pub first: u16,
    /// See `first`.
    pub last: u16,
    /// The place of the next name in that order.
    pub order: u32,
    /// How many names.
    pub count: u32,
    /// Its usual contents are made when it is first looked into ([`super::mount`]).
    pub unfilled: bool,
}

/// One of them.
#[derive(Clone, Copy, Default)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permissions, 12 bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names lead to it, as `st_nlink` has it: a directory's `.` and its children's `..` count.
    pub links: u32,
    /// Open files, working directories and running programs that mean it.
    pub users: u32,
    /// Open files that may be written to.
    pub writers: u32,
    /// `st_ino`.
    pub number: u64,
    /// When things happened to it.
    pub times: Times,
    /// Its names, if it is a directory.
    pub directory: Directory,
    /// The serial number of the object it is, or 0 ([`super::object`]). `links` are not names in the tree then.
    pub object: u64,
    /// It was made without a name, and may be given one (O_TMPFILE).
    pub linkable: bool,
    /// What can never be done to it again, if it was made by memfd_create(2). Other files have no seals and get none.
    pub seals: Option<Seals>,
    /// One of the names that lead to it; or the last one it had; or 0.
    pub name: u16,
    /// The directory its last name was in, once it has been removed: that has one user more because of it.
    pub(super) behind: FileId,
    /// Next in a list: of those with the same hash of `number`, or of free slots.
    pub(super) next: u16,
    /// Next among those without name or user that areas still show.
    pub(super) next_orphan: u16,
    /// It is in the list of those.
    pub(super) listed: bool,
}

#[cfg(target_os = "none")]
static ROOM: Reserve<[Inode; MOST_FILES]> = Reserve::new(
    [const {
        Inode {
            kind: Kind::Free,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 0,
            users: 0,
            writers: 0,
            number: 0,
            times: Times::all(0),
            directory: Directory {
                hash: 0,
                parent: 0,
                first: 0,
                last: 0,
                order: 0,
                count: 0,
                unfilled: false,
            },
            object: 0,
            linkable: false,
            seals: None,
            name: 0,
            behind: NONE,
            next: 0,
            next_orphan: 0,
            listed: false,
        }
    }; MOST_FILES],
);

const BUCKETS: usize = 256;

/// All inodes.
pub struct Inodes {
    inodes: &'static mut [Inode],
    /// Heads of lists by number.
    by_number: [u16; BUCKETS],
    /// Slots given back.
    free: u16,
    /// Slots that have been used so far, 0 and those of given files included.
    used: u16,
    /// How many live.
    live: u32,
    orphans: u16,
}

impl Inodes {
    pub(super) const fn empty() -> Inodes {
        Inodes {
            inodes: &mut [],
            by_number: [0; BUCKETS],
            free: 0,
            used: 0,
            live: 0,
            orphans: 0,
        }
    }

    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let inodes = ROOM.take().expect("a kernel has one table of inodes");
        #[cfg(not(target_os = "none"))]
        let inodes = Box::leak(vec![Inode::default(); MOST_FILES].into_boxed_slice());
        self.inodes = inodes;
        self.used = FIRST_GIVEN;
    }

    /// Keeps the numbers of the first `count` given files for them; how many of them there is room for.
    pub(super) fn reserve(&mut self, count: usize) -> usize {
        const { assert!(MAX_FILES <= MOST_FILES / 4 * 3, "others need some, too") };
        let kept = count.min(MAX_FILES);
        self.used = FIRST_GIVEN + kept as u16;
        kept
    }

    /// How many there are.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// How many more there can be.
    pub fn available(&self) -> u32 {
        MOST_FILES as u32 - 1 - self.live
    }

    /// The inode `file`, which lives.
    pub fn get(&self, file: FileId) -> &Inode {
        &self.inodes[usize::from(file.0)]
    }

    /// The inode `file`, to change.
    pub fn get_mut(&mut self, file: FileId) -> &mut Inode {
        &mut self.inodes[usize::from(file.0)]
    }

    /// A new inode like `inode`, in a free slot; its number is `inode.number` or the next one that nobody has.
    ///
    /// # Errors
    /// ENOSPC.
    pub(super) fn add(&mut self, inode: Inode) -> Result<FileId, Errno> {
        let slot = if self.free != 0 {
            let slot = self.free;
            self.free = self.inodes[usize::from(slot)].next;
            slot
        } else if usize::from(self.used) < MOST_FILES {
            self.used += 1;
            self.used - 1
        } else {
            return Err(Errno::ENOSPC);
        };
        self.add_at(FileId(slot), inode);
        Ok(FileId(slot))
    }

    /// As [`Inodes::add`], in this slot, which is free. Who uses it already goes on doing so.
    pub(super) fn add_at(&mut self, file: FileId, mut inode: Inode) {
        while self.with_number(inode.number).is_some() {
            inode.number += 1;
        }
        let bucket = &mut self.by_number[inode.number as usize % BUCKETS];
        inode.next = core::mem::replace(bucket, file.0);
        inode.users = self.get(file).users;
        *self.get_mut(file) = inode;
        self.live += 1;
    }

    pub(super) fn with_number(&self, number: u64) -> Option<FileId> {
        let mut at = self.by_number[number as usize % BUCKETS];
        while at != 0 {
            let inode = &self.inodes[usize::from(at)];
            if inode.number == number {
                return Some(FileId(at));
            }
            at = inode.next;
        }
        None
    }

    /// Frees the slot of `file`.
    pub(super) fn remove(&mut self, file: FileId) {
        let Inode { number, next, .. } = *self.get(file);
        let bucket = number as usize % BUCKETS;
        if self.by_number[bucket] == file.0 {
            self.by_number[bucket] = next;
        } else {
            let mut at = usize::from(self.by_number[bucket]);
            while self.inodes[at].next != file.0 {
                at = usize::from(self.inodes[at].next);
            }
            self.inodes[at].next = next;
        }
        *self.get_mut(file) = Inode {
            next: self.free,
            ..Inode::default()
        };
        self.free = file.0;
        self.live -= 1;
    }

    /// Remembers `file`, which has neither name nor user, because areas still show it; or which is an object, and may
    /// have no user when the call is over. Once is enough.
    pub(super) fn orphan(&mut self, file: FileId) {
        let orphans = self.orphans;
        let inode = self.get_mut(file);
        if !inode.listed {
            (inode.listed, inode.next_orphan) = (true, orphans);
            self.orphans = file.0;
        }
    }

    /// Takes an orphan out of the list that starts at `list`, which [`Inodes::orphans`] gave.
    pub(super) fn next_orphan(&mut self, list: &mut u16) -> Option<FileId> {
        let file = (*list != 0).then_some(FileId(*list))?;
        let inode = self.get_mut(file);
        inode.listed = false;
        *list = inode.next_orphan;
        Some(file)
    }

    /// The list of orphans, which is empty afterwards.
    pub(super) fn orphans(&mut self) -> u16 {
        core::mem::take(&mut self.orphans)
    }
}
