//! From a program's path to what it names.

use crate::fs::open::What;
use crate::fs::permission::Who;
use crate::fs::proc;
use crate::fs::walk::{AtEnd, Place, ROOMS, Room, Walker};
use crate::fs::{FileId, Node};
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use crate::process::files::node_of;
use crate::syscall::Call;
use abi::Errno;

/// Relative to the working directory.
pub const AT_FDCWD: i32 = -100;
/// A symbolic link at the end is not followed.
pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
/// A symbolic link at the end is followed, where it would not be.
pub const AT_SYMLINK_FOLLOW: u64 = 0x400;
/// Nothing is mounted by itself here.
pub const AT_NO_AUTOMOUNT: u64 = 0x800;
/// An empty path means the descriptor itself.
pub const AT_EMPTY_PATH: u64 = 0x1000;

/// By which ids permissions are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Those for files.
    Effective,
    /// The real ones.
    Real,
}

/// A path in a room of the kernel's own: its length, and where it starts if it is relative.
#[derive(Clone, Copy)]
pub struct Path {
    len: usize,
    start: Node,
}

impl Path {
    /// Whether it is `text`, which is absolute.
    pub fn is(&self, room: &mut Room, text: &[u8]) -> bool {
        self.len == text.len() && room.for_path()[..self.len] == *text
    }

    /// Whether there are no characters in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its characters.
    pub fn text<'r>(&self, room: &'r mut Room) -> &'r [u8] {
        &room.for_path()[..self.len]
    }

    /// Where it leads.
    ///
    /// # Errors
    /// As [`Walker::walk`].
    pub fn walk<'r>(
        &self,
        walker: &mut Walker<'_>,
        room: &'r mut Room,
        at_end: AtEnd,
    ) -> Result<Place<'r>, Errno> {
        walker.walk(room, self.len, self.start, at_end)
    }

    /// What is there.
    ///
    /// # Errors
    /// As [`Walker::find`].
    pub fn find(&self, walker: &mut Walker<'_>, room: &mut Room, at_end: AtEnd) -> Result<Node, Errno> {
        walker.find(room, self.len, self.start, at_end)
    }
}

impl Call<'_> {
    /// What a walk needs, for the calling process.
    pub fn walker(&mut self, by: By) -> Walker<'_> {
        let boot = self.kernel.boot();
        let own = usize::from(self.task().process);
        let thread = self.task().id;
        let Kernel {
            files,
            memory,
            processes,
            tasks,
            descriptors,
            ..
        } = &mut *self.kernel;
        let processes = &**processes;
        let credentials = &processes[own].credentials;
        Walker {
            files,
            memory,
            world: KernelWorld {
                cpu: self.cpu,
                who: processes[own].requester(),
            },
            seen: proc::Seen {
                processes,
                tasks,
                descriptors,
            },
            own,
            thread,
            who: match by {
                By::Effective => Who::new(credentials),
                By::Real => Who::real(credentials),
            }
            .in_process(processes[own].pid),
            boot,
        }
    }

    /// Copies the path at `address` into `room`; relative ones are relative to `directory`.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG; EBADF or ENOTDIR for the directory of a relative path.
    pub fn path(&mut self, room: &mut Room, directory: u64, address: u64) -> Result<Path, Errno> {
        let room = room.for_path();
        let len = self.read_path(address, room)?.len();
        let directory = directory as u32 as i32;
        let start = if len == 0 || room[0] == b'/' || directory == AT_FDCWD {
            self.process().directory
        } else {
            let (open, _) = super::open_file(self, directory as u32 as u64)?;
            match node_of(&self.kernel.files, open) {
                Node::Open(_) => return Err(Errno::ENOTDIR),
                node => node,
            }
        };
        Ok(Path { len, start })
    }

    /// Has `work` done with the path at `address`, relative to `directory`.
    ///
    /// # Errors
    /// As [`Call::path`], and those of `work`.
    pub fn with_path<R>(
        &mut self,
        (directory, address): (u64, u64),
        work: impl FnOnce(&mut Walker<'_>, &mut Room, Path) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        ROOMS[0].with(|room| {
            let path = self.path(room, directory, address)?;
            work(&mut self.walker(By::Effective), room, path)
        })
    }

    /// What the path at `address` leads to, relative to `directory`.
    ///
    /// # Errors
    /// As [`Call::path`] and [`Walker::find`].
    pub fn node_at(&mut self, directory: u64, address: u64, at_end: AtEnd) -> Result<Node, Errno> {
        self.with_path((directory, address), |walker, room, path| {
            path.find(walker, room, at_end)
        })
    }

    /// As [`Call::node_at`], for the calls with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH in `flags`: with the latter
    /// an empty path, or a null pointer for one, means the descriptor itself.
    ///
    /// # Errors
    /// As [`Call::node_at`]; EBADF.
    pub fn node_at_or_itself(&mut self, directory: u64, address: u64, flags: u64) -> Result<Node, Errno> {
        let at_end = if flags & AT_SYMLINK_NOFOLLOW != 0 {
            AtEnd::Stay
        } else {
            AtEnd::Follow
        };
        // Linux takes a null pointer for the empty path here since 6.11.
        let mut itself = address == 0 && flags & AT_EMPTY_PATH != 0;
        if !itself {
            let found = self.with_path((directory, address), |walker, room, path| {
                itself = path.is_empty() && flags & AT_EMPTY_PATH != 0;
                if itself {
                    return Ok(Node::ROOT);
                }
                path.find(walker, room, at_end)
            });
            if !itself {
                return found;
            }
        }
        if directory as u32 as i32 == AT_FDCWD {
            return Ok(self.process().directory);
        }
        let (open, _) = super::open_file(self, directory)?;
        Ok(node_of(&self.kernel.files, open))
    }

    /// The file whose owner, mode or times are to change. None for what is in `/proc`, or no file: whoever owns it may
    /// say what they like, to no effect.
    ///
    /// # Errors
    /// EPERM for somebody else's.
    pub fn file_of(&mut self, node: Node) -> Result<Option<FileId>, Errno> {
        let mut walker = self.walker(By::Effective);
        let owner = match node {
            Node::File(file) => {
                walker.mount();
                return Ok(Some(file));
            }
            Node::Proc(node) => node.owner(walker.seen).0,
            Node::Open(_) => 0,
        };
        if walker.who.owns(owner) {
            Ok(None)
        } else {
            Err(Errno::EPERM)
        }
    }

    /// The pipe an open file is an end of.
    pub fn pipe_of(&self, open: u16) -> Option<u16> {
        match self.kernel.files.open.get(open).what {
            What::Reader(pipe) | What::Writer(pipe) => Some(pipe),
            _ => None,
        }
    }
}
