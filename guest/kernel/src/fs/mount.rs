//! What is there before any program has made anything: the root, `/tmp`, `/var/tmp`, `/dev`, `/etc` with root and nobody,
//! `/proc`, `/sys`, and the files that travel with the guest, with their directories.
//!
//! The tree is made when something in it is first looked up, `/dev`, `/etc` and `/var` when something in them is: where
//! ring 0 is emulated, each name costs tens of microseconds, and most programs never name a file.

use super::device::Device;
use super::inode::{FIRST_GIVEN, Inode, Kind, ROOT, STICKY, Times};
use super::tree::Entry;
use super::{FileId, Files};
use crate::mm::{Memory, World};
use abi::Errno;
use paging::GuestPhys;

/// Users: root and nobody, as everywhere.
const PASSWD: &[u8] = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
/// Their groups, by Debian's names.
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
/// Links in `/dev`, and where they lead (proc(5)).
const LINKS: [(&[u8], &[u8]); 4] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

fn root_owned(kind: Kind, mode: u16, now: u64) -> Inode {
    Inode {
        kind,
        mode,
        times: Times::all(now),
        ..Inode::default()
    }
}

/// A file that travels with the guest.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Its absolute name.
    pub name: &'a [u8],
    /// Where its bytes lie, page-aligned and with zeros to the page's end.
    pub start: GuestPhys,
    /// How many bytes.
    pub len: u64,
}

impl Files {
    /// Makes the tree, if that has not been done, with the files `given`. The root is number `number`; `now` is the
    /// time of everything in it. Returns how many of the files have no place in it: because there are too many, or
    /// one's name leads through another.
    pub fn mount<'a>(
        &mut self,
        memory: &mut Memory,
        number: u64,
        given: impl ExactSizeIterator<Item = Given<'a>>,
        now: u64,
    ) -> usize {
        if self.mounted {
            return 0;
        }
        self.mounted = true;
        let count = given.len();
        let most = self.inodes.reserve(count);
        self.place_root(number, now);
        // `ftok` of `/` and `/tmp` is the same key in every guest, and that of the others is by their names.
        self.directory(b"tmp", 0o777 | STICKY, number + 1, now);
        let etc = self.directory(b"etc", 0o755, 0, now);
        let dev = self.directory(b"dev", 0o755, 0, now);
        self.proc = self.directory(b"proc", 0o555, 0, now);
        self.sys = self.directory(b"sys", 0o555, 0, now);
        let var = self.directory(b"var", 0o755, 0, now);
        for directory in [dev, etc, var] {
            self.inodes.get_mut(directory).directory.unfilled = true;
        }
        let mut placed = 0;
        for (index, file) in given.take(most).enumerate() {
            let slot = FileId(FIRST_GIVEN + index as u16);
            if self.place_given(file.name, slot, now).is_ok() {
                memory.contents.show(slot, file.start, file.len);
                placed += 1;
            }
        }
        count - placed
    }

    /// A directory in the root; there is room for the first few.
    fn directory(&mut self, name: &[u8], mode: u16, number: u64, now: u64) -> FileId {
        let inode = Inode {
            number,
            ..root_owned(Kind::Directory, mode, now)
        };
        self.place(below(ROOT, name), inode, None).unwrap_or(ROOT)
    }

    /// Puts a file that travels with the guest at its name, in directories made for it.
    fn place_given(&mut self, name: &[u8], slot: FileId, now: u64) -> Result<(), Errno> {
        let mut directory = ROOT;
        let mut parts = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let mut part = parts.next().ok_or(Errno::ENOENT)?;
        for next in parts {
            directory = match self.lookup(directory, part) {
                Some(there) => there,
                None => {
                    let inode = root_owned(Kind::Directory, 0o755, now);
                    self.place(below(directory, part), inode, None)?
                }
            };
            if self.inodes.get(directory).kind != Kind::Directory
                || self.proc_in_place_of(directory).is_some()
            {
                return Err(Errno::ENOTDIR);
            }
            part = next;
        }
        if self.lookup(directory, part).is_some() || part.len() > super::NAME_MAX {
            return Err(Errno::EEXIST);
        }
        let inode = root_owned(Kind::Regular, 0o755, now);
        self.place(below(directory, part), inode, Some(slot)).map(drop)
    }

    /// Makes the usual contents of `directory`, if that is to be done. What there is no room for is left out.
    pub fn fill(&mut self, memory: &mut Memory, world: &mut impl World, directory: FileId) {
        if !core::mem::take(&mut self.inodes.get_mut(directory).directory.unfilled) {
            return;
        }
        let now = self.inodes.get(directory).times.born;
        if self.lookup(ROOT, b"dev") == Some(directory) {
            for (device, name) in Device::ALL {
                self.usual(directory, name, root_owned(Kind::Device(device), 0o666, now));
            }
            for (name, target) in LINKS {
                if let Some(link) = self.usual(directory, name, root_owned(Kind::Link, 0o777, now)) {
                    // As where there is no room for the link itself.
                    let _ = memory.put_in_file(world, link, 0, target);
                }
            }
            // Where the files of POSIX shared memory are, for shm_open(3).
            let shm = root_owned(Kind::Directory, 0o777 | STICKY, now);
            let shm = self
                .usual(directory, b"shm", shm)
                .or_else(|| self.lookup(directory, b"shm"));
            if let Some(shm) = shm {
                self.mount_objects(shm);
            }
        } else if self.lookup(ROOT, b"var") == Some(directory) {
            let mode = 0o777 | STICKY;
            let tmp = self.usual(directory, b"tmp", root_owned(Kind::Directory, mode, now));
            // It may have been made for a file in it.
            if let Some(tmp) = tmp.or_else(|| self.lookup(directory, b"tmp")) {
                self.inodes.get_mut(tmp).mode = mode;
            }
        } else {
            for (name, text) in [(&b"passwd"[..], PASSWD), (b"group", GROUP)] {
                if let Some(file) = self.usual(directory, name, root_owned(Kind::Regular, 0o644, now)) {
                    let _ = memory.put_in_file(world, file, 0, text);
                }
            }
        }
    }

    /// Makes one of the usual contents; `None` if there is something by that name.
    fn usual(&mut self, directory: FileId, name: &[u8], inode: Inode) -> Option<FileId> {
        if self.lookup(directory, name).is_some() {
            return None;
        }
        self.place(below(directory, name), inode, None).ok()
    }
}

fn below(directory: FileId, name: &[u8]) -> Entry<'_> {
    Entry {
        directory,
        name,
        slash: false,
    }
}
