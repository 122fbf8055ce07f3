//! The group's `/dev/shm`: which objects there are, by which names, and who may do what with them.
//!
//! Rules only: nothing here touches a window or waits, and memory is made and cut by whoever calls. What is to say of one
//! object is in `object`. There is one directory, so names have no `/`.
//!
//! Invariants: an object is there exactly while it has a name or a holder; who has a range of it holds it; `of` counts,
//! for each guest, what the bounds are about.

use super::object::{Object, Rights};
use super::store::Store;
use super::{ObjectLife, ObjectState};
use abi::Errno;
use abi::object::{DIRECTORY, DIRECTORY_MODE, NAME_MAX, ObjectStatus, RENAME_EXCHANGE, RENAME_NOREPLACE};
use shm::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// Most objects that a guest may have made and that are still there; one more is ENOSPC.
pub(super) const MOST_MADE: u32 = 4096;
/// Most objects that a guest may hold; one more is ENFILE.
pub(super) const MOST_HELD: u32 = 4096;
/// Most names that a guest may have made and that are still there; one more is ENOSPC.
pub(super) const MOST_NAMES: u32 = 16384;
/// Most ranges of objects that a guest may have in its windows; one more is ENOMEM.
pub(super) const MOST_RANGES: u32 = 4096;
/// Most names of one object, as on Linux's larger file systems.
const MOST_LINKS: u32 = 65_000;

struct Name {
    serial: u64,
    order: u64,
    /// The guest that made it.
    maker: u32,
}

/// What a guest has.
#[derive(Default)]
struct Counts {
    made: u32,
    names: u32,
    held: u32,
    ranges: u32,
}

/// All objects.
#[derive(Default)]
pub(in super::super) struct Directory {
    objects: BTreeMap<u64, Object>,
    names: BTreeMap<Vec<u8>, Name>,
    /// Names in the order they were made.
    order: BTreeMap<u64, Vec<u8>>,
    last_order: u64,
    /// Names last changed.
    changed: u64,
    /// Those that are becoming smaller.
    pub(super) shrinking: BTreeSet<u64>,
    of: BTreeMap<u32, Counts>,
}

/// Whether `name` can be one.
///
/// # Errors
/// EINVAL if not, ENAMETOOLONG.
pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

impl Directory {
    /// The object, which `guest` holds.
    ///
    /// # Errors
    /// EBADF if it does not.
    pub(super) fn held(&mut self, guest: u32, serial: u64) -> Result<&mut Object, Errno> {
        let object = self.objects.get_mut(&serial).ok_or(Errno::EBADF)?;
        object.rights_of(guest)?;
        Ok(object)
    }

    /// The object, whoever holds it.
    pub(super) fn get_mut(&mut self, serial: u64) -> Option<&mut Object> {
        self.objects.get_mut(&serial)
    }

    /// By name.
    pub(super) fn find(&self, name: &[u8]) -> Option<u64> {
        self.names.get(name).map(|name| name.serial)
    }

    /// What is told of the directory.
    pub(super) fn status(&self) -> ObjectStatus {
        ObjectStatus {
            serial: DIRECTORY,
            size: self.names.len() as u64,
            accessed: self.changed,
            modified: self.changed,
            changed: self.changed,
            mode: DIRECTORY_MODE,
            links: 2,
            ..ObjectStatus::default()
        }
    }

    /// Whether `guest` may make one object more, and hold it.
    ///
    /// # Errors
    /// ENOSPC, ENFILE.
    pub(super) fn check_make(&self, guest: u32) -> Result<(), Errno> {
        match self.of.get(&guest) {
            Some(counts) if counts.made >= MOST_MADE || counts.names >= MOST_NAMES => Err(Errno::ENOSPC),
            Some(counts) if counts.held >= MOST_HELD => Err(Errno::ENFILE),
            _ => Ok(()),
        }
    }

    /// A new object, which nobody holds yet, by a name that is free.
    pub(super) fn make(
        &mut self,
        who: &Credentials<'_>,
        name: &[u8],
        mode: u32,
        store: Store,
        life: ObjectLife,
        now: u64,
    ) -> u64 {
        let serial = store.serial;
        let maker = life.creator_guest;
        self.of.entry(maker).or_default().made += 1;
        let object = Object::new(who, name, mode, store, life, now);
        self.objects.insert(serial, object);
        self.enter(name, serial, maker, now);
        serial
    }

    /// `guest` holds the object, with these rights beside those it has.
    ///
    /// # Errors
    /// ENFILE.
    pub(super) fn hold(&mut self, guest: u32, serial: u64, rights: Rights) -> Result<(), Errno> {
        let object = self.objects.get_mut(&serial).ok_or(Errno::EBADF)?;
        let counts = self.of.entry(guest).or_default();
        if !object.holders.contains_key(&guest) {
            if counts.held >= MOST_HELD {
                return Err(Errno::ENFILE);
            }
            counts.held += 1;
        }
        let held = object.holders.entry(guest).or_default();
        held.read |= rights.read;
        held.write |= rights.write;
        Ok(())
    }

    /// `guest` does not hold the object any longer. The object, if that was the end of it: to be dropped without any
    /// lock.
    ///
    /// # Errors
    /// EBADF; EBUSY while it has ranges of it.
    pub(super) fn release(&mut self, guest: u32, serial: u64) -> Result<Option<Object>, Errno> {
        let object = self.held(guest, serial)?;
        if object
            .ranges
            .range((guest, 0)..=(guest, u64::MAX))
            .next()
            .is_some()
        {
            return Err(Errno::EBUSY);
        }
        object.holders.remove(&guest);
        self.uncount(guest, |counts| counts.held -= 1);
        Ok(self.settle(serial))
    }

    /// Takes the object out if nobody needs it.
    fn settle(&mut self, serial: u64) -> Option<Object> {
        if self.objects.get(&serial).is_none_or(Object::is_needed) {
            return None;
        }
        self.shrinking.remove(&serial);
        let object = self.objects.remove(&serial)?;
        self.uncount(object.life.creator_guest, |counts| counts.made -= 1);
        Some(object)
    }

    fn uncount(&mut self, guest: u32, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = self.of.get_mut(&guest) {
            change(counts);
            if matches!(
                counts,
                Counts {
                    made: 0,
                    names: 0,
                    held: 0,
                    ranges: 0
                }
            ) {
                self.of.remove(&guest);
            }
        }
    }

    /// A name that guest `maker` has made, and that is free.
    fn enter(&mut self, name: &[u8], serial: u64, maker: u32, now: u64) {
        self.of.entry(maker).or_default().names += 1;
        self.last_order += 1;
        let order = self.last_order;
        self.order.insert(order, name.to_vec());
        let entry = Name { serial, order, maker };
        self.names.insert(name.to_vec(), entry);
        self.changed = now;
    }

    /// Takes a name away; the object, if that was the end of it.
    fn leave(&mut self, name: &[u8], now: u64) -> Option<Object> {
        let Name { serial, order, maker } = self.names.remove(name)?;
        self.order.remove(&order);
        self.uncount(maker, |counts| counts.names -= 1);
        self.changed = now;
        let object = self.objects.get_mut(&serial)?;
        object.links -= 1;
        object.changed = now;
        object.last_name = name.to_vec();
        self.settle(serial)
    }

    /// link(2).
    ///
    /// # Errors
    /// EBADF, EEXIST, EPERM, ENOENT for what has no name, EMLINK.
    pub(super) fn link(
        &mut self,
        guest: u32,
        who: &Credentials<'_>,
        serial: u64,
        name: &[u8],
        now: u64,
    ) -> Result<(), Errno> {
        let taken = self.names.contains_key(name);
        let full = self
            .of
            .get(&guest)
            .is_some_and(|counts| counts.names >= MOST_NAMES);
        let object = self.held(guest, serial)?;
        match object.links {
            _ if taken => return Err(Errno::EEXIST),
            _ if !object.may_link(who) => return Err(Errno::EPERM),
            0 => return Err(Errno::ENOENT),
            MOST_LINKS.. => return Err(Errno::EMLINK),
            _ if full => return Err(Errno::ENOSPC),
            _ => {}
        }
        object.links += 1;
        object.changed = now;
        self.enter(name, serial, guest, now);
        Ok(())
    }

    fn named(&self, name: &[u8]) -> Result<&Object, Errno> {
        let serial = self.find(name).ok_or(Errno::ENOENT)?;
        self.objects.get(&serial).ok_or(Errno::ENOENT)
    }

    /// unlink(2). The object, if that was the end of it.
    ///
    /// # Errors
    /// ENOENT, EPERM.
    pub(super) fn unlink(
        &mut self,
        who: &Credentials<'_>,
        name: &[u8],
        now: u64,
    ) -> Result<Option<Object>, Errno> {
        self.named(name)?.check_remove(who)?;
        Ok(self.leave(name, now))
    }

    /// renameat2(2) within the directory. An object that lost its last name by it, and that nobody holds.
    ///
    /// # Errors
    /// ENOENT, EEXIST, EPERM.
    pub(super) fn rename(
        &mut self,
        who: &Credentials<'_>,
        (from, to): (&[u8], &[u8]),
        flags: u64,
        now: u64,
    ) -> Result<Option<Object>, Errno> {
        let moved = self.named(from)?;
        let target = self.named(to).ok();
        match target {
            Some(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if flags & RENAME_EXCHANGE != 0 => return Err(Errno::ENOENT),
            // As Linux: two names of one object stay what they are.
            Some(target) if target.store.serial == moved.store.serial => return Ok(None),
            _ => {}
        }
        moved.check_remove(who)?;
        if let Some(target) = target {
            target.check_remove(who)?;
        }
        let (serial, other) = (moved.store.serial, target.map(|target| target.store.serial));
        if let Some(other) = other
            && flags & RENAME_EXCHANGE != 0
        {
            for (name, now_there) in [(from, other), (to, serial)] {
                if let Some(name) = self.names.get_mut(name) {
                    name.serial = now_there;
                }
                if let Some(object) = self.objects.get_mut(&now_there) {
                    object.changed = now;
                }
            }
            self.changed = now;
            return Ok(None);
        }
        let gone = other.and_then(|_| self.leave(to, now));
        // It keeps the number of its names: one goes, one comes.
        if let Some(Name { order, maker, .. }) = self.names.remove(from) {
            self.order.remove(&order);
            self.uncount(maker, |counts| counts.names -= 1);
            self.enter(to, serial, maker, now);
        }
        if let Some(object) = self.objects.get_mut(&serial) {
            object.changed = now;
        }
        Ok(gone)
    }

    /// The name that was made next after the one number `after`, its number, and what it leads to.
    pub(super) fn next_name(&self, after: u64) -> Option<(u64, &[u8], u64)> {
        let (&order, name) = self.order.range((Excluded(after), Unbounded)).next()?;
        Some((order, name, self.find(name)?))
    }

    /// Whether `guest` may have one range more.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn check_range(&self, guest: u32) -> Result<(), Errno> {
        match self.of.get(&guest) {
            Some(counts) if counts.ranges >= MOST_RANGES => Err(Errno::ENOMEM),
            _ => Ok(()),
        }
    }

    /// `guest` has a range of the object at `gpa`, up to `end`. The object's size.
    ///
    /// # Errors
    /// EBADF if it does not hold it.
    pub(super) fn add_range(&mut self, guest: u32, serial: u64, gpa: u64, end: u64) -> Result<u64, Errno> {
        let object = self.held(guest, serial)?;
        object.ranges.insert((guest, gpa), end);
        let maps = object.life.ranges.entry(guest).or_default();
        *maps = maps.saturating_add(1);
        let size = object.size;
        self.of.entry(guest).or_default().ranges += 1;
        Ok(size)
    }

    /// `guest` has no range of the object at `gpa` any longer. True if that is what a shrink waited for.
    pub(super) fn remove_range(&mut self, guest: u32, serial: u64, gpa: u64) -> bool {
        let Some(object) = self.objects.get_mut(&serial) else {
            return false;
        };
        if object.ranges.remove(&(guest, gpa)).is_none() {
            return false;
        }
        let answered = object.shrink.as_ref().is_some_and(|shrink| {
            shrink.waits_for.contains(&guest) && !object.reaching_past(shrink.cut()).contains(&guest)
        });
        self.uncount(guest, |counts| counts.ranges -= 1);
        answered
    }

    /// `guest` has done what a shrink of the object waits for. True if nobody is left.
    pub(super) fn answered(&mut self, guest: u32, serial: u64) -> bool {
        let shrink = self
            .objects
            .get_mut(&serial)
            .and_then(|object| object.shrink.as_mut());
        shrink.is_some_and(|shrink| shrink.answered(guest))
    }

    /// The guest is gone, and all it had. The objects that nobody needs any longer, and those whose shrinks waited for
    /// nobody else.
    pub(super) fn guest_gone(&mut self, guest: u32) -> (Vec<Object>, Vec<u64>) {
        let mut ready = Vec::new();
        let mut unheld = Vec::new();
        for (&serial, object) in &mut self.objects {
            object.ranges.retain(|(holder, _), _| *holder != guest);
            if let Some(shrink) = &mut object.shrink
                && shrink.answered(guest)
            {
                ready.push(serial);
            }
            if object.holders.remove(&guest).is_some() {
                unheld.push(serial);
            }
        }
        self.uncount(guest, |counts| (counts.held, counts.ranges) = (0, 0));
        let gone = unheld.into_iter().filter_map(|serial| self.settle(serial));
        (gone.collect(), ready)
    }

    /// A name of the object, or the last one it had, and whether it has it.
    ///
    /// # Errors
    /// EBADF if `guest` does not hold it.
    pub(super) fn name_of(&mut self, guest: u32, serial: u64) -> Result<(Vec<u8>, bool), Errno> {
        let last = self.held(guest, serial)?.last_name.clone();
        if self.find(&last) == Some(serial) {
            return Ok((last, true));
        }
        let mut names = self.names.iter().filter(|(_, name)| name.serial == serial);
        Ok(match names.next() {
            Some((name, _)) => (name.clone(), true),
            None => (last, false),
        })
    }

    /// How many objects `guest` holds.
    pub(in super::super) fn held_by(&self, guest: u32) -> u64 {
        self.of.get(&guest).map_or(0, |counts| counts.held.into())
    }

    /// Every object there is now.
    pub(super) fn states(&self) -> impl Iterator<Item = ObjectState> {
        self.objects.values().map(|object| ObjectState {
            serial: object.store.serial,
            names: self
                .names
                .iter()
                .filter(|(_, name)| name.serial == object.store.serial)
                .map(|(name, _)| name.clone())
                .collect(),
            size: object.size,
            mode: object.mode,
            uid: object.uid,
            gid: object.gid,
            holders: object.holders.keys().copied().collect(),
            ranges: object.ranges.len() as u64,
            shrinking: object.shrink.is_some(),
        })
    }

    /// The lives of those that are there.
    pub(super) fn lives(&self) -> impl Iterator<Item = &ObjectLife> {
        self.objects.values().map(|object| &object.life)
    }
}
