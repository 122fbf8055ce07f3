//! The texts that the broker makes for guests' `/proc`: the table of segments, and the settings.

use super::segment::Backing;
use abi::hypercall::{
    PROC_SHM, PROC_SHM_NEXT_ID, PROC_SHM_RMID_FORCED, PROC_SHMALL, PROC_SHMMAX, PROC_SHMMNI,
};
use abi::{Errno, PAGE_SIZE};
use shm::{Registry, Setting, TABLE_HEADER, TableLine};

/// A file in a guest's `/proc` whose contents are the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcFile {
    /// `/proc/sysvipc/shm`.
    Table,
    /// `/proc/sys/kernel/shm*`.
    Setting(Setting),
}

impl ProcFile {
    /// The file with this number ([`PROC_SHM`] …).
    ///
    /// # Errors
    /// EINVAL if there is none.
    pub fn from_raw(number: u64) -> Result<ProcFile, Errno> {
        Ok(match number {
            PROC_SHM => ProcFile::Table,
            PROC_SHMMAX => ProcFile::Setting(Setting::Max),
            PROC_SHMALL => ProcFile::Setting(Setting::All),
            PROC_SHMMNI => ProcFile::Setting(Setting::Mni),
            PROC_SHM_NEXT_ID => ProcFile::Setting(Setting::NextId),
            PROC_SHM_RMID_FORCED => ProcFile::Setting(Setting::RmidForced),
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// At most `len` bytes (and a page) of a file from `offset` on; nothing at the end.
pub(super) fn read(registry: &Registry<Backing>, file: ProcFile, offset: u64, len: u64) -> Vec<u8> {
    let len = len.min(PAGE_SIZE) as usize;
    match file {
        ProcFile::Table => table(registry, offset, len),
        // Linux gives a setting to a read from the start only: any other is at the end (`proc_dointvec`).
        ProcFile::Setting(setting) if offset == 0 => {
            let mut text = registry.setting(setting).into_bytes();
            text.truncate(len);
            text
        }
        ProcFile::Setting(_) => Vec::new(),
    }
}

fn table(registry: &Registry<Backing>, offset: u64, len: usize) -> Vec<u8> {
    let mut part = Part {
        skip: offset,
        len,
        text: Vec::new(),
    };
    part.take(TABLE_HEADER.len(), || TABLE_HEADER.to_owned());
    for segment in registry.iter() {
        if part.is_full() {
            break;
        }
        let line = TableLine::of(segment);
        // What is in memory costs a system call: asked only for lines that are wanted.
        part.take(line.len(), || {
            line.finish(segment.backing.resident_pages().saturating_mul(PAGE_SIZE), 0)
        });
    }
    part.text
}

/// The part of a text that is read.
struct Part {
    /// Bytes still to be left out.
    skip: u64,
    /// Bytes wanted in all.
    len: usize,
    text: Vec<u8>,
}

impl Part {
    fn is_full(&self) -> bool {
        self.text.len() >= self.len
    }

    fn take(&mut self, line_len: usize, line: impl FnOnce() -> String) {
        if self.skip >= line_len as u64 {
            self.skip -= line_len as u64;
            return;
        }
        let line = line();
        let wanted = line.as_bytes().get(self.skip as usize..).unwrap_or_default();
        let room = self.len.saturating_sub(self.text.len());
        self.text.extend_from_slice(&wanted[..wanted.len().min(room)]);
        self.skip = 0;
    }
}
