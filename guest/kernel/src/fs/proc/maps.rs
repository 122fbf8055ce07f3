//! `/proc/PID/maps`: the areas of a process's memory (proc_pid_maps(5)).
//!
//! A line: addresses, rights and whether it is shared, where in the file it starts, the file's device and inode number, and
//! from column 73 on what it is: a path, `/SYSV` and the key of a segment with its id as inode number, or the part of
//! the program's memory that it is.

use super::kept::{Cursor, END};
use super::process::{self, Subject};
use super::text::Text;
use crate::arch::given;
use crate::fs::FileId;
use crate::fs::inode::{FIRST_GIVEN, NONE};
use crate::kernel::Kernel;
use crate::mm::Layout;
use crate::mm::area::{Area, Backing, Prot};
use paging::{GuestPhys, GuestVirt};

/// Where the name of an area starts, in characters.
const NAME_AT: usize = 73;
/// The file system of segments has a device number of its own: the first one, as on Linux.
const SEGMENTS: (u64, u64) = (0, 1);

/// What stands in the last columns of a line.
enum Name {
    None,
    /// A segment, by the key it was made with.
    Segment(u32),
    /// A file in the tree.
    File(FileId),
    /// A part of the program's memory.
    Part(&'static str),
}

/// The area of `/proc/PID/maps` that comes at `cursor`, an address, or after it: where the next one may.
pub fn record(kernel: &mut Kernel, subject: Subject, cursor: Cursor, text: &mut Text<'_>) -> Cursor {
    match next(kernel, subject, cursor) {
        Some((area, parts)) => {
            line(kernel, &area, parts, text);
            area.end.get()
        }
        None => END,
    }
}

/// The first area that ends after `cursor`, and what is needed to say which part of the program's memory it is.
pub fn next(kernel: &Kernel, subject: Subject, cursor: Cursor) -> Option<(Area, (Layout, u64))> {
    let (space, memory) = process::memory_of(kernel, subject)?;
    let area = space.first_area(memory, GuestVirt::new(cursor))?;
    Some((area, (space.layout(), space.program_break())))
}

/// The line of `area`.
pub fn line(kernel: &Kernel, area: &Area, parts: (Layout, u64), text: &mut Text<'_>) {
    let start = text.written();
    text.hex(area.start.get(), 8)
        .str("-")
        .hex(area.end.get(), 8)
        .str(" ");
    for (right, letter) in [(Prot::READ, "r"), (Prot::WRITE, "w"), (Prot::EXECUTE, "x")] {
        text.str(if area.prot.contains(right) { letter } else { "-" });
    }
    text.str(if area.is_shared() { "s " } else { "p " });
    let (offset, device, inode, name) = behind(kernel, area, parts);
    text.hex(offset, 8)
        .str(" ")
        .hex(device.0, 2)
        .str(":")
        .hex(device.1, 2);
    text.str(" ").dec(inode);
    if !matches!(name, Name::None) {
        text.str(" ");
        while text.written() - start < NAME_AT as u64 {
            text.str(" ");
        }
    }
    match name {
        Name::None => {}
        Name::Segment(key) => {
            text.str("/SYSV").hex(key.into(), 8).str(" (deleted)");
        }
        Name::Part(part) => {
            text.str(part);
        }
        Name::File(file) => {
            let mut room = [0; 512];
            // A line is a line whatever is in a name (`seq_file_path`).
            for (index, part) in kernel
                .files
                .path(file, &mut room)
                .split(|&byte| byte == b'\n')
                .enumerate()
            {
                text.str(if index > 0 { "\\012" } else { "" }).bytes(part);
            }
            if kernel.files.is_nameless(file) {
                text.str(" (deleted)");
            }
        }
    }
    text.str("\n");
}

/// Offset, device, inode number and name of what is behind an area.
fn behind(kernel: &Kernel, area: &Area, (layout, brk): (Layout, u64)) -> (u64, (u64, u64), u64, Name) {
    let tree = (0, kernel.boot().tree_id);
    let nothing = |name| (0, (0, 0), 0, name);
    match area.backing {
        Backing::Segment(part) => (
            part.offset,
            SEGMENTS,
            part.id as u64,
            Name::Segment(part.key as u32),
        ),
        Backing::File(part) => {
            let inode = kernel.files.inodes.get(part.file);
            let device = (0, tree.1 + kernel.files.device(part.file) as u64);
            let number = if inode.object == 0 {
                inode.number
            } else {
                inode.object
            };
            (part.offset, device, number, Name::File(part.file))
        }
        Backing::Image { phys, .. } => match given_at(kernel, phys) {
            Some((file, offset)) => {
                let inode = kernel.files.inodes.get(file).number;
                (offset, tree, inode, Name::File(file))
            }
            None => nothing(Name::Part("[vdso]")),
        },
        // On Linux shared anonymous memory is a file, of a device of its own.
        Backing::SharedAnonymous { .. } => (0, SEGMENTS, 1, Name::Part("/dev/zero (deleted)")),
        Backing::Anonymous => {
            let within = |from: u64, to: u64| area.start.get() < to && from < area.end.get();
            nothing(if within(layout.brk, brk) {
                Name::Part("[heap]")
            } else if within(layout.stack, layout.stack + 1) {
                Name::Part("[stack]")
            } else {
                Name::None
            })
        }
    }
}

/// The file that travelled with the guest and lies at `phys`, and where in it that is.
fn given_at(kernel: &Kernel, phys: GuestPhys) -> Option<(FileId, u64)> {
    let at = phys.get();
    let files = given::files(kernel.boot());
    let index = files
        .iter()
        .position(|file| (file.contents.start..file.contents.start + file.contents.len).contains(&at))?;
    let file = FileId(FIRST_GIVEN + index as u16);
    (file != NONE).then_some((file, at - files[index].contents.start))
}
