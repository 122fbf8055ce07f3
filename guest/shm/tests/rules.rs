//! Each rule of System V shared memory by itself. What no oracle on the host can show (limits of zero, times that
//! must not change) is here; sequences are compared with Linux in `linux.rs`.

use abi::Errno;
use abi::ipc::{
    IPC_CREAT, IPC_EXCL, IPC_INFO, IPC_PRIVATE, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, SHM_DEST, SHM_EXEC,
    SHM_HUGETLB, SHM_INFO, SHM_LOCK, SHM_LOCKED, SHM_NORESERVE, SHM_RDONLY, SHM_STAT, SHM_STAT_ANY,
    SHM_UNLOCK, SHMMAX, SHMMNI,
};
use shm::{Command, Credentials, Found, Got, Limits, LockAccount, NewSegment, Registry, Setting, index_of};

const ROOT: Credentials<'static> = Credentials {
    pid: 10,
    task: 10,
    uid: 0,
    gid: 0,
    groups: &[],
};
const OWNER: Credentials<'static> = Credentials {
    pid: 11,
    task: 11,
    uid: 1000,
    gid: 100,
    groups: &[],
};
const FELLOW: Credentials<'static> = Credentials {
    pid: 12,
    task: 12,
    uid: 1001,
    gid: 1,
    groups: &[7, 100],
};
const STRANGER: Credentials<'static> = Credentials {
    pid: 13,
    task: 13,
    uid: 1002,
    gid: 2,
    groups: &[],
};

type Table = Registry<&'static str>;

fn table() -> Table {
    Registry::new(Limits::default())
}

fn get_at(
    table: &mut Table,
    who: &Credentials<'_>,
    key: i32,
    size: u64,
    flags: u32,
    now: i64,
) -> Result<Got, Errno> {
    table.get(who, key, size, flags, now, |_| Ok("memory"))
}

fn get(table: &mut Table, who: &Credentials<'_>, key: i32, size: u64, flags: u32) -> Result<Got, Errno> {
    get_at(table, who, key, size, flags, 50)
}

fn make(table: &mut Table, who: &Credentials<'_>, key: i32, size: u64, mode: u32) -> i32 {
    match get(table, who, key, size, IPC_CREAT | IPC_EXCL | mode) {
        Ok(Got::Created(id)) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_segment_is_as_shmget_2_says() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 5000, 0o640);
    let segment = table.segment(id).unwrap();
    assert_eq!(
        (segment.key, segment.size, segment.pages(), segment.mode),
        (5, 5000, 2, 0o640)
    );
    assert_eq!(
        (segment.uid, segment.cuid, segment.gid, segment.cgid),
        (1000, 1000, 100, 100)
    );
    assert_eq!((segment.nattch, segment.cpid, segment.lpid), (0, 11, 0));
    assert_eq!((segment.atime, segment.dtime, segment.ctime), (0, 0, 50));
    assert_eq!(id, 0);
}

#[test]
fn ipc_private_always_makes_a_new_segment() {
    let mut table = table();
    for (want, flags) in [(0, 0), (1, IPC_EXCL), (2, IPC_CREAT | IPC_EXCL), (3, IPC_CREAT)] {
        assert_eq!(
            get(&mut table, &OWNER, IPC_PRIVATE, 1, flags),
            Ok(Got::Created(want))
        );
    }
}

#[test]
fn an_absent_key_is_enoent_without_ipc_creat_even_with_a_bad_size() {
    let mut table = table();
    for (size, flags) in [(1, 0), (0, 0), (1, IPC_EXCL)] {
        assert_eq!(get(&mut table, &OWNER, 5, size, flags), Err(Errno::ENOENT));
    }
}

#[test]
fn a_present_key_is_checked_for_exclusion_then_size_then_permission() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 5000, 0o600);
    let found = Ok(Got::Existing(id));
    assert_eq!(
        get(&mut table, &STRANGER, 5, 9000, IPC_CREAT | IPC_EXCL | 0o666),
        Err(Errno::EEXIST)
    );
    assert_eq!(get(&mut table, &STRANGER, 5, 5001, 0o666), Err(Errno::EINVAL));
    assert_eq!(
        get(&mut table, &STRANGER, 5, 5001, IPC_CREAT | 0o666),
        Err(Errno::EINVAL)
    );
    assert_eq!(get(&mut table, &STRANGER, 5, 5000, 0o666), Err(Errno::EACCES));
    assert_eq!(get(&mut table, &STRANGER, 5, 5000, 0o400), Err(Errno::EACCES));
    // Asks for nothing, gets it.
    assert_eq!(get(&mut table, &STRANGER, 5, 5000, 0), found);
    assert_eq!(get(&mut table, &OWNER, 5, 0, IPC_EXCL | 0o600), found);
    assert_eq!(get(&mut table, &OWNER, 5, 1, IPC_CREAT | 0o222), found);
    assert_eq!(get(&mut table, &OWNER, 5, 1, 0o100), Err(Errno::EACCES));
    assert_eq!(get(&mut table, &ROOT, 5, 1, 0o777), found);
}

#[test]
fn sizes_are_checked_before_pages_before_memory_before_the_number_of_segments() {
    let limits = Limits {
        mni: 1,
        max: SHMMAX,
        all: 10,
        memlock: 0,
    };
    let mut table: Table = Registry::new(limits);
    let with_memory =
        |table: &mut Table, size, memory| table.get(&OWNER, IPC_PRIVATE, size, 0, 1, |_: &NewSegment| memory);
    assert_eq!(with_memory(&mut table, 0, Ok("")), Err(Errno::EINVAL));
    assert_eq!(with_memory(&mut table, SHMMAX + 1, Ok("")), Err(Errno::EINVAL));
    assert_eq!(
        with_memory(&mut table, 10 * 4096 + 1, Err(Errno::ENOMEM)),
        Err(Errno::ENOSPC)
    );
    with_memory(&mut table, 4096, Ok("")).unwrap();
    assert_eq!(
        with_memory(&mut table, 9 * 4096 + 1, Err(Errno::ENOMEM)),
        Err(Errno::ENOSPC)
    );
    assert_eq!(
        with_memory(&mut table, 4096, Err(Errno::ENOMEM)),
        Err(Errno::ENOMEM)
    );
    assert_eq!(with_memory(&mut table, 9 * 4096, Ok("")), Err(Errno::ENOSPC));
    // What was refused counts for nothing.
    assert_eq!(table.totals(|_| 0).1.shm_tot, 1);
    table.remove(&OWNER, 0).unwrap();
    with_memory(&mut table, 10 * 4096, Ok("")).unwrap();
}

#[test]
fn sizes_that_no_file_can_have_are_refused_even_without_a_limit() {
    let mut table: Table = Registry::new(Limits {
        max: u64::MAX,
        all: u64::MAX,
        ..Limits::default()
    });
    assert_eq!(
        get(&mut table, &ROOT, 0, u64::MAX, SHM_NORESERVE),
        Err(Errno::ENOSPC)
    );
    assert_eq!(
        get(&mut table, &ROOT, 0, 1 << 63, SHM_NORESERVE),
        Err(Errno::EINVAL)
    );
    assert!(get(&mut table, &ROOT, 0, i64::MAX as u64, SHM_NORESERVE).is_ok());
}

#[test]
fn the_backing_is_told_what_it_must_provide() {
    let mut table = table();
    let mut seen = None;
    let flags = IPC_CREAT | SHM_NORESERVE | 1 << 30;
    table
        .get(&ROOT, 5, 4097, flags, 1, |new| {
            seen = Some(*new);
            Ok("memory")
        })
        .unwrap();
    assert_eq!(
        seen,
        Some(NewSegment {
            key: 5,
            size: 4097,
            pages: 2,
            no_reserve: true,
            huge_page_shift: None,
        })
    );
    let mut huge = |size, flags| {
        let mut asked = None;
        let result = table.get(&ROOT, IPC_PRIVATE, size, SHM_HUGETLB | flags, 1, |new| {
            asked = new.huge_page_shift;
            Err(Errno::EPERM)
        });
        (result, asked)
    };
    assert_eq!(huge(1, 0), (Err(Errno::EPERM), Some(0)));
    assert_eq!(huge(1 << 63, 63 << 26), (Err(Errno::EPERM), Some(63)));
    assert_eq!(huge(0, 0), (Err(Errno::EINVAL), None));
}

#[test]
fn locking_a_segment_of_huge_pages_is_checked_but_neither_marked_nor_counted() {
    let mut table: Table = Registry::new(Limits {
        memlock: 4096,
        ..Limits::default()
    });
    let id = make(&mut table, &OWNER, 5, 1 << 20, SHM_HUGETLB | 0o600);
    assert_eq!(table.lock(&STRANGER, id, None), Err(Errno::EPERM));
    assert_eq!(
        table.lock(
            &OWNER,
            id,
            Some(LockAccount {
                limit: 0,
                user: OWNER.uid
            })
        ),
        Err(Errno::EPERM)
    );
    assert_eq!(table.lock(&OWNER, id, None), Ok(()));
    assert_eq!(table.segment(id).unwrap().mode, 0o600);
    assert_eq!(table.unlock(&OWNER, id), Ok(()));
}

#[test]
fn limits_can_be_changed_while_there_are_segments() {
    let mut table = table();
    make(&mut table, &OWNER, 1, 9000, 0o600);
    *table.limits_mut() = Limits {
        mni: 1,
        max: 5000,
        all: 4,
        memlock: 0,
    };
    let create = |table: &mut Table, size| get(table, &OWNER, IPC_PRIVATE, size, 0);
    assert_eq!(create(&mut table, 5001), Err(Errno::EINVAL));
    assert_eq!(create(&mut table, 4097), Err(Errno::ENOSPC));
    assert_eq!(create(&mut table, 1), Err(Errno::ENOSPC));
    assert_eq!(get(&mut table, &OWNER, 1, 9000, 0), Ok(Got::Existing(0)));
    table.limits_mut().mni = 2;
    assert_eq!(create(&mut table, 1), Ok(Got::Created(1)));
    assert_eq!(table.limits_info().1.shmmni, 2);
}

#[test]
fn forced_removal_takes_what_nobody_has_attached_once_its_maker_has_ended() {
    let mut table = table();
    let destroyed = |gone: Vec<shm::Segment<&str>>| gone.iter().map(|segment| segment.id).collect::<Vec<_>>();
    let [orphan, held, young] = [&FELLOW, &FELLOW, &OWNER].map(|who| make(&mut table, who, 0, 1, 0o600));
    table.attach(held, 5, 1, 1).unwrap();
    assert!(table.makers_ended(|task| task == FELLOW.task).is_empty());
    let mut force = |on: &[u8]| table.set_setting(Setting::RmidForced, on).unwrap();
    assert_eq!(destroyed(force(b"1").destroyed), [orphan]);
    assert_eq!(
        (force(b"1\n").used, destroyed(force(b"1").destroyed)),
        (2, vec![])
    );
    // The last detach takes it, although nobody has removed it; a new one is spared as long as its maker lives.
    assert_eq!(table.detach(held, 5, 1, 2).unwrap().unwrap().id, held);
    assert_eq!(destroyed(table.makers_ended(|task| task == FELLOW.task)), []);
    assert_eq!(destroyed(table.makers_ended(|task| task == OWNER.task)), [young]);
    // What could not be mapped was held for a moment.
    let id = make(&mut table, &OWNER, 0, 1, 0o600);
    table.hold(id).unwrap();
    assert_eq!(table.release(id).unwrap().id, id);
    assert_eq!(table.iter().count(), 0);
}

#[test]
fn ids_that_name_nothing_are_einval() {
    let mut table = table();
    let id = make(&mut table, &ROOT, 5, 1, 0o600);
    for wrong in [-1, i32::MIN, id + 1, id + (1 << 15), i32::MAX] {
        assert_eq!(table.segment(wrong).err(), Some(Errno::EINVAL));
    }
    table.remove(&ROOT, id).unwrap();
    assert_eq!(table.segment(id).err(), Some(Errno::EINVAL));
}

#[test]
fn attaching_needs_the_permissions_its_flags_name() {
    let mut table = table();
    let mut may = |mode, who: &Credentials<'_>, flags| {
        let id = make(&mut table, &OWNER, IPC_PRIVATE, 1, mode);
        table.may_attach(who, id, flags).map(|_| ())
    };
    assert_eq!(may(0o600, &OWNER, 0), Ok(()));
    assert_eq!(may(0o400, &OWNER, 0), Err(Errno::EACCES));
    assert_eq!(may(0o400, &OWNER, SHM_RDONLY), Ok(()));
    assert_eq!(may(0o200, &OWNER, SHM_RDONLY), Err(Errno::EACCES));
    assert_eq!(may(0o066, &OWNER, SHM_RDONLY), Err(Errno::EACCES));
    assert_eq!(may(0o060, &FELLOW, 0), Ok(()));
    assert_eq!(may(0o606, &FELLOW, SHM_RDONLY), Err(Errno::EACCES));
    assert_eq!(may(0o606, &STRANGER, 0), Ok(()));
    assert_eq!(may(0o666, &STRANGER, SHM_EXEC), Err(Errno::EACCES));
    assert_eq!(may(0o667, &STRANGER, SHM_EXEC), Ok(()));
    assert_eq!(may(0o000, &ROOT, SHM_EXEC), Ok(()));
}

#[test]
fn attaching_and_detaching_are_counted_and_dated_and_change_nothing_else() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 1, 0o666);
    table.attach(id, 21, 1, 60).unwrap();
    table.attach(id, 22, 2, 61).unwrap();
    let segment = table.segment(id).unwrap();
    assert_eq!((segment.nattch, segment.lpid, segment.cpid), (3, 22, 11));
    assert_eq!((segment.atime, segment.dtime, segment.ctime), (61, 0, 50));
    table.detach(id, 23, 2, 70).unwrap();
    let segment = table.segment(id).unwrap();
    assert_eq!((segment.nattch, segment.lpid), (1, 23));
    assert_eq!((segment.atime, segment.dtime, segment.ctime), (61, 70, 50));
    // More than there are: refused, nothing changes.
    assert_eq!(table.detach(id, 24, 2, 80).err(), Some(Errno::EINVAL));
    assert_eq!(table.attach(id, 24, u64::MAX, 80), Err(Errno::ENOMEM));
    let segment = table.segment(id).unwrap();
    assert_eq!(
        (segment.nattch, segment.lpid, segment.dtime, segment.atime),
        (1, 23, 70, 61)
    );
}

#[test]
fn a_hold_keeps_a_segment_and_leaves_no_trace() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 1, 0o666);
    table.hold(id).unwrap();
    assert!(table.remove(&OWNER, id).unwrap().is_none());
    let segment = table.segment(id).unwrap();
    assert_eq!((segment.lpid, segment.atime, segment.dtime), (0, 0, 0));
    assert_eq!(table.release(id).map(|segment| segment.backing), Some("memory"));
    assert!(table.segment(id).is_err());
}

#[test]
fn removal_without_attaches_destroys_at_once() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 5000, 0o666);
    let destroyed = table.remove(&OWNER, id).unwrap().unwrap();
    assert_eq!((destroyed.id, destroyed.backing), (id, "memory"));
    assert_eq!(get(&mut table, &OWNER, 5, 1, 0), Err(Errno::ENOENT));
    assert_eq!(table.remove(&OWNER, id).err(), Some(Errno::EINVAL));
    assert_eq!(table.totals(|_| 1).1, abi::ipc::ShmInfo::default());
}

#[test]
fn last_detach_destroys_a_removed_segment() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 1, 0o600);
    table.attach(id, 1, 2, 1).unwrap();
    assert!(table.remove(&OWNER, id).unwrap().is_none());
    let segment = table.segment(id).unwrap();
    assert_eq!(
        (segment.key, segment.mode, segment.ctime),
        (0, 0o600 | SHM_DEST, 50)
    );
    assert!(segment.is_removed());
    // The key is free, the id still works, also to attach and to remove again.
    let other = make(&mut table, &OWNER, 5, 1, 0o600);
    assert_ne!(other, id);
    assert!(table.may_attach(&OWNER, id, 0).is_ok());
    assert!(table.remove(&OWNER, id).unwrap().is_none());
    table
        .set(
            &OWNER,
            id,
            &IpcPerm {
                mode: 0o640,
                uid: 1000,
                ..IpcPerm::default()
            },
            90,
        )
        .unwrap();
    assert_eq!(table.segment(id).unwrap().mode, 0o640 | SHM_DEST);
    assert!(table.detach(id, 2, 1, 2).unwrap().is_none());
    assert_eq!(
        table.detach(id, 2, 1, 2).unwrap().map(|segment| segment.id),
        Some(id)
    );
    // Its end does not take the key's new segment along.
    assert_eq!(get(&mut table, &OWNER, 5, 1, 0), Ok(Got::Existing(other)));
}

#[test]
fn last_detach_of_a_segment_that_was_not_removed_keeps_it() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 1, 0o600);
    table.attach(id, 1, 1, 1).unwrap();
    assert!(table.detach(id, 1, 1, 1).unwrap().is_none());
    assert!(table.segment(id).is_ok());
}

#[test]
fn shmctl_checks_numbers_first_and_knows_nine_commands() {
    for command in [
        IPC_RMID,
        IPC_SET,
        IPC_STAT,
        IPC_INFO,
        SHM_LOCK,
        SHM_UNLOCK,
        SHM_STAT,
        SHM_INFO,
        SHM_STAT_ANY,
    ] {
        assert!(Command::check(0, command).is_ok());
        assert_eq!(Command::check(-1, command), Err(Errno::EINVAL));
        assert_eq!(Command::check(0, command | 0x100), Err(Errno::EINVAL));
    }
    for command in [-1, i32::MIN, 4, 10, 12 + 4, i32::MAX] {
        assert_eq!(Command::check(0, command), Err(Errno::EINVAL));
    }
}

#[test]
fn stat_needs_read_permission_but_stat_any_does_not_and_neither_changes_anything() {
    let mut table = table();
    make(&mut table, &ROOT, IPC_PRIVATE, 1, 0);
    let id = make(&mut table, &OWNER, 5, 5000, 0o240);
    assert_eq!(table.stat(&OWNER, id, Found::ById), Err(Errno::EACCES));
    assert_eq!(table.stat(&OWNER, id, Found::ByIndex), Err(Errno::EACCES));
    let (result, status) = table.stat(&FELLOW, id, Found::ById).unwrap();
    assert_eq!(result, 0);
    assert_eq!(
        (status.perm.key, status.perm.mode, status.perm.seq, status.segsz),
        (5, 0o240, 0, 5000)
    );
    // By index; the sequence number does not matter.
    let wrong_seq = id + (9 << 15);
    assert_eq!(
        table.stat(&STRANGER, wrong_seq, Found::ByIndexForAnyone),
        Ok((id as u64, status))
    );
    assert_eq!(table.stat(&ROOT, wrong_seq, Found::ById), Err(Errno::EINVAL));
    assert_eq!(
        table.stat(&ROOT, index_of(id) as i32 + 1, Found::ByIndex),
        Err(Errno::EINVAL)
    );
}

#[test]
fn set_changes_owner_group_and_permission_bits_only() {
    let mut table = table();
    let id = make(&mut table, &OWNER, 5, 5000, 0o600);
    table.lock(&OWNER, id, None).unwrap();
    let wanted = IpcPerm {
        key: 99,
        uid: 1002,
        gid: 3,
        cuid: 8,
        cgid: 9,
        mode: 0o7070,
        ..IpcPerm::default()
    };
    assert_eq!(table.set(&STRANGER, id, &wanted, 60), Err(Errno::EPERM));
    assert_eq!(table.set(&FELLOW, id + 1, &wanted, 60), Err(Errno::EINVAL));
    for (uid, gid) in [(u32::MAX, 3), (3, u32::MAX)] {
        assert_eq!(
            table.set(&OWNER, id, &IpcPerm { uid, gid, ..wanted }, 60),
            Err(Errno::EINVAL)
        );
    }
    table.set(&OWNER, id, &wanted, 60).unwrap();
    let segment = table.segment(id).unwrap();
    assert_eq!(
        (segment.key, segment.uid, segment.gid, segment.cuid, segment.cgid),
        (5, 1002, 3, 1000, 100)
    );
    assert_eq!((segment.mode, segment.ctime), (0o070 | SHM_LOCKED, 60));
    // Old and new owner both may go on.
    table.set(&STRANGER, id, &wanted, 61).unwrap();
    table.set(&OWNER, id, &wanted, 62).unwrap();
    table.set(&ROOT, id, &wanted, 63).unwrap();
    assert_eq!(table.remove(&FELLOW, id).err(), Some(Errno::EPERM));
    assert!(table.remove(&OWNER, id).unwrap().is_some());
}

#[test]
fn locking_marks_the_segment_and_is_limited_for_the_unprivileged() {
    let mut table: Table = Registry::new(Limits {
        memlock: 2 * 4096 + 4095,
        ..Limits::default()
    });
    let two = make(&mut table, &OWNER, 1, 8192, 0o666);
    let one = make(&mut table, &OWNER, 2, 1, 0o666);
    assert_eq!(table.lock(&STRANGER, two, None), Err(Errno::EPERM));
    assert_eq!(table.lock(&OWNER, two + 5, None), Err(Errno::EINVAL));
    table.lock(&OWNER, two, None).unwrap();
    table.lock(&OWNER, two, None).unwrap();
    assert_eq!(table.segment(two).unwrap().mode, 0o666 | SHM_LOCKED);
    assert_eq!(table.segment(two).unwrap().ctime, 50);
    assert_eq!(table.lock(&OWNER, one, None), Err(Errno::ENOMEM));
    table.lock(&ROOT, one, None).unwrap();
    assert_eq!(table.unlock(&STRANGER, two), Err(Errno::EPERM));
    table.unlock(&OWNER, one).unwrap();
    table.unlock(&OWNER, two).unwrap();
    table.unlock(&OWNER, two).unwrap();
    assert_eq!(table.segment(two).unwrap().mode, 0o666);
    table.lock(&OWNER, one, None).unwrap();
    // A destroyed segment no longer counts.
    table.remove(&OWNER, one).unwrap();
    table.lock(&OWNER, two, None).unwrap();
    let mut none: Table = Registry::new(Limits {
        memlock: 0,
        ..Limits::default()
    });
    let id = make(&mut none, &OWNER, 1, 1, 0o666);
    assert_eq!(none.lock(&OWNER, id, None), Err(Errno::EPERM));
    assert_eq!(none.unlock(&OWNER, id), Ok(()));
    assert_eq!(none.lock(&ROOT, id, None), Ok(()));
}

#[test]
fn info_commands_tell_limits_totals_and_the_highest_index() {
    let mut table = table();
    assert_eq!(table.limits_info().0, 0);
    let ids: Vec<i32> = (0..3)
        .map(|_| make(&mut table, &OWNER, IPC_PRIVATE, 4097, 0o600))
        .collect();
    table.attach(ids[2], 1, 1, 1).unwrap();
    table.remove(&OWNER, ids[2]).unwrap();
    let (highest, limits) = table.limits_info();
    assert_eq!(
        (highest, limits.shmmax, limits.shmmin, limits.shmall),
        (2, SHMMAX, 1, SHMMAX)
    );
    assert_eq!((limits.shmmni, limits.shmseg), (SHMMNI, SHMMNI));
    let (highest, totals) = table.totals(|_| 5);
    assert_eq!(
        (highest, totals.used_ids, totals.shm_tot, totals.shm_rss),
        (2, 3, 6, 15)
    );
    table.detach(ids[2], 1, 1, 1).unwrap();
    assert_eq!(table.limits_info().0, 1);
    assert_eq!(
        table.iter().map(|segment| segment.id).collect::<Vec<_>>(),
        ids[..2]
    );
}
