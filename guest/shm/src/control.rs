//! `shmctl`: the nine commands.

use crate::ids::index_of;
use crate::registry::{Registry, Segment};
use crate::{Credentials, LockAccount};
use abi::Errno;
use abi::ipc::{
    IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, SHM_DEST, SHM_INFO, SHM_LOCK, SHM_LOCKED, SHM_STAT,
    SHM_STAT_ANY, SHM_UNLOCK, SHMMIN, ShmInfo, ShmInfo64, ShmidDs,
};

/// A command of `shmctl(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Remove: [`Registry::remove`].
    Remove,
    /// Set owner and mode: [`Registry::set`].
    Set,
    /// Read the state: [`Registry::stat`].
    Stat(Found),
    /// Read the limits: [`Registry::limits_info`].
    Limits,
    /// Read the totals: [`Registry::totals`].
    Totals,
    /// Lock in memory: [`Registry::lock`].
    Lock,
    /// Undo that: [`Registry::unlock`].
    Unlock,
}

/// How `IPC_STAT`, `SHM_STAT` and `SHM_STAT_ANY` find the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By its id, for those who may read it (IPC_STAT). The result is 0.
    ById,
    /// By its index, for those who may read it (SHM_STAT). The result is the id.
    ByIndex,
    /// By its index, whoever asks (SHM_STAT_ANY). The result is the id.
    ByIndexForAnyone,
}

impl Command {
    /// What `shmctl` checks before anything else: negative numbers, even where the id means nothing, then the
    /// command.
    ///
    /// # Errors
    /// EINVAL.
    pub const fn check(id: i32, command: i32) -> Result<Command, Errno> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(match command {
            IPC_RMID => Command::Remove,
            IPC_SET => Command::Set,
            IPC_STAT => Command::Stat(Found::ById),
            SHM_STAT => Command::Stat(Found::ByIndex),
            SHM_STAT_ANY => Command::Stat(Found::ByIndexForAnyone),
            IPC_INFO => Command::Limits,
            SHM_INFO => Command::Totals,
            SHM_LOCK => Command::Lock,
            SHM_UNLOCK => Command::Unlock,
            _ => return Err(Errno::EINVAL),
        })
    }
}

impl<B> Segment<B> {
    /// Its `shmid_ds`.
    #[must_use]
    pub fn status(&self) -> ShmidDs {
        ShmidDs {
            perm: IpcPerm {
                key: self.key,
                uid: self.uid,
                gid: self.gid,
                cuid: self.cuid,
                cgid: self.cgid,
                mode: self.mode,
                seq: (self.id >> crate::ids::SEQ_SHIFT) as u16,
                ..IpcPerm::default()
            },
            segsz: self.size,
            atime: self.atime,
            dtime: self.dtime,
            ctime: self.ctime,
            cpid: self.cpid as i32,
            lpid: self.lpid as i32,
            nattch: self.nattch,
            ..ShmidDs::default()
        }
    }
}

impl<B> Registry<B> {
    /// IPC_STAT, SHM_STAT, SHM_STAT_ANY: the call's result and the structure. Changes nothing.
    ///
    /// # Errors
    /// EINVAL, EACCES.
    pub fn stat(&self, who: &Credentials<'_>, id: i32, found: Found) -> Result<(u64, ShmidDs), Errno> {
        let segment = match found {
            Found::ById => self.segment(id)?,
            Found::ByIndex | Found::ByIndexForAnyone => self.by_index(index_of(id))?,
        };
        if found != Found::ByIndexForAnyone && !segment.permits(who, 0o444) {
            return Err(Errno::EACCES);
        }
        let result = if found == Found::ById {
            0
        } else {
            segment.id as u64
        };
        Ok((result, segment.status()))
    }

    /// IPC_SET: owner, group and permission bits from `wanted`; the rest of it is ignored.
    ///
    /// # Errors
    /// EINVAL (id), EPERM, EINVAL (an id of -1 names nobody).
    pub fn set(&mut self, who: &Credentials<'_>, id: i32, wanted: &IpcPerm, now: i64) -> Result<(), Errno> {
        let segment = self.owned_mut(who, id)?;
        if wanted.uid == u32::MAX || wanted.gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        segment.uid = wanted.uid;
        segment.gid = wanted.gid;
        segment.mode = (segment.mode & !0o777) | (wanted.mode & 0o777);
        segment.ctime = now;
        Ok(())
    }

    /// IPC_RMID: destroys the segment (and returns it), or marks it for destruction at its last detach.
    ///
    /// # Errors
    /// EINVAL, EPERM.
    pub fn remove(&mut self, who: &Credentials<'_>, id: i32) -> Result<Option<Segment<B>>, Errno> {
        let segment = self.owned_mut(who, id)?;
        if segment.nattch == 0 {
            return Ok(self.destroy(id));
        }
        segment.mode |= SHM_DEST;
        self.forget_key(id);
        Ok(None)
    }

    /// SHM_LOCK. Only the mark and the account: keeping the pages in memory is up to the backing's owner. `account` is
    /// the caller's, `None` its effective user's with the group's limit ([`crate::Limits::memlock`]). A segment of huge pages
    /// is neither marked nor counted.
    ///
    /// # Errors
    /// EINVAL; EPERM for a stranger, or where nothing may be locked at all; ENOMEM over the limit.
    pub fn lock(
        &mut self,
        who: &Credentials<'_>,
        id: i32,
        account: Option<LockAccount>,
    ) -> Result<(), Errno> {
        let LockAccount { limit, user } = account.unwrap_or(LockAccount {
            limit: self.limits.memlock,
            user: who.uid,
        });
        let segment = self.segment(id)?;
        if !who.is_privileged() && (!segment.is_owned_by(who) || limit == 0) {
            return Err(Errno::EPERM);
        }
        if segment.huge || segment.mode & SHM_LOCKED != 0 {
            return Ok(());
        }
        let locked = self
            .locked
            .get(&user)
            .copied()
            .unwrap_or(0)
            .saturating_add(segment.pages());
        if locked > limit / abi::PAGE_SIZE && !who.is_privileged() {
            return Err(Errno::ENOMEM);
        }
        self.locked.insert(user, locked);
        let segment = self.segment_mut(id)?;
        segment.locked_by = Some(user);
        segment.mode |= SHM_LOCKED;
        Ok(())
    }

    /// SHM_UNLOCK.
    ///
    /// # Errors
    /// EINVAL, EPERM.
    pub fn unlock(&mut self, who: &Credentials<'_>, id: i32) -> Result<(), Errno> {
        let segment = self.segment_mut(id)?;
        if !who.is_privileged() && !segment.is_owned_by(who) {
            return Err(Errno::EPERM);
        }
        segment.mode &= !SHM_LOCKED;
        let pages = segment.pages();
        if let Some(user) = segment.locked_by.take() {
            self.unlock_pages(user, pages);
        }
        Ok(())
    }

    /// IPC_INFO: the call's result (the highest index in use) and the limits.
    #[must_use]
    pub fn limits_info(&self) -> (u64, ShmInfo64) {
        let info = ShmInfo64 {
            shmmax: self.limits.max,
            shmmin: SHMMIN,
            shmmni: self.limits.mni,
            shmseg: self.limits.mni,
            shmall: self.limits.all,
            ..ShmInfo64::default()
        };
        (self.highest_index(), info)
    }

    /// SHM_INFO: the call's result (the highest index in use) and the totals. `resident` says how many pages of
    /// a backing are in memory.
    pub fn totals(&self, resident: impl Fn(&B) -> u64) -> (u64, ShmInfo) {
        let info = ShmInfo {
            used_ids: self.ids.in_use() as i32,
            shm_tot: self.pages,
            shm_rss: self.iter().map(|segment| resident(&segment.backing)).sum(),
            ..ShmInfo::default()
        };
        (self.highest_index(), info)
    }

    fn highest_index(&self) -> u64 {
        self.ids.highest().map_or(0, u64::from)
    }

    fn owned_mut(&mut self, who: &Credentials<'_>, id: i32) -> Result<&mut Segment<B>, Errno> {
        let segment = self.segment_mut(id)?;
        if segment.is_owned_by(who) || who.is_privileged() {
            Ok(segment)
        } else {
            Err(Errno::EPERM)
        }
    }
}
