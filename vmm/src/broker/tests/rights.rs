//! What a guest may make and whom its claims make it.

use super::*;
use shm::LockAccount;

fn user(euid: u32, egid: u32, groups: &'static [u32]) -> Caller<'static> {
    Caller {
        euid,
        egid,
        groups,
        ..ROOT
    }
}

fn quota(segments: u64, bytes: u64) -> GuestRights {
    GuestRights {
        quota: Quota { segments, bytes },
        ..GuestRights::default()
    }
}

#[test]
fn a_guest_that_runs_as_a_user_can_not_claim_to_be_another_nor_root() {
    let rights = GuestRights {
        uid: 1000,
        gid: 100,
        ..GuestRights::default()
    };
    let group = group_with(2, BrokerLimits::default(), rights);
    let secret = group
        .broker
        .shmget(0, &user(2000, 7, &[]), 5, 4096, IPC_CREAT | 0o660)
        .unwrap() as i32;
    for claim in [
        user(0, 0, &[]),
        user(2000, 7, &[]),
        user(1000, 7, &[7]),
        user(1000, 100, &[7]),
    ] {
        let attached = group.broker.attach(1, &claim, secret, SHM_RDONLY, ROOM);
        assert_eq!(attached, Err(Errno::EACCES), "{claim:?}");
        let control = |command| group.broker.shmctl(1, &claim, secret, command, &mut [0; 256]);
        assert_eq!(control(IPC_RMID), Err(Errno::EPERM));
        assert_eq!(control(SHM_LOCK), Err(Errno::EPERM));
        assert_eq!(control(IPC_STAT), Err(Errno::EACCES));
        assert_eq!(
            group.broker.proc_write(1, &claim, shm::Setting::Mni, b"1"),
            Err(Errno::EPERM)
        );
        let own = group.broker.shmget(1, &claim, IPC_PRIVATE, 1, 0o600).unwrap() as i32;
        let perm = group.stat(own).unwrap().perm;
        assert_eq!((perm.uid, perm.cuid, perm.gid, perm.cgid), (1000, 1000, 100, 100));
    }
    // Root of the other guest is root of the group, and may be anyone.
    let other = user(2000, 7, &[]);
    assert!(group.broker.attach(0, &other, secret, 0, ROOM).is_ok());
    assert_eq!(group.remove(secret), Ok(0));
}

#[test]
fn a_guest_may_make_as_many_segments_as_its_quota_says_until_they_are_destroyed() {
    let group = group_with(2, BrokerLimits::default(), quota(2, u64::MAX));
    let make = |guest, key| group.broker.shmget(guest, &ROOT, key, 4096, IPC_CREAT | 0o666);
    let (first, second) = (make(1, 1).unwrap() as i32, make(1, 2).unwrap());
    assert_eq!(make(1, 3), Err(Errno::ENOSPC));
    // What is there may be found, and another guest's quota is another.
    assert_eq!(make(1, 2), Ok(second));
    make(0, 3).unwrap();
    assert!(make(1, 3).is_ok());
    // Removed is not destroyed: the other guest still has it.
    group.attach(0, first, 0).unwrap();
    group.remove(first).unwrap();
    assert_eq!(make(1, 4), Err(Errno::ENOSPC));
    group.detach(0, first, WindowKind::ReadWrite, 1).unwrap();
    assert!(make(1, 4).is_ok());
    assert_eq!(make(1, 5), Err(Errno::ENOSPC));
}

#[test]
fn a_guest_may_make_as_many_bytes_as_its_quota_says_until_they_are_destroyed() {
    let group = group_with(1, BrokerLimits::default(), quota(u64::MAX, 5 * 4096));
    let make = |size| group.broker.shmget(0, &ROOT, IPC_PRIVATE, size, 0o666);
    assert_eq!(make(5 * 4096 + 1), Err(Errno::ENOMEM));
    let large = make(3 * 4096 + 1).unwrap() as i32;
    // Counted in pages.
    assert_eq!(make(4097), Err(Errno::ENOMEM));
    assert!(make(1).is_ok());
    assert_eq!(make(1), Err(Errno::ENOMEM));
    // Linux's own checks come first, and nothing makes the sum overflow.
    assert_eq!(make(0), Err(Errno::EINVAL));
    assert_eq!(
        group
            .broker
            .shmget(0, &ROOT, IPC_PRIVATE, i64::MAX as u64, SHM_NORESERVE),
        Err(Errno::ENOMEM)
    );
    group.remove(large).unwrap();
    assert!(make(4 * 4096).is_ok());
}

#[test]
fn what_linux_refuses_counts_for_no_quota() {
    let mut limits = BrokerLimits::default();
    limits.shm.mni = 1;
    let group = group_with(2, limits, quota(2, 8192));
    let first = group.make(0, 1, 4096);
    for _ in 0..3 {
        assert_eq!(
            group.broker.shmget(1, &ROOT, 2, 8192, IPC_CREAT),
            Err(Errno::ENOSPC)
        );
    }
    group.remove(first).unwrap();
    assert!(group.broker.shmget(1, &ROOT, 2, 8192, IPC_CREAT).is_ok());
}

#[test]
fn locking_heeds_the_callers_own_limit() {
    let group = group(1);
    let caller = |limit: Option<u64>| Caller {
        memlock: limit.map(|limit| LockAccount { limit, user: 1000 }),
        ..user(1000, 1000, &[])
    };
    let id = group
        .broker
        .shmget(0, &caller(None), IPC_PRIVATE, 8192, 0o600)
        .unwrap() as i32;
    let lock = |memlock| {
        group
            .broker
            .shmctl(0, &caller(memlock), id, SHM_LOCK, &mut [0; 256])
    };
    assert_eq!(lock(Some(0)), Err(Errno::EPERM));
    assert_eq!(lock(Some(8191)), Err(Errno::ENOMEM));
    assert_eq!(lock(None), Ok(0));
}

#[test]
fn a_limit_written_by_one_guest_holds_for_all_at_once() {
    let group = group(2);
    let read = |file, offset| group.broker.proc_read(1, file, offset, 4096).unwrap();
    let mni = ProcFile::Setting(shm::Setting::Mni);
    assert_eq!(read(mni, 0), b"4096\n");
    assert_eq!(
        group.broker.proc_write(0, &ROOT, shm::Setting::Mni, b" 1\n"),
        Ok(3)
    );
    assert_eq!(
        group
            .broker
            .proc_write(0, &user(1, 0, &[]), shm::Setting::Mni, b"5"),
        Err(Errno::EPERM)
    );
    assert_eq!(
        group.broker.proc_write(0, &ROOT, shm::Setting::Mni, b"-1"),
        Err(Errno::EINVAL)
    );
    // A limit is read from its start or not at all.
    assert_eq!((read(mni, 0), read(mni, 1)), (b"1\n".to_vec(), vec![]));
    assert_eq!(group.broker.proc_read(1, mni, 0, 1), Ok(b"1".to_vec()));
    group.make(1, 1, 4096);
    assert_eq!(group.broker.shmget(1, &ROOT, 2, 1, IPC_CREAT), Err(Errno::ENOSPC));
    assert_eq!(group.broker.proc_read(7, mni, 0, 9), Err(Errno::EINVAL));
}

#[test]
fn the_table_is_given_in_whole_lines_from_any_place_on() {
    let group = group(1);
    let read = |from: u64, len: u64| {
        let text = group.broker.proc_read(0, ProcFile::Table, from, len).unwrap();
        assert!(text.len() as u64 <= len.min(PAGE_SIZE));
        String::from_utf8(text).unwrap()
    };
    assert_eq!(read(0, 4096), shm::TABLE_HEADER);
    for key in 1..=50 {
        let id = group.make(0, key, u64::from(key as u32) * 1000);
        let attached = group.attach(0, id, 0).unwrap();
        group.vms[0].write(attached.gpa, 1);
    }
    group.remove(7).unwrap();
    let first = read(0, u64::MAX);
    assert!(first.starts_with(shm::TABLE_HEADER) && first.ends_with('\n'));
    let lines: Vec<_> = first.lines().collect();
    assert_eq!(lines.len(), 4096 / (lines[0].len() + 1));
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let words: Vec<_> = lines[8].split_whitespace().collect();
    assert_eq!(words[..4], ["0", "7", "1666", "8000"]);
    assert_eq!(words[14..], ["4096", "0"]);
    // Line 9 is that of segment 8, whatever comes before it.
    let line_len = lines[0].len() as u64 + 1;
    assert_eq!(read(9, line_len), format!("{}\n", lines[9]));
    assert_eq!(read(9, 2 * line_len - 1), format!("{}\n", lines[9]));
    assert_eq!(read(9, line_len - 1), "");
    assert_eq!(read(50, 4096).lines().count(), 1);
    for from in [51, 1 << 40, u64::MAX] {
        assert_eq!(read(from, 4096), "");
    }
}
