//! The ELF files that become guests: programs ([`Program`]) and the guest kernel ([`KernelImage`]).
//!
//! A program is checked here once, in full, so that the guest kernel's loader meets only files that can be run
//! and the person who started it reads what is wrong with the others. The rules are Linux's (`fs/binfmt_elf.c`,
//! elf(5)) and a bit stricter where a file could only be an accident or an attack: overlapping, wrapping or
//! absurdly large segments. Only headers that say what is loaded are looked at; section headers are the
//! debugger's. [`elf_file`] has the checks both kinds of image share, [`kernel`] the kernel, `builtin` the
//! images built into the library.

mod builtin;
mod elf_file;
pub mod kernel;

pub use builtin::{KERNEL, PROGRAMS, VDSO};
pub use kernel::KernelImage;

use crate::error::VmmError;
use abi::PAGE_SIZE;
use abi::memory::{MMAP_MIN_ADDR, USER_END};
use elf::abi::{ET_CORE, ET_DYN, ET_EXEC, ET_REL, PF_X, PT_INTERP};
use elf_file::{ElfFile, Load};
use rustix::fs::{Access, access};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Largest program file, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// Largest span from a program's first to its last byte in memory, in bytes.
pub const MAX_SPAN: u64 = 1 << 40;

/// A static Linux x86-64 program, checked and ready to be put into a guest.
#[derive(Debug)]
pub struct Program {
    name: PathBuf,
    bytes: Vec<u8>,
}

impl Program {
    /// Reads and checks the program at `path`; its name in the guest is the canonical absolute path.
    ///
    /// # Errors
    /// [`VmmError::ProgramFile`] if there is no such file or it can't be read or executed,
    /// [`VmmError::NotRunnable`] if it is not a program that runs in a guest.
    pub fn load(path: impl AsRef<Path>) -> Result<Program, VmmError> {
        let path = path.as_ref();
        let failed = |source: io::Error| VmmError::ProgramFile {
            path: path.to_owned(),
            source,
        };
        let name = std::fs::canonicalize(path).map_err(failed)?;
        let metadata = std::fs::metadata(&name).map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let unfit = |reason: String| VmmError::NotRunnable {
            path: path.to_owned(),
            reason,
        };
        if !metadata.is_file() {
            return Err(unfit("not a regular file".into()));
        }
        if metadata.len() > MAX_FILE {
            return Err(unfit(format!(
                "{} bytes: a program file has at most {MAX_FILE}",
                metadata.len()
            )));
        }
        // Without the x bit a shell says 126, even to root (access(2): root needs one x bit, too).
        access(&name, Access::EXEC_OK).map_err(|errno| failed(errno.into()))?;
        let bytes = std::fs::read(&name).map_err(failed)?;
        check(&bytes).map_err(unfit)?;
        Ok(Program { name, bytes })
    }

    /// Checks a program that is in memory already; `name` is its absolute path in the guest.
    ///
    /// # Errors
    /// [`VmmError::NotRunnable`] as [`Program::load`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Result<Program, VmmError> {
        let (name, bytes) = (name.into(), bytes.into());
        match check(&bytes) {
            Ok(()) => Ok(Program { name, bytes }),
            Err(reason) => Err(VmmError::NotRunnable { path: name, reason }),
        }
    }

    /// The program of `guest/user` with this name, which is built into the library.
    ///
    /// # Errors
    /// [`VmmError::Config`] if there is none.
    pub fn builtin(name: &str) -> Result<Program, VmmError> {
        match PROGRAMS.iter().find(|(known, _)| *known == name) {
            Some((_, bytes)) => Program::from_bytes(format!("/tombolo/{name}"), *bytes),
            None => Err(VmmError::Config(format!("no program named {name} is built in"))),
        }
    }

    /// Its absolute name in the guest.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.as_os_str().as_bytes()
    }

    /// The file's contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether these are the bytes of a program that runs in a guest; otherwise why not.
fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"#!") {
        return Err("a script: name its interpreter as the program, which must be statically linked".into());
    }
    let file = ElfFile::parse(bytes)?;
    match file.kind {
        ET_EXEC | ET_DYN => {}
        ET_REL => return Err("an object file: link it into a program first".into()),
        ET_CORE => return Err("a core dump, not a program".into()),
        other => return Err(format!("ELF type {other}: not a program")),
    }
    if file.headers.iter().any(|header| header.p_type == PT_INTERP) {
        return Err(
            "dynamically linked: guests run static programs only; link it with `cc -static`, \
                    `musl-gcc -static` or, for Rust, `-C target-feature=+crt-static`"
                .into(),
        );
    }
    let loads = file.loads()?;
    let (Some(first), Some(last)) = (loads.first(), loads.last()) else {
        return Err(format!(
            "no segment to load (PT_LOAD) among {} program headers",
            file.headers.len()
        ));
    };
    if file.kind == ET_EXEC && first.start < MMAP_MIN_ADDR {
        return Err(format!(
            "a segment at {:#x}: nothing may be mapped below {MMAP_MIN_ADDR:#x}",
            first.start
        ));
    }
    let span = last.end - first.start;
    if last.end > USER_END || span > MAX_SPAN {
        return Err(format!(
            "a segment ends at {:#x}: programs end below {USER_END:#x} and span at most {MAX_SPAN:#x} bytes",
            last.end
        ));
    }
    for load in &loads {
        // Pages of the file are mapped as they are, so both sides must agree on where in a page they start.
        if load.file_len > 0 && load.start % PAGE_SIZE != load.offset % PAGE_SIZE {
            return Err(format!(
                "the segment at {:#x} can't be mapped from file offset {:#x}: they differ modulo {PAGE_SIZE}",
                load.start, load.offset
            ));
        }
    }
    let runs = |load: &Load| load.flags & PF_X != 0 && load.start <= file.entry && file.entry < load.end;
    if !loads.iter().any(runs) {
        return Err(format!(
            "the entry point {:#x} lies in no executable segment",
            file.entry
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
