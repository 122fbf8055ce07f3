//! System V shared memory as Linux x86-64 programs see it: flags, commands, structures.
//!
//! Source: `linux/ipc.h`, `linux/shm.h`, `asm-generic/ipcbuf.h`, `asm-generic/shmbuf.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The key that always makes a new segment.
pub const IPC_PRIVATE: i32 = 0;
/// `shmget`: make the segment if the key has none.
pub const IPC_CREAT: u32 = 0o1000;
/// `shmget`, with [`IPC_CREAT`]: fail if the key has a segment.
pub const IPC_EXCL: u32 = 0o2000;
/// `shmget`: use huge pages.
pub const SHM_HUGETLB: u32 = 0o4000;
/// `shmget`: don't account for the memory.
pub const SHM_NORESERVE: u32 = 0o10000;
/// `shmget`, with [`SHM_HUGETLB`]: where the logarithm of the page size starts.
pub const SHM_HUGE_SHIFT: u32 = 26;

/// `shmat`: attach for reading only.
pub const SHM_RDONLY: u32 = 0o10000;
/// `shmat`: round the address down to [`SHMLBA`].
pub const SHM_RND: u32 = 0o20000;
/// `shmat`: replace what is mapped there.
pub const SHM_REMAP: u32 = 0o40000;
/// `shmat`: allow execution.
pub const SHM_EXEC: u32 = 0o100000;
/// Attach addresses are multiples of this (x86).
pub const SHMLBA: u64 = 4096;

/// Mode bit: destroyed at the last detach.
pub const SHM_DEST: u32 = 0o1000;
/// Mode bit: locked in memory.
pub const SHM_LOCKED: u32 = 0o2000;

/// `shmctl`: remove.
pub const IPC_RMID: i32 = 0;
/// `shmctl`: set owner and mode.
pub const IPC_SET: i32 = 1;
/// `shmctl`: read the state.
pub const IPC_STAT: i32 = 2;
/// `shmctl`: read the limits.
pub const IPC_INFO: i32 = 3;
/// `shmctl`: lock in memory.
pub const SHM_LOCK: i32 = 11;
/// `shmctl`: undo [`SHM_LOCK`].
pub const SHM_UNLOCK: i32 = 12;
/// `shmctl`: read the state by index.
pub const SHM_STAT: i32 = 13;
/// `shmctl`: read the totals.
pub const SHM_INFO: i32 = 14;
/// `shmctl`: read the state by index, whoever asks.
pub const SHM_STAT_ANY: i32 = 15;

/// Default limit of segments in a group.
pub const SHMMNI: u64 = 4096;
/// Default limit of a segment's size in bytes, and of all segments' pages: `ULONG_MAX - (1 << 24)`.
pub const SHMMAX: u64 = u64::MAX - (1 << 24);
/// Smallest size of a segment.
pub const SHMMIN: u64 = 1;

/// `struct ipc64_perm`: who may use an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcPerm {
    /// The key, 0 once removed.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator.
    pub cuid: u32,
    /// Creator's group.
    pub cgid: u32,
    /// The nine permission bits, [`SHM_DEST`] and [`SHM_LOCKED`].
    pub mode: u32,
    /// Sequence number of the identifier.
    pub seq: u16,
    #[doc(hidden)]
    pub pad: [u16; 3],
    #[doc(hidden)]
    pub unused: [u64; 2],
}

/// `struct shmid64_ds`, what `IPC_STAT` fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShmidDs {
    /// Ownership and mode.
    pub perm: IpcPerm,
    /// Size in bytes, as asked for.
    pub segsz: u64,
    /// Last attach, seconds since 1970, 0 if never.
    pub atime: i64,
    /// Last detach, seconds since 1970, 0 if never.
    pub dtime: i64,
    /// Creation or last `IPC_SET`, seconds since 1970.
    pub ctime: i64,
    /// Process that created it.
    pub cpid: i32,
    /// Process that attached or detached last.
    pub lpid: i32,
    /// Attaches now.
    pub nattch: u64,
    #[doc(hidden)]
    pub unused: [u64; 2],
}

/// `struct shminfo64`, what `IPC_INFO` fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShmInfo64 {
    /// Largest size of a segment, bytes.
    pub shmmax: u64,
    /// Smallest size of a segment, bytes.
    pub shmmin: u64,
    /// Most segments.
    pub shmmni: u64,
    /// Most attaches of a process (reported, not enforced).
    pub shmseg: u64,
    /// Most pages in all.
    pub shmall: u64,
    #[doc(hidden)]
    pub unused: [u64; 4],
}

/// `struct shm_info`, what `SHM_INFO` fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShmInfo {
    /// Segments, with those pending removal.
    pub used_ids: i32,
    #[doc(hidden)]
    pub pad: u32,
    /// Pages of all segments.
    pub shm_tot: u64,
    /// Pages of all segments that are in memory.
    pub shm_rss: u64,
    /// Pages of all segments that are swapped out.
    pub shm_swp: u64,
    #[doc(hidden)]
    pub swap_attempts: u64,
    #[doc(hidden)]
    pub swap_successes: u64,
}
