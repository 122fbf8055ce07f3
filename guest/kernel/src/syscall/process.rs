//! execve, exit, wait4, waitid.

use super::file::path::{AT_FDCWD, By};
use super::usage::Usage;
use super::{Call, Reply};
use crate::arch::given;
use crate::arch::lent::Lent;
use crate::fs::inode::Kind;
use crate::fs::permission::EXECUTE;
use crate::fs::walk::{AtEnd, Last, ROOMS};
use crate::fs::{FileId, Node};
use crate::mm::Memory;
use crate::process::family::{Events, Kinds, Which};
use crate::process::load::Source;
use crate::process::signal::info::{CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED};
use crate::process::signal::stop::News;
use crate::process::signal::{SIGCHLD, SIGCONT};
use crate::process::task::{Wait, name_of};
use crate::process::{exec, exit, limits};
use abi::boot::GpaRange;
use abi::{Errno, PAGE_SIZE};
use zerocopy::{Immutable, IntoBytes};

const WNOHANG: u64 = 1;
const WUNTRACED: u64 = 2;
const WEXITED: u64 = 4;
const WCONTINUED: u64 = 8;
const WNOWAIT: u64 = 0x100_0000;
/// Children of this thread only: not told apart.
const WNOTHREAD: u64 = 0x2000_0000;
const WALL: u64 = 0x4000_0000;
const WCLONE: u64 = 0x8000_0000;
const WAIT_KINDS: u64 = WNOTHREAD | WALL | WCLONE;
const P_ALL: u64 = 0;
const P_PID: u64 = 1;
const P_PGID: u64 = 2;

/// exit(2), which ends one thread.
pub fn exit(call: &mut Call<'_>) -> Reply {
    let status = (call.args[0] as u32 & 0xff) << 8;
    exit::go(call.kernel, call.cpu, call.task, status);
    Reply::Ended
}

/// exit_group(2), which ends them all.
pub fn exit_group(call: &mut Call<'_>) -> Reply {
    let status = (call.args[0] as u32 & 0xff) << 8;
    exit::group(call.kernel, call.cpu, call.task, status);
    Reply::Ended
}

/// getppid(2)'s answer.
pub fn parent_pid(call: &mut Call<'_>) -> u32 {
    let own = call.task().process;
    call.kernel.parent_pid(own)
}

/// execve(2).
pub fn execve(call: &mut Call<'_>) -> Reply {
    let [path, argv, envp, ..] = call.args;
    match run(call, path, argv, envp) {
        // Its registers are the new program's already.
        Ok(()) => Reply::Parked,
        Err(error) => Reply::Error(error),
    }
}

/// Whether the caller may run any program: as another user than before, it may not when that one has too many processes
/// already (`do_execveat_common` in Linux, which looks at this once, when it has the name).
fn may_execute(call: &mut Call<'_>) -> Result<(), Errno> {
    let process = call.process();
    if process.exceeds {
        let [most, _] = process.limit(limits::NPROC);
        let user = process.credentials.uid[0];
        if call.kernel.tasks_of(user) > most {
            return Err(Errno::EAGAIN);
        }
        call.process().exceeds = false;
    }
    Ok(())
}

/// For the first bytes of a program, in which its headers are.
static HEADERS: Lent<[u8; PAGE_SIZE as usize]> = Lent::new([0; PAGE_SIZE as usize]);

/// A program whose pages lie anywhere: its first bytes go into `room`. It must have its program headers there.
fn headers_of<'r>(memory: &Memory, file: FileId, room: &'r mut [u8; PAGE_SIZE as usize]) -> Source<'r> {
    /// Where an ELF-64 header says where the section headers are, and how many: they are not needed, and elsewhere.
    const SECTIONS: [core::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];
    let len = memory.get_from_file(file, 0, room);
    for range in SECTIONS {
        room[range].fill(0);
    }
    Source::File(file, memory.contents.size(file), &room[..len])
}

/// Runs the program whose path is at `path`.
fn run(call: &mut Call<'_>, path: u64, argv: u64, envp: u64) -> Result<(), Errno> {
    ROOMS[0].with(|room| {
        let path = call.path(room, AT_FDCWD as u64, path)?;
        may_execute(call)?;
        let mut walker = call.walker(By::Effective);
        let place = path.walk(&mut walker, room, AtEnd::Follow)?;
        let name = match place.last {
            Last::Name(name) => name_of(name),
            // By way of /proc/self/exe.
            _ => name_of(b"exe"),
        };
        let node = place.node.ok_or(Errno::ENOENT)?;
        if place.slash && !walker.is_directory(node) {
            return Err(Errno::ENOTDIR);
        }
        let Node::File(file) = node else {
            return Err(Errno::EACCES);
        };
        walker.mount();
        let inode = walker.files.inodes.get(file);
        if inode.kind != Kind::Regular {
            return Err(Errno::EACCES);
        }
        walker.who.check(EXECUTE, inode)?;
        if inode.object != 0 {
            // As where file systems are mounted with noexec.
            return Err(Errno::EACCES);
        }
        if inode.writers > 0 {
            return Err(Errno::ETXTBSY);
        }
        let whole = walker.memory.contents.whole_image(file);
        let path = walker.files.path(file, room.for_path());
        HEADERS.with(|headers| {
            let source = match whole {
                Some((start, len)) => Source::Image(
                    given::bytes(GpaRange {
                        start: start.get(),
                        len,
                    }),
                    start,
                ),
                None => headers_of(&call.kernel.memory, file, headers),
            };
            let image = exec::Image {
                file,
                path,
                name,
                source,
            };
            exec::exec(call, image, argv, envp)
        })
    })
}

/// A child of which there is something to tell, or 0 or waiting if there is none yet.
enum Found {
    Child { number: u16, status: u32 },
    NotYet,
    Error(Errno),
}

fn find(call: &mut Call<'_>, which: Which, options: u64) -> Found {
    let own = call.task().process;
    let kinds = match options {
        _ if options & WALL != 0 => Kinds::All,
        _ if options & WCLONE != 0 => Kinds::Clones,
        _ => Kinds::Ordinary,
    };
    let mut events = Events::empty();
    events.set(Events::ENDED, options & WEXITED != 0);
    events.set(Events::STOPPED, options & WUNTRACED != 0);
    events.set(Events::CONTINUED, options & WCONTINUED != 0);
    match call.kernel.child_with(own, which, kinds, events) {
        Ok(Some((number, status))) => Found::Child { number, status },
        Ok(None) => Found::NotYet,
        Err(error) => Found::Error(error),
    }
}

/// Its parent has been told of process `number`: one that has ended is gone.
fn told_of(call: &mut Call<'_>, number: u16) {
    if call.kernel.processes[usize::from(number)].ended.is_some() {
        call.kernel.reap(number);
    } else {
        call.kernel.processes[usize::from(number)].news = News::None;
    }
}

fn park(call: &mut Call<'_>) -> Reply {
    call.kernel.park(call.cpu, call.task, Wait::Child, None);
    Reply::Parked
}

/// What process `number`, which has ended, and its children have used.
fn used(call: &mut Call<'_>, number: u16) -> Usage {
    let process = &call.kernel.processes[usize::from(number)];
    Usage::new(process.ran + process.children_ran)
}

/// wait4(2).
pub fn wait4(call: &mut Call<'_>) -> Reply {
    let [pid, to, options, usage, ..] = call.args;
    if options as u32 as u64 & !(WNOHANG | WUNTRACED | WCONTINUED | WAIT_KINDS) != 0 {
        return Reply::Error(Errno::EINVAL);
    }
    let which = match pid as u32 as i32 {
        i32::MIN => return Reply::Error(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(call.process().group),
        1.. => Which::Pid(pid as u32),
        group => Which::Group(group.unsigned_abs()),
    };
    match find(call, which, options | WEXITED) {
        Found::Error(error) => Reply::Error(error),
        Found::NotYet if options & WNOHANG != 0 => Reply::Value(0),
        Found::NotYet => park(call),
        Found::Child { number, status } => {
            let pid = call.kernel.processes[usize::from(number)].pid;
            let used = used(call, number);
            told_of(call, number);
            let told = call
                .write_if(to, &status)
                .and_then(|()| call.write_if(usage, &used));
            told.map(|()| u64::from(pid)).into()
        }
    }
}

/// The part of `siginfo_t` that waitid(2) fills.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct ChildInfo {
    signal: u32,
    errno: i32,
    code: i32,
    pad: u32,
    pid: u32,
    uid: u32,
    status: u32,
    pad_end: u32,
}

/// waitid(2).
pub fn waitid(call: &mut Call<'_>) -> Reply {
    let [kind, id, to, options, usage, _] = call.args;
    let options = options as u32 as u64;
    if options & !(WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | WAIT_KINDS) != 0
        || options & (WEXITED | WUNTRACED | WCONTINUED) == 0
    {
        return Reply::Error(Errno::EINVAL);
    }
    let which = match (kind as u32 as u64, id as u32 as i32) {
        (P_ALL, _) => Which::Any,
        (P_PID, 1..) => Which::Pid(id as u32),
        (P_PGID, 1..) => Which::Group(id as u32),
        (P_PGID, 0) => Which::Group(call.process().group),
        _ => return Reply::Error(Errno::EINVAL),
    };
    let mut info = ChildInfo::default();
    let mut usage_of_child = Usage::new(0);
    match find(call, which, options) {
        Found::Error(error) => return Reply::Error(error),
        Found::NotYet if options & WNOHANG != 0 => {}
        Found::NotYet => return park(call),
        Found::Child { number, status } => {
            let child = &call.kernel.processes[usize::from(number)];
            let (code, status) = match status & 0xff {
                0 => (CLD_EXITED, status >> 8),
                0x7f => (CLD_STOPPED, status >> 8),
                0xff => (CLD_CONTINUED, SIGCONT),
                signal => (CLD_KILLED, signal),
            };
            let (pid, uid) = (child.pid, child.credentials.uid[0]);
            usage_of_child = used(call, number);
            info = ChildInfo {
                signal: SIGCHLD,
                code,
                pid,
                uid,
                status,
                ..info
            };
            if options & WNOWAIT == 0 {
                told_of(call, number);
            }
        }
    }
    let told = call
        .write_if(usage, &usage_of_child)
        .and_then(|()| call.write_if(to, &info));
    told.map(|()| 0).into()
}
