//! `/proc/sysvipc/shm` as text.
//!
//! The table's columns are `sysvipc_shm_proc_show`'s (`ipc/shm.c`); `tests/linux` compares it with the host's.

use crate::registry::Segment;
use alloc::string::String;
use core::fmt::Write as _;

/// The first line of `/proc/sysvipc/shm`.
pub const TABLE_HEADER: &str = concat!(
    "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid",
    "      atime      dtime      ctime                   rss                  swap\n"
);

/// Bytes of a line's last two columns and its end: rss and swap are never wider than their columns.
const MEMORY_COLUMNS: usize = 45;

/// One segment's line of `/proc/sysvipc/shm`, but for what it has in memory.
#[derive(Debug)]
pub struct TableLine {
    text: String,
}

impl TableLine {
    /// The line of `segment`.
    #[must_use]
    pub fn of<B>(segment: &Segment<B>) -> TableLine {
        let s = segment;
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
            s.key,
            s.id,
            s.mode,
            s.size,
            s.cpid,
            s.lpid,
            s.nattch,
            s.uid,
            s.gid,
            s.cuid,
            s.cgid,
            // Linux prints its seconds unsigned.
            s.atime as u64,
            s.dtime as u64,
            s.ctime as u64,
        );
        TableLine { text }
    }

    /// Bytes of the whole line.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len() + MEMORY_COLUMNS
    }

    /// Never: a line has its columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The whole line, for a segment with `resident` bytes in memory and `swapped` bytes in swap.
    #[must_use]
    pub fn finish(mut self, resident: u64, swapped: u64) -> String {
        let _ = writeln!(self.text, " {resident:21} {swapped:21}");
        self.text
    }
}
