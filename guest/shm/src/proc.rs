//! `/proc/sysvipc/shm` and `/proc/sys/kernel/shm{max,all,mni}` as texts.
//!
//! The table's columns are `sysvipc_shm_proc_show`'s (`ipc/shm.c`); what a limit's file takes and gives back is
//! `proc_dointvec_minmax`'s and `proc_doulongvec_minmax`'s (`kernel/sysctl.c`), found out by writing to the real
//! files. `tests/linux` compares both with the host's.

use crate::Limits;
use crate::ids::MOST;
use crate::registry::Segment;
use abi::Errno;
use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

/// The first line of `/proc/sysvipc/shm`.
pub const TABLE_HEADER: &str = concat!(
    "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid",
    "      atime      dtime      ctime                   rss                  swap\n"
);

/// Bytes of a line's last two columns and its end: rss and swap are never wider than their columns.
const MEMORY_COLUMNS: usize = 45;

/// A number's text is shorter than this, sign and prefix included (`proc_get_long`).
const NUMBER_END: usize = 21;

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

/// One of the limits that have a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `shmmax`: [`Limits::max`].
    Max,
    /// `shmall`: [`Limits::all`].
    All,
    /// `shmmni`: [`Limits::mni`].
    Mni,
}

impl Limit {
    /// What its file says: a decimal number and the end of the line.
    #[must_use]
    pub fn text(self, limits: &Limits) -> String {
        format!("{}\n", self.of(limits))
    }

    /// Its value.
    #[must_use]
    pub const fn of(self, limits: &Limits) -> u64 {
        match self {
            Limit::Max => limits.max,
            Limit::All => limits.all,
            Limit::Mni => limits.mni,
        }
    }

    /// Largest value it can have.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Limit::Max | Limit::All => u64::MAX,
            Limit::Mni => MOST as u64,
        }
    }

    /// Writes `text` to its file; returns how many bytes of it were used, the white space after the number
    /// included. What comes after that is not looked at.
    ///
    /// # Errors
    /// EINVAL if it does not begin with a number (after white space; octal after 0, hexadecimal after 0x) that is
    /// at least 0 and at most [`Limit::most`].
    pub fn write(self, text: &[u8], limits: &mut Limits) -> Result<usize, Errno> {
        if text.is_empty() {
            return Ok(0);
        }
        // Linux looks at what fits into a page with a NUL, and counts the rest as used.
        let looked_at = text.get(..abi::PAGE_SIZE as usize - 1).unwrap_or(text);
        let before = leading_spaces(looked_at);
        let (value, len) = self.number(&looked_at[before..])?;
        if value > self.most() {
            return Err(Errno::EINVAL);
        }
        match self {
            Limit::Max => limits.max = value,
            Limit::All => limits.all = value,
            Limit::Mni => limits.mni = value,
        }
        let rest = &looked_at[before + len..];
        Ok(text.len() - (rest.len() - leading_spaces(rest)))
    }

    /// The number that `text` begins with, and its length.
    fn number(self, text: &[u8]) -> Result<(u64, usize), Errno> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (radix, prefix) = match digits {
            [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, 2),
            [b'0', ..] => (8, 0),
            _ => (10, 0),
        };
        let mut value = 0u64;
        let mut len = prefix;
        while let Some(digit) = digits.get(len).and_then(|&byte| char::from(byte).to_digit(radix)) {
            value = value
                .checked_mul(u64::from(radix))
                .and_then(|value| value.checked_add(u64::from(digit)))
                .ok_or(Errno::EINVAL)?;
            len += 1;
        }
        let total = len + usize::from(negative);
        let ended = matches!(digits.get(len), None | Some(b' ' | b'\t' | b'\n'));
        // Nothing below 0 is in range; the unsigned ones don't even take -0.
        let in_range = !negative || (self == Limit::Mni && value == 0);
        if len == 0 || total >= NUMBER_END || !ended || !in_range {
            return Err(Errno::EINVAL);
        }
        Ok((value, total))
    }
}

/// How many bytes at the start are white space to the kernel (`isspace` of `linux/ctype.h`, Latin-1).
fn leading_spaces(text: &[u8]) -> usize {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0);
    text.iter().take_while(|byte| is_space(byte)).count()
}
