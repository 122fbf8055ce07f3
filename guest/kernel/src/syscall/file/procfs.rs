//! Bytes between programs and the files in `/proc`. The broker's texts are asked for with each read; all others are
//! made by [`crate::fs::proc`].

use super::transfer::Buffers;
use crate::arch::lent::{Lent, gpa_of};
use crate::fs::proc::text::{self, Text};
use crate::fs::proc::{File, Node};
use crate::hypercall;
use crate::syscall::Call;
use abi::hypercall::{Call as Host, PROC_SHM};
use abi::{Errno, PAGE_SIZE};

/// For text on its way between a program and the host, or the kernel.
static TEXT: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// Reads at `offset`.
///
/// # Errors
/// EISDIR, EFAULT; ESRCH if the process it is about has ended.
pub fn read<B: Buffers>(call: &mut Call<'_>, node: Node, offset: u64, buffers: &B) -> Result<u64, Errno> {
    let file = node.file().ok_or(Errno::EISDIR)?;
    let total = buffers.total(call)?;
    if total == 0 {
        return Ok(0);
    }
    let who = call.requester();
    TEXT.with(|room| {
        let len = match file {
            // A limit is read in one piece; there is nothing after it (kernel/sysctl.c).
            File::Broker(which) if which != PROC_SHM && offset != 0 => 0,
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

/// Writes at `offset`.
///
/// # Errors
/// EIO for what can't be written, EINVAL for what is no number, EFAULT.
pub fn write<B: Buffers>(call: &mut Call<'_>, node: Node, offset: u64, buffers: &B) -> Result<u64, Errno> {
    let which = match node.file() {
        Some(File::Broker(which)) if which != PROC_SHM => which,
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
