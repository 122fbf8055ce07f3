//! Objects: names, rights, sizes, and guests that have to let go of pages; with windows that no VM stands behind.

mod sizes;

use super::*;
use crate::outcome::GuestFault;
use ::futex::FUTEX_OWNER_DIED;
use abi::object::{
    AT_END, DIRECTORY, NOTICE_RETRY, NOTICE_SHRINK, OPEN_CREATE, OPEN_EXCLUSIVE, OPEN_READ, OPEN_WRITE,
    RENAME_EXCHANGE, RENAME_NOREPLACE, SET_GID, SET_MODE, SET_NOW, SET_UID,
};
use abi::tasks::NOTICES;
use proptest::prelude::*;
use std::time::Duration;

const RW: u64 = OPEN_READ | OPEN_WRITE;
const NEW: u64 = RW | OPEN_CREATE | OPEN_EXCLUSIVE;

fn user(guest: u32, uid: u32) -> Caller<'static> {
    Caller {
        euid: uid,
        egid: uid,
        ..process(guest, 5)
    }
}

fn limits(within: Duration) -> BrokerLimits {
    BrokerLimits {
        answer_within: within,
        ..BrokerLimits::default()
    }
}

impl Group {
    fn open(&self, guest: u32, name: &str, flags: u64) -> Result<u64, Errno> {
        self.open_as(guest, &process(guest, 5), name, flags, 0o600)
    }
    fn open_as(&self, guest: u32, who: &Caller<'_>, name: &str, flags: u64, mode: u32) -> Result<u64, Errno> {
        let which = Which::Name(name.as_bytes());
        let (_, status) = self.broker.object_open(guest, who, which, flags, mode)?;
        Ok(status.serial)
    }
    /// A new object of so many bytes.
    fn object(&self, guest: u32, name: &str, size: u64) -> u64 {
        let serial = self.open(guest, name, NEW).unwrap();
        self.resize(guest, serial, size).unwrap();
        serial
    }
    fn resize(&self, guest: u32, serial: u64, size: u64) -> Result<(), Refused> {
        self.broker.object_resize(guest, serial, size, 0)
    }
    fn size(&self, guest: u32, serial: u64) -> u64 {
        self.broker.object_stat(guest, serial).unwrap().size
    }
    fn map(&self, guest: u32, serial: u64, offset: u64, len: u64) -> u64 {
        let window = WindowKind::ReadWrite;
        let mapped = self.broker.object_map(guest, serial, window, offset, len);
        mapped.unwrap().gpa
    }
    fn unlink(&self, guest: u32, name: &str) -> Result<(), Errno> {
        self.broker
            .object_unlink(guest, &process(guest, 5), name.as_bytes())
    }
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut cursor = 0;
        while let Some(listed) = self.broker.object_list(0, cursor).unwrap() {
            cursor = listed.cursor;
            names.push(String::from_utf8(listed.name).unwrap());
        }
        names
    }
    /// The notices that have come since the last look.
    fn notices(&self, guest: usize) -> u64 {
        let ram = self.machines[guest].ram();
        let notices = ram.read_value(futex::TASKS.add(NOTICES)).unwrap();
        ram.zero(futex::TASKS.add(NOTICES), 8).unwrap();
        notices
    }
}

fn objects_of_process() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:tombolo-object"))
        .count()
}

#[test]
fn a_name_leads_to_the_same_bytes_in_every_guest() {
    let group = group(3);
    let serial = group.object(0, "board", 10_000);
    assert_eq!(group.open(1, "board", NEW), Err(Errno::EEXIST));
    assert_eq!(group.open(2, "other", RW), Err(Errno::ENOENT));
    for guest in 1..3 {
        assert_eq!(group.open(guest, "board", RW | OPEN_CREATE), Ok(serial));
    }
    let a = group.map(0, serial, 0, 12_288);
    let b = group.map(1, serial, 4096, 8192);
    group.vms[0].write(a + 5000, 7);
    assert_eq!(group.vms[1].read(b + 5000 - 4096), 7);
    assert_eq!(
        group.broker.object_read(2, serial, 4999, 100).unwrap()[..2],
        [0, 7]
    );
    assert_eq!(group.broker.object_write(2, serial, 5001, b"xy"), Ok(5003));
    assert_eq!(group.vms[0].read(a + 5002), b'y');
    // At the end there is nothing, and what is written there makes it longer.
    assert_eq!(group.broker.object_read(2, serial, 10_000, 1), Ok(vec![]));
    assert_eq!(group.broker.object_read(2, serial, 9_999, 100).unwrap().len(), 1);
    assert_eq!(group.broker.object_write(2, serial, AT_END, b"abc"), Ok(10_003));
    assert_eq!(group.size(0, serial), 10_003);
    assert_eq!(group.vms[1].read(b + 10_000 - 4096), b'a');
    group.unlink(1, "board").unwrap();
    assert_eq!(group.open(2, "board", RW), Err(Errno::ENOENT));
    assert_eq!(group.vms[0].read(a + 5000), 7);
    for (guest, gpa) in [(0, a), (1, b)] {
        assert_eq!(group.broker.object_release(guest, serial), Err(Errno::EBUSY));
        group.broker.object_unmap(guest, gpa).unwrap();
        assert_eq!(group.broker.object_unmap(guest, gpa), Err(Errno::EINVAL));
    }
    for guest in 0..3 {
        group.broker.object_release(guest, serial).unwrap();
    }
    assert_eq!(group.broker.objects(), []);
    let lives = group.broker.object_history();
    assert_eq!(
        (lives.len(), lives[0].peak_size, lives[0].name.as_str()),
        (1, 10_003, "board")
    );
    assert_eq!(group.broker.table().made.of(0).bytes, 0);
}

#[test]
fn names_follow_linux() {
    let group = group(2);
    let serial = group.object(0, "a", 1);
    let other = group.object(0, "b", 2);
    let who = process(0, 5);
    let link = |name: &[u8]| group.broker.object_link(0, &who, serial, name);
    let rename = |from: &str, to: &str, flags| {
        let names = (from.as_bytes(), to.as_bytes());
        group.broker.object_rename(0, &who, names.0, names.1, flags)
    };
    assert_eq!(link(b"b"), Err(Errno::EEXIST));
    link(b"c").unwrap();
    assert_eq!(group.broker.object_stat(0, serial).unwrap().links, 2);
    assert_eq!(group.names(), ["a", "b", "c"]);
    assert_eq!(rename("x", "y", 0), Err(Errno::ENOENT));
    assert_eq!(rename("a", "b", RENAME_NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(rename("a", "y", RENAME_EXCHANGE), Err(Errno::ENOENT));
    // Two names of one object both stay.
    rename("a", "c", 0).unwrap();
    rename("a", "b", RENAME_EXCHANGE).unwrap();
    assert_eq!(
        (group.open(1, "a", RW), group.open(1, "b", RW)),
        (Ok(other), Ok(serial))
    );
    rename("a", "b", 0).unwrap();
    assert_eq!(
        (group.names(), group.open(1, "b", RW)),
        (vec!["c".into(), "b".into()], Ok(other))
    );
    assert_eq!(group.broker.object_stat(0, serial).unwrap().links, 1);
    group.unlink(1, "c").unwrap();
    assert_eq!(group.broker.object_stat(0, serial).unwrap().links, 0);
    // What has no name gets none again.
    assert_eq!(link(b"again"), Err(Errno::ENOENT));
    assert_eq!(group.unlink(0, "c"), Err(Errno::ENOENT));
    for bad in ["", ".", "..", "a/b", "a\0b"] {
        assert_eq!(group.open(0, bad, NEW), Err(Errno::EINVAL), "{bad:?}");
    }
    assert_eq!(group.open(0, &"n".repeat(256), NEW), Err(Errno::ENAMETOOLONG));
    assert!(group.open(0, &"n".repeat(255), NEW).is_ok());
    assert_eq!(group.broker.object_stat(0, DIRECTORY).unwrap().size, 2);
}

#[test]
fn modes_and_owners_decide_who_opens_removes_and_changes() {
    let group = group(2);
    let (owner, member, stranger) = (
        user(0, 1000),
        Caller {
            groups: &[1000],
            ..user(1, 7)
        },
        user(1, 8),
    );
    let serial = group.open_as(0, &owner, "o", NEW, 0o640).unwrap();
    let open = |who: &Caller<'_>, flags| group.open_as(1, who, "o", flags, 0);
    assert_eq!(open(&member, OPEN_READ), Ok(serial));
    assert_eq!(open(&member, RW), Err(Errno::EACCES));
    assert_eq!(open(&stranger, OPEN_READ), Err(Errno::EACCES));
    // To look a name up one needs no right to what it leads to.
    assert_eq!(open(&stranger, 0), Ok(serial));
    // What the guest has is what its processes were given: to read.
    assert_eq!(group.broker.object_write(1, serial, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(
        group.broker.object_resize(1, serial, 5, 0),
        Err(Errno::EBADF.into())
    );
    let map = |window| group.broker.object_map(1, serial, window, 0, 4096).map(drop);
    assert_eq!(map(WindowKind::ReadWrite), Err(Errno::EACCES));
    assert_eq!(map(WindowKind::ReadOnly), Ok(()));
    // The directory is sticky.
    let unlink = |who: &Caller<'_>| group.broker.object_unlink(1, who, b"o");
    assert_eq!(unlink(&member), Err(Errno::EPERM));
    assert_eq!(
        group.broker.object_rename(1, &stranger, b"o", b"p", 0),
        Err(Errno::EPERM)
    );
    let mine = group.open_as(1, &stranger, "mine", NEW, 0o666).unwrap();
    assert_eq!(
        group.broker.object_rename(1, &stranger, b"mine", b"o", 0),
        Err(Errno::EPERM)
    );
    assert_eq!(
        group.broker.object_link(1, &stranger, serial, b"p"),
        Err(Errno::EPERM)
    );
    assert_eq!(group.broker.object_link(0, &owner, serial, b"p"), Ok(()));
    assert_ne!(mine, serial);
    let set = |who: &Caller<'_>, what, mode, uid, gid| {
        let set = SetObject {
            what,
            mode,
            uid,
            gid,
            accessed: 0,
            modified: 0,
        };
        group.broker.object_set(1, who, serial, &set)
    };
    assert_eq!(set(&stranger, SET_MODE, 0o666, 0, 0), Err(Errno::EPERM));
    assert_eq!(set(&stranger, SET_NOW, 0, 0, 0), Err(Errno::EACCES));
    assert_eq!(set(&owner, SET_UID, 0, 8, 0), Err(Errno::EPERM));
    assert_eq!(set(&owner, SET_GID, 0, 0, 9), Err(Errno::EPERM));
    assert_eq!(set(&owner, SET_MODE, 0o666, 0, 0), Ok(()));
    assert_eq!(open(&stranger, RW), Ok(serial));
    assert_eq!(set(&ROOT, SET_UID | SET_GID, 0, 8, 9), Ok(()));
    let status = group.broker.object_stat(0, serial).unwrap();
    assert_eq!((status.uid, status.gid, status.mode), (8, 9, 0o666));
    assert_eq!(unlink(&stranger), Ok(()));
}

#[test]
fn a_guests_configuration_decides_whom_its_claims_make_it_and_what_it_writes() {
    let confined = GuestRights {
        uid: 1000,
        gid: 1000,
        ..GuestRights::default()
    };
    let group_one = group_with(2, BrokerLimits::default(), confined);
    let serial = group_one.object(0, "roots", 1);
    assert_eq!(
        group_one.open_as(1, &ROOT, "roots", OPEN_READ, 0),
        Err(Errno::EACCES)
    );
    assert_eq!(group_one.unlink(1, "roots"), Err(Errno::EPERM));
    let own = group_one.open_as(1, &ROOT, "own", NEW, 0o600).unwrap();
    assert_eq!(group_one.broker.object_stat(1, own).unwrap().uid, 1000);
    assert_eq!(group_one.broker.object_read(1, serial, 0, 1), Err(Errno::EBADF));
    drop(group_one);
    let group = group_with(2, BrokerLimits::default(), only(GuestPolicy::ReadOnlyAll));
    let serial = group.open_as(0, &ROOT, "o", NEW, 0o666).unwrap();
    assert_eq!(group.open(1, "o", RW), Err(Errno::EACCES));
    assert_eq!(group.open(1, "new", NEW), Err(Errno::EACCES));
    assert_eq!(group.open(1, "o", OPEN_READ), Ok(serial));
    let window = WindowKind::ReadWrite;
    assert_eq!(
        group.broker.object_map(1, serial, window, 0, 4096),
        Err(Errno::EACCES)
    );
}

#[test]
fn bytes_count_in_the_makers_quota_whoever_makes_it_grow() {
    let rights = GuestRights {
        quota: Quota {
            segments: 1,
            bytes: 3 * 4096,
        },
        ..GuestRights::default()
    };
    let group = group_with(2, BrokerLimits::default(), rights);
    let serial = group.object(1, "o", 4097);
    group.open(0, "o", RW).unwrap();
    assert_eq!(group.resize(0, serial, 3 * 4096 + 1), Err(Errno::ENOSPC.into()));
    assert_eq!(
        group.broker.object_write(0, serial, 3 * 4096, b"x"),
        Err(Errno::ENOSPC)
    );
    assert_eq!(
        group.broker.object_write(0, serial, 3 * 4096 - 1, b"x"),
        Ok(3 * 4096)
    );
    assert_eq!(
        group.broker.shmget(1, &ROOT, 1, 1, IPC_CREAT | 0o600),
        Err(Errno::ENOMEM)
    );
    group.resize(1, serial, 4096).unwrap();
    let id = group.make(1, 1, 8192);
    assert_eq!(group.resize(0, serial, 8192), Err(Errno::ENOSPC.into()));
    group.remove(id).unwrap();
    group.resize(0, serial, 8192).unwrap();
    group.unlink(1, "o").unwrap();
    for guest in 0..2 {
        group.broker.object_release(guest, serial).unwrap();
    }
    assert_eq!(group.broker.table().made.of(1).bytes, 0);
}

#[test]
fn growing_moves_nothing_and_shrinking_what_nobody_has_is_done_at_once() {
    let group = group(2);
    let serial = group.object(0, "o", 4096);
    group.open(1, "o", RW).unwrap();
    let a = group.map(0, serial, 0, 4096);
    group.vms[0].write(a, 1);
    group.resize(1, serial, 1 << 20).unwrap();
    let b = group.map(1, serial, 1 << 19, 4096);
    group.vms[1].write(b, 2);
    assert_eq!((group.vms[0].read(a), group.vms[1].read(b)), (1, 2));
    group.broker.object_unmap(1, b).unwrap();
    // No range reaches past: done at once, and the page that is cut is zero behind the end.
    group.vms[0].write(a + 100, 3);
    group.resize(0, serial, 100).unwrap();
    assert_eq!((group.notices(0), group.notices(1)), (0, 0));
    assert_eq!(group.vms[0].read(a + 100), 0);
    group.resize(0, serial, 1 << 20).unwrap();
    let b = group.map(1, serial, 1 << 19, 4096);
    assert_eq!(group.vms[1].read(b), 0);
}

#[test]
fn what_a_guest_does_not_hold_or_that_makes_no_sense_is_refused() {
    let group = group(2);
    let serial = group.object(0, "o", 4096);
    let window = WindowKind::ReadWrite;
    for stranger in [serial, serial + 1, 0, u64::MAX] {
        assert_eq!(group.broker.object_read(1, stranger, 0, 1), Err(Errno::EBADF));
        assert_eq!(group.broker.object_write(1, stranger, 0, b"x"), Err(Errno::EBADF));
        assert_eq!(
            group.broker.object_resize(1, stranger, 1, 0),
            Err(Errno::EBADF.into())
        );
        assert_eq!(
            group.broker.object_map(1, stranger, window, 0, 4096),
            Err(Errno::EBADF)
        );
        assert_eq!(group.broker.object_release(1, stranger), Err(Errno::EBADF));
        let which = Which::Held(stranger);
        assert_eq!(
            group.broker.object_open(1, &ROOT, which, RW, 0),
            Err(Errno::EBADF)
        );
        assert_eq!(group.broker.object_ack(1, stranger), Ok(()));
    }
    for (offset, len) in [
        (0, 0),
        (1, 4096),
        (0, 1),
        (u64::MAX - 4095, 4096),
        (1 << 62, 1 << 62),
        (0, 1 << 63),
    ] {
        let mapped = group.broker.object_map(0, serial, window, offset, len);
        assert_eq!(mapped, Err(Errno::EINVAL), "{offset:#x} {len:#x}");
    }
    // Larger than any window.
    assert_eq!(
        group.broker.object_map(0, serial, window, 0, 1 << 40),
        Err(Errno::ENOMEM)
    );
    assert_eq!(group.resize(0, serial, 1 << 63), Err(Errno::EFBIG.into()));
    assert_eq!(
        group.broker.object_write(0, serial, (1 << 63) - 1, b"x"),
        Err(Errno::EFBIG)
    );
    assert_eq!(
        group.broker.object_write(0, serial, u64::MAX - 1, b"x"),
        Err(Errno::EFBIG)
    );
    assert_eq!(group.broker.object_unmap(0, 0), Err(Errno::EINVAL));
    assert_eq!(group.size(0, serial), 4096);
}

#[test]
fn the_number_of_objects_and_ranges_of_a_guest_is_bounded() {
    let group = group(1);
    for index in 0..4096 {
        group.open(0, &format!("o{index}"), NEW).unwrap();
    }
    assert_eq!(group.open(0, "more", NEW), Err(Errno::ENOSPC));
    let serial = group.open(0, "o0", RW).unwrap();
    let link = |index: u32| {
        let name = format!("l{index}");
        group
            .broker
            .object_link(0, &process(0, 5), serial, name.as_bytes())
    };
    for index in 4096..16384 {
        link(index).unwrap();
    }
    assert_eq!(link(16384), Err(Errno::ENOSPC));
    group.unlink(0, "l5000").unwrap();
    link(16384).unwrap();
    let first = group.map(0, serial, 0, 4096);
    for _ in 1..4096 {
        group.map(0, serial, 0, 4096);
    }
    let window = WindowKind::ReadOnly;
    assert_eq!(
        group.broker.object_map(0, serial, window, 0, 4096),
        Err(Errno::ENOMEM)
    );
    group.broker.object_unmap(0, first).unwrap();
    group.map(0, serial, 0, 4096);
    assert_eq!(group.broker.guest_gone(0), 4096 * 2);
    assert_eq!(objects_of_process(), 0);
}

#[test]
fn a_word_means_the_same_through_every_range() {
    let group = group(2);
    let serial = group.object(0, "o", 8192);
    group.open(1, "o", RW).unwrap();
    let a = group.map(0, serial, 0, 8192);
    group.map(1, serial, 4096, 4096);
    let word = |offset| crate::broker::SharedWord {
        of: crate::broker::Shared::Object(serial),
        offset,
    };
    group.vms[0].write(a + 4100, 5);
    assert_eq!(group.wait(1, 3, word(4100), 4), Err(Errno::EAGAIN));
    assert_eq!(group.wait(1, 3, word(4100), 5), Ok(()));
    assert_eq!(group.wake(0, word(4100), 1, u32::MAX), Ok((1, false)));
    // No range shows it there; it is crooked; it is past the end, where this process must not look.
    assert_eq!(group.wait(1, 4, word(0), 0), Err(Errno::EFAULT));
    assert_eq!(group.wait(1, 4, word(4101), 0), Err(Errno::EFAULT));
    assert_eq!(group.wait(1, 4, word(4096), 0), Ok(()));
    group.resize(0, serial, 4096).unwrap_err();
    for guest in [0, 1] {
        group.broker.object_ack(guest, serial).unwrap();
    }
    assert_eq!(group.wait(1, 5, word(4096), 0), Err(Errno::EFAULT));
    // Whoever waits there already can still be woken.
    assert_eq!(group.wake(0, word(4096), 9, u32::MAX), Ok((1, false)));
}
