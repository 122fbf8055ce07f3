//! The texts of the files in `/proc`: made anew for each read, of which the part that was asked for is kept.

use super::{File, Node, maps, process, system};
use crate::kernel::Kernel;
use abi::Errno;

/// A part of a text: what is written before it or after it is not kept.
pub struct Text<'b> {
    /// Bytes before the part.
    skip: u64,
    part: &'b mut [u8],
    len: usize,
    written: u64,
}

impl<'b> Text<'b> {
    /// The part from `skip` on that `part` has room for.
    pub fn new(skip: u64, part: &'b mut [u8]) -> Text<'b> {
        Text {
            skip,
            part,
            len: 0,
            written: 0,
        }
    }

    /// How long the part has become.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How long the text is so far, kept or not.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing more will be kept.
    pub fn is_full(&self) -> bool {
        self.len == self.part.len()
    }

    /// These bytes come next.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.written += bytes.len() as u64;
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let bytes = &bytes[skipped as usize..];
        let room = &mut self.part[self.len..];
        let kept = bytes.len().min(room.len());
        room[..kept].copy_from_slice(&bytes[..kept]);
        self.len += kept;
        self
    }

    /// This comes next.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A number, in base `base`, at least `width` characters wide, padded with `pad`.
    fn number(&mut self, mut value: u64, base: u64, width: usize, pad: u8) -> &mut Self {
        let mut digits = [pad; 24];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdef"[(value % base) as usize];
            value /= base;
            if value == 0 {
                break;
            }
        }
        self.bytes(&digits[start.min(digits.len() - width)..])
    }

    /// In decimal.
    pub fn dec(&mut self, value: u64) -> &mut Self {
        self.number(value, 10, 1, b' ')
    }

    /// In decimal, `width` characters wide.
    pub fn dec_wide(&mut self, value: u64, width: usize) -> &mut Self {
        self.number(value, 10, width, b' ')
    }

    /// In hexadecimal, with zeros to `width` digits.
    pub fn hex(&mut self, value: u64, width: usize) -> &mut Self {
        self.number(value, 16, width, b'0')
    }

    /// In octal, with zeros to `width` digits.
    pub fn oct(&mut self, value: u64, width: usize) -> &mut Self {
        self.number(value, 8, width, b'0')
    }

    /// Seconds and hundredths.
    pub fn hundredths(&mut self, ns: u64) -> &mut Self {
        self.dec(ns / 1_000_000_000).str(".");
        self.number(ns / 10_000_000 % 100, 10, 2, b'0')
    }
}

/// Writes the text of `file`, which is that of `node`.
///
/// # Errors
/// ESRCH if the process it is about has ended; EINVAL for a text that the broker makes.
pub fn make(kernel: &mut Kernel, node: Node, file: File, text: &mut Text<'_>) -> Result<(), Errno> {
    match file {
        File::Broker(_) => return Err(Errno::EINVAL),
        File::Fixed(fixed) => {
            text.str(fixed);
        }
        File::MemInfo => system::memory(kernel, text),
        File::CpuInfo => system::cpus(kernel, text),
        File::Stat => system::stat(kernel, text),
        File::Uptime => system::uptime(kernel, text),
        File::LoadAverage => system::load_average(kernel, text),
        _ => {
            let pid = node.pid();
            let number = kernel
                .processes
                .iter()
                .position(|process| process.pid == pid)
                .ok_or(Errno::ESRCH)?;
            match file {
                File::ProcessStat => process::stat(kernel, number, text),
                File::ProcessMemory => process::memory(kernel, number, text),
                File::ProcessStatus => process::status(kernel, number, text),
                File::CommandLine => process::strings(kernel, number, process::Strings::Arguments, text),
                File::Environment => process::strings(kernel, number, process::Strings::Environment, text),
                File::Command => {
                    text.bytes(process::command(kernel, number)).str("\n");
                }
                File::Limits => process::limits(kernel, number, text),
                _ => maps::maps(kernel, number, text),
            }
        }
    }
    Ok(())
}
