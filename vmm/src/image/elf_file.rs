//! The part of an ELF file that says what is loaded, parsed with every bound checked.

use elf::ParseError;
use elf::abi::{EM_AARCH64, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

const IDENT_LEN: usize = 16;
const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: u16 = 56;
/// Linux's limit: all program headers fit into 64 KiB (`fs/binfmt_elf.c`).
const MOST_HEADERS: u16 = u16::MAX / PROGRAM_HEADER_LEN;

/// Header and program headers of a 64-bit x86 ELF file.
#[derive(Debug)]
pub(super) struct ElfFile {
    /// `e_type`.
    pub(super) kind: u16,
    /// `e_entry`.
    pub(super) entry: u64,
    /// All program headers, in the file's order.
    pub(super) headers: Vec<ProgramHeader>,
    len: u64,
}

/// A segment to load, all sums checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Address of its first byte.
    pub(super) start: u64,
    /// Address after its last byte in memory.
    pub(super) end: u64,
    /// Where its bytes start in the file.
    pub(super) offset: u64,
    /// How many of its bytes come from the file; the rest are zero.
    pub(super) file_len: u64,
    /// PF_R, PF_W, PF_X.
    pub(super) flags: u32,
}

impl ElfFile {
    pub(super) fn parse(bytes: &[u8]) -> Result<ElfFile, String> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err("not an ELF file".into());
        }
        let (ident, tail) = match bytes.get(..HEADER_LEN) {
            Some(header) => header.split_at(IDENT_LEN),
            None => {
                return Err(format!(
                    "truncated: {} bytes are less than an ELF header",
                    bytes.len()
                ));
            }
        };
        let ident = parse_ident::<LittleEndian>(ident).map_err(|error| match error {
            ParseError::UnsupportedElfEndianness(_) => {
                "big-endian: this is a program for another machine".into()
            }
            other => format!("bad ELF header: {other}"),
        })?;
        if ident.1 == Class::ELF32 {
            return Err("a 32-bit program: only 64-bit x86 programs can be run".into());
        }
        let header =
            FileHeader::parse_tail(ident, tail).map_err(|error| format!("bad ELF header: {error}"))?;
        if header.e_machine != EM_X86_64 {
            return Err(format!(
                "a program for another machine ({}, ELF machine {}): only x86-64 programs can be run",
                match header.e_machine {
                    EM_AARCH64 => "Arm 64-bit",
                    EM_RISCV => "RISC-V",
                    EM_PPC64 => "PowerPC 64-bit",
                    EM_S390 => "IBM Z",
                    _ => "one I can't name",
                },
                header.e_machine
            ));
        }
        let headers = program_headers(bytes, &header)?;
        Ok(ElfFile {
            kind: header.e_type,
            entry: header.e_entry,
            headers,
            len: bytes.len() as u64,
        })
    }

    /// The segments to load in ascending order, none empty, none overlapping, each inside the file.
    pub(super) fn loads(&self) -> Result<Vec<Load>, String> {
        let mut loads: Vec<Load> = Vec::new();
        for header in self
            .headers
            .iter()
            .filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
        {
            let load = self.load(header)?;
            if let Some(before) = loads.last().filter(|before| before.end > load.start) {
                return Err(format!(
                    "the segments at {:#x} and {:#x} overlap or are out of order",
                    before.start, load.start
                ));
            }
            loads.push(load);
        }
        Ok(loads)
    }

    fn load(&self, header: &ProgramHeader) -> Result<Load, String> {
        let ProgramHeader {
            p_vaddr: start,
            p_offset: offset,
            p_filesz: file_len,
            p_memsz: len,
            ..
        } = *header;
        if file_len > len {
            return Err(format!(
                "the segment at {start:#x} has {file_len} bytes in the file, but {len} in memory"
            ));
        }
        if offset.checked_add(file_len).is_none_or(|end| end > self.len) {
            return Err(format!(
                "truncated: the segment at {start:#x} needs {file_len} bytes at offset {offset:#x} of {} bytes",
                self.len
            ));
        }
        let end = start
            .checked_add(len)
            .ok_or_else(|| format!("the segment at {start:#x} with {len:#x} bytes wraps around"))?;
        // 0 and 1 mean "any" (elf(5)).
        if header.p_align > 1 && !header.p_align.is_power_of_two() {
            return Err(format!(
                "the segment at {start:#x} wants alignment {:#x}: not a power of two",
                header.p_align
            ));
        }
        Ok(Load {
            start,
            end,
            offset,
            file_len,
            flags: header.p_flags,
        })
    }
}

fn program_headers(bytes: &[u8], header: &FileHeader<LittleEndian>) -> Result<Vec<ProgramHeader>, String> {
    let count = header.e_phnum;
    if count == 0 || count > MOST_HEADERS {
        return Err(format!(
            "{count} program headers: a program has 1 to {MOST_HEADERS}"
        ));
    }
    if header.e_phentsize != PROGRAM_HEADER_LEN {
        return Err(format!(
            "program headers of {} bytes instead of {PROGRAM_HEADER_LEN}",
            header.e_phentsize
        ));
    }
    let table = usize::try_from(header.e_phoff)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(usize::from(count * PROGRAM_HEADER_LEN))?))
        .ok_or_else(|| {
            format!(
                "truncated: {count} program headers at offset {:#x}",
                header.e_phoff
            )
        })?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, table)
        .iter()
        .collect())
}
