//! getdents64: the names in a directory.
//!
//! The place where a listing goes on is the order number of the last name told, so names that are made or removed
//! meanwhile confuse nothing. `.` and `..` come first, as numbers 1 and 2.

use super::open_file;
use super::path::By;
use crate::fs::inode::{Kind, ROOT};
use crate::fs::names::Name;
use crate::fs::open::{O_PATH, What};
use crate::fs::walk::Walker;
use crate::fs::{FileId, NAME_MAX, proc};
use crate::syscall::Call;
use crate::time;
use abi::Errno;

/// Bytes of `struct linux_dirent64` before the name.
const HEADER: usize = 19;
/// Order numbers start here, after those of `.` and `..`.
const FIRST: u64 = 3;

/// One name.
struct Listed {
    number: u64,
    /// Where the listing goes on after it.
    place: u64,
    kind: u8,
    name: [u8; NAME_MAX],
    len: usize,
}

impl Listed {
    fn new(number: u64, place: u64, kind: u8) -> Listed {
        Listed {
            number,
            place,
            kind,
            name: [0; NAME_MAX],
            len: 0,
        }
    }

    fn named(mut self, name: &[u8]) -> Listed {
        self.len = name.len();
        self.name[..name.len()].copy_from_slice(name);
        self
    }

    /// Its length as a record, aligned to 8 bytes.
    const fn record_len(&self) -> usize {
        (HEADER + self.len + 1).next_multiple_of(8)
    }

    /// As `struct linux_dirent64`, of which the first bytes are returned that count.
    fn record<'r>(&self, to: &'r mut [u8; 280]) -> &'r [u8] {
        let len = self.record_len();
        to[..8].copy_from_slice(&self.number.to_le_bytes());
        to[8..16].copy_from_slice(&self.place.to_le_bytes());
        to[16..18].copy_from_slice(&(len as u16).to_le_bytes());
        to[18] = self.kind;
        to[HEADER..HEADER + self.len].copy_from_slice(&self.name[..self.len]);
        to[HEADER + self.len..len].fill(0);
        &to[..len]
    }
}

/// The name that comes after place `after` in a directory of the tree; `hint` is its record, if known.
fn next_in_tree(walker: &mut Walker<'_>, directory: FileId, after: u64, hint: &mut u16) -> Option<Listed> {
    let there = walker.files.inodes.get(directory);
    let kind = Kind::Directory.entry_type();
    if there.links == 0 {
        return None;
    }
    match after {
        0 => return Some(Listed::new(there.number, 1, kind).named(b".")),
        1 => {
            let parent = if directory == ROOT {
                ROOT
            } else {
                FileId(there.directory.parent)
            };
            let number = walker.files.inodes.get(parent).number;
            return Some(Listed::new(number, 2, kind).named(b".."));
        }
        _ => {}
    }
    if walker.files.is_shared(directory) {
        let mut listed = Listed::new(0, 0, Kind::Regular.entry_type());
        let next = walker.files.list_objects(after - 2, &mut listed.name)?;
        (listed.number, listed.place, listed.len) = (next.serial, next.cursor + 2, next.len);
        return Some(listed);
    }
    let place = |name: &Name| u64::from(name.order) + FIRST;
    let mut at = if *hint != 0 {
        walker.files.names.get(*hint).next
    } else {
        there.directory.first
    };
    while at != 0 && place(walker.files.names.get(at)) <= after {
        at = walker.files.names.get(at).next;
    }
    if at == 0 {
        return None;
    }
    *hint = at;
    let name = walker.files.names.get(at);
    let inode = walker.files.inodes.get(name.file);
    let mut listed = Listed::new(inode.number, place(name), inode.kind.entry_type());
    listed.len = walker.files.names.copy(at, &mut listed.name);
    Some(listed)
}

fn next_in_proc(walker: &Walker<'_>, directory: proc::Node, after: u64) -> Option<Listed> {
    const LINK: u8 = 10;
    let kind = Kind::Directory.entry_type();
    match after {
        0 => return Some(Listed::new(directory.number(), 1, kind).named(b".")),
        1 => {
            let number = directory.parent().unwrap_or(directory).number();
            return Some(Listed::new(number, 2, kind).named(b".."));
        }
        _ => {}
    }
    let (place, node) = directory.next_after(after - 2, walker.seen)?;
    let kind = if node.is_directory() {
        kind
    } else if node.is_link() {
        LINK
    } else {
        Kind::Regular.entry_type()
    };
    let mut listed = Listed::new(node.number(), place + 2, kind);
    let len = node.name(&mut listed.name);
    listed.name.copy_within(NAME_MAX - len.., 0);
    listed.len = len;
    Some(listed)
}

/// getdents64(2).
pub fn getdents64(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [fd, to, room, ..] = call.args;
    // As an `int` (`struct dir_context`): in what is below 0 there is room for nothing.
    let room = u64::try_from(room as i32).unwrap_or(0);
    let (number, open) = open_file(call, fd)?;
    if open.flags & O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let mut place = open.offset;
    if let What::File(file) = open.what {
        let mut walker = call.walker(By::Effective);
        walker.mount();
        if walker.files.inodes.get(file).kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if walker.files.inodes.get(file).links == 0 {
            return Err(Errno::ENOENT);
        }
        walker.files.fill(walker.memory, &mut walker.world, file);
        walker.files.inodes.get_mut(file).times.accessed = time::realtime();
    }
    let mut hint = 0;
    let mut done = 0;
    loop {
        let mut walker = call.walker(By::Effective);
        let next = match open.what {
            What::File(file) => next_in_tree(&mut walker, file, place, &mut hint),
            What::Proc(node) if node.is_directory() => next_in_proc(&walker, node, place),
            _ => return Err(Errno::ENOTDIR),
        };
        let Some(next) = next else { break };
        let len = next.record_len() as u64;
        if done + len > room {
            if done == 0 {
                return Err(Errno::EINVAL);
            }
            break;
        }
        let mut record = [0; 280];
        let record = next.record(&mut record);
        let at = to.wrapping_add(done);
        if let Err(error) = call.with_space(|space, memory, world| space.write(memory, world, at, record)) {
            if done == 0 {
                return Err(error);
            }
            break;
        }
        done += len;
        place = next.place;
    }
    call.kernel.files.open.get_mut(number).offset = place;
    Ok(done)
}
