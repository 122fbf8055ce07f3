//! What guests ask of segments, answered: [`SegmentService`] of the [`Broker`].

use super::attach;
use super::memory::{self, Memory};
use super::proc::{self, ProcFile};
use super::rights::Caller;
use super::segment::Backing;
use super::{Attached, Broker, Room, SegmentService, Table, lock};
use crate::window::WindowKind;
use abi::ipc::{SHM_RDONLY, ShmidDs};
use abi::{Errno, PAGE_SIZE, guest_of_pid};
use shm::{Command, Got, Setting};
use std::sync::PoisonError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl SegmentService for Broker {
    fn shmget(&self, guest: u32, caller: &Caller<'_>, key: i32, size: u64, flags: u32) -> Result<u64, Errno> {
        let member = self.member(guest)?;
        let quota = &member.rights.quota;
        let who = member.rights.credentials(guest, caller);
        let now = self.now();
        let mut table = self.table();
        let Table { registry, made, .. } = &mut *table;
        let got = registry.get(&who, key, size, flags, now, |new| {
            let huge_page_shift = match new.huge_page_shift {
                Some(asked) => Some(self.huge_pages.check(&who, asked)?),
                None => {
                    self.memory.check(new)?;
                    None
                }
            };
            made.check_bytes(guest, quota, memory::len(new, huge_page_shift)?)?;
            made.check_segments(guest, quota)?;
            let memory = Memory::new(new, huge_page_shift, &self.large_pages)?;
            Ok(Backing::new(guest, &who, flags, new, memory, self.age_ns()))
        })?;
        let id = got.id();
        if let Got::Created(id) = got {
            let backing = registry.backing_mut(id)?;
            backing.life.id = id;
            made.add(guest, backing.bytes());
            tracing::debug!("guest {guest}: segment {id} made, key {key:#x}, {size} bytes");
        }
        Ok(id as u64)
    }

    fn attach(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        flags: u32,
        rooms: &[Room],
    ) -> Result<Attached, Errno> {
        let which = if flags & SHM_RDONLY != 0 {
            WindowKind::ReadOnly
        } else {
            WindowKind::ReadWrite
        };
        let member = self.member(guest)?;
        let who = member.rights.credentials(guest, caller);
        let mut home = lock(&member.home);
        let (memory, size, key) = {
            let mut table = self.table();
            let segment = table.registry.may_attach(&who, id, flags)?;
            let key = segment.backing.life.key;
            if !member.rights.policy.allows(key, which) {
                return Err(Errno::EACCES);
            }
            let memory = segment.backing.memory();
            // Rounded up to its pages; no file is longer than `i64::MAX`.
            if let Some(room) = rooms.iter().find(|room| memory.pages * PAGE_SIZE > room.bytes) {
                // Linux holds it while it looks for room, which may end it.
                table.registry.hold(id)?;
                let released = table.registry.release(id);
                let released = self.record(&mut table, released);
                drop(table);
                drop(released);
                return Err(room.errno);
            }
            // An attach of huge pages covers the last one whole.
            let size = if segment.huge {
                memory.pages * PAGE_SIZE
            } else {
                segment.size
            };
            table.registry.hold(id)?;
            (memory, size, key)
        };
        // The registry is unlocked here; the hold keeps the segment.
        let gpa = home.attach(id, which, &memory, who.pid);
        let mut table = self.table();
        let released = match gpa {
            Ok(_) => {
                let counted = table.registry.attach(id, who.pid, 1, self.now());
                if let (Ok(()), Ok(backing)) = (counted, table.registry.backing_mut(id)) {
                    backing.count_attach(guest, 1);
                }
                table.registry.release(id)
            }
            Err(_) => table.registry.release(id),
        };
        let released = self.record(&mut table, released);
        drop(table);
        drop(released);
        Ok(Attached {
            gpa: gpa?.get(),
            size,
            key,
        })
    }

    fn attach_more(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        window: WindowKind,
        count: u64,
    ) -> Result<(), Errno> {
        let pid = attach::own_pid(guest, caller.pid);
        let member = self.member(guest)?;
        let mut home = lock(&member.home);
        home.attach_more(id, window, count, pid)?;
        let now = self.now();
        let mut table = self.table();
        // The guest holds an attach, so the segment is there; MAX_COUNT keeps the sum from overflowing.
        table.registry.attach(id, pid, count, now)?;
        table.registry.backing_mut(id)?.count_attach(guest, count);
        Ok(())
    }

    fn detach(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        window: WindowKind,
        count: u64,
    ) -> Result<(), Errno> {
        let member = self.member(guest)?;
        let mut home = lock(&member.home);
        home.detach(id, window, count)?;
        let pid = attach::own_pid(guest, caller.pid);
        let destroyed = self.end_attaches(&mut self.table(), guest, pid, id, count);
        drop(home);
        drop(destroyed);
        Ok(())
    }

    fn detach_last(&self, guest: u32, caller: &Caller<'_>, id: i32, window: WindowKind) -> Result<(), Errno> {
        let member = self.member(guest)?;
        let mut home = lock(&member.home);
        if !home.holds(id, window) {
            return Err(Errno::EINVAL);
        }
        // Locked throughout: nobody attaches it in between.
        let mut table = self.table();
        if !table.registry.goes_with_one(id)? {
            return Err(Errno::EAGAIN);
        }
        home.detach(id, window, 1)?;
        let pid = attach::own_pid(guest, caller.pid);
        let destroyed = self.end_attaches(&mut table, guest, pid, id, 1);
        drop(table);
        drop(home);
        drop(destroyed);
        Ok(())
    }

    fn punch(&self, guest: u32, id: i32, offset: u64, len: u64) -> Result<(), Errno> {
        let member = self.member(guest)?;
        // Held, so that the segment stays what it is; the registry is not: the host may take its time.
        let home = lock(&member.home);
        if !home.holds(id, WindowKind::ReadWrite) {
            return Err(Errno::EINVAL);
        }
        let memory = self.table().registry.segment(id)?.backing.memory();
        memory.punch(offset, len)
    }

    fn shmctl(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        id: i32,
        command: i32,
        payload: &mut [u8; 256],
    ) -> Result<u64, Errno> {
        let member = self.member(guest)?;
        let who = member.rights.credentials(guest, caller);
        let command = Command::check(id, command)?;
        let mut table = self.table();
        let registry = &mut table.registry;
        Ok(match command {
            Command::Stat(found) => {
                let (result, status) = registry.stat(&who, id, found)?;
                answer(payload, &status);
                result
            }
            Command::Limits => {
                let (result, info) = registry.limits_info();
                answer(payload, &info);
                result
            }
            Command::Totals => {
                let (result, info) = registry.totals(Backing::resident_pages);
                answer(payload, &info);
                result
            }
            Command::Set => {
                let (wanted, _) = ShmidDs::read_from_prefix(payload).map_err(|_| Errno::EINVAL)?;
                registry.set(&who, id, &wanted.perm, self.now()).map(|()| 0)?
            }
            Command::Lock => registry
                .lock(&who, id, member.rights.account(caller))
                .map(|()| 0)?,
            Command::Unlock => registry.unlock(&who, id).map(|()| 0)?,
            Command::Remove => {
                let destroyed = registry.remove(&who, id)?;
                if let Ok(backing) = registry.backing_mut(id) {
                    backing.life.removed_ns.get_or_insert(self.age_ns());
                }
                let destroyed = self.record(&mut table, destroyed);
                drop(table);
                drop(destroyed);
                0
            }
        })
    }

    fn proc_read(&self, guest: u32, file: ProcFile, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
        self.member(guest)?;
        Ok(proc::read(&self.table().registry, file, offset, len))
    }

    fn proc_write(
        &self,
        guest: u32,
        caller: &Caller<'_>,
        setting: Setting,
        text: &[u8],
    ) -> Result<u64, Errno> {
        let who = self.member(guest)?.rights.credentials(guest, caller);
        if !who.is_privileged() {
            return Err(Errno::EPERM);
        }
        let mut table = self.table();
        let before = table.registry.setting(setting);
        let written = table.registry.set_setting(setting, text)?;
        let after = table.registry.setting(setting);
        if before != after {
            tracing::info!("guest {guest} set {setting:?} to {}", after.trim_end());
        }
        self.bury(table, written.destroyed);
        Ok(written.used as u64)
    }

    fn maker_ended(&self, guest: u32, task: u32) {
        let task = attach::own_pid(guest, task);
        let mut table = self.table();
        let destroyed = table.registry.makers_ended(|maker| maker == task);
        self.bury(table, destroyed);
    }

    fn guest_gone(&self, guest: u32) -> u64 {
        let member = self
            .members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&guest);
        let Some(member) = member else { return 0 };
        self.forget_waiters(guest, &member);
        let mut home = lock(&member.home);
        let ranges = home.ranges() + self.table().objects.held_by(guest);
        let held = home.leave();
        drop(home);
        self.forget_holder(guest);
        for (id, holding) in held {
            let destroyed = self.end_attaches(&mut self.table(), guest, holding.last_pid, id, holding.count);
            drop(destroyed);
        }
        let mut table = self.table();
        let destroyed = table.registry.makers_ended(|maker| guest_of_pid(maker) == guest);
        self.bury(table, destroyed);
        ranges
    }
}

/// Puts a structure at the payload's start, zeros after it: nothing of a former request shows.
fn answer<T: IntoBytes + Immutable>(payload: &mut [u8; 256], value: &T) {
    payload.fill(0);
    let bytes = value.as_bytes();
    payload[..bytes.len()].copy_from_slice(bytes);
}
