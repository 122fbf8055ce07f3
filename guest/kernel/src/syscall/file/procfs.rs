//! Bytes between programs and the files in `/proc`: the texts are made by [`crate::fs::proc`], or the broker.

use super::buffers::Buffers;
use crate::arch::lent::{Lent, gpa_of};
use crate::fs::proc::kept::END;
use crate::fs::proc::text::{self, ROOM, Text};
use crate::fs::proc::{File, Node, process};
use crate::hypercall;
use crate::process::task::{NAME, threads_of};
use crate::syscall::Call;
use abi::hypercall::{Call as Host, PROC_SHM};
use abi::{Errno, PAGE_SIZE};

/// For text on its way between a program and the host, or the kernel.
static TEXT: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// Reads open file `number`, which is `node`, at `offset`.
///
/// # Errors
/// EISDIR, EFAULT; ESRCH if the process it is about has ended; ENOMEM.
pub fn read<B: Buffers>(
    call: &mut Call<'_>,
    number: u16,
    node: Node,
    offset: u64,
    buffers: &B,
) -> Result<u64, Errno> {
    let file = node.file().ok_or(Errno::EISDIR)?;
    let total = buffers.total(call)?;
    if total == 0 {
        return Ok(0);
    }
    let who = call.requester();
    TEXT.with(|room| {
        if text::is_kept(file) {
            return read_on(call, number, (node, file), offset, total, buffers, room);
        }
        let len = match file {
            // A limit is read in one piece; there is nothing after it (kernel/sysctl.c).
            File::Broker(_) if offset != 0 => 0,
            File::Broker(which) => {
                let gpa = gpa_of(room);
                let args = [which, offset, gpa, total.min(PAGE_SIZE)];
                hypercall::call(Host::ProcRead, who, &args)? as usize
            }
            _ => {
                let most = room.len().min(total as usize);
                let mut text = Text::new(offset, &mut room[..most]);
                text::make(call.kernel, node, file, &mut text)?;
                text.len()
            }
        };
        let text = &room[..len.min(room.len())];
        buffers.scatter(call, text)?;
        Ok(text.len() as u64)
    })
}

/// Reads at `offset` a text that is made once and given out in pieces: at most `total` bytes of it.
fn read_on<B: Buffers>(
    call: &mut Call<'_>,
    number: u16,
    file: (Node, File),
    offset: u64,
    total: u64,
    buffers: &B,
    room: &mut [u8; PAGE_SIZE as usize],
) -> Result<u64, Errno> {
    let who = call.requester();
    let room = &mut room[..ROOM];
    let most = (total as usize).min(room.len());
    let mut reader = call.kernel.files.open.get(number).kept.reader();
    if offset == 0 || offset != reader.at {
        reader.start();
    }
    // Where it was read to, this is nothing.
    reader.skip(offset - reader.at);
    let mut given = reader.take(&mut room[..most]);
    let mut from = 0;
    while given == 0 && reader.cursor != END {
        let wanted = (total.saturating_add(offset - reader.at)).min(room.len() as u64) as usize;
        let mut text = Text::new(0, room);
        let cursor = text::records(call.kernel, file, who, reader.cursor, wanted, &mut text)?;
        let len = text.len();
        from = (offset - reader.at).min(len as u64) as usize;
        given = most.min(len - from);
        let at = reader.at + (from + given) as u64;
        reader.put(
            &mut call.kernel.memory.frames,
            at,
            cursor,
            &room[from + given..len],
        )?;
    }
    // Beyond the end it is at the end.
    reader.at = offset + given as u64;
    let kept = reader.keep(&mut call.kernel.memory.frames)?;
    call.kernel.files.open.get_mut(number).kept = kept;
    buffers.scatter(call, &room[from..from + given])?;
    Ok(given as u64)
}

/// Whether where `node` is written makes no difference: pwrite(2) is ESPIPE then (`seq_open` in Linux).
pub fn is_written_anywhere(node: Node) -> bool {
    node.file() == Some(File::Command)
}

/// Whether writing `node` moves the place where it is read.
pub fn moves_on(node: Node) -> bool {
    matches!(node.file(), Some(File::Broker(_)))
}

/// Writes at `offset`.
///
/// # Errors
/// EIO for what can't be written, EINVAL for what is no number, EFAULT.
pub fn write<B: Buffers>(call: &mut Call<'_>, node: Node, offset: u64, buffers: &B) -> Result<u64, Errno> {
    let which = match node.file() {
        Some(File::Broker(which)) if which != PROC_SHM => which,
        Some(File::Command) => return write_name(call, node, buffers),
        Some(File::OomAdjustment) => return write_adjustment(call, node, buffers),
        _ => return Err(Errno::EIO),
    };
    let total = buffers.total(call)?;
    if total == 0 {
        return Ok(0);
    }
    // Strict sysctl writes (kernel.sysctl_writes_strict=1): only at the start does a write change anything.
    if offset != 0 {
        return Ok(total);
    }
    let who = call.requester();
    TEXT.with(|text| {
        let take = total.min(PAGE_SIZE);
        let text = &mut text[..take as usize];
        buffers.gather(call, text)?;
        let taken = hypercall::call(Host::ProcWrite, who, &[which, gpa_of(text), take])?;
        // Linux looks at the first page of a longer text, and takes the rest unseen.
        Ok(total - (take - taken.min(take)))
    })
}

/// Calls a thread of the caller's process otherwise: by the first bytes, and the rest is taken unseen (`comm_write` in
/// Linux).
fn write_name<B: Buffers>(call: &mut Call<'_>, node: Node, buffers: &B) -> Result<u64, Errno> {
    let total = buffers.total(call)?;
    let mut name = [0; NAME];
    let take = (total as usize).min(NAME - 1);
    buffers.gather(call, &mut name[..take])?;
    let subject = process::subject(call.kernel, node)?;
    let own = usize::from(call.task().process);
    let thread = subject.thread.or_else(|| {
        let first = call.kernel.processes[own].pid;
        threads_of(call.kernel.tasks, call.kernel.processes, own as u16)
            .find(|&task| call.kernel.tasks[usize::from(task)].id == first)
    });
    let Some(thread) = thread.filter(|_| subject.process == own) else {
        return Err(Errno::EINVAL);
    };
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
    name[len..].fill(0);
    call.kernel.tasks[usize::from(thread)].name = name;
    Ok(total)
}

/// Sets how readily a process would be ended for its memory (proc_pid_oom_score_adj(5)): kept, without effect, as whoever
/// needs a page when there is none is ended.
fn write_adjustment<B: Buffers>(call: &mut Call<'_>, node: Node, buffers: &B) -> Result<u64, Errno> {
    let total = buffers.total(call)?;
    let mut digits = [0; 16];
    let take = (total as usize).min(digits.len() - 1);
    buffers.gather(call, &mut digits[..take])?;
    let value = adjustment(&digits[..take]).ok_or(Errno::EINVAL)?;
    let subject = process::subject(call.kernel, node)?;
    let privileged = call.process().credentials.is_privileged();
    let process = &mut call.kernel.processes[subject.process];
    if value < process.oom_least && !privileged {
        return Err(Errno::EACCES);
    }
    process.oom_adjustment = value;
    if privileged {
        process.oom_least = value;
    }
    Ok(total)
}

/// A number as the C language writes it, with space around it (kstrtoint in Linux), if it is from -1000 to 1000.
fn adjustment(text: &[u8]) -> Option<i16> {
    let text = text.split(|&byte| byte == 0).next()?.trim_ascii();
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    let (base, digits) = match digits {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // No second sign.
    if !digits.first()?.is_ascii_hexdigit() {
        return None;
    }
    let value = i16::from_str_radix(core::str::from_utf8(digits).ok()?, base).ok()?;
    let value = if negative { -value } else { value };
    (-1000..=1000).contains(&value).then_some(value)
}
