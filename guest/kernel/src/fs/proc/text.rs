//! The texts of the files in `/proc` and `/sys`: how they are put together, and who makes which.

use super::kept::{Cursor, END};
use super::{File, Node, descriptor, maps, process, smaps, system};
use crate::hypercall::Requester;
use crate::kernel::Kernel;
use abi::hypercall::PROC_SHM;
use abi::{Errno, PAGE_SIZE};

/// Most bytes of a text, or of a record, in one piece: a page with what [`kept`](super::kept) needs beside it.
pub const ROOM: usize = PAGE_SIZE as usize - 32;

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

    /// Whether some of it had no room.
    fn is_cut(&self) -> bool {
        self.written > self.part.len() as u64
    }

    /// Forgets what comes after the first `len` bytes of a text of which nothing is skipped.
    fn cut(&mut self, len: usize) {
        (self.len, self.written) = (len, len as u64);
    }

    /// Has `by` put what comes next into the room there is, and say how long that is and something else.
    fn fill<R>(&mut self, by: impl FnOnce(&mut [u8]) -> Result<(usize, R), Errno>) -> Result<R, Errno> {
        let room = &mut self.part[self.len..];
        let most = room.len();
        let (len, said) = by(room)?;
        self.len += len.min(most);
        self.written += len as u64;
        Ok(said)
    }

    /// What has been kept.
    pub fn kept(&self) -> &[u8] {
        &self.part[..self.len]
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

    /// In decimal, with a sign if it is below zero.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.str("-");
        }
        self.dec(value.unsigned_abs())
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

/// Whether reads of `file` are given parts of one text; otherwise each sees what is there now.
pub fn is_kept(file: File) -> bool {
    match file {
        File::CommandLine | File::Environment | File::Auxiliary | File::OomAdjustment => false,
        File::Broker(which) => which == PROC_SHM,
        _ => true,
    }
}

/// Writes the text of `file`, which is that of `node`, or as much of it as was asked for: what is skipped is not made.
///
/// # Errors
/// ESRCH if the process it is about has ended.
pub fn make(kernel: &mut Kernel, node: Node, file: File, text: &mut Text<'_>) -> Result<(), Errno> {
    let subject = process::subject(kernel, node)?;
    match file {
        File::Auxiliary => process::strings(kernel, subject, process::Strings::Auxiliary, text),
        File::Environment => process::strings(kernel, subject, process::Strings::Environment, text),
        File::OomAdjustment => {
            let adjustment = kernel.processes[subject.process].oom_adjustment;
            text.signed(adjustment.into()).str("\n");
        }
        _ => process::strings(kernel, subject, process::Strings::Arguments, text),
    }
    Ok(())
}

/// Writes records of `file`, which is that of `node`, from `cursor` on: at least one, and more until there are `wanted`
/// bytes, or no room for another. Which one is next.
///
/// # Errors
/// ESRCH if the process it is about has ended; what the broker says.
pub fn records(
    kernel: &mut Kernel,
    (node, file): (Node, File),
    who: Requester,
    mut cursor: Cursor,
    wanted: usize,
    text: &mut Text<'_>,
) -> Result<Cursor, Errno> {
    while cursor != END && (text.len() < wanted || text.len() == 0) {
        let before = text.len();
        let next = record(kernel, (node, file), who, cursor, text)?;
        if text.is_cut() && before > 0 {
            text.cut(before);
            break;
        }
        cursor = next;
        if let File::Broker(_) = file {
            // It has made all there is room for.
            break;
        }
    }
    Ok(cursor)
}

/// Writes a record: all there is for most files.
fn record(
    kernel: &mut Kernel,
    (node, file): (Node, File),
    who: Requester,
    cursor: Cursor,
    text: &mut Text<'_>,
) -> Result<Cursor, Errno> {
    match file {
        File::Broker(_) => return text.fill(|room| system::segments(who, cursor, room)),
        File::Fixed(fixed) => {
            text.str(fixed);
        }
        File::MemInfo => system::memory(kernel, text),
        File::CpuInfo => return Ok(system::cpu(kernel, cursor, text)),
        File::Stat => system::stat(kernel, text),
        File::Uptime => system::uptime(kernel, text),
        File::LoadAverage => system::load_average(kernel, text),
        File::MemoryNumbers => system::memory_numbers(kernel, text),
        File::OpenCount => system::file_numbers(kernel, text),
        File::Uuid => {
            let random = kernel.random();
            system::uuid(random, text);
        }
        File::BootId => system::boot_id(kernel, text),
        File::CpuRange => system::cpu_range(kernel, text),
        File::DescriptorInfo => descriptor::info(kernel, node, text)?,
        _ => {
            let subject = process::subject(kernel, node)?;
            match file {
                File::MountInfo => system::mount_info(kernel, text),
                File::ProcessStat => process::stat(kernel, subject, text),
                File::ProcessMemory => process::memory(kernel, subject, text),
                File::ProcessStatus => process::status(kernel, subject, text),
                File::Command => {
                    text.bytes(process::command(kernel, subject)).str("\n");
                }
                File::Limits => process::limits(kernel, subject, text),
                File::SizedMaps => return Ok(smaps::record(kernel, subject, cursor, text)),
                _ => return Ok(maps::record(kernel, subject, cursor, text)),
            }
        }
    }
    Ok(END)
}
