//! The guest kernel's image: what is loaded where, and the names of its functions for backtraces.
//!
//! The image is linked at [`KERNEL_VIRT`] and loaded at [`KERNEL_GPA`]; its [`KernelHeader`] says which version
//! of the contract it was built with and where its entry points are. All that is checked here, so that
//! `boot` can lay it out without a doubt.

use super::elf_file::{ElfFile, Load};
use crate::error::VmmError;
use abi::ABI_VERSION;
use abi::boot::{HEADER_MAGIC, HEADER_SECTION, KernelHeader, VECTORS};
use abi::memory::{KERNEL_GPA, KERNEL_VIRT, VCPU_AREAS};
use elf::ElfBytes;
use elf::abi::{ET_EXEC, PF_W, PF_X};
use elf::endian::LittleEndian;
use paging::{GuestPhys, GuestVirt, PAGE_SIZE, Rights};
use std::sync::Arc;
use zerocopy::FromBytes;

/// A kernel image, checked.
#[derive(Debug)]
pub struct KernelImage {
    bytes: Arc<[u8]>,
    entry: GuestVirt,
    header: KernelHeader,
    segments: Vec<Segment>,
}

/// A part of the kernel with rights of its own.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where it is linked, page-aligned.
    pub virt: GuestVirt,
    /// Where it is loaded.
    pub phys: GuestPhys,
    /// Its size in pages.
    pub pages: u64,
    /// What the kernel may do with it: never both write and execute.
    pub rights: Rights,
    file_offset: usize,
    file_len: usize,
}

impl KernelImage {
    /// Parses `bytes`, or the image built into the library.
    ///
    /// # Errors
    /// [`VmmError::KernelImage`]: not such an image, or one of another ABI version.
    pub fn parse(bytes: Option<Arc<[u8]>>) -> Result<KernelImage, VmmError> {
        let bytes = bytes.unwrap_or_else(|| Arc::from(super::KERNEL));
        parse(bytes).map_err(VmmError::KernelImage)
    }

    /// Where every vCPU starts.
    #[must_use]
    pub fn entry(&self) -> GuestVirt {
        self.entry
    }

    /// What the image says of itself.
    #[must_use]
    pub fn header(&self) -> &KernelHeader {
        &self.header
    }

    /// Its segments, in ascending order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The bytes of a segment that come from the file; the rest of it is zero.
    #[must_use]
    pub fn contents(&self, segment: &Segment) -> &[u8] {
        self.bytes
            .get(segment.file_offset..segment.file_offset + segment.file_len)
            .unwrap_or_default()
    }

    /// First frame after the image.
    #[must_use]
    pub fn end(&self) -> GuestPhys {
        self.segments.last().map_or(GuestPhys::new(KERNEL_GPA), |last| {
            last.phys.add(last.pages * PAGE_SIZE)
        })
    }

    /// The function that `address` lies in, and how far in, if the image has symbols. Slow: for epitaphs.
    #[must_use]
    pub fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(&self.bytes).ok()?;
        let (symbols, names) = file.symbol_table().ok()??;
        // Local labels of assembly have no size: the nearest symbol below counts.
        let symbol = symbols
            .iter()
            .filter(|symbol| symbol.st_shndx != 0 && symbol.st_name != 0 && symbol.st_value <= address)
            .max_by_key(|symbol| (symbol.st_value, symbol.st_size))?;
        if symbol.st_size != 0 && address - symbol.st_value >= symbol.st_size {
            return None;
        }
        let name = names.get(symbol.st_name as usize).ok()?;
        Some((
            format!("{:#}", rustc_demangle::demangle(name)),
            address - symbol.st_value,
        ))
    }
}

fn parse(bytes: Arc<[u8]>) -> Result<KernelImage, String> {
    let file = ElfFile::parse(&bytes)?;
    if file.kind != ET_EXEC {
        return Err(format!(
            "ELF type {}: the kernel must be linked at a fixed address (ET_EXEC)",
            file.kind
        ));
    }
    let header = header(&bytes)?;
    let segments = file.loads()?.iter().map(segment).collect::<Result<Vec<_>, _>>()?;
    for pair in segments.windows(2) {
        if pair[0].virt.add(pair[0].pages * PAGE_SIZE) > pair[1].virt {
            return Err(format!("segments share the page at {:#x}", pair[1].virt));
        }
    }
    let executable = |start: u64, len: u64| {
        segments.iter().any(|segment| {
            let offset = start.wrapping_sub(segment.virt.get());
            segment.rights.contains(Rights::EXECUTE)
                && offset
                    .checked_add(len)
                    .is_some_and(|end| end <= segment.pages * PAGE_SIZE)
        })
    };
    let stubs = VECTORS as u64 * u64::from(header.stub_stride);
    for (what, start, len) in [
        ("entry point", file.entry, 1),
        ("SYSCALL entry", header.syscall_entry, 1),
        ("trap stubs", header.trap_stubs, stubs),
    ] {
        if !executable(start, len) {
            return Err(format!("the {what} at {start:#x} lies in no executable segment"));
        }
    }
    Ok(KernelImage {
        entry: GuestVirt::new(file.entry),
        header,
        segments,
        bytes,
    })
}

fn header(bytes: &[u8]) -> Result<KernelHeader, String> {
    let file =
        ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|error| format!("bad ELF file: {error}"))?;
    let missing = || format!("not a Tombolo kernel: it has no valid section {HEADER_SECTION}");
    let section = file
        .section_header_by_name(HEADER_SECTION)
        .ok()
        .flatten()
        .ok_or_else(missing)?;
    let (data, _) = file.section_data(&section).map_err(|_| missing())?;
    let (header, _) = KernelHeader::read_from_prefix(data).map_err(|_| missing())?;
    if header.magic != HEADER_MAGIC {
        return Err(missing());
    }
    if header.abi_version != ABI_VERSION {
        return Err(format!(
            "built for ABI version {}, this VMM has version {ABI_VERSION}: build both from one source",
            header.abi_version
        ));
    }
    Ok(header)
}

fn segment(load: &Load) -> Result<Segment, String> {
    let at = load.start;
    if load.start < KERNEL_VIRT || load.end > VCPU_AREAS || !load.start.is_multiple_of(PAGE_SIZE) {
        return Err(format!(
            "the segment at {at:#x} is not page-aligned between {KERNEL_VIRT:#x} and {VCPU_AREAS:#x}"
        ));
    }
    if load.flags & PF_W != 0 && load.flags & PF_X != 0 {
        return Err(format!("the segment at {at:#x} is both writable and executable"));
    }
    let mut rights = Rights::empty();
    rights.set(Rights::WRITE, load.flags & PF_W != 0);
    rights.set(Rights::EXECUTE, load.flags & PF_X != 0);
    Ok(Segment {
        virt: GuestVirt::new(load.start),
        phys: GuestPhys::new(load.start - KERNEL_VIRT + KERNEL_GPA),
        pages: (load.end - load.start).div_ceil(PAGE_SIZE),
        rights,
        file_offset: load.offset as usize,
        file_len: load.file_len as usize,
    })
}
