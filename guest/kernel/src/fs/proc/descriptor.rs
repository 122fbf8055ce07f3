//! `/proc/PID/fdinfo/N`: of a descriptor's open file where it is read, its flags, and which file it is
//! (proc_pid_fdinfo(5)).

use super::Node;
use super::text::Text;
use crate::fs::open::{O_CLOEXEC, What};
use crate::fs::stat::Device;
use crate::kernel::Kernel;
use abi::Errno;

/// What there is to say of the descriptor of `node`. The command's stdin, stdout and stderr have no place of their own
/// here, nor a mount; what never had a name has no file to tell of.
///
/// # Errors
/// ENOENT if it has been closed.
pub fn info(kernel: &Kernel, node: Node, text: &mut Text<'_>) -> Result<(), Errno> {
    let descriptor = node.descriptor(kernel.seen()).ok_or(Errno::ENOENT)?;
    let files = &kernel.files;
    let open = files.open.get(descriptor.open);
    let close = if descriptor.close_on_exec { O_CLOEXEC } else { 0 };
    let place = if open.what.anonymous().is_some() {
        0
    } else {
        open.offset
    };
    text.str("pos:\t").dec(place);
    text.str("\nflags:\t0")
        .oct((open.flags | close).into(), 1)
        .str("\n");
    let (device, number) = match open.what {
        What::File(file) => {
            let inode = files.inodes.get(file);
            let number = match inode.object {
                0 => inode.number,
                serial => serial,
            };
            (files.device(file), number)
        }
        What::Proc(node) if node.is_in_sysfs() => (Device::Sys, node.number()),
        What::Proc(node) => (Device::Proc, node.number()),
        What::Reader(pipe) | What::Writer(pipe) => (Device::Pipes, files.pipes.get(pipe).number),
        What::Stdio(_) | What::Counter { .. } | What::Timer(_) | What::Signals | What::Epoll(_) => {
            return Ok(());
        }
    };
    text.str("mnt_id:\t").dec(device.mount());
    text.str("\nino:\t").dec(number).str("\n");
    Ok(())
}
