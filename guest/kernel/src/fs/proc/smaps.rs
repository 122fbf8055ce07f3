//! `/proc/PID/smaps`: the areas of a process's memory, and how much of each is there (proc_pid_smaps(5)). Who else uses a
//! page, in this guest or another, is not known of all of them: what follows from that is not told.

use super::kept::{Cursor, END};
use super::maps;
use super::process::{self, Subject};
use super::text::Text;
use crate::kernel::Kernel;
use crate::mm::area::Prot;
use abi::PAGE_SIZE;

/// The area that comes at `cursor`, an address, or after it: where the next one may.
pub fn record(kernel: &mut Kernel, subject: Subject, cursor: Cursor, text: &mut Text<'_>) -> Cursor {
    let Some((area, parts)) = maps::next(kernel, subject, cursor) else {
        return END;
    };
    let resident = process::memory_of(kernel, subject).map_or(0, |(space, mem)| space.resident(mem, &area));
    maps::line(kernel, &area, parts, text);
    let lines = [
        ("Size:", area.len()),
        ("KernelPageSize:", PAGE_SIZE),
        ("MMUPageSize:", PAGE_SIZE),
        ("Rss:", resident),
        ("Swap:", 0),
        ("SwapPss:", 0),
    ];
    for (name, bytes) in lines {
        text.str(name)
            .dec_wide(bytes / 1024, 24 - name.len())
            .str(" kB\n");
    }
    text.str("VmFlags:");
    let rights = [
        (Prot::READ, "rd", "mr"),
        (Prot::WRITE, "wr", "mw"),
        (Prot::EXECUTE, "ex", "me"),
    ];
    for (right, has, _) in rights {
        if area.prot.contains(right) {
            text.str(" ").str(has);
        }
    }
    if area.is_shared() {
        text.str(" sh");
    }
    for (right, _, may) in rights {
        if area.may.contains(right) {
            text.str(" ").str(may);
        }
    }
    text.str(" \n");
    area.end.get()
}
