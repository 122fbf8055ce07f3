//! The broker's side of requests about objects.

use super::directory::check_name;
use super::object::{Object, Rights, SetObject};
use super::shrink::Shrink;
use super::store::{MOST_BYTES, Store};
use super::{Listed, Mapped, ObjectLife, ObjectService, ObjectState, Refused, Which};
use crate::broker::rights::Made;
use crate::broker::{Broker, Caller, Member, WindowKind, lock};
use abi::object::{
    AT_END, DIRECTORY, NOTICE_RETRY, NOTICE_SHRINK, OPEN_CREATE, OPEN_EXCLUSIVE, OPEN_READ, OPEN_WRITE,
    ObjectStatus,
};
use abi::{Errno, PAGE_SIZE};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard};

/// Bytes that a size counts for in a quota: whole pages.
const fn charged(size: u64) -> u64 {
    size.next_multiple_of(PAGE_SIZE)
}

impl ObjectService for Broker {
    fn object_open(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        which: Which<'_>,
        flags: u64,
        mode: u32,
    ) -> Result<(bool, ObjectStatus), Errno> {
        let member = self.member(guest)?;
        let who = member.rights.credentials(guest, caller);
        let rights = Rights {
            read: flags & OPEN_READ != 0,
            write: flags & OPEN_WRITE != 0,
        };
        let now = self.now_ns();
        let mut table = self.table();
        let objects = &mut table.objects;
        let found = match which {
            Which::Held(serial) => {
                objects.held(guest, serial)?;
                Some(serial)
            }
            Which::Name(name) => {
                check_name(name)?;
                objects.find(name)
            }
        };
        let (serial, made) = match (found, which) {
            (Some(_), Which::Name(_)) if flags & OPEN_CREATE != 0 && flags & OPEN_EXCLUSIVE != 0 => {
                return Err(Errno::EEXIST);
            }
            (Some(serial), _) => {
                let object = objects.get_mut(serial).ok_or(Errno::ENOENT)?;
                object.check(&who, rights)?;
                member.may_write(rights)?;
                (serial, false)
            }
            (None, Which::Name(name)) if flags & OPEN_CREATE != 0 => {
                member.may_write(rights)?;
                objects.check_make(guest)?;
                let life = ObjectLife {
                    name: String::from_utf8_lossy(name).into_owned(),
                    mode,
                    creator_guest: guest,
                    creator_pid: who.pid,
                    creator_uid: who.uid,
                    created_ns: self.age_ns(),
                    destroyed_ns: None,
                    peak_size: 0,
                    ranges: BTreeMap::new(),
                };
                (objects.make(&who, name, mode, Store::new()?, life, now), true)
            }
            _ => return Err(Errno::ENOENT),
        };
        objects.hold(guest, serial, rights)?;
        Ok((made, objects.held(guest, serial)?.status()))
    }

    fn object_stat(&self, guest: u32, serial: u64) -> Result<ObjectStatus, Errno> {
        self.member(guest)?;
        let objects = &mut self.table().objects;
        if serial == DIRECTORY {
            return Ok(objects.status());
        }
        Ok(objects.held(guest, serial)?.status())
    }

    fn object_set(&self, guest: u32, caller: &Caller<'_>, serial: u64, set: &SetObject) -> Result<(), Errno> {
        let who = self.member(guest)?.rights.credentials(guest, caller);
        let now = self.now_ns();
        self.table().objects.held(guest, serial)?.set(&who, set, now)
    }

    fn object_resize(&self, guest: u32, serial: u64, size: u64, number: u64) -> Result<(), Refused> {
        if size > MOST_BYTES {
            return Err(Errno::EFBIG.into());
        }
        let store = self.writable(guest, serial)?;
        let changing = store.change();
        let now = self.now_ns();
        let mut guard = self.table();
        let table = &mut *guard;
        let object = table.objects.held(guest, serial)?;
        if let Some(shrink) = &mut object.shrink {
            shrink.told.insert(guest);
            let number = if shrink.number == number { number } else { 0 };
            return Err(Refused {
                errno: Errno::EAGAIN,
                number,
            });
        }
        if number != 0 {
            return Ok(());
        }
        if size >= object.size {
            let (maker, more) = (object.life.creator_guest, charged(size) - charged(object.size));
            self.check_quota(&table.made, maker, more)?;
            store.grow(&changing, size)?;
            object.size = size;
            object.life.peak_size = object.life.peak_size.max(size);
            object.touch(now);
            table.made.add_bytes(maker, more);
            return Ok(());
        }
        let number = self.next_shrink();
        let freed = charged(object.size) - charged(size);
        let mut shrink = Shrink {
            number,
            to: size,
            freed,
            waits_for: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        shrink.waits_for = object.reaching_past(shrink.cut());
        if !shrink.waits_for.is_empty() {
            shrink.told.insert(guest);
        }
        let waits_for = shrink.waits_for.clone();
        object.size = size;
        object.touch(now);
        object.shrink = Some(shrink);
        table.objects.shrinking.insert(serial);
        if waits_for.is_empty() {
            drop(guard);
            self.finish_shrink(&store, &changing);
            return Ok(());
        }
        // Under the table's lock, so that no answer comes before its deadline. One that is just going is not found here,
        // and is let go of when it is gone.
        let asked: Vec<_> = waits_for
            .iter()
            .filter_map(|other| Some((*other, self.member(*other).ok()?)))
            .collect();
        for (other, member) in &asked {
            self.deadlines.add(serial, *other, Arc::clone(&member.sleepers));
        }
        drop(guard);
        drop(changing);
        for (_, member) in asked {
            member.sleepers.bell().notice(NOTICE_SHRINK);
        }
        Err(Refused {
            errno: Errno::EAGAIN,
            number,
        })
    }

    fn object_read(&self, guest: u32, serial: u64, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
        self.member(guest)?;
        let now = self.now_ns();
        let (store, len) = {
            let mut table = self.table();
            let object = table.objects.held(guest, serial)?;
            if !object.rights_of(guest)?.read {
                return Err(Errno::EBADF);
            }
            object.was_read(now);
            (
                Arc::clone(&object.store),
                len.min(object.size.saturating_sub(offset)),
            )
        };
        let mut bytes = vec![0; len as usize];
        let count = store.read(offset, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn object_write(&self, guest: u32, serial: u64, offset: u64, bytes: &[u8]) -> Result<u64, Errno> {
        let store = self.writable(guest, serial)?;
        let changing = store.change();
        let mut guard = self.table();
        let table = &mut *guard;
        let object = table.objects.held(guest, serial)?;
        let start = if offset == AT_END { object.size } else { offset };
        let end = start
            .checked_add(bytes.len() as u64)
            .filter(|&end| end <= MOST_BYTES)
            .ok_or(Errno::EFBIG)?;
        let mut more = 0;
        let maker = object.life.creator_guest;
        if end > object.size && !bytes.is_empty() {
            if let Some(shrink) = &mut object.shrink {
                shrink.told.insert(guest);
                return Err(Errno::EAGAIN);
            }
            more = charged(end) - charged(object.size);
            self.check_quota(&table.made, maker, more)?;
            table.made.add_bytes(maker, more);
        }
        drop(guard);
        let written = store.write(&changing, start, bytes);
        let now = self.now_ns();
        let mut guard = self.table();
        let table = &mut *guard;
        if let Err(error) = written {
            table.made.give_back_bytes(maker, more);
            return Err(error);
        }
        if let Some(object) = table.objects.get_mut(serial)
            && !bytes.is_empty()
        {
            object.size = object.size.max(end);
            object.life.peak_size = object.life.peak_size.max(object.size);
            object.touch(now);
        }
        Ok(end)
    }

    fn object_link(&self, guest: u32, caller: &Caller<'_>, serial: u64, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        let who = self.member(guest)?.rights.credentials(guest, caller);
        let now = self.now_ns();
        self.table().objects.link(guest, &who, serial, name, now)
    }

    fn object_unlink(&self, guest: u32, caller: &Caller<'_>, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        let who = self.member(guest)?.rights.credentials(guest, caller);
        let now = self.now_ns();
        let gone = self.table().objects.unlink(&who, name, now)?;
        self.bury_objects(gone);
        Ok(())
    }

    fn object_rename(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        from: &[u8],
        to: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        check_name(from)?;
        check_name(to)?;
        let who = self.member(guest)?.rights.credentials(guest, caller);
        let now = self.now_ns();
        let gone = self.table().objects.rename(&who, (from, to), flags, now)?;
        self.bury_objects(gone);
        Ok(())
    }

    fn object_list(&self, guest: u32, cursor: u64) -> Result<Option<Listed>, Errno> {
        self.member(guest)?;
        let table = self.table();
        let next = table.objects.next_name(cursor);
        Ok(next.map(|(cursor, name, serial)| Listed {
            cursor,
            name: name.to_vec(),
            serial,
        }))
    }

    fn object_map(
        &self,
        guest: u32,
        serial: u64,
        window: WindowKind,
        offset: u64,
        len: u64,
    ) -> Result<Mapped, Errno> {
        let whole = offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE) && len > 0;
        let end = offset.checked_add(len).filter(|&end| whole && end <= MOST_BYTES);
        let end = end.ok_or(Errno::EINVAL)?;
        let member = self.member(guest)?;
        let mut home = lock(&member.home);
        let store = {
            let mut table = self.table();
            table.objects.check_range(guest)?;
            let object = table.objects.held(guest, serial)?;
            let rights = object.rights_of(guest)?;
            if !rights.read || window == WindowKind::ReadWrite && !rights.write {
                return Err(Errno::EACCES);
            }
            Arc::clone(&object.store)
        };
        let gpa = home.map_object(store.as_fd(), serial, window, offset, len)?;
        // Only this guest's own requests could have it not held any longer, and they wait for its home.
        let size = self.table().objects.add_range(guest, serial, gpa.get(), end)?;
        Ok(Mapped { gpa: gpa.get(), size })
    }

    fn object_unmap(&self, guest: u32, gpa: u64) -> Result<(), Errno> {
        let member = self.member(guest)?;
        let mut home = lock(&member.home);
        let serial = home.unmap_object(gpa)?;
        let answered = self.table().objects.remove_range(guest, serial, gpa);
        drop(home);
        if answered {
            self.shrink_answered(guest, serial);
        }
        Ok(())
    }

    fn object_notice(&self, guest: u32) -> Result<Option<(u64, u64)>, Errno> {
        self.member(guest)?;
        let mut table = self.table();
        let shrinking: Vec<u64> = table.objects.shrinking.iter().copied().collect();
        let mut wanted = |serial: u64| {
            let shrink = table.objects.get_mut(serial)?.shrink.as_ref()?;
            shrink.waits_for.contains(&guest).then_some((serial, shrink.to))
        };
        Ok(shrinking.into_iter().find_map(&mut wanted))
    }

    fn object_ack(&self, guest: u32, serial: u64) -> Result<(), Errno> {
        self.member(guest)?;
        self.shrink_answered(guest, serial);
        Ok(())
    }

    fn object_release(&self, guest: u32, serial: u64) -> Result<(), Errno> {
        let member = self.member(guest)?;
        // No range of it can come meanwhile.
        let home = lock(&member.home);
        let gone = self.table().objects.release(guest, serial)?;
        drop(home);
        self.bury_objects(gone);
        Ok(())
    }

    fn object_name(&self, guest: u32, serial: u64) -> Result<(Vec<u8>, bool), Errno> {
        self.member(guest)?;
        self.table().objects.name_of(guest, serial)
    }
}

impl Member {
    /// Whether the guest's configuration lets it write to objects.
    fn may_write(&self, rights: Rights) -> Result<(), Errno> {
        if rights.write && !self.rights.policy.allows_objects() {
            return Err(Errno::EACCES);
        }
        Ok(())
    }
}

impl Broker {
    /// Every object there is now.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectState> {
        self.table().objects.states().collect()
    }

    /// Every object there ever was, as far as [`crate::broker::BrokerLimits::history`] reaches: those that are gone first.
    #[must_use]
    pub fn object_history(&self) -> Vec<ObjectLife> {
        let table = self.table();
        table
            .gone_objects
            .iter()
            .chain(table.objects.lives())
            .cloned()
            .collect()
    }

    /// The bytes of an object that `guest` may change.
    fn writable(&self, guest: u32, serial: u64) -> Result<Arc<Store>, Errno> {
        self.member(guest)?;
        let mut table = self.table();
        let object = table.objects.held(guest, serial)?;
        if object.rights_of(guest)?.write {
            Ok(Arc::clone(&object.store))
        } else {
            Err(Errno::EBADF)
        }
    }

    /// Whether guest `maker`, whose object grows, may have so many bytes more; a guest that is gone had its limit, too,
    /// but nobody knows it any longer.
    fn check_quota(&self, made: &Made, maker: u32, more: u64) -> Result<(), Errno> {
        let Ok(member) = self.member(maker) else {
            return Ok(());
        };
        made.check_bytes(maker, &member.rights.quota, more)
            .map_err(|_| Errno::ENOSPC)
    }

    /// `guest` has let go of what a shrink of the object takes away.
    fn shrink_answered(&self, guest: u32, serial: u64) {
        self.deadlines.remove(serial, guest);
        if self.table().objects.answered(guest, serial) {
            self.complete_shrink(serial);
        }
    }

    /// Nobody is waited for any longer.
    fn complete_shrink(&self, serial: u64) {
        let store = match self.table().objects.get_mut(serial) {
            Some(object) => Arc::clone(&object.store),
            None => return,
        };
        self.finish_shrink(&store, &store.change());
    }

    fn finish_shrink(&self, store: &Store, changing: &MutexGuard<'_, ()>) {
        let to = {
            let mut table = self.table();
            let object = table.objects.get_mut(store.serial);
            match object.and_then(|object| object.shrink.as_ref()) {
                Some(shrink) => shrink.to,
                None => return,
            }
        };
        store.cut(changing, to);
        let told = {
            let mut guard = self.table();
            let table = &mut *guard;
            table.objects.shrinking.remove(&store.serial);
            let Some(object) = table.objects.get_mut(store.serial) else {
                return;
            };
            let Some(shrink) = object.shrink.take() else {
                return;
            };
            table
                .made
                .give_back_bytes(object.life.creator_guest, shrink.freed);
            shrink.told
        };
        for guest in told {
            if let Ok(member) = self.member(guest) {
                member.sleepers.bell().notice(NOTICE_RETRY);
            }
        }
    }

    /// Objects are gone: takes note, and frees their memory without the table's lock.
    fn bury_objects(&self, gone: impl IntoIterator<Item = Object>) {
        let mut gone: Vec<Object> = gone.into_iter().collect();
        if gone.is_empty() {
            return;
        }
        let age = self.age_ns();
        let mut table = self.table();
        for object in &mut gone {
            object.life.destroyed_ns = Some(age);
            let freed = object.shrink.as_ref().map_or(0, |shrink| shrink.freed);
            let bytes = charged(object.size) + freed;
            table.made.give_back_bytes(object.life.creator_guest, bytes);
            table.gone_objects.push(object.life.clone());
        }
        drop(table);
        drop(gone);
    }

    /// The guest is gone: so are its holds and ranges, and shrinks no longer wait for it.
    pub(in crate::broker) fn forget_holder(&self, guest: u32) {
        self.deadlines.remove_guest(guest);
        let (gone, ready) = self.table().objects.guest_gone(guest);
        self.bury_objects(gone);
        for serial in ready {
            self.complete_shrink(serial);
        }
    }
}
