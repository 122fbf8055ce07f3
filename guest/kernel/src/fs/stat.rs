//! What stat(2) and its kin tell of a file, and the structures they tell it in.

use super::inode::{Inode, Kind, Times};
use super::proc::Seen;
use super::{FileId, Files};
use crate::mm::Memory;
use abi::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const NS_PER_S: u64 = 1_000_000_000;

/// What there is to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// The file system's number: only its minor part, the major one is 0.
    pub device: u32,
    /// The inode's number there.
    pub number: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a device: its major and minor number.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// How many bytes are best moved at once.
    pub block_size: u32,
    /// 512-byte units it takes.
    pub blocks: u64,
    /// When things happened.
    pub times: Times,
    /// Which of the times statx(2) tells.
    pub told: ToldTimes,
    /// Which mount it is in.
    pub mount: u64,
}

/// Which times statx(2) tells beside the last access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToldTimes {
    /// Those of changes.
    #[default]
    Changes,
    /// Those of changes, and when it was made if that is asked for.
    ChangesAndBirth,
    /// Those of changes if one of them is asked for (`fill_mg_cmtime` in Linux), and when it was made likewise.
    Asked,
}

/// Which minor numbers the file systems have: the tree's is the group's, the others follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The tree.
    Tree = 0,
    /// `/proc`.
    Proc = 1,
    /// Pipes.
    Pipes = 2,
    /// `/dev/shm`.
    Objects = 3,
    /// `/sys`.
    Sys = 4,
}

impl Device {
    /// Its number among the mounts; pipes are mounted nowhere in the tree.
    pub const fn mount(self) -> u64 {
        match self {
            Device::Tree => 1,
            Device::Proc => 2,
            Device::Sys => 3,
            Device::Objects => 4,
            Device::Pipes => 5,
        }
    }
}

impl Files {
    /// Of something in the tree.
    pub fn status(&self, memory: &Memory, file: FileId, tree: u64) -> Status {
        let inode = self.inodes.get(file);
        Status {
            number: if inode.object == 0 {
                inode.number
            } else {
                inode.object
            },
            links: inode.links.into(),
            uid: inode.uid,
            gid: inode.gid,
            mode: inode.kind.type_bits() | u32::from(inode.mode),
            rdev: match inode.kind {
                Kind::Device(device) => device.number(),
                _ => (0, 0),
            },
            size: self.size(memory, inode, file),
            blocks: memory.contents.frames(file) * (PAGE_SIZE / 512),
            times: inode.times,
            told: match inode.kind {
                Kind::Device(_) => ToldTimes::ChangesAndBirth,
                _ => ToldTimes::Asked,
            },
            ..Status::new(self.device(file), tree)
        }
    }

    /// The file system it is in.
    pub fn device(&self, file: FileId) -> Device {
        if self.object(file).is_some() || self.is_shared(file) {
            Device::Objects
        } else {
            Device::Tree
        }
    }

    fn size(&self, memory: &Memory, inode: &Inode, file: FileId) -> u64 {
        match inode.kind {
            // As on a tmpfs: 20 bytes a name (`BOGO_DIRENT_SIZE`), `.` and `..` included.
            Kind::Directory => u64::from(inode.directory.count + 2) * 20,
            _ => memory.contents.size(file),
        }
    }

    /// Of a pipe.
    pub fn pipe_status(&self, pipe: u16, tree: u64) -> Status {
        let pipe = self.pipes.get(pipe);
        Status {
            number: pipe.number,
            links: 1,
            uid: pipe.uid,
            gid: pipe.gid,
            mode: 0o010_600,
            times: Times::all(pipe.born),
            ..Status::new(Device::Pipes, tree)
        }
    }
}

impl Status {
    /// Of what is open without being a file of any kind.
    pub fn anonymous(tree: u64) -> Status {
        Status {
            number: 1,
            links: 1,
            mode: 0o600,
            ..Status::new(Device::Pipes, tree)
        }
    }

    fn new(device: Device, tree: u64) -> Status {
        Status {
            device: tree as u32 + device as u32,
            block_size: PAGE_SIZE as u32,
            mount: device.mount(),
            ..Status::default()
        }
    }

    /// Of something in `/proc` or `/sys`; `now` is the time of all that is there.
    pub fn of_proc(node: super::proc::Node, seen: Seen<'_>, tree: u64, now: u64) -> Status {
        let (uid, gid) = node.owner(seen);
        let (device, size) = match (node.is_in_sysfs(), node.is_directory()) {
            (false, _) => (Device::Proc, 0),
            (true, is_directory) => (Device::Sys, if is_directory { 0 } else { PAGE_SIZE }),
        };
        Status {
            number: node.number(),
            links: node.links(seen),
            size,
            uid,
            gid,
            mode: node.type_bits() | u32::from(node.mode()),
            block_size: if size == 0 { 1024 } else { PAGE_SIZE as u32 },
            times: Times::all(now),
            ..Status::new(device, tree)
        }
    }
}

/// `struct stat` of x86-64 (asm/stat.h).
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    blksize: i64,
    blocks: i64,
    times: [u64; 6],
    unused: [i64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144);

/// Seconds and nanoseconds.
pub const fn parts(ns: u64) -> [u64; 2] {
    [ns / NS_PER_S, ns % NS_PER_S]
}

impl Stat {
    /// The structure for `status`.
    pub fn new(status: &Status) -> Stat {
        let Times {
            accessed,
            modified,
            changed,
            ..
        } = status.times;
        let [a, b] = parts(accessed);
        let [c, d] = parts(modified);
        let [e, f] = parts(changed);
        Stat {
            dev: status.device.into(),
            ino: status.number,
            nlink: status.links,
            mode: status.mode,
            uid: status.uid,
            gid: status.gid,
            rdev: u64::from(status.rdev.0 << 8 | status.rdev.1),
            size: status.size as i64,
            blksize: status.block_size.into(),
            blocks: status.blocks as i64,
            times: [a, b, c, d, e, f],
            ..Stat::default()
        }
    }

    /// What the host has said, as far as statx(2) tells it.
    pub fn status(&self) -> Status {
        let [a, b, c, d, e, f] = self.times;
        let ns = |seconds: u64, ns: u64| seconds.wrapping_mul(NS_PER_S).wrapping_add(ns);
        Status {
            device: self.dev as u32,
            number: self.ino,
            mode: self.mode,
            links: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: (self.rdev as u32 >> 8, self.rdev as u32 & 0xff),
            size: self.size as u64,
            block_size: self.blksize as u32,
            blocks: self.blocks as u64,
            times: Times {
                accessed: ns(a, b),
                modified: ns(c, d),
                changed: ns(e, f),
                born: ns(e, f),
            },
            told: ToldTimes::Changes,
            mount: Device::Pipes.mount(),
        }
    }
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Timestamp {
    seconds: i64,
    ns: u32,
    pad: i32,
}

impl Timestamp {
    const fn new(ns: u64) -> Timestamp {
        let [seconds, ns] = parts(ns);
        Timestamp {
            seconds: seconds as i64,
            ns: ns as u32,
            pad: 0,
        }
    }
}

/// `struct statx` (linux/stat.h).
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: Timestamp,
    btime: Timestamp,
    ctime: Timestamp,
    mtime: Timestamp,
    rdev: [u32; 2],
    dev: [u32; 2],
    mount: u64,
    rest: [u64; 13],
}

const _: () = assert!(size_of::<Statx>() == 256);

/// STATX_BASIC_STATS.
const BASIC: u32 = 0x7ff;
/// STATX_MTIME and STATX_CTIME.
const CHANGES: u32 = 0xc0;
/// STATX_BTIME.
const BIRTH: u32 = 0x800;
/// STATX_MNT_ID.
const MOUNT: u32 = 0x1000;
/// STATX_MNT_ID_UNIQUE: in place of that. No number is given twice here anyway.
const UNIQUE_MOUNT: u32 = 0x4000;

impl Statx {
    /// The structure for `status`, of which `asked` is asked for.
    pub fn new(status: &Status, asked: u32) -> Statx {
        let mut mask = BASIC;
        if status.told == ToldTimes::Asked && asked & CHANGES == 0 {
            mask &= !CHANGES;
        }
        if status.told != ToldTimes::Changes {
            mask |= asked & BIRTH;
        }
        mask |= if asked & UNIQUE_MOUNT != 0 {
            UNIQUE_MOUNT
        } else {
            MOUNT
        };
        let time = |bit, time| Timestamp::new(if mask & bit != 0 { time } else { 0 });
        Statx {
            mask,
            blksize: status.block_size,
            nlink: status.links as u32,
            uid: status.uid,
            gid: status.gid,
            mode: status.mode as u16,
            ino: status.number,
            size: status.size,
            blocks: status.blocks,
            atime: Timestamp::new(status.times.accessed),
            btime: time(BIRTH, status.times.born),
            ctime: time(CHANGES, status.times.changed),
            mtime: time(CHANGES, status.times.modified),
            rdev: [status.rdev.0, status.rdev.1],
            dev: [status.device >> 8, status.device & 0xff],
            mount: status.mount,
            ..Statx::default()
        }
    }
}
