//! The table of segments: `shmget`, and the counting of attaches.

use crate::ids::{self, IdSpace, index_of};
use crate::{Credentials, Limits};
use abi::ipc::{
    IPC_CREAT, IPC_EXCL, IPC_PRIVATE, SHM_DEST, SHM_EXEC, SHM_HUGE_SHIFT, SHM_HUGETLB, SHM_NORESERVE,
    SHM_RDONLY, SHMMIN,
};
use abi::{Errno, PAGE_SIZE};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// `SHM_HUGE_MASK`: the logarithm has six bits, the highest of which is the flags' sign.
const SHM_HUGE_MASK: u32 = 0x3f;
/// Read, write and execute for all three classes.
const PERMISSION_BITS: u32 = 0o777;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;

/// One segment. Field names are those of `shmid_ds`.
#[derive(Debug)]
pub struct Segment<B> {
    /// Its identifier.
    pub id: i32,
    /// Its key, [`IPC_PRIVATE`] once it is removed.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator.
    pub cuid: u32,
    /// Creator's group.
    pub cgid: u32,
    /// Permission bits, [`SHM_DEST`], [`abi::ipc::SHM_LOCKED`].
    pub mode: u32,
    /// Size in bytes, as asked for.
    pub size: u64,
    /// Attaches now.
    pub nattch: u64,
    /// Process that created it.
    pub cpid: u32,
    /// Process that attached or detached last, 0 if none did.
    pub lpid: u32,
    /// Last attach, seconds since 1970, 0 if none.
    pub atime: i64,
    /// Last detach, seconds since 1970, 0 if none.
    pub dtime: i64,
    /// Creation or last `IPC_SET`, seconds since 1970.
    pub ctime: i64,
    /// Whether it is made of huge pages ([`SHM_HUGETLB`]): those are never swapped, so locking does nothing.
    pub huge: bool,
    /// What it is made of.
    pub backing: B,
    /// The user whose locked memory it counts as.
    pub(crate) locked_by: Option<u32>,
    /// The task that made it, until that ends.
    pub(crate) maker: Option<u32>,
}

impl<B> Segment<B> {
    /// Pages it takes.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    /// Whether it has been removed and waits for its last detach.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        self.mode & SHM_DEST != 0
    }

    /// `ipcperms`: whether the caller's class is granted what `wanted` asks for in any of its three classes.
    pub(crate) fn permits(&self, who: &Credentials<'_>, wanted: u32) -> bool {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 0o7;
        let granted = if who.uid == self.cuid || who.uid == self.uid {
            self.mode >> 6
        } else if who.is_in_group(self.cgid) || who.is_in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        wanted & !granted == 0 || who.is_privileged()
    }

    /// Whether the caller may change or remove it.
    pub(crate) fn is_owned_by(&self, who: &Credentials<'_>) -> bool {
        who.uid == self.uid || who.uid == self.cuid
    }
}

/// A segment about to be made: what its backing must provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSegment {
    /// The key asked for.
    pub key: i32,
    /// Size in bytes, from 1; to `i64::MAX` unless huge pages are asked for.
    pub size: u64,
    /// Pages that takes.
    pub pages: u64,
    /// Whether the memory must not be accounted for (SHM_NORESERVE).
    pub no_reserve: bool,
    /// The logarithm of the size of the huge pages it is to be made of (SHM_HUGETLB), 0 for the host's default.
    pub huge_page_shift: Option<u32>,
}

/// What `shmget` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The segment was there.
    Existing(i32),
    /// The segment was made.
    Created(i32),
}

impl Got {
    /// The identifier.
    #[must_use]
    pub const fn id(self) -> i32 {
        match self {
            Got::Existing(id) | Got::Created(id) => id,
        }
    }
}

/// Every segment, by id and by key.
#[derive(Debug)]
pub struct Registry<B> {
    pub(crate) ids: IdSpace,
    keys: BTreeMap<i32, u32>,
    segments: Vec<Option<Segment<B>>>,
    pub(crate) limits: Limits,
    pub(crate) pages: u64,
    /// Locked pages of each user.
    pub(crate) locked: BTreeMap<u32, u64>,
    /// Whether segments go when nobody uses them (`kernel.shm_rmid_forced`).
    pub(crate) rmid_forced: bool,
}

impl<B> Registry<B> {
    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits, to be changed: they hold for what is made from now on.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Registry {
            ids: IdSpace::new(),
            keys: BTreeMap::new(),
            segments: Vec::new(),
            limits,
            pages: 0,
            locked: BTreeMap::new(),
            rmid_forced: false,
        }
    }

    /// `shmget(2)`. `make` is asked for the backing of a new segment once everything else but the number of
    /// segments has been checked, as Linux does. For huge pages it also checks, in this order, that there are such
    /// (EINVAL), that the caller may have them (EPERM), and that enough are free (ENOMEM).
    ///
    /// # Errors
    /// ENOENT, EEXIST, EINVAL (size), EACCES, ENOSPC (pages, segments), and what `make` returns.
    pub fn get(
        &mut self,
        who: &Credentials<'_>,
        key: i32,
        size: u64,
        flags: u32,
        now: i64,
        make: impl FnOnce(&NewSegment) -> Result<B, Errno>,
    ) -> Result<Got, Errno> {
        if key == IPC_PRIVATE {
            return self.create(who, key, size, flags, now, make);
        }
        let Some(&index) = self.keys.get(&key) else {
            if flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
            return self.create(who, key, size, flags, now, make);
        };
        if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        let segment = self.by_index(index)?;
        if size > segment.size {
            return Err(Errno::EINVAL);
        }
        if !segment.permits(who, flags) {
            return Err(Errno::EACCES);
        }
        Ok(Got::Existing(segment.id))
    }

    fn create(
        &mut self,
        who: &Credentials<'_>,
        key: i32,
        size: u64,
        flags: u32,
        now: i64,
        make: impl FnOnce(&NewSegment) -> Result<B, Errno>,
    ) -> Result<Got, Errno> {
        if size < SHMMIN || size > self.limits.max {
            return Err(Errno::EINVAL);
        }
        // Linux rounds up to pages with an addition that may wrap.
        let pages = size.checked_add(PAGE_SIZE - 1).ok_or(Errno::ENOSPC)? / PAGE_SIZE;
        if self
            .pages
            .checked_add(pages)
            .is_none_or(|total| total > self.limits.all)
        {
            return Err(Errno::ENOSPC);
        }
        let huge = flags & SHM_HUGETLB != 0;
        // MAX_LFS_FILESIZE: no file is larger (`__shmem_file_setup`). A file of huge pages lacks pages instead.
        if size > i64::MAX as u64 && !huge {
            return Err(Errno::EINVAL);
        }
        let backing = make(&NewSegment {
            key,
            size,
            pages,
            no_reserve: flags & SHM_NORESERVE != 0,
            huge_page_shift: huge.then_some(flags >> SHM_HUGE_SHIFT & SHM_HUGE_MASK),
        })?;
        if u64::from(self.ids.in_use()) >= self.limits.mni {
            return Err(Errno::ENOSPC);
        }
        let (index, seq) = self.ids.allocate().ok_or(Errno::ENOSPC)?;
        let id = i32::from(seq) << ids::SEQ_SHIFT | index as i32;
        if key != IPC_PRIVATE {
            self.keys.insert(key, index);
        }
        if self.segments.len() <= index as usize {
            self.segments.resize_with(index as usize + 1, || None);
        }
        self.pages += pages;
        self.segments[index as usize] = Some(Segment {
            id,
            key,
            uid: who.uid,
            gid: who.gid,
            cuid: who.uid,
            cgid: who.gid,
            mode: flags & PERMISSION_BITS,
            size,
            nattch: 0,
            cpid: who.pid,
            lpid: 0,
            atime: 0,
            dtime: 0,
            ctime: now,
            huge,
            backing,
            locked_by: None,
            maker: Some(who.task),
        });
        Ok(Got::Created(id))
    }

    /// The segment with this id.
    ///
    /// # Errors
    /// EINVAL if there is none, also after its removal (Linux says EIDRM only in races).
    pub fn segment(&self, id: i32) -> Result<&Segment<B>, Errno> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        let segment = self.by_index(index_of(id))?;
        if segment.id == id {
            Ok(segment)
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The backing of the segment with this id.
    ///
    /// # Errors
    /// EINVAL if there is none.
    pub fn backing_mut(&mut self, id: i32) -> Result<&mut B, Errno> {
        self.segment_mut(id).map(|segment| &mut segment.backing)
    }

    /// Every segment, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Segment<B>> {
        self.segments.iter().flatten()
    }

    /// The checks of `shmat(2)`: id, then permission for what `flags` ask ([`SHM_RDONLY`], [`SHM_EXEC`]).
    ///
    /// # Errors
    /// EINVAL, EACCES.
    pub fn may_attach(&self, who: &Credentials<'_>, id: i32, flags: u32) -> Result<&Segment<B>, Errno> {
        let segment = self.segment(id)?;
        let mut wanted = READ;
        if flags & SHM_RDONLY == 0 {
            wanted |= WRITE;
        }
        if flags & SHM_EXEC != 0 {
            wanted |= EXECUTE;
        }
        if segment.permits(who, wanted) {
            Ok(segment)
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Keeps a segment from being destroyed while it is being mapped: counts one attach, records nothing else.
    /// Linux's `do_shmat` does the same. Ended by [`Registry::release`].
    ///
    /// # Errors
    /// EINVAL if there is no such segment.
    pub fn hold(&mut self, id: i32) -> Result<(), Errno> {
        let segment = self.segment_mut(id)?;
        segment.nattch = segment.nattch.checked_add(1).ok_or(Errno::ENOMEM)?;
        Ok(())
    }

    /// Ends a [`Registry::hold`]; returns the segment if that destroyed it: also one that could not be mapped goes, as
    /// in Linux, if nobody has it and removal is forced.
    pub fn release(&mut self, id: i32) -> Option<Segment<B>> {
        let segment = self.segment_mut(id).ok()?;
        segment.nattch = segment.nattch.saturating_sub(1);
        self.destroy_if_due(id)
    }

    /// `count` mappings of the segment came to be (`shm_open`): shmat, fork, a split by mprotect.
    ///
    /// # Errors
    /// EINVAL if there is no such segment, ENOMEM if the count overflows.
    pub fn attach(&mut self, id: i32, pid: u32, count: u64, now: i64) -> Result<(), Errno> {
        let segment = self.segment_mut(id)?;
        segment.nattch = segment.nattch.checked_add(count).ok_or(Errno::ENOMEM)?;
        segment.lpid = pid;
        segment.atime = now;
        Ok(())
    }

    /// `count` mappings of the segment are gone (`shm_close`); returns the segment if that destroyed it.
    ///
    /// # Errors
    /// EINVAL if there is no such segment or it has fewer attaches; then nothing changes.
    pub fn detach(&mut self, id: i32, pid: u32, count: u64, now: i64) -> Result<Option<Segment<B>>, Errno> {
        let segment = self.segment_mut(id)?;
        segment.nattch = segment.nattch.checked_sub(count).ok_or(Errno::EINVAL)?;
        segment.lpid = pid;
        segment.dtime = now;
        Ok(self.destroy_if_due(id))
    }

    /// Whether the segment is destroyed when one more of its mappings goes.
    ///
    /// # Errors
    /// EINVAL if there is no such segment.
    pub fn goes_with_one(&self, id: i32) -> Result<bool, Errno> {
        let segment = self.segment(id)?;
        Ok(segment.nattch == 1 && self.is_unkept(segment))
    }

    /// The tasks for which `ended` says so have ended (`exit_shm`): what they made and nobody has attached is
    /// destroyed, and returned, if removal is forced.
    pub fn makers_ended(&mut self, ended: impl Fn(u32) -> bool) -> Vec<Segment<B>> {
        for segment in self.segments.iter_mut().flatten() {
            segment.maker = segment.maker.filter(|maker| !ended(*maker));
        }
        self.destroy_orphans()
    }

    /// Destroys what has neither attaches nor a maker any more, if removal is forced (`shm_destroy_orphaned`).
    pub(crate) fn destroy_orphans(&mut self) -> Vec<Segment<B>> {
        if !self.rmid_forced {
            return Vec::new();
        }
        let is_due = |segment: &&Segment<B>| segment.nattch == 0 && segment.maker.is_none();
        let due: Vec<i32> = self.iter().filter(is_due).map(|segment| segment.id).collect();
        due.into_iter().filter_map(|id| self.destroy(id)).collect()
    }

    pub(crate) fn by_index(&self, index: u32) -> Result<&Segment<B>, Errno> {
        self.segments
            .get(index as usize)
            .and_then(Option::as_ref)
            .ok_or(Errno::EINVAL)
    }

    pub(crate) fn segment_mut(&mut self, id: i32) -> Result<&mut Segment<B>, Errno> {
        self.segment(id)?;
        self.segments
            .get_mut(index_of(id) as usize)
            .and_then(Option::as_mut)
            .ok_or(Errno::EINVAL)
    }

    /// The key names nothing from now on; it may be used for another segment at once.
    pub(crate) fn forget_key(&mut self, id: i32) {
        if let Ok(segment) = self.segment_mut(id)
            && segment.key != IPC_PRIVATE
        {
            let key = core::mem::replace(&mut segment.key, IPC_PRIVATE);
            self.keys.remove(&key);
        }
    }

    /// Whether only its attaches keep it.
    fn is_unkept(&self, segment: &Segment<B>) -> bool {
        segment.is_removed() || self.rmid_forced
    }

    fn destroy_if_due(&mut self, id: i32) -> Option<Segment<B>> {
        let segment = self.segment(id).ok()?;
        if segment.nattch == 0 && self.is_unkept(segment) {
            self.destroy(id)
        } else {
            None
        }
    }

    pub(crate) fn destroy(&mut self, id: i32) -> Option<Segment<B>> {
        self.forget_key(id);
        let segment = self.segments.get_mut(index_of(id) as usize)?.take()?;
        self.ids.release(index_of(id));
        self.pages -= segment.pages();
        if let Some(user) = segment.locked_by {
            self.unlock_pages(user, segment.pages());
        }
        Some(segment)
    }

    pub(crate) fn unlock_pages(&mut self, user: u32, pages: u64) {
        if let Some(locked) = self.locked.get_mut(&user) {
            *locked = locked.saturating_sub(pages);
            if *locked == 0 {
                self.locked.remove(&user);
            }
        }
    }
}
