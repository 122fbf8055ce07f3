//! POSIX shared memory across guests: objects, the files of the group's `/dev/shm`.
//!
//! An object is an inode: bytes, a size that may change, an owner, a mode, times, and any number of names in one flat
//! directory. The broker has them all; a guest's kernel *holds* those it knows, by their serial numbers, which never
//! come again. An object lives while it has a name or any guest holds it. Requests are [`crate::hypercall::Call`]s from
//! `ObjectOpen` on; names and bytes lie in RAM.
//!
//! **Growing and shrinking.** Bytes appear in a guest by ranges ([`Call::ObjectMap`](crate::hypercall::Call::ObjectMap)),
//! which may reach past the end; a kernel must enter pages into page tables only up to the size it was told since the
//! range is there. To shrink an object is to take pages away from those who may have them in their tables. So the
//! broker first says the new size to everybody who asks, and posts [`NOTICE_SHRINK`] to each guest that has a range which
//! reaches past it; that kernel asks what is to go
//! ([`Call::ObjectNotice`](crate::hypercall::Call::ObjectNotice)), takes the pages out of all its page tables, and says
//! so ([`Call::ObjectAck`](crate::hypercall::Call::ObjectAck)). When all have, the pages are given back. Until then
//! requests that would need the outcome answer EAGAIN, and [`NOTICE_RETRY`] comes when it is worth asking again. A
//! kernel that does not answer in time is ended.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What is told of an object: 96 bytes, in the payload. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectStatus {
    /// Its serial number; [`DIRECTORY`] for the directory.
    pub serial: u64,
    /// Bytes. Of the directory: names.
    pub size: u64,
    /// Bytes in memory.
    pub resident: u64,
    /// Last read.
    pub accessed: u64,
    /// Bytes last changed.
    pub modified: u64,
    /// Anything last changed.
    pub changed: u64,
    /// Made.
    pub born: u64,
    /// Permissions, 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Names.
    pub links: u32,
}

/// The number that stands for the directory itself. No object has it.
pub const DIRECTORY: u64 = 0;
/// Permissions of the directory, which is root's: everybody's, with the sticky bit.
pub const DIRECTORY_MODE: u32 = 0o1777;
/// Longest name.
pub const NAME_MAX: usize = 255;

/// `ObjectOpen`: the guest is to have the right to read.
pub const OPEN_READ: u64 = 1;
/// `ObjectOpen`: the guest is to have the right to write and to change the size.
pub const OPEN_WRITE: u64 = 2;
/// `ObjectOpen`: the object is made if it is not there.
pub const OPEN_CREATE: u64 = 4;
/// `ObjectOpen`, with [`OPEN_CREATE`]: it must not be there.
pub const OPEN_EXCLUSIVE: u64 = 8;

/// `ObjectSet`: the mode.
pub const SET_MODE: u64 = 1;
/// `ObjectSet`: the owner.
pub const SET_UID: u64 = 2;
/// `ObjectSet`: the group.
pub const SET_GID: u64 = 4;
/// `ObjectSet`: when it was last read.
pub const SET_ACCESSED: u64 = 8;
/// `ObjectSet`: when its bytes were last changed.
pub const SET_MODIFIED: u64 = 16;
/// `ObjectSet`: both times are now, which who may write may say, too.
pub const SET_NOW: u64 = 32;

/// `ObjectWrite`: the offset that stands for the end.
pub const AT_END: u64 = u64::MAX;

/// `ObjectRename`: not if there is something already.
pub const RENAME_NOREPLACE: u64 = 1;
/// `ObjectRename`: the two change places.
pub const RENAME_EXCHANGE: u64 = 2;

/// Futex requests: set in the number of an object, whose word is meant; without it the number is a segment's id.
pub const WORD_OF_OBJECT: u64 = 1 << 63;

/// In [`crate::tasks::TaskPage::notices`]: some object is to shrink, ask `ObjectNotice`.
pub const NOTICE_SHRINK: u64 = 1;
/// In [`crate::tasks::TaskPage::notices`]: what answered EAGAIN is worth asking again.
pub const NOTICE_RETRY: u64 = 2;
