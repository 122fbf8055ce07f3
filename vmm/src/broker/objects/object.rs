//! One object: whose it is, how long, when it was changed, who holds it, who has ranges of it.
//!
//! The rules are Linux's for a file in a directory with mode 1777 that belongs to root (path_resolution(7), `fs/namei.c`:
//! `may_delete`, `may_linkat`; `fs/attr.c`: `setattr_prepare`).

use super::ObjectLife;
use super::shrink::Shrink;
use super::store::Store;
use abi::Errno;
use abi::object::{ObjectStatus, SET_ACCESSED, SET_GID, SET_MODE, SET_MODIFIED, SET_NOW, SET_UID};
use shm::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const READ: u32 = 4;
const WRITE: u32 = 2;
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const PERMISSIONS: u32 = 0o7777;
/// An access time older than this is renewed by reading, as on any file system mounted with `relatime` (mount(8)).
const STALE_NS: u64 = 24 * 3600 * 1_000_000_000;

/// What a guest that holds an object may do with its bytes: what its processes were allowed when they opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// An object.
pub(super) struct Object {
    /// Its bytes.
    pub(super) store: Arc<Store>,
    /// How many there are for everybody who asks.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    accessed: u64,
    modified: u64,
    pub(super) changed: u64,
    born: u64,
    /// Which guests hold it.
    pub(super) holders: BTreeMap<u32, Rights>,
    /// Where guests have ranges of it: the guest and the guest-physical address; the offset a range ends at.
    pub(super) ranges: BTreeMap<(u32, u64), u64>,
    /// It is becoming smaller.
    pub(super) shrink: Option<Shrink>,
    /// The last name that led to it.
    pub(super) last_name: Vec<u8>,
    /// For the report.
    pub(super) life: ObjectLife,
}

impl Object {
    /// A new one, with a name that is about to lead to it, which nobody holds yet.
    pub(super) fn new(
        who: &Credentials<'_>,
        name: &[u8],
        mode: u32,
        store: Store,
        life: ObjectLife,
        now: u64,
    ) -> Object {
        Object {
            store: Arc::new(store),
            size: 0,
            mode: mode & PERMISSIONS,
            uid: who.uid,
            gid: who.gid,
            links: 1,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            holders: BTreeMap::new(),
            ranges: BTreeMap::new(),
            shrink: None,
            last_name: name.to_vec(),
            life,
        }
    }

    fn owned_by(&self, who: &Credentials<'_>) -> bool {
        who.is_privileged() || who.uid == self.uid
    }

    fn grants(&self, who: &Credentials<'_>, wanted: u32) -> bool {
        let granted = if who.uid == self.uid {
            self.mode >> 6
        } else if who.is_in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        who.is_privileged() || granted & wanted == wanted
    }

    /// Whether `who` may open it so.
    ///
    /// # Errors
    /// EACCES.
    pub(super) fn check(&self, who: &Credentials<'_>, rights: Rights) -> Result<(), Errno> {
        let wanted = if rights.read { READ } else { 0 } | if rights.write { WRITE } else { 0 };
        if self.grants(who, wanted) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether `who` may take one of its names away: in a directory of root's with the sticky bit.
    pub(super) fn check_remove(&self, who: &Credentials<'_>) -> Result<(), Errno> {
        if self.owned_by(who) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Whether `who` may give it another name (`fs.protected_hardlinks=1`, as distributions set it).
    pub(super) fn may_link(&self, who: &Credentials<'_>) -> bool {
        let special = SET_USER_ID | if self.mode & 0o010 != 0 { SET_GROUP_ID } else { 0 };
        self.owned_by(who) || self.mode & special == 0 && self.grants(who, READ | WRITE)
    }

    /// What is told of it.
    pub(super) fn status(&self) -> ObjectStatus {
        ObjectStatus {
            serial: self.store.serial,
            size: self.size,
            resident: self.store.resident(),
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            born: self.born,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
        }
    }

    /// Its bytes or its size were changed now.
    pub(super) fn touch(&mut self, now: u64) {
        (self.modified, self.changed) = (now, now);
    }

    /// Its bytes were read now.
    pub(super) fn was_read(&mut self, now: u64) {
        let last = self.accessed;
        if last <= self.modified || last <= self.changed || now.saturating_sub(last) >= STALE_NS {
            self.accessed = now;
        }
    }

    /// What it is to be (`ObjectSet`).
    ///
    /// # Errors
    /// EPERM; EACCES for times that are now.
    pub(super) fn set(&mut self, who: &Credentials<'_>, set: &SetObject, now: u64) -> Result<(), Errno> {
        let (owned, what) = (self.owned_by(who), set.what);
        let owner = what & SET_UID == 0 || who.is_privileged() || owned && set.uid == self.uid;
        let group = what & SET_GID == 0
            || who.is_privileged()
            || owned && (who.is_in_group(set.gid) || set.gid == self.gid);
        let exact = what & (SET_MODE | SET_ACCESSED | SET_MODIFIED) == 0 || owned;
        if !(owner && group && exact) {
            return Err(Errno::EPERM);
        }
        if what & SET_NOW != 0 && !owned && !self.grants(who, WRITE) {
            return Err(Errno::EACCES);
        }
        if what & SET_UID != 0 {
            self.uid = set.uid;
        }
        if what & SET_GID != 0 {
            self.gid = set.gid;
        }
        if what & (SET_UID | SET_GID) != 0 {
            self.mode &= !(SET_USER_ID | if self.mode & 0o010 != 0 { SET_GROUP_ID } else { 0 });
        }
        if what & SET_MODE != 0 {
            self.mode = set.mode & PERMISSIONS;
            if !who.is_privileged() && !who.is_in_group(self.gid) {
                self.mode &= !SET_GROUP_ID;
            }
        }
        let times = [(SET_ACCESSED, set.accessed), (SET_MODIFIED, set.modified)];
        for ((bit, time), place) in times.into_iter().zip([&mut self.accessed, &mut self.modified]) {
            if what & SET_NOW != 0 {
                *place = now;
            } else if what & bit != 0 {
                *place = time;
            }
        }
        self.changed = now;
        Ok(())
    }

    /// What `guest` may do with its bytes.
    ///
    /// # Errors
    /// EBADF if it does not hold it.
    pub(super) fn rights_of(&self, guest: u32) -> Result<Rights, Errno> {
        self.holders.get(&guest).copied().ok_or(Errno::EBADF)
    }

    /// The guests with ranges that reach past `size`.
    pub(super) fn reaching_past(&self, size: u64) -> BTreeSet<u32> {
        let past = self.ranges.iter().filter(|(_, end)| **end > size);
        past.map(|((guest, _), _)| *guest).collect()
    }

    pub(super) fn is_needed(&self) -> bool {
        self.links > 0 || !self.holders.is_empty()
    }
}

/// What [`Object::set`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetObject {
    /// Which of the following count ([`abi::object::SET_MODE`] …).
    pub what: u64,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last read, nanoseconds since 1970.
    pub accessed: u64,
    /// When its bytes were last changed, nanoseconds since 1970.
    pub modified: u64,
}
