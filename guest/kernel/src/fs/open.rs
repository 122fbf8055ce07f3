//! Open files (open file descriptions): what descriptors share that came from each other by dup or fork. An offset,
//! the flags that fcntl can change, and what it is that is open.

use super::proc::kept::Kept;
use super::{FileId, proc};
#[cfg(target_os = "none")]
use crate::arch::lent::Reserve;
use abi::Errno;

/// Most open files of a guest.
pub const MOST_OPEN: usize = 4096;

/// Access mode: which of reading and writing (open(2)).
pub const O_ACCMODE: u32 = 3;
/// Only reading.
pub const O_RDONLY: u32 = 0;
/// Only writing.
pub const O_WRONLY: u32 = 1;
/// Both.
pub const O_RDWR: u32 = 2;
/// Make it if it isn't there.
pub const O_CREAT: u32 = 0o100;
/// It must not be there.
pub const O_EXCL: u32 = 0o200;
/// Make it empty.
pub const O_TRUNC: u32 = 0o1000;
/// Write at the end.
pub const O_APPEND: u32 = 0o2000;
/// Don't wait.
pub const O_NONBLOCK: u32 = 0o4000;
/// Without the page cache; taken, without effect.
pub const O_DIRECT: u32 = 0o40000;
/// What the libraries set for 64-bit offsets; the kernel always does on x86-64.
pub const O_LARGEFILE: u32 = 0o100_000;
/// It must be a directory.
pub const O_DIRECTORY: u32 = 0o200_000;
/// It must not be a symbolic link.
pub const O_NOFOLLOW: u32 = 0o400_000;
/// Reading leaves the access time alone.
pub const O_NOATIME: u32 = 0o1_000_000;
/// The descriptor goes when another program is run.
pub const O_CLOEXEC: u32 = 0o2_000_000;
/// Only the place in the tree is opened, not what is there.
pub const O_PATH: u32 = 0o10_000_000;
/// A file without a name (with O_DIRECTORY).
pub const O_TMPFILE: u32 = 0o20_000_000 | O_DIRECTORY;
/// What F_SETFL can change.
pub const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT;

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The command's stdin, stdout or stderr.
    Stdio(u8),
    /// Something in the tree.
    File(FileId),
    /// Something in `/proc`.
    Proc(proc::Node),
    /// A pipe's end for reading.
    Reader(u16),
    /// A pipe's end for writing.
    Writer(u16),
    /// A number that is written to and read (eventfd(2)): the open file's `offset`.
    Counter {
        /// It is read one by one.
        semaphore: bool,
    },
    /// A timer of this number (timerfd_create(2)).
    Timer(u16),
    /// Signals of whoever reads them (signalfd(2)): those in the set that the open file's `offset` is.
    Signals,
    /// What epoll(7) watches, by number.
    Epoll(u16),
}

impl What {
    /// What it is called that has no name at all.
    pub const fn anonymous(self) -> Option<&'static [u8]> {
        match self {
            What::Counter { .. } => Some(b"anon_inode:[eventfd]"),
            What::Timer(_) => Some(b"anon_inode:[timerfd]"),
            What::Signals => Some(b"anon_inode:[signalfd]"),
            What::Epoll(_) => Some(b"anon_inode:[eventpoll]"),
            _ => None,
        }
    }
}

/// An open file.
#[derive(Clone, Copy)]
pub struct OpenFile {
    /// What is open.
    pub what: What,
    /// Access mode and the flags of [`CHANGEABLE`], O_PATH, O_DIRECTORY, O_NOFOLLOW.
    pub flags: u32,
    /// Descriptors that mean it, and calls that use it while they wait; 0 in a free slot.
    pub users: u32,
    /// Where reading and writing go on; in a directory, after which name. In a free slot, the next one.
    pub offset: u64,
    /// Of something in `/proc`: what has been made of its text and not been read.
    pub kept: Kept,
    /// How often something to read has come, for those who want to know of each time (epoll's EPOLLET).
    pub arrived: u32,
    /// How often room to write has.
    pub freed: u32,
}

impl OpenFile {
    const FREE: OpenFile = OpenFile {
        arrived: 0,
        freed: 0,
        what: What::Stdio(0),
        flags: 0,
        users: 0,
        offset: 0,
        kept: Kept::NOTHING,
    };

    /// Whether those who would have to wait are told so instead.
    pub const fn is_non_blocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }

    /// Whether it may be read from.
    pub const fn can_read(&self) -> bool {
        self.flags & O_PATH == 0 && matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    /// Whether it may be written to.
    pub const fn can_write(&self) -> bool {
        self.flags & O_PATH == 0 && matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }
}

/// Numbers of the open files that are the command's stdin, stdout and stderr: all processes the VMM starts have
/// them as descriptors 0 to 2.
pub const STDIO: [u16; 3] = [0, 1, 2];

#[cfg(target_os = "none")]
static ROOM: Reserve<[OpenFile; MOST_OPEN]> = Reserve::new([OpenFile::FREE; MOST_OPEN]);

/// All open files.
pub struct OpenFiles {
    files: &'static mut [OpenFile],
    /// Slots given back, linked by `offset`; [`MOST_OPEN`] is none.
    free: u16,
    used: u16,
    live: u16,
}

impl OpenFiles {
    pub(super) const fn empty() -> OpenFiles {
        OpenFiles {
            files: &mut [],
            free: MOST_OPEN as u16,
            used: 0,
            live: 0,
        }
    }

    pub(super) fn init(&mut self) {
        #[cfg(target_os = "none")]
        let files = ROOM.take().expect("a kernel has one table of open files");
        #[cfg(not(target_os = "none"))]
        let files = Box::leak(vec![OpenFile::FREE; MOST_OPEN].into_boxed_slice());
        self.files = files;
        for number in STDIO {
            // As a terminal that a shell hands on: for reading and writing; pipes and files are so one way.
            self.files[usize::from(number)] = OpenFile {
                what: What::Stdio(number as u8),
                flags: if number == 0 { O_RDONLY } else { O_WRONLY },
                users: 0,
                ..OpenFile::FREE
            };
        }
        self.used = STDIO.len() as u16;
    }

    /// How many there are beside those of [`STDIO`].
    pub fn live(&self) -> u16 {
        self.live
    }

    /// Whether there can't be one more.
    pub fn is_full(&self) -> bool {
        usize::from(self.free) == MOST_OPEN && usize::from(self.used) == MOST_OPEN
    }

    /// The open file of this number.
    pub fn get(&self, number: u16) -> &OpenFile {
        &self.files[usize::from(number)]
    }

    /// The open file of this number, to change.
    pub fn get_mut(&mut self, number: u16) -> &mut OpenFile {
        &mut self.files[usize::from(number)]
    }

    /// A new open file, with one user.
    ///
    /// # Errors
    /// ENFILE.
    pub fn add(&mut self, what: What, flags: u32) -> Result<u16, Errno> {
        let number = if usize::from(self.free) != MOST_OPEN {
            self.free
        } else if usize::from(self.used) < MOST_OPEN {
            self.used += 1;
            self.used - 1
        } else {
            return Err(Errno::ENFILE);
        };
        let slot = &mut self.files[usize::from(number)];
        if number == self.free {
            self.free = slot.offset as u16;
        }
        *slot = OpenFile {
            what,
            flags,
            users: 1,
            ..OpenFile::FREE
        };
        self.live += 1;
        Ok(number)
    }

    /// One user more.
    pub fn hold(&mut self, number: u16) {
        self.get_mut(number).users += 1;
    }

    /// One user less. The open file, if it was the last one: the slot is free then.
    pub fn release(&mut self, number: u16) -> Option<OpenFile> {
        let free = self.free;
        let file = self.get_mut(number);
        file.users -= 1;
        if file.users > 0 || STDIO.contains(&number) {
            return None;
        }
        let gone = *file;
        file.offset = free.into();
        self.free = number;
        self.live -= 1;
        Some(gone)
    }
}
