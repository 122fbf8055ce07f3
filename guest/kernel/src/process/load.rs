//! A static ELF file becomes an address space (ELF-64 specification; Linux's binfmt_elf for what is not in it).
//!
//! A file that travelled with the guest lies page-aligned in RAM: read-only segments are areas that map its pages in
//! place, shared by all processes that run it; writable ones are private copies, made page by page when touched. What
//! a program has written itself, or changed, is mapped from the tree as mmap does it. The VMM has looked at the first
//! kind before, but nothing here relies on that: every number is checked.

use crate::mm::area::{Backing, FilePart, Prot};
use crate::mm::{AddressSpace, FileId, Memory, Placement, World};
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use abi::{Errno, PAGE_SIZE};
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use paging::{GuestPhys, GuestVirt};

/// Where position-independent programs are loaded: where Linux has them without randomisation.
const PIE_BASE: u64 = 0x5555_5555_4000;

/// Where a program is.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// In RAM, from this page on, all of it.
    Image(&'static [u8], GuestPhys),
    /// In a file in the tree, of this length, whose first bytes these are.
    File(FileId, u64, &'a [u8]),
}

impl<'a> Source<'a> {
    /// As much of the file as is at hand.
    const fn bytes(&self) -> &'a [u8] {
        match *self {
            Source::Image(bytes, _) | Source::File(_, _, bytes) => bytes,
        }
    }

    const fn len(&self) -> u64 {
        match *self {
            Source::Image(bytes, _) => bytes.len() as u64,
            Source::File(_, len, _) => len,
        }
    }
}

/// What the stack and the first instruction need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// First instruction.
    pub entry: u64,
    /// Where the program headers are in memory, 0 if no segment holds them.
    pub headers: u64,
    /// How many.
    pub header_count: u64,
    /// Size of each, bytes.
    pub header_size: u64,
    /// Added to the file's addresses.
    pub base: u64,
    /// First page-aligned address after the program.
    pub end: u64,
    /// May the stack hold code?
    pub executable_stack: bool,
}

/// One loadable segment, checked: addresses are final.
struct Segment {
    start: u64,
    file_end: u64,
    end: u64,
    offset: u64,
    prot: Prot,
}

fn page_down(value: u64) -> u64 {
    value & !(PAGE_SIZE - 1)
}

fn page_up(value: u64) -> u64 {
    page_down(value + PAGE_SIZE - 1)
}

fn segment(header: &ProgramHeader, base: u64, file_len: u64) -> Result<Segment, Errno> {
    let start = base.checked_add(header.p_vaddr).ok_or(Errno::ENOEXEC)?;
    let end = start.checked_add(header.p_memsz).ok_or(Errno::ENOEXEC)?;
    let offset_end = header
        .p_offset
        .checked_add(header.p_filesz)
        .ok_or(Errno::ENOEXEC)?;
    let congruent = header.p_offset % PAGE_SIZE == start % PAGE_SIZE;
    if header.p_filesz > header.p_memsz || offset_end > file_len || !congruent {
        return Err(Errno::ENOEXEC);
    }
    if page_down(start) < MMAP_MIN_ADDR || end > USER_END - PAGE_SIZE {
        return Err(Errno::ENOEXEC);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, header.p_flags & PF_R != 0);
    prot.set(Prot::WRITE, header.p_flags & PF_W != 0);
    prot.set(Prot::EXECUTE, header.p_flags & PF_X != 0);
    Ok(Segment {
        start,
        file_end: start + header.p_filesz,
        end,
        offset: header.p_offset,
        prot,
    })
}

/// Maps the program in `source` into the empty `space`.
///
/// # Errors
/// ENOEXEC for what is not a static x86-64 program, ENOMEM when areas run out.
pub fn load(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    source: &Source<'_>,
) -> Result<Loaded, Errno> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(source.bytes()).map_err(|_| Errno::ENOEXEC)?;
    let header = elf.ehdr;
    let kind = header.e_type;
    if header.e_machine != EM_X86_64 || (kind != ET_EXEC && kind != ET_DYN) {
        return Err(Errno::ENOEXEC);
    }
    let base = if kind == ET_DYN { PIE_BASE } else { 0 };
    let mut loaded = Loaded {
        entry: base.wrapping_add(header.e_entry),
        headers: 0,
        header_count: u64::from(header.e_phnum),
        header_size: u64::from(header.e_phentsize),
        base,
        end: 0,
        // Without PT_GNU_STACK Linux makes the stack of x86-64 programs not executable.
        executable_stack: false,
    };
    let mut file_data = 0;
    for program_header in elf.segments().ok_or(Errno::ENOEXEC)? {
        match program_header.p_type {
            PT_INTERP => return Err(Errno::ENOEXEC),
            PT_GNU_STACK => loaded.executable_stack = program_header.p_flags & PF_X != 0,
            PT_LOAD if program_header.p_memsz > 0 => {
                let segment = segment(&program_header, base, source.len())?;
                // Segments rise: the last one's (mm->start_data and end_data in Linux).
                file_data = segment.file_end - segment.start;
                if segment.start < loaded.end {
                    return Err(Errno::ENOEXEC);
                }
                place(space, memory, world, &segment, source)?;
                let in_file = segment.offset..segment.offset + (segment.file_end - segment.start);
                if in_file.contains(&header.e_phoff) {
                    loaded.headers = segment.start + (header.e_phoff - segment.offset);
                }
                loaded.end = page_up(segment.end);
            }
            _ => {}
        }
    }
    if loaded.end == 0 || loaded.entry >= USER_END {
        return Err(Errno::ENOEXEC);
    }
    space.set_program_end(GuestVirt::new(loaded.end), file_data);
    Ok(loaded)
}

fn place(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    segment: &Segment,
    source: &Source<'_>,
) -> Result<(), Errno> {
    let start = page_down(segment.start);
    // A segment without bytes from the file begins with zeros, not with the page its offset falls into.
    let file_end = if segment.file_end > segment.start {
        page_up(segment.file_end)
    } else {
        start
    };
    let end = page_up(segment.end);
    let all = Prot::READ | Prot::WRITE | Prot::EXECUTE;
    let mut map = |from: u64, to: u64, backing: Backing| -> Result<(), Errno> {
        if from < to {
            let at = Placement::FixedNoReplace(GuestVirt::new(from));
            space.map(memory, world, at, to - from, segment.prot, all, backing)?;
        }
        Ok(())
    };
    // In a writable segment memory past the file's bytes is zero; a read-only one shows the file's page.
    let writable = segment.prot.contains(Prot::WRITE);
    let offset = page_down(segment.offset);
    let backing = match *source {
        Source::Image(_, contents) => Backing::Image {
            phys: contents.add(offset),
            len: if writable { segment.file_end } else { file_end } - start,
        },
        Source::File(file, _, _) => Backing::File(FilePart {
            file,
            offset,
            shared: false,
        }),
    };
    map(start, file_end, backing)?;
    map(file_end, end, Backing::Anonymous)?;
    if matches!(source, Source::File(..)) && writable && segment.file_end < file_end {
        space
            .clear_out(memory, world, segment.file_end, file_end - segment.file_end)
            .map_err(|_| Errno::ENOMEM)?;
    }
    Ok(())
}
