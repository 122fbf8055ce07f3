//! SHM_HUGETLB, compared with the host's own Linux.

use super::*;
use abi::ipc::SHM_HUGETLB;

const MIB: u64 = 1 << 20;

/// What a shmget of the host's own says to `uid` in an IPC namespace of its own; what it makes is removed.
fn on_linux(uid: u32, gid: u32, size: u64, flags: u32) -> Result<(), Errno> {
    let call = move || {
        // SAFETY: the raw calls change the namespace and the ids of this thread only, which ends here.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWIPC), 0, "this test needs root");
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
            match libc::syscall(libc::SYS_shmget, 0, size, i64::from(flags)) {
                -1 => Err(*libc::__errno_location()),
                id => {
                    libc::syscall(libc::SYS_shmctl, id, 0, 0);
                    Ok(())
                }
            }
        }
    };
    let result = std::thread::spawn(call).join().unwrap();
    result.map_err(|errno| Errno::from_raw(errno).unwrap())
}

fn free_default_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.map_or(0, |number| number.trim().parse().unwrap())
}

#[test]
fn huge_pages_are_had_and_refused_as_on_this_linux() {
    let group = group(1);
    let page_shifts = (12..32)
        .chain([34, 63])
        .map(|shift| shift << abi::ipc::SHM_HUGE_SHIFT);
    for class in page_shifts.chain([0]) {
        for (uid, gid) in [(0, 0), (65534, 65534), (65534, 0)] {
            for size in [0, 1, 2 * MIB, 6 * MIB, 1 << 40, i64::MAX as u64, 1 << 63] {
                // Without a reservation Linux makes files of any size; here none that can't be.
                let reserve = if size <= 6 * MIB {
                    &[0, SHM_NORESERVE][..]
                } else {
                    &[0][..]
                };
                for flag in reserve {
                    let flags = SHM_HUGETLB | class | flag | 0o600;
                    let caller = Caller {
                        euid: uid,
                        egid: gid,
                        ..ROOT
                    };
                    let ours = group.broker.shmget(0, &caller, IPC_PRIVATE, size, flags);
                    if let Ok(id) = ours {
                        group.remove(id as i32).unwrap();
                    }
                    let what = format!("user {uid}, group {gid}, {size} bytes, flags {flags:#x}");
                    assert_eq!(ours.map(|_| ()), on_linux(uid, gid, size, flags), "{what}");
                }
            }
        }
    }
    assert_eq!(held_by_process(), (0, 0));
}

#[test]
fn a_segment_of_huge_pages_takes_them_whole() {
    let group = group_with(
        1,
        BrokerLimits::default(),
        GuestRights {
            quota: Quota {
                segments: 9,
                bytes: 2 * MIB,
            },
            ..GuestRights::default()
        },
    );
    let make = |size| {
        group
            .broker
            .shmget(0, &ROOT, IPC_PRIVATE, size, SHM_HUGETLB | 21 << 26 | 0o600)
    };
    // Of the quota, too: refused before there is a look at the pool.
    assert_eq!(make(2 * MIB + 1), Err(Errno::ENOMEM));
    if free_default_pages() < 1 {
        // The pool is empty on most hosts, and then this is all there is to see.
        assert_eq!(make(1), Err(Errno::ENOMEM));
        let id = group
            .broker
            .shmget(0, &ROOT, IPC_PRIVATE, 1, SHM_HUGETLB | SHM_NORESERVE | 0o600);
        let id = id.unwrap() as i32;
        assert_eq!(group.attach(0, id, 0), Err(Errno::ENOMEM));
        assert_eq!(group.stat(id).unwrap().nattch, 0);
        return;
    }
    let id = make(5000).unwrap() as i32;
    let attach = |bytes| {
        let errno = Errno::EINVAL;
        group.broker.attach(0, &ROOT, id, 0, &[Room { bytes, errno }])
    };
    assert_eq!(attach(2 * MIB - 1), Err(Errno::EINVAL));
    let attached = attach(2 * MIB).unwrap();
    assert_eq!((attached.size, attached.gpa % (2 * MIB)), (2 * MIB, 0));
    group.vms[0].write(attached.gpa + 2 * MIB - 1, 5);
    assert_eq!(group.vms[0].read(attached.gpa + 2 * MIB - 1), 5);
    group
        .broker
        .shmctl(0, &ROOT, id, SHM_LOCK, &mut [0; 256])
        .unwrap();
    let status = group.stat(id).unwrap();
    assert_eq!((status.segsz, status.perm.mode), (5000, 0o600));
    group.remove(id).unwrap();
    group.detach(0, id, WindowKind::ReadWrite, 1).unwrap();
    assert_eq!(held_by_process(), (0, 0));
}
