//! From a path to what it names (path_resolution(7)).
//!
//! The text lies at the end of a [`Room`] of the kernel's own, twice as long as a path may be: what has been walked
//! leaves room in front of the rest, where the target of a symbolic link is put when one is met. So a walk
//! goes through any number of links without recursion and without copying the rest.

use super::inode::{Kind, ROOT};
use super::mount::Given;
use super::open::What;
use super::permission::{EXECUTE, Who};
use super::{FileId, Files, NAME_MAX, Node, PATH_MAX, proc};
use crate::arch::given;
use crate::arch::lent::Lent;
use crate::mm::Memory;
use crate::mm::world::KernelWorld;
use crate::process::Process;
use crate::time;
use abi::Errno;
use abi::boot::BootInfo;
use paging::GuestPhys;

/// Most symbolic links on the way.
const MOST_LINKS: u32 = 40;

/// Room for a path.
pub struct Room([u8; 2 * PATH_MAX]);

impl Room {
    /// Where a path from a program is put.
    pub fn for_path(&mut self) -> &mut [u8] {
        &mut self.0[PATH_MAX..]
    }
}

/// Room for the path a call is about, and for the second one of those that have two.
pub static ROOMS: [Lent<Room>; 2] = [const { Lent::new(Room([0; 2 * PATH_MAX])) }; 2];

/// What is done with a symbolic link at the end of a path. (One before the end is always followed.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Followed.
    Follow,
    /// What the path names; but if a slash follows, what it leads to.
    Stay,
    /// What the path names, for a name that is to be made, moved or removed.
    Name,
}

/// The last part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last<'r> {
    /// A name.
    Name(&'r [u8]),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is `/`.
    Root,
}

/// Where a path has led.
#[derive(Clone, Copy, Debug)]
pub struct Place<'r> {
    /// The directory the last part is in.
    pub directory: Node,
    /// The last part.
    pub last: Last<'r>,
    /// A slash follows it.
    pub slash: bool,
    /// What is there, if anything.
    pub node: Option<Node>,
}

/// What a walk needs of the kernel.
pub struct Walker<'k> {
    /// The files.
    pub files: &'k mut Files,
    /// Their pages.
    pub memory: &'k mut Memory,
    /// For work on pages.
    pub world: KernelWorld,
    /// What there is to see in `/proc`.
    pub seen: proc::Seen<'k>,
    /// The number of the one that walks.
    pub own: usize,
    /// The id of its thread that does.
    pub thread: u32,
    /// Who walks.
    pub who: Who<'k>,
    /// What the VMM has said.
    pub boot: &'static BootInfo,
}

impl Walker<'_> {
    /// Makes the tree if it isn't there yet.
    pub fn mount(&mut self) {
        if self.files.is_mounted() {
            return;
        }
        let given = given::files(self.boot).iter().map(|file| Given {
            name: given::bytes(file.name),
            start: GuestPhys::new(file.contents.start),
            len: file.contents.len,
        });
        self.files
            .mount(self.memory, self.boot.tree_id, given, time::began());
    }

    /// The calling process.
    pub fn process(&self) -> &Process {
        &self.seen.processes[self.own]
    }

    /// Where the path leads that was put into `room` and has `len` bytes; relative to `start`.
    ///
    /// # Errors
    /// ENOENT for no path or a directory that is not there, ENOTDIR, EACCES, ENAMETOOLONG, ELOOP. That nothing is
    /// there at the end is no error.
    pub fn walk<'r>(
        &mut self,
        room: &'r mut Room,
        len: usize,
        start: Node,
        at_end: AtEnd,
    ) -> Result<Place<'r>, Errno> {
        let text = &mut room.0;
        let end = PATH_MAX + len;
        if len == 0 {
            return Err(Errno::ENOENT);
        }
        let relative = text[PATH_MAX] != b'/';
        let mut directory = if relative { start } else { Node::ROOT };
        let mut at = PATH_MAX;
        let mut links = 0;
        loop {
            while at < end && text[at] == b'/' {
                at += 1;
            }
            if at == end {
                return Ok(Place {
                    directory,
                    last: Last::Root,
                    slash: true,
                    node: Some(directory),
                });
            }
            let part_end = position(&text[at..end], |byte| byte == b'/').map_or(end, |by| at + by);
            let next = position(&text[part_end..end], |byte| byte != b'/');
            let (is_last, slash) = (next.is_none(), part_end < end);
            let name = &text[at..part_end];
            self.check_search(directory)?;
            let node = match name {
                b"." => Some(directory),
                b".." => Some(self.parent(directory)?),
                name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                name => self.lookup(directory, name),
            };
            let Some(node) = node else {
                if relative && links == 0 && start == Node::ROOT {
                    let path = &text[PATH_MAX..end];
                    if let Some(file) = self.given_that_ends_in(path) {
                        return Ok(Place {
                            directory: Node::ROOT,
                            last: last_part(&text[PATH_MAX..end]),
                            slash: false,
                            node: Some(file),
                        });
                    }
                }
                if !is_last {
                    return Err(Errno::ENOENT);
                }
                return Ok(Place {
                    directory,
                    last: Last::Name(&text[at..part_end]),
                    slash,
                    node: None,
                });
            };
            let follow = match at_end {
                AtEnd::Follow => true,
                AtEnd::Stay => slash,
                AtEnd::Name => false,
            };
            if (!is_last || follow) && self.is_link(node) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP);
                }
                if let Some(target) = self.jump(node)? {
                    if is_last {
                        return Ok(Place {
                            directory,
                            last: Last::Root,
                            slash,
                            node: Some(target),
                        });
                    }
                    (directory, at) = (target, part_end);
                    continue;
                }
                // What comes before the rest has been walked, and gives room.
                let target = self.target(node, &mut text[..part_end]);
                at = part_end - target;
                if target == 0 {
                    return Err(Errno::ENOENT);
                }
                if text[at] == b'/' {
                    directory = Node::ROOT;
                }
                continue;
            }
            if is_last {
                let last = match &text[at..part_end] {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    name => Last::Name(name),
                };
                return Ok(Place {
                    directory,
                    last,
                    slash,
                    node: Some(node),
                });
            }
            (directory, at) = (node, part_end);
        }
    }

    /// What the path leads to.
    ///
    /// # Errors
    /// As [`Walker::walk`]; ENOENT if nothing is there, ENOTDIR if a slash follows what is no directory.
    pub fn find(&mut self, room: &mut Room, len: usize, start: Node, at_end: AtEnd) -> Result<Node, Errno> {
        let place = self.walk(room, len, start, at_end)?;
        let node = place.node.ok_or(Errno::ENOENT)?;
        if place.slash && !self.is_directory(node) {
            return Err(Errno::ENOTDIR);
        }
        Ok(node)
    }

    /// Whether names can be looked up in `directory`.
    ///
    /// # Errors
    /// ENOTDIR, EACCES.
    fn check_search(&self, directory: Node) -> Result<(), Errno> {
        match directory {
            Node::File(ROOT) if !self.files.is_mounted() => Ok(()),
            Node::File(file) => {
                let inode = self.files.inodes.get(file);
                if inode.kind != Kind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                self.who.check(EXECUTE, inode)
            }
            Node::Proc(node) if node.is_directory() => self.check_proc(node, EXECUTE),
            Node::Proc(_) | Node::Open(_) => Err(Errno::ENOTDIR),
        }
    }

    /// Whether the caller may do all of `want` with something in `/proc`.
    ///
    /// # Errors
    /// EACCES.
    pub fn check_proc(&self, node: proc::Node, want: u16) -> Result<(), Errno> {
        if node.tells_of_descriptors() {
            self.check_look(node)?;
        }
        let (owner, group) = node.owner(self.seen);
        if self.who.may(want, node.is_directory(), owner, group, node.mode()) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether the caller may look into the process that `node` is about: its own, one that is the same user's through and
    /// through, or any if it is root's (`ptrace_may_access` in Linux).
    ///
    /// # Errors
    /// EACCES.
    pub fn check_look(&self, node: proc::Node) -> Result<(), Errno> {
        let Some(place) = node.place(self.seen) else {
            return Ok(());
        };
        let theirs = &self.seen.processes[place].credentials;
        let same = theirs.uid == [self.who.uid; 3] && theirs.gid == [self.who.gid; 3];
        if place == self.own || same || self.process().credentials.is_privileged() {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, node: Node) -> bool {
        match node {
            Node::File(ROOT) => true,
            Node::File(file) => self.files.inodes.get(file).kind == Kind::Directory,
            Node::Proc(node) => node.is_directory(),
            Node::Open(_) => false,
        }
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self, node: Node) -> bool {
        match node {
            Node::File(file) => self.files.inodes.get(file).kind == Kind::Link,
            Node::Proc(node) => node.is_link(),
            Node::Open(_) => false,
        }
    }

    fn parent(&mut self, directory: Node) -> Result<Node, Errno> {
        match directory {
            Node::File(ROOT) => Ok(Node::ROOT),
            Node::File(file) => {
                // Of one that has been removed, too: its parent stays as long as it does.
                let parent = self.files.inodes.get(file).directory.parent;
                Ok(Node::File(FileId(parent)))
            }
            Node::Proc(node) => Ok(node.parent().map_or(Node::ROOT, Node::Proc)),
            Node::Open(_) => Err(Errno::ENOTDIR),
        }
    }

    /// What `name` leads to in `directory`.
    pub fn lookup(&mut self, directory: Node, name: &[u8]) -> Option<Node> {
        match directory {
            Node::File(file) => {
                if !self.files.is_mounted() {
                    match name {
                        b"proc" => return Some(Node::Proc(proc::Node::ROOT)),
                        b"sys" => return Some(Node::Proc(proc::Node::SYSFS)),
                        _ => {}
                    }
                    self.mount();
                }
                self.files.fill(self.memory, &mut self.world, file);
                if self.files.is_shared(file) {
                    let found = self.files.find_object(self.memory, &self.who, name)?;
                    return Some(Node::File(found));
                }
                let found = self.files.lookup(file, name)?;
                Some(match self.files.proc_in_place_of(found) {
                    Some(top) => Node::Proc(top),
                    None => Node::File(found),
                })
            }
            Node::Proc(node) => node.lookup(name, self.seen).map(Node::Proc),
            Node::Open(_) => None,
        }
    }

    /// Where a link leads that is followed without a path: what a process has open, where it is, what it runs.
    fn jump(&mut self, link: Node) -> Result<Option<Node>, Errno> {
        let Node::Proc(link) = link else { return Ok(None) };
        let Some(target) = link.jump(self.seen) else {
            return Ok(None);
        };
        self.check_look(link)?;
        let target = target.ok_or(Errno::ENOENT)?;
        // The tree may not be there yet, but what it will have is known.
        self.mount();
        Ok(Some(self.opened(target)))
    }

    /// What `node` is, if it is something open that has a place of its own, else itself.
    pub fn opened(&self, node: Node) -> Node {
        let Node::Open(number) = node else { return node };
        match self.files.open.get(number).what {
            What::File(file) => Node::File(file),
            What::Proc(proc) => Node::Proc(proc),
            _ => node,
        }
    }

    /// Writes the target of a link to the end of `to`: how long it is, 0 if there is no room.
    fn target(&self, link: Node, to: &mut [u8]) -> usize {
        match link {
            Node::File(file) => {
                let len = self.memory.contents.size(file) as usize;
                let Some(start) = to.len().checked_sub(len) else {
                    return 0;
                };
                self.memory.get_from_file(file, 0, &mut to[start..])
            }
            Node::Proc(node) => node.target((self.process().pid, self.thread), to),
            Node::Open(_) => 0,
        }
    }

    /// The guest's own file that a relative name means which leads nowhere: the one whose name ends so. Programs know
    /// themselves by the name they were started by, in a directory that is not here.
    fn given_that_ends_in(&self, path: &[u8]) -> Option<Node> {
        let rest = path.strip_prefix(b"./").unwrap_or(path);
        let files = given::files(self.boot);
        let at = files.iter().position(|file| {
            given::bytes(file.name)
                .strip_suffix(rest)
                .is_some_and(|before| before.ends_with(b"/"))
        })?;
        let mut node = Node::ROOT;
        for part in given::bytes(files[at].name).split(|&byte| byte == b'/') {
            if let (false, Node::File(directory)) = (part.is_empty(), node) {
                node = Node::File(self.files.lookup(directory, part)?);
            }
        }
        Some(node)
    }
}

fn position(bytes: &[u8], what: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.iter().position(|&byte| what(byte))
}

fn last_part(path: &[u8]) -> Last<'_> {
    let start = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1);
    Last::Name(&path[start..])
}
