//! The texts that the broker makes for guests' `/proc`: the table of segments, and the settings.

use super::segment::Backing;
use abi::hypercall::{
    PROC_SHM, PROC_SHM_NEXT_ID, PROC_SHM_RMID_FORCED, PROC_SHMALL, PROC_SHMMAX, PROC_SHMMNI,
};
use abi::{Errno, PAGE_SIZE};
use shm::{Registry, Setting, TABLE_HEADER, TableLine, index_of};

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

/// At most `len` bytes (and a page) of a file; nothing at the end. Of a setting from byte `offset` on; of the table whole
/// lines from number `offset` on: 0 is the first one, of names, and a segment's is its place in the table and 1.
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

fn table(registry: &Registry<Backing>, from: u64, len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    if from == 0 {
        text.extend_from_slice(TABLE_HEADER.as_bytes());
    }
    for segment in registry.iter() {
        if u64::from(index_of(segment.id)) + 1 < from {
            continue;
        }
        let line = TableLine::of(segment);
        if text.len() + line.len() > len {
            break;
        }
        // What is in memory costs a system call: asked only for lines that are wanted.
        let resident = segment.backing.resident_pages().saturating_mul(PAGE_SIZE);
        text.extend_from_slice(line.finish(resident, 0).as_bytes());
    }
    // A guest that has no room for the first line is given a part of it.
    text.truncate(len);
    text
}
