//! Objects: names, rights, sizes, and guests that have to let go of pages; with windows that no VM stands behind.

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
fn a_shrink_waits_for_all_who_may_have_the_pages_and_then_gives_them_back() {
    let group = group(4);
    let serial = group.object(0, "o", 3 * 4096);
    for guest in 1..4 {
        group.open(guest, "o", RW).unwrap();
    }
    let a = group.map(0, serial, 0, 3 * 4096);
    let b = group.map(1, serial, 4096, 2 * 4096);
    let c = group.map(2, serial, 0, 4096);
    group.vms[0].write(a + 8192, 9);
    let Err(Refused {
        errno: Errno::EAGAIN,
        number,
    }) = group.resize(3, serial, 4096)
    else {
        panic!("guests have the pages");
    };
    assert_ne!(number, 0);
    // All are told the new size already, and nobody changes it meanwhile.
    assert_eq!((group.size(2, serial), group.size(0, serial)), (4096, 4096));
    assert_eq!(group.resize(2, serial, 8192), Err(Errno::EAGAIN.into()));
    assert_eq!(
        group.broker.object_write(2, serial, 8192, b"x"),
        Err(Errno::EAGAIN)
    );
    assert_eq!(group.broker.object_write(2, serial, 4095, b"x"), Ok(4096));
    assert_eq!(group.broker.object_read(2, serial, 8192, 1), Ok(vec![]));
    assert_eq!(
        [0, 1, 2, 3].map(|guest| group.notices(guest)),
        [NOTICE_SHRINK, NOTICE_SHRINK, 0, 0]
    );
    assert_eq!(group.broker.object_notice(2), Ok(None));
    for guest in [0, 1] {
        assert_eq!(group.broker.object_notice(guest), Ok(Some((serial, 4096))));
    }
    assert_eq!(
        group.broker.object_resize(3, serial, 4096, number),
        Err(Refused {
            errno: Errno::EAGAIN,
            number
        })
    );
    // An answer of one that was not asked is none.
    group.broker.object_ack(2, serial).unwrap();
    group.broker.object_ack(0, serial).unwrap();
    assert_eq!(group.broker.object_notice(0), Ok(None));
    assert_eq!(group.notices(3), 0);
    assert_eq!(group.vms[0].read(a + 8192), 9);
    // To unmap is an answer as well.
    group.broker.object_unmap(1, b).unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|guest| group.notices(guest)),
        [0, 0, NOTICE_RETRY, NOTICE_RETRY]
    );
    assert_eq!(group.broker.object_stat(0, serial).unwrap().resident, 4096);
    // Another made it grow before the first asked again: what was asked for has been done, and is not done twice.
    group.resize(2, serial, 3 * 4096).unwrap();
    assert_eq!(group.broker.object_resize(3, serial, 4096, number), Ok(()));
    assert_eq!(group.size(0, serial), 3 * 4096);
    assert_eq!(group.vms[0].read(a + 8192), 0);
    group.vms[2].write(c, 1);
    assert_eq!(group.vms[0].read(a), 1);
}

#[test]
fn a_guest_that_dies_holds_nothing_back() {
    let group = group(3);
    let serial = group.object(0, "o", 8192);
    group.open(1, "o", RW).unwrap();
    group.open(2, "o", RW).unwrap();
    group.map(1, serial, 0, 8192);
    assert_eq!(group.resize(0, serial, 1).unwrap_err().errno, Errno::EAGAIN);
    // The one who asked dies: it is done all the same.
    assert_eq!(group.broker.guest_gone(0), 1);
    assert_eq!(group.broker.guest_gone(1), 2);
    assert_eq!(group.resize(2, serial, 2), Ok(()));
    assert!(!group.broker.objects()[0].shrinking);
    assert_eq!((group.notices(2), objects_of_process()), (0, 0));
    group.unlink(2, "o").unwrap();
    assert_eq!(group.broker.objects().len(), 1);
    assert_eq!(group.broker.guest_gone(2), 1);
    assert_eq!(group.broker.objects(), []);
    assert_eq!(group.open(2, "p", NEW), Err(Errno::EINVAL));
}

#[test]
fn a_guest_that_does_not_let_go_in_time_is_ended_and_those_that_do_are_not() {
    let within = Duration::from_millis(100);
    let group = group_with(3, limits(within), GuestRights::default());
    let serial = group.object(0, "o", 8192);
    for guest in 1..3 {
        group.open(guest, "o", RW).unwrap();
        group.map(guest, serial, 0, 8192);
    }
    assert_eq!(group.resize(0, serial, 0).unwrap_err().errno, Errno::EAGAIN);
    group.broker.object_ack(1, serial).unwrap();
    let late = &group.machines[2].ended;
    while lock(late).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let fault = GuestFault::NoAnswer {
        object: serial,
        waited_ms: 100,
    };
    assert_eq!(*lock(late), [fault]);
    assert_eq!(lock(&group.machines[1].ended).len(), 0);
    assert_eq!(group.resize(0, serial, 5).unwrap_err().errno, Errno::EAGAIN);
    // Its machine ends it; then the others go on.
    group.broker.guest_gone(2);
    assert_eq!(group.notices(0), NOTICE_RETRY);
    assert_eq!(group.resize(0, serial, 5), Ok(()));
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

#[test]
fn a_dead_guests_locks_in_objects_are_given_back_also_where_the_object_has_shrunk() {
    for shrunk in [false, true] {
        let group = group(3);
        let serial = group.object(0, "o", 8192);
        for guest in 1..3 {
            group.open(guest, "o", RW).unwrap();
        }
        let seen = group.map(2, serial, 0, 4096);
        let own = group.map(1, serial, 4096, 4096);
        // The only one: its link leads back to the head.
        group
            .broker
            .object_write(0, serial, 4096 + 16, &futex::HEAD.to_le_bytes())
            .unwrap();
        group
            .broker
            .object_write(0, serial, 4096 + 24, &futex::TID.to_le_bytes())
            .unwrap();
        group.machines[1].put_robust_lock(own);
        if shrunk {
            assert_eq!(group.resize(0, serial, 4096).unwrap_err().errno, Errno::EAGAIN);
            group.broker.object_ack(1, serial).unwrap();
        }
        // The dead guest's tables still show what may be gone: the walk must not touch it.
        group.broker.guest_gone(1);
        let word = group.broker.object_read(2, serial, 4096 + 24, 4).unwrap();
        let died = if shrunk {
            vec![]
        } else {
            FUTEX_OWNER_DIED.to_le_bytes().to_vec()
        };
        assert_eq!(word, died);
        assert_eq!(group.vms[2].read(seen), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u32, u8, u64),
    Resize(u32, u8, u64),
    Write(u32, u8, u64, u8),
    Map(u32, u8, u64, u64),
    Unmap(u32, u8),
    Answer(u32),
    Unlink(u32, u8),
    Rename(u32, u8, u8),
    Release(u32, u8),
    Die(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let guest = || 0u32..3;
    let size = || prop_oneof![0u64..20_000, (0u64..6).prop_map(|pages| pages * 4096)];
    prop_oneof![
        4 => (guest(), 0u8..3, Just(RW | OPEN_CREATE)).prop_map(|(g, n, f)| Step::Open(g, n, f)),
        4 => (guest(), 0u8..3, size()).prop_map(|(g, n, s)| Step::Resize(g, n, s)),
        2 => (guest(), 0u8..3, size(), any::<u8>()).prop_map(|(g, n, o, b)| Step::Write(g, n, o, b)),
        3 => (guest(), 0u8..3, 0u64..4, 1u64..4).prop_map(|(g, n, o, l)| Step::Map(g, n, o * 4096, l * 4096)),
        2 => (guest(), any::<u8>()).prop_map(|(g, n)| Step::Unmap(g, n)),
        3 => guest().prop_map(Step::Answer),
        1 => (guest(), 0u8..3).prop_map(|(g, n)| Step::Unlink(g, n)),
        1 => (guest(), 0u8..3, 0u8..3).prop_map(|(g, a, b)| Step::Rename(g, a, b)),
        1 => (guest(), 0u8..3).prop_map(|(g, n)| Step::Release(g, n)),
        1 => guest().prop_map(Step::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_guests_do_nothing_is_left_when_they_are_gone(steps in prop::collection::vec(step(), 1..80)) {
        let group = group(3);
        let mut ranges: Vec<(u32, u64)> = Vec::new();
        let name = |number: u8| format!("n{number}");
        let find = |guest, number| group.open(guest, &name(number), RW);
        for step in steps {
            match step {
                Step::Open(guest, number, flags) => drop(group.open(guest, &name(number), flags)),
                Step::Resize(guest, number, size) => if let Ok(serial) = find(guest, number) {
                    match group.resize(guest, serial, size) {
                        Ok(()) => prop_assert_eq!(group.size(guest, serial), size),
                        Err(refused) => prop_assert_eq!(refused.errno, Errno::EAGAIN),
                    }
                },
                Step::Write(guest, number, offset, byte) => if let Ok(serial) = find(guest, number) {
                    match group.broker.object_write(guest, serial, offset, &[byte]) {
                        Ok(end) => {
                            prop_assert!(group.size(guest, serial) >= end);
                            prop_assert_eq!(group.broker.object_read(guest, serial, offset, 1), Ok(vec![byte]));
                        }
                        Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
                    }
                },
                Step::Map(guest, number, offset, len) => if let Ok(serial) = find(guest, number) {
                    ranges.push((guest, group.map(guest, serial, offset, len)));
                },
                Step::Unmap(guest, which) => {
                    let own: Vec<_> = ranges.iter().filter(|(owner, _)| *owner == guest).copied().collect();
                    if let Some(&(_, gpa)) = own.get(usize::from(which) % own.len().max(1)) {
                        prop_assert_eq!(group.broker.object_unmap(guest, gpa), Ok(()));
                        ranges.retain(|range| *range != (guest, gpa));
                    }
                }
                Step::Answer(guest) => while let Ok(Some((serial, _))) = group.broker.object_notice(guest) {
                    group.broker.object_ack(guest, serial).unwrap();
                },
                Step::Unlink(guest, number) => drop(group.unlink(guest, &name(number))),
                Step::Rename(guest, from, to) => {
                    let (from, to) = (name(from), name(to));
                    let _ = group.broker.object_rename(guest, &process(guest, 5), from.as_bytes(), to.as_bytes(), 0);
                }
                Step::Release(guest, number) => if let Ok(serial) = find(guest, number) {
                    let _ = group.broker.object_release(guest, serial);
                },
                Step::Die(guest) => {
                    group.broker.guest_gone(guest);
                    ranges.retain(|(owner, _)| *owner != guest);
                }
            }
            // A shrink waits only for somebody.
            let waiting = |guest| group.broker.object_notice(guest).is_ok_and(|notice| notice.is_some());
            let shrinking = group.broker.objects().iter().any(|object| object.shrinking);
            prop_assert_eq!(shrinking, (0..3).any(waiting));
        }
        for guest in 0..3 {
            group.broker.guest_gone(guest);
        }
        prop_assert_eq!(objects_of_process(), 0);
        for object in group.broker.objects() {
            prop_assert!(!object.shrinking && !object.names.is_empty());
        }
        let named: u64 = group.broker.objects().iter().map(|object| object.size.next_multiple_of(4096)).sum();
        let made: u64 = (0..3).map(|guest| group.broker.table().made.of(guest).bytes).sum();
        prop_assert_eq!(named, made);
    }
}
