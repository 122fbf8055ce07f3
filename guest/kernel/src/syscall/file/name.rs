//! The calls that make, move and remove names: link, symlink, unlink, rename, mkdir, rmdir; and those that follow
//! or tell them: readlink, getcwd, chdir.

use super::path::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, By, Path};
use crate::arch::given;
use crate::fs::inode::{FIRST_GIVEN, Inode, Kind, STICKY};
use crate::fs::open::What;
use crate::fs::permission::EXECUTE;
use crate::fs::tree::{Entry, New, RENAME_EXCHANGE, RENAME_NOREPLACE, Removed};
use crate::fs::walk::{AtEnd, Last, Place, ROOMS, Room, Walker};
use crate::fs::{FileId, Node, PATH_MAX};
use crate::syscall::Call;
use crate::time;
use abi::Errno;

const AT_REMOVEDIR: u64 = 0x200;
const HERE: u64 = AT_FDCWD as u64;

/// The name at the end of a path, which is to be made: in the tree, and free.
///
/// # Errors
/// EEXIST; ENOENT in `/proc` and EPERM in `/sys`, where nothing can be made.
fn free_name<'r>(place: &Place<'r>) -> Result<Entry<'r>, Errno> {
    match (place.node, place.last, place.directory) {
        (Some(_), ..) => Err(Errno::EEXIST),
        (None, Last::Name(name), Node::File(directory)) => Ok(Entry {
            directory,
            name,
            slash: place.slash,
        }),
        (.., Node::Proc(node)) if node.is_in_sysfs() => Err(Errno::EPERM),
        _ => Err(Errno::ENOENT),
    }
}

/// The name at the end of a path that is to be removed or moved.
///
/// # Errors
/// `special` if the path ends in `.`, `..` or `/`; ENOENT; EBUSY for `/proc`, EPERM in it.
fn name_there<'r>(place: &Place<'r>, special: Errno) -> Result<Entry<'r>, Errno> {
    let Last::Name(name) = place.last else {
        return Err(special);
    };
    match (place.node, place.directory) {
        (None, _) => Err(Errno::ENOENT),
        (Some(Node::File(_)), Node::File(directory)) => Ok(Entry {
            directory,
            name,
            slash: place.slash,
        }),
        (Some(_), Node::File(_)) => Err(Errno::EBUSY),
        (Some(_), _) => Err(Errno::EPERM),
    }
}

/// Makes something at the end of a path.
fn make(call: &mut Call<'_>, at: (u64, u64), kind: Kind, mode: u16) -> Result<FileId, Errno> {
    let umask = call.process().umask;
    let new = New {
        kind,
        mode: mode & 0o7777 & !umask,
        now: time::realtime(),
    };
    call.with_path(at, |walker, room, path| {
        let place = path.walk(walker, room, AtEnd::Name)?;
        let at = free_name(&place)?;
        walker.files.make(walker.memory, &walker.who, at, new)
    })
}

/// mkdir(2).
pub fn mkdir(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, mode, ..] = call.args;
    make(
        call,
        (HERE, path),
        Kind::Directory,
        mode as u16 & (0o777 | STICKY),
    )
    .map(|_| 0)
}

/// mkdirat(2).
pub fn mkdirat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, mode, ..] = call.args;
    make(
        call,
        (directory, path),
        Kind::Directory,
        mode as u16 & (0o777 | STICKY),
    )
    .map(|_| 0)
}

/// mknod(2), mknodat(2): regular files only.
fn make_node(call: &mut Call<'_>, at: (u64, u64), mode: u64) -> Result<u64, Errno> {
    match mode & 0o170_000 {
        0 | 0o100_000 => make(call, at, Kind::Regular, mode as u16 & 0o7777).map(|_| 0),
        0o010_000 | 0o140_000 | 0o020_000 | 0o060_000 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// mknod(2).
pub fn mknod(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, mode, ..] = call.args;
    make_node(call, (HERE, path), mode)
}

/// mknodat(2).
pub fn mknodat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, mode, ..] = call.args;
    make_node(call, (directory, path), mode)
}

fn remove(call: &mut Call<'_>, at: (u64, u64), what: Removed) -> Result<u64, Errno> {
    let now = time::realtime();
    call.with_path(at, |walker, room, path| {
        let place = path.walk(walker, room, AtEnd::Name)?;
        let special = match (what, place.last) {
            (Removed::Other, _) => Errno::EISDIR,
            (_, Last::Dot) => Errno::EINVAL,
            (_, Last::DotDot) => Errno::ENOTEMPTY,
            _ => Errno::EBUSY,
        };
        let at = name_there(&place, special)?;
        if let (Removed::Directory, Some(Node::File(file))) = (what, place.node) {
            walker.files.fill(walker.memory, &mut walker.world, file);
        }
        walker.files.unlink(walker.memory, &walker.who, at, what, now)?;
        Ok(0)
    })
}

/// unlink(2).
pub fn unlink(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, ..] = call.args;
    remove(call, (HERE, path), Removed::Other)
}

/// rmdir(2).
pub fn rmdir(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, ..] = call.args;
    remove(call, (HERE, path), Removed::Directory)
}

/// unlinkat(2).
pub fn unlinkat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, flags, ..] = call.args;
    match flags as u32 as u64 {
        0 => remove(call, (directory, path), Removed::Other),
        AT_REMOVEDIR => remove(call, (directory, path), Removed::Directory),
        _ => Err(Errno::EINVAL),
    }
}

/// Has `work` done with two paths.
fn with_two_paths<R>(
    call: &mut Call<'_>,
    (first, second): ((u64, u64), (u64, u64)),
    work: impl FnOnce(&mut Walker<'_>, (&mut Room, Path), (&mut Room, Path)) -> Result<R, Errno>,
) -> Result<R, Errno> {
    let [first_room, second_room] = &ROOMS;
    first_room.with(|first_room| {
        second_room.with(|second_room| {
            let one = call.path(first_room, first.0, first.1)?;
            let other = call.path(second_room, second.0, second.1)?;
            let mut walker = call.walker(By::Effective);
            work(&mut walker, (first_room, one), (second_room, other))
        })
    })
}

fn rename_at(call: &mut Call<'_>, from: (u64, u64), to: (u64, u64), flags: u64) -> Result<u64, Errno> {
    let flags = flags as u32 as u64;
    let both = RENAME_NOREPLACE | RENAME_EXCHANGE;
    if flags & !both != 0 || flags == both {
        return Err(Errno::EINVAL);
    }
    let now = time::realtime();
    with_two_paths(call, (from, to), |walker, (room, from), (other_room, to)| {
        let from = from.walk(walker, room, AtEnd::Name)?;
        let to = to.walk(walker, other_room, AtEnd::Name)?;
        if !matches!(from.last, Last::Name(_)) {
            return Err(Errno::EBUSY);
        }
        let Last::Name(name) = to.last else {
            return Err(if flags & RENAME_NOREPLACE != 0 {
                Errno::EEXIST
            } else {
                Errno::EBUSY
            });
        };
        if matches!(from.directory, Node::Proc(_)) != matches!(to.directory, Node::Proc(_))
            && from.node.is_some()
        {
            return Err(Errno::EXDEV);
        }
        let from = name_there(&from, Errno::EBUSY)?;
        let to_entry = match (to.directory, to.node) {
            (Node::File(directory), None | Some(Node::File(_))) => Entry {
                directory,
                name,
                slash: to.slash,
            },
            (Node::File(_), _) => return Err(Errno::EBUSY),
            _ => return Err(Errno::EXDEV),
        };
        for at in [from, to_entry] {
            if let Some(file) = walker.files.lookup(at.directory, at.name)
                && walker.files.inodes.get(file).kind == Kind::Directory
            {
                walker.files.fill(walker.memory, &mut walker.world, file);
            }
        }
        walker
            .files
            .rename(walker.memory, &walker.who, (from, to_entry), flags, now)?;
        Ok(0)
    })
}

/// rename(2).
pub fn rename(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from, to, ..] = call.args;
    rename_at(call, (HERE, from), (HERE, to), 0)
}

/// renameat(2).
pub fn renameat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from_directory, from, to_directory, to, ..] = call.args;
    rename_at(call, (from_directory, from), (to_directory, to), 0)
}

/// renameat2(2).
pub fn renameat2(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from_directory, from, to_directory, to, flags, _] = call.args;
    rename_at(call, (from_directory, from), (to_directory, to), flags)
}

fn link_at(call: &mut Call<'_>, from: (u64, u64), to: (u64, u64), flags: u64) -> Result<u64, Errno> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let at_end = if flags & AT_SYMLINK_FOLLOW != 0 {
        AtEnd::Follow
    } else {
        AtEnd::Stay
    };
    let now = time::realtime();
    with_two_paths(call, (from, to), |walker, (room, from), (other_room, to)| {
        let node = from.find(walker, room, at_end)?;
        let to = to.walk(walker, other_room, AtEnd::Name)?;
        let at = free_name(&to)?;
        let Node::File(file) = node else {
            return Err(Errno::EXDEV);
        };
        walker.files.link(&walker.who, file, at, now)?;
        Ok(0)
    })
}

/// link(2).
pub fn link(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from, to, ..] = call.args;
    link_at(call, (HERE, from), (HERE, to), 0)
}

/// linkat(2).
pub fn linkat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [from_directory, from, to_directory, to, flags, _] = call.args;
    link_at(call, (from_directory, from), (to_directory, to), flags)
}

fn symlink_at(call: &mut Call<'_>, target: u64, at: (u64, u64)) -> Result<u64, Errno> {
    let new = New {
        kind: Kind::Link,
        mode: 0o777,
        now: time::realtime(),
    };
    let here = HERE;
    with_two_paths(
        call,
        ((here, target), at),
        |walker, (room, target), (other_room, path)| {
            let target = target.text(room);
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            let place = path.walk(walker, other_room, AtEnd::Name)?;
            let at = free_name(&place)?;
            let link = walker.files.make(walker.memory, &walker.who, at, new)?;
            if let Err(error) = walker.memory.put_in_file(&mut walker.world, link, 0, target) {
                walker
                    .files
                    .unlink(walker.memory, &walker.who, at, Removed::Other, new.now)?;
                return Err(error);
            }
            Ok(0)
        },
    )
}

/// symlink(2).
pub fn symlink(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [target, path, ..] = call.args;
    symlink_at(call, target, (HERE, path))
}

/// symlinkat(2).
pub fn symlinkat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [target, directory, path, ..] = call.args;
    symlink_at(call, target, (directory, path))
}

/// Writes the target of a link to the end of a room, as far as there is one.
fn target<'r>(walker: &mut Walker<'_>, room: &'r mut Room, node: Node) -> Result<&'r [u8], Errno> {
    let to = room.for_path();
    match node {
        Node::File(file) if walker.files.inodes.get(file).kind == Kind::Link => {
            let len = walker.memory.get_from_file(file, 0, to);
            Ok(&to[..len])
        }
        Node::Proc(link) => match link.jump(walker.seen) {
            Some(Some(there)) => {
                walker.check_look(link)?;
                walker.mount();
                Ok(describe(walker, there, to))
            }
            Some(None) => Err(Errno::ENOENT),
            None => {
                let len = link.target((walker.process().pid, walker.thread), to);
                let start = to.len() - len;
                if len == 0 {
                    Err(Errno::EINVAL)
                } else {
                    Ok(&to[start..])
                }
            }
        },
        _ => Err(Errno::EINVAL),
    }
}

/// What a path is called that leads to `node`: a path, or what Linux says of what has none.
fn describe<'r>(walker: &Walker<'_>, node: Node, to: &'r mut [u8]) -> &'r [u8] {
    const GONE: &[u8] = b" (deleted)";
    match walker.opened(node) {
        Node::File(file) => {
            let gone = walker.files.is_nameless(file);
            let room = to.len() - if gone { GONE.len() } else { 0 };
            let len = walker.files.path(file, &mut to[..room]).len();
            if gone {
                to[room..].copy_from_slice(GONE);
            }
            &to[room - len..]
        }
        Node::Proc(node) => node.path(to),
        Node::Open(open) => {
            if let Some(name) = walker.files.open.get(open).what.anonymous() {
                let start = to.len() - name.len();
                to[start..].copy_from_slice(name);
                return &to[start..];
            }
            let number = match walker.files.open.get(open).what {
                What::Reader(pipe) | What::Writer(pipe) => walker.files.pipes.get(pipe).number,
                // The command's own, whatever they are outside.
                _ => u64::from(open),
            };
            let end = to.len() - 1;
            to[end] = b']';
            let len = crate::fs::proc::decimal_at_end(number, &mut to[..end]);
            let start = end - len - b"pipe:[".len();
            to[start..end - len].copy_from_slice(b"pipe:[");
            &to[start..]
        }
    }
}

fn read_link_at(call: &mut Call<'_>, at: (u64, u64), to: u64, len: u64) -> Result<u64, Errno> {
    let len = len as u32 as i32;
    if len <= 0 {
        return Err(Errno::EINVAL);
    }
    ROOMS[0].with(|room| {
        let path = call.path(room, at.0, at.1)?;
        if path.is(room, b"/proc/self/exe")
            && let Some(name) = untouched_program(call)
        {
            return put(call, to, &name[..name.len().min(len as usize)]);
        }
        let node = if path.is_empty() {
            // An O_PATH descriptor of the link itself (readlinkat(2)).
            if at.0 as u32 as i32 == AT_FDCWD {
                return Err(Errno::ENOENT);
            }
            let (open, _) = super::open_file(call, at.0)?;
            crate::process::files::node_of(&call.kernel.files, open)
        } else {
            path.find(&mut call.walker(By::Effective), room, AtEnd::Stay)?
        };
        let text = target(&mut call.walker(By::Effective), room, node)?;
        put(call, to, &text[..text.len().min(len as usize)])
    })
}

fn put(call: &mut Call<'_>, to: u64, text: &[u8]) -> Result<u64, Errno> {
    call.with_space(|space, memory, world| space.write(memory, world, to, text))?;
    Ok(text.len() as u64)
}

/// What the caller's program is called, if nobody has looked for a file yet: as it travelled with the guest. Every static
/// glibc program asks at its start, and most never want anything else of the tree, which then need not be made.
fn untouched_program(call: &mut Call<'_>) -> Option<&'static [u8]> {
    let index = call.process().exe.0.checked_sub(FIRST_GIVEN)?;
    if call.kernel.files.is_mounted() {
        return None;
    }
    let name = given::bytes(given::files(call.kernel.boot()).get(usize::from(index))?.name);
    // There a program has no place in the tree.
    let placed = ![&b"/dev/"[..], b"/proc/", b"/sys/"]
        .iter()
        .any(|of_kernel| name.starts_with(of_kernel));
    placed.then_some(name)
}

/// readlink(2).
pub fn readlink(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, to, len, ..] = call.args;
    read_link_at(call, (HERE, path), to, len)
}

/// readlinkat(2).
pub fn readlinkat(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [directory, path, to, len, ..] = call.args;
    read_link_at(call, (directory, path), to, len)
}

/// getcwd(2).
pub fn getcwd(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [to, len, ..] = call.args;
    let directory = call.process().directory;
    ROOMS[0].with(|room| {
        let walker = call.walker(By::Effective);
        if let Node::File(file) = directory
            && file != crate::fs::inode::ROOT
            && walker.files.inodes.get(file).links == 0
        {
            return Err(Errno::ENOENT);
        }
        let room = room.for_path();
        let end = room.len() - 1;
        room[end] = 0;
        let start = end - describe(&walker, directory, &mut room[..end]).len();
        let path = &room[start..];
        if path.len() as u64 > len {
            return Err(Errno::ERANGE);
        }
        call.with_space(|space, memory, world| space.write(memory, world, to, path))?;
        Ok(path.len() as u64)
    })
}

/// Makes `node` the working directory.
fn move_to(call: &mut Call<'_>, node: Node) -> Result<u64, Errno> {
    let walker = call.walker(By::Effective);
    if !walker.is_directory(node) {
        return Err(Errno::ENOTDIR);
    }
    match node {
        Node::File(file) if walker.files.is_mounted() => {
            let inode: &Inode = walker.files.inodes.get(file);
            walker.who.check(EXECUTE, inode)?;
        }
        Node::Proc(node) => walker.check_proc(node, EXECUTE)?,
        _ => {}
    }
    call.kernel.files.hold_node(node);
    let old = core::mem::replace(&mut call.process().directory, node);
    call.kernel.files.release_node(&mut call.kernel.memory, old);
    Ok(0)
}

/// chdir(2).
pub fn chdir(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [path, ..] = call.args;
    let node = call.node_at(HERE, path, AtEnd::Follow)?;
    move_to(call, node)
}

/// fchdir(2).
pub fn fchdir(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, ..] = call.args;
    let (open, _) = super::open_file(call, fd)?;
    let node = crate::process::files::node_of(&call.kernel.files, open);
    move_to(call, node)
}

/// umask(2).
pub fn umask(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [new, ..] = call.args;
    Ok(core::mem::replace(&mut call.process().umask, new as u16 & 0o777).into())
}

const _: () = assert!(PATH_MAX == 4096);
