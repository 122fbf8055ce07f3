//! Who may do what with a file: credentials(7), path_resolution(7), `generic_permission` in Linux.
//!
//! The user id for files being 0 stands for the capabilities about files (CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_CHOWN
//! …), as on Linux as long as nobody sets capabilities one by one: they come and go with that id.

use super::inode::{Inode, Kind, SET_GID, SET_UID, STICKY};
use crate::process::Credentials;
use abi::Errno;

/// Read, or list a directory.
pub const READ: u16 = 4;
/// Write, or change what is in a directory.
pub const WRITE: u16 = 2;
/// Execute, or look a name up in a directory.
pub const EXECUTE: u16 = 1;

/// Whoever wants to do something.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The process, for the broker's records.
    pub pid: u32,
    credentials: &'a Credentials,
}

impl<'a> Who<'a> {
    /// By the ids for files.
    pub fn new(credentials: &'a Credentials) -> Who<'a> {
        let [uid, gid] = credentials.fs;
        Who {
            uid,
            gid,
            pid: 0,
            credentials,
        }
    }

    /// By the real ids: for access(2).
    pub fn real(credentials: &'a Credentials) -> Who<'a> {
        Who {
            uid: credentials.uid[0],
            gid: credentials.gid[0],
            pid: 0,
            credentials,
        }
    }

    /// The same, as process `pid`.
    #[must_use]
    pub fn in_process(self, pid: u32) -> Who<'a> {
        Who { pid, ..self }
    }

    /// Supplementary groups.
    pub fn groups(&self) -> &'a [u32] {
        self.credentials.groups()
    }

    /// Whether the rules about files don't hold for them.
    pub fn is_privileged(&self) -> bool {
        self.uid == 0
    }

    /// Whether they are in `group`.
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.credentials.groups().contains(&group)
    }

    /// Whether they may change the mode, owner and times of what `owner` owns.
    pub fn owns(&self, owner: u32) -> bool {
        self.uid == owner || self.is_privileged()
    }

    /// Whether they may do all of `want` with what has this owner, group and mode.
    pub fn may(&self, want: u16, is_directory: bool, owner: u32, group: u32, mode: u16) -> bool {
        if self.is_privileged() {
            // Nobody executes what nobody may execute.
            return want & EXECUTE == 0 || is_directory || mode & 0o111 != 0;
        }
        let granted = if self.uid == owner {
            mode >> 6
        } else if self.is_in(group) {
            mode >> 3
        } else {
            mode
        };
        granted & want == want
    }

    /// Whether they may do all of `want` with `inode`.
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, want: u16, inode: &Inode) -> Result<(), Errno> {
        let is_directory = inode.kind == Kind::Directory;
        if self.may(want, is_directory, inode.uid, inode.gid, inode.mode) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether they may make another name for `inode`: only for what is theirs, or what they could change anyway
    /// (`fs.protected_hardlinks=1`, as distributions set it).
    pub fn may_link(&self, inode: &Inode) -> bool {
        let special = SET_UID | if inode.mode & 0o010 != 0 { SET_GID } else { 0 };
        let harmless = inode.kind == Kind::Regular && inode.mode & special == 0;
        self.owns(inode.uid) || harmless && self.check(READ | WRITE, inode).is_ok()
    }

    /// Whether they may take a name of `victim` out of `directory`.
    ///
    /// # Errors
    /// EACCES; EPERM in a directory with the sticky bit.
    pub fn check_remove(&self, directory: &Inode, victim: &Inode) -> Result<(), Errno> {
        self.check(WRITE | EXECUTE, directory)?;
        if directory.mode & STICKY != 0 && !self.owns(victim.uid) && !self.owns(directory.uid) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}
