//! `/proc/sys/kernel/shm*`: the settings of a group, on Linux of an IPC namespace.
//!
//! What a file takes and gives back is `proc_dointvec_minmax`'s and `proc_doulongvec_minmax`'s (`kernel/sysctl.c`),
//! found out by writing to the real files; what the settings do is `ipc/ipc_sysctl.c`, `ipc/shm.c` and `ipc/util.c`.
//! `tests/linux` compares both with the host's.

use crate::ids::MOST;
use crate::registry::{Registry, Segment};
use abi::Errno;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A number's text is shorter than this, sign and prefix included (`proc_get_long`).
const NUMBER_END: usize = 21;

/// A setting that has a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `shmmax`: [`crate::Limits::max`].
    Max,
    /// `shmall`: [`crate::Limits::all`].
    All,
    /// `shmmni`: [`crate::Limits::mni`].
    Mni,
    /// `shm_next_id`: the id that the next segment is to have, if its index is free; -1 if any will do.
    NextId,
    /// `shm_rmid_forced`: whether a segment is destroyed as soon as nobody has it attached and who made it has ended,
    /// removed or not.
    RmidForced,
}

/// A write to a setting's file that was taken.
#[derive(Debug)]
pub struct Written<B> {
    /// Bytes of the text that were used, the white space after the number included.
    pub used: usize,
    /// What that destroyed.
    pub destroyed: Vec<Segment<B>>,
}

impl Setting {
    /// Largest value that can be written. The least is 0.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Setting::Max | Setting::All => u64::MAX,
            Setting::Mni => MOST as u64,
            Setting::NextId => i32::MAX as u64,
            Setting::RmidForced => 1,
        }
    }

    /// Whether Linux keeps it as an `int`.
    const fn is_signed(self) -> bool {
        !matches!(self, Setting::Max | Setting::All)
    }

    /// The value that `text` sets it to, if it says any, and how many bytes of it are used. What comes after the white
    /// space that follows the number is not looked at.
    ///
    /// # Errors
    /// EINVAL if it does not begin with a number (after white space; octal after 0, hexadecimal after 0x) that is
    /// at least 0 and at most [`Setting::most`].
    fn parse(self, text: &[u8]) -> Result<(Option<u64>, usize), Errno> {
        if text.is_empty() {
            return Ok((None, 0));
        }
        // Linux looks at what fits into a page with a NUL, and counts the rest as used.
        let looked_at = text.get(..abi::PAGE_SIZE as usize - 1).unwrap_or(text);
        let before = leading_spaces(looked_at);
        let (value, len) = self.number(&looked_at[before..])?;
        if value > self.most() {
            return Err(Errno::EINVAL);
        }
        let rest = &looked_at[before + len..];
        Ok((Some(value), text.len() - (rest.len() - leading_spaces(rest))))
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
        let in_range = !negative || (self.is_signed() && value == 0);
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

impl<B> Registry<B> {
    /// What a setting's file says: a decimal number and the end of the line.
    #[must_use]
    pub fn setting(&self, setting: Setting) -> String {
        let number = match setting {
            Setting::Max => self.limits.max.to_string(),
            Setting::All => self.limits.all.to_string(),
            Setting::Mni => self.limits.mni.to_string(),
            Setting::NextId => self.ids.next_id().unwrap_or(-1).to_string(),
            Setting::RmidForced => u8::from(self.rmid_forced).to_string(),
        };
        format!("{number}\n")
    }

    /// Writes `text` to a setting's file. It holds for what happens from now on; but `shm_rmid_forced` destroys at once
    /// what has no attaches and whose maker has ended.
    ///
    /// # Errors
    /// EINVAL if it does not begin with a number (after white space; octal after 0, hexadecimal after 0x) that is
    /// at least 0 and at most [`Setting::most`].
    pub fn set_setting(&mut self, setting: Setting, text: &[u8]) -> Result<Written<B>, Errno> {
        let (value, used) = setting.parse(text)?;
        let mut destroyed = Vec::new();
        if let Some(value) = value {
            match setting {
                Setting::Max => self.limits.max = value,
                Setting::All => self.limits.all = value,
                Setting::Mni => self.limits.mni = value,
                Setting::NextId => self.ids.set_next_id(value as i32),
                Setting::RmidForced => {
                    self.rmid_forced = value == 1;
                    destroyed = self.destroy_orphans();
                }
            }
        }
        Ok(Written { used, destroyed })
    }
}
