//! Locks on files: record locks of processes and of open files (fcntl(2)), and locks on whole files (flock(2)). They
//! bind only those who ask for them.
//!
//! A record lock belongs to a process (to its descriptors), and goes when that closes any descriptor of the file; or to an open file, and
//! goes with it, as those of flock do. These last have nothing to do with the others.

use super::FileId;
use super::inode::NONE;
use abi::Errno;

/// Most locks of a guest.
const MOST: usize = 256;

/// Whose a lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of those who have these descriptors, by their number: as a rule a process.
    Descriptors(u16),
    /// An open file's.
    Open(u16),
    /// An open file's, made by flock(2).
    Whole(u16),
}

impl Owner {
    /// Whether locks of the two have to do with each other.
    const fn meets(self, other: Owner) -> bool {
        matches!(self, Owner::Whole(_)) == matches!(other, Owner::Whole(_))
    }
}

/// What a lock lets others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Have such a lock, too.
    Shared,
    /// Nothing.
    Exclusive,
}

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Of which file; [`NONE`] in a free slot.
    pub file: FileId,
    /// Whose it is.
    pub owner: Owner,
    /// The id of the process that has made it.
    pub pid: u32,
    /// What it lets others do.
    pub kind: Kind,
    /// The first byte it is for.
    pub start: u64,
    /// The first byte after; `u64::MAX` if it goes on to the end, wherever that is.
    pub end: u64,
}

impl Lock {
    const FREE: Lock = Lock {
        file: NONE,
        owner: Owner::Descriptors(0),
        pid: 0,
        kind: Kind::Shared,
        start: 0,
        end: 0,
    };

    fn overlaps(&self, other: &Lock) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn excludes(&self, other: &Lock) -> bool {
        self.file == other.file
            && self.owner != other.owner
            && self.owner.meets(other.owner)
            && self.overlaps(other)
            && (self.kind == Kind::Exclusive || other.kind == Kind::Exclusive)
    }
}

/// All locks.
pub struct Locks {
    locks: [Lock; MOST],
    /// How many there are.
    live: u16,
}

impl Locks {
    pub(super) const fn empty() -> Locks {
        Locks {
            locks: [Lock::FREE; MOST],
            live: 0,
        }
    }

    /// How many there are.
    pub fn live(&self) -> u16 {
        self.live
    }

    /// One that `wanted` would have to wait for.
    pub fn in_the_way(&self, wanted: &Lock) -> Option<&Lock> {
        if self.live == 0 {
            return None;
        }
        self.locks.iter().find(|lock| lock.excludes(wanted))
    }

    /// Makes the bytes of `wanted` its owner's, as it says; or nobody's with no `kind`. Nothing may be in the way.
    ///
    /// # Errors
    /// ENOLCK if there are too many; then nothing has changed.
    pub fn set(&mut self, wanted: Lock, kind: Option<Kind>) -> Result<(), Errno> {
        // One new, and one should an old one get a hole.
        if usize::from(self.live) + 2 > MOST {
            return Err(Errno::ENOLCK);
        }
        let mut rest = None;
        for lock in &mut self.locks {
            if lock.file != wanted.file || lock.owner != wanted.owner || !lock.overlaps(&wanted) {
                continue;
            }
            let before = lock.start < wanted.start;
            if lock.end > wanted.end {
                let after = Lock {
                    start: wanted.end,
                    ..*lock
                };
                if before {
                    rest = Some(after);
                } else {
                    *lock = after;
                    continue;
                }
            }
            if before {
                lock.end = wanted.start;
            } else {
                *lock = Lock::FREE;
                self.live -= 1;
            }
        }
        let new = kind.map(|kind| Lock { kind, ..wanted });
        for lock in [rest, new].into_iter().flatten() {
            if let Some(free) = self.locks.iter_mut().find(|lock| lock.file == NONE) {
                *free = lock;
                self.live += 1;
            }
        }
        Ok(())
    }

    /// All locks that `owner` has on `file` go. Whether there were any.
    pub fn drop_all(&mut self, file: FileId, owner: Owner) -> bool {
        let before = self.live;
        if before == 0 {
            return false;
        }
        for lock in &mut self.locks {
            if lock.file == file && lock.owner == owner {
                *lock = Lock::FREE;
                self.live -= 1;
            }
        }
        self.live != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(7);

    fn lock(owner: Owner, start: u64, end: u64) -> Lock {
        Lock {
            file: FILE,
            owner,
            pid: 0,
            kind: Kind::Exclusive,
            start,
            end,
        }
    }

    fn held(locks: &Locks, owner: Owner) -> Vec<(u64, u64, Kind)> {
        let mut all: Vec<_> = locks
            .locks
            .iter()
            .filter(|lock| lock.file == FILE && lock.owner == owner)
            .map(|lock| (lock.start, lock.end, lock.kind))
            .collect();
        all.sort_by_key(|lock| lock.0);
        all
    }

    #[test]
    fn a_lock_is_split_by_another_kind_in_its_middle_and_by_unlocking() {
        let mut locks = Locks::empty();
        let owner = Owner::Descriptors(1);
        locks.set(lock(owner, 0, 100), Some(Kind::Exclusive)).unwrap();
        locks.set(lock(owner, 40, 60), Some(Kind::Shared)).unwrap();
        locks.set(lock(owner, 50, 70), None).unwrap();
        let expected = [
            (0, 40, Kind::Exclusive),
            (40, 50, Kind::Shared),
            (70, 100, Kind::Exclusive),
        ];
        assert_eq!(held(&locks, owner), expected);
        assert_eq!(locks.live(), 3);
        assert!(locks.drop_all(FILE, owner));
        assert!(!locks.drop_all(FILE, owner) && locks.live() == 0);
    }

    #[test]
    fn exclusive_locks_of_others_are_in_the_way_and_those_of_another_family_are_not() {
        let mut locks = Locks::empty();
        locks
            .set(lock(Owner::Descriptors(1), 10, u64::MAX), Some(Kind::Shared))
            .unwrap();
        let shared = Lock {
            kind: Kind::Shared,
            ..lock(Owner::Open(3), 0, 20)
        };
        assert!(locks.in_the_way(&shared).is_none());
        assert!(locks.in_the_way(&lock(Owner::Open(3), 0, 20)).is_some());
        assert!(locks.in_the_way(&lock(Owner::Open(3), 0, 10)).is_none());
        assert!(locks.in_the_way(&lock(Owner::Descriptors(1), 0, 20)).is_none());
        assert!(locks.in_the_way(&lock(Owner::Whole(3), 0, 20)).is_none());
    }

    #[test]
    fn there_is_a_limit_and_nothing_changes_at_it() {
        let mut locks = Locks::empty();
        let owner = Owner::Open(9);
        let mut made = 0;
        while locks
            .set(lock(owner, made * 2, made * 2 + 1), Some(Kind::Shared))
            .is_ok()
        {
            made += 1;
        }
        assert_eq!(made, MOST as u64 - 1);
        assert_eq!(locks.set(lock(owner, 0, 1), None), Err(Errno::ENOLCK));
        assert_eq!(held(&locks, owner).len(), made as usize);
    }
}
