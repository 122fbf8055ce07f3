//! POSIX shared memory across guests: the files of the group's `/dev/shm` ([`abi::object`] says what they are).
//!
//! | file | what |
//! |---|---|
//! | `directory` | which objects there are, and by which names: pure rules |
//! | `object` | one of them, and who may do what with it: pure rules |
//! | `service` | what guests ask |
//! | `store` | an object's bytes |
//! | `shrink` | taking pages away from guests that have them; ending guests that keep them |
//!
//! [`ObjectService`] is what a machine sees of it. A guest *holds* the objects its kernel knows, with the rights its
//! processes had when they opened them, and has *ranges* of them in its windows.
//!
//! Why a guest that does as it should never touches what is gone: a kernel fills its page tables up to the size it was
//! told when a range of it was known here (`Directory::add_range` and reading the size are one step), and from then on
//! every shrink that reaches into the range waits for it. One that does otherwise makes KVM_RUN fail, and ends.
//!
//! Locks: one guest's `Home`, then `Store::change`, then the words (`memory::cut`), then the table. Waiting deadlines
//! have a lock that is a leaf. Nothing here waits for a guest.

mod directory;
mod object;
mod service;
mod shrink;
mod store;

pub(super) use directory::Directory;
pub use object::SetObject;
pub(super) use shrink::Deadlines;

use super::{Caller, WindowKind};
use abi::Errno;
use abi::object::ObjectStatus;
use serde::Serialize;
use std::collections::BTreeMap;

/// Which object is meant by `ObjectOpen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one with this name.
    Name(&'a [u8]),
    /// One that the guest holds.
    Held(u64),
}

/// A range of an object in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where it is, guest-physical.
    pub gpa: u64,
    /// The object's size in bytes.
    pub size: u64,
}

/// Why a size does not change, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// EAGAIN if it is to be asked again.
    pub errno: Errno,
    /// What has begun, for the next request; 0 if nothing has.
    pub number: u64,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused { errno, number: 0 }
    }
}

/// A name in the directory, for listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where to go on.
    pub cursor: u64,
    /// The name.
    pub name: Vec<u8>,
    /// What it leads to.
    pub serial: u64,
}

/// An object as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectState {
    /// Its number.
    pub serial: u64,
    /// Its names.
    pub names: Vec<Vec<u8>>,
    /// Bytes.
    pub size: u64,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Guests that hold it.
    pub holders: Vec<u32>,
    /// Ranges of it in all guests.
    pub ranges: u64,
    /// It waits for guests to let go of pages.
    pub shrinking: bool,
}

/// An object's life, for the report. Times are nanoseconds since the broker was made.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectLife {
    /// The name it was made by, with what is no UTF-8 replaced.
    pub name: String,
    /// Permissions it was made with.
    pub mode: u32,
    /// Guest whose process made it.
    pub creator_guest: u32,
    /// That process.
    pub creator_pid: u32,
    /// Its user.
    pub creator_uid: u32,
    /// When it was made.
    pub created_ns: u64,
    /// When it was gone: without a name, and nobody held it.
    pub destroyed_ns: Option<u64>,
    /// Most bytes it had.
    pub peak_size: u64,
    /// Ranges of it that each guest has had.
    pub ranges: BTreeMap<u32, u64>,
}

/// What a machine asks about objects on behalf of its guest; see [`abi::hypercall::Call`] from `ObjectOpen` on for what
/// each means, and for its errors. Every method copes with anything a guest may send, from any vCPU.
#[expect(clippy::missing_errors_doc, reason = "abi::hypercall::Call has them")]
pub trait ObjectService: Send + Sync {
    /// Holds an object, made if `flags` say so. Whether it was made.
    fn object_open(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        which: Which<'_>,
        flags: u64,
        mode: u32,
    ) -> Result<(bool, ObjectStatus), Errno>;
    /// What is told of an object, or the directory.
    fn object_stat(&self, guest: u32, serial: u64) -> Result<ObjectStatus, Errno>;
    /// Changes mode, owner, times.
    fn object_set(&self, guest: u32, caller: &Caller<'_>, serial: u64, set: &SetObject) -> Result<(), Errno>;
    /// Changes the size; `number` is what an earlier refusal gave.
    fn object_resize(&self, guest: u32, serial: u64, size: u64, number: u64) -> Result<(), Refused>;
    /// Reads at most `len` bytes.
    fn object_read(&self, guest: u32, serial: u64, offset: u64, len: u64) -> Result<Vec<u8>, Errno>;
    /// Writes bytes. The offset after them.
    fn object_write(&self, guest: u32, serial: u64, offset: u64, bytes: &[u8]) -> Result<u64, Errno>;
    /// Gives an object another name.
    fn object_link(&self, guest: u32, caller: &Caller<'_>, serial: u64, name: &[u8]) -> Result<(), Errno>;
    /// Takes a name away.
    fn object_unlink(&self, guest: u32, caller: &Caller<'_>, name: &[u8]) -> Result<(), Errno>;
    /// Renames.
    fn object_rename(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        from: &[u8],
        to: &[u8],
        flags: u64,
    ) -> Result<(), Errno>;
    /// The name made next after the one that `cursor` was given for; 0: the first.
    fn object_list(&self, guest: u32, cursor: u64) -> Result<Option<Listed>, Errno>;
    /// Shows a range in a window.
    fn object_map(
        &self,
        guest: u32,
        serial: u64,
        window: WindowKind,
        offset: u64,
        len: u64,
    ) -> Result<Mapped, Errno>;
    /// Shows it no longer.
    fn object_unmap(&self, guest: u32, gpa: u64) -> Result<(), Errno>;
    /// An object of which the guest is to let go of what is past its size, and that size.
    fn object_notice(&self, guest: u32) -> Result<Option<(u64, u64)>, Errno>;
    /// The guest has.
    fn object_ack(&self, guest: u32, serial: u64) -> Result<(), Errno>;
    /// The guest does not hold it any longer.
    fn object_release(&self, guest: u32, serial: u64) -> Result<(), Errno>;
    /// A name of an object, or the last one it had, and whether it has it.
    fn object_name(&self, guest: u32, serial: u64) -> Result<(Vec<u8>, bool), Errno>;
}
