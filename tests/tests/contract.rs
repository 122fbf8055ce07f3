//! The contract crate's numbers and structures are Linux's.

use abi::errno;
use abi::ipc::{self, IpcPerm, ShmInfo, ShmInfo64, ShmidDs};
use std::mem::{offset_of, size_of};

#[test]
fn error_numbers_are_libcs() {
    macro_rules! numbers {
        ($($name:ident)*) => { [$((stringify!($name), libc::$name)),*] };
    }
    let libcs = numbers!(
        EPERM ENOENT ESRCH EINTR EIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENOTDIR
        EISDIR EINVAL ENFILE EMFILE ENOTTY ENOSPC ESPIPE EPIPE ERANGE EDEADLK ENAMETOOLONG ENOSYS ELOOP EIDRM
        EOVERFLOW EOPNOTSUPP ETIMEDOUT ENXIO ENODEV EROFS EFBIG EDOM ENOTEMPTY ENOMSG EOWNERDEAD ENOTRECOVERABLE
        EXDEV ETXTBSY EMLINK ENOTBLK ENOTSUP ECANCELED ENOLCK
    );
    for &(name, number) in errno::ALL {
        let known = libcs.iter().find(|(libcs_name, _)| *libcs_name == name);
        let (_, expected) = known.unwrap_or_else(|| panic!("{name} is not in this test's list"));
        assert_eq!(number, *expected, "{name}");
    }
}

#[test]
fn ipc_constants_are_libcs() {
    assert_eq!(ipc::IPC_PRIVATE, libc::IPC_PRIVATE);
    assert_eq!(ipc::IPC_CREAT, libc::IPC_CREAT as u32);
    assert_eq!(ipc::IPC_EXCL, libc::IPC_EXCL as u32);
    assert_eq!(ipc::IPC_RMID, libc::IPC_RMID);
    assert_eq!(ipc::IPC_SET, libc::IPC_SET);
    assert_eq!(ipc::IPC_STAT, libc::IPC_STAT);
    assert_eq!(ipc::IPC_INFO, libc::IPC_INFO);
    assert_eq!(ipc::SHM_RDONLY, libc::SHM_RDONLY as u32);
    assert_eq!(ipc::SHM_RND, libc::SHM_RND as u32);
    assert_eq!(ipc::SHM_REMAP, libc::SHM_REMAP as u32);
    assert_eq!(ipc::SHM_EXEC, libc::SHM_EXEC as u32);
    assert_eq!(ipc::SHM_HUGETLB, libc::SHM_HUGETLB as u32);
    assert_eq!(ipc::SHM_NORESERVE, libc::SHM_NORESERVE as u32);
    assert_eq!(ipc::SHM_LOCK, libc::SHM_LOCK);
    assert_eq!(ipc::SHM_UNLOCK, libc::SHM_UNLOCK);
    assert_eq!(ipc::SHM_HUGE_SHIFT, libc::MAP_HUGE_SHIFT as u32);
}

#[test]
fn shmid_ds_lies_as_the_system_call_has_it() {
    assert_eq!(size_of::<ShmidDs>(), size_of::<libc::shmid_ds>());
    assert_eq!(offset_of!(ShmidDs, perm), offset_of!(libc::shmid_ds, shm_perm));
    assert_eq!(offset_of!(ShmidDs, segsz), offset_of!(libc::shmid_ds, shm_segsz));
    assert_eq!(offset_of!(ShmidDs, atime), offset_of!(libc::shmid_ds, shm_atime));
    assert_eq!(offset_of!(ShmidDs, dtime), offset_of!(libc::shmid_ds, shm_dtime));
    assert_eq!(offset_of!(ShmidDs, ctime), offset_of!(libc::shmid_ds, shm_ctime));
    assert_eq!(offset_of!(ShmidDs, cpid), offset_of!(libc::shmid_ds, shm_cpid));
    assert_eq!(offset_of!(ShmidDs, lpid), offset_of!(libc::shmid_ds, shm_lpid));
    assert_eq!(
        offset_of!(ShmidDs, nattch),
        offset_of!(libc::shmid_ds, shm_nattch)
    );
}

#[test]
fn ipc_perm_lies_as_the_system_call_has_it() {
    assert_eq!(size_of::<IpcPerm>(), size_of::<libc::ipc_perm>());
    assert_eq!(offset_of!(IpcPerm, key), offset_of!(libc::ipc_perm, __key));
    assert_eq!(offset_of!(IpcPerm, uid), offset_of!(libc::ipc_perm, uid));
    assert_eq!(offset_of!(IpcPerm, gid), offset_of!(libc::ipc_perm, gid));
    assert_eq!(offset_of!(IpcPerm, cuid), offset_of!(libc::ipc_perm, cuid));
    assert_eq!(offset_of!(IpcPerm, cgid), offset_of!(libc::ipc_perm, cgid));
    assert_eq!(offset_of!(IpcPerm, mode), offset_of!(libc::ipc_perm, mode));
    assert_eq!(offset_of!(IpcPerm, seq), offset_of!(libc::ipc_perm, __seq));
}

/// Sizes and offsets from the kernel's headers (`asm-generic/shmbuf.h`, `linux/shm.h`): libc has no such structures.
#[test]
fn information_structures_lie_as_the_kernel_has_them() {
    assert_eq!(size_of::<ShmInfo64>(), 72);
    assert_eq!(offset_of!(ShmInfo64, shmall), 32);
    assert_eq!(size_of::<ShmInfo>(), 48);
    assert_eq!(offset_of!(ShmInfo, shm_tot), 8);
    assert_eq!(offset_of!(ShmInfo, swap_successes), 40);
}

#[test]
fn limits_are_those_of_this_linux_unless_it_was_told_otherwise() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("/proc is mounted");
        text.trim().parse::<u64>().expect("a number")
    };
    // An administrator may have changed them; then there is nothing to compare with.
    if (read("shmmni"), read("shmall")) == (4096, ipc::SHMMAX) {
        assert_eq!(ipc::SHMMNI, 4096);
        assert_eq!(ipc::SHMMAX, read("shmmax"));
    }
}
