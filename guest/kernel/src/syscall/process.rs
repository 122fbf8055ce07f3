//! fork, vfork, clone, execve, wait4, waitid.

use super::file::path::{AT_FDCWD, By};
use super::{Call, Reply};
use crate::arch::given;
use crate::fs::Node;
use crate::fs::inode::Kind;
use crate::fs::permission::EXECUTE;
use crate::fs::proc::process::COMMAND;
use crate::fs::walk::{AtEnd, Last, ROOMS};
use crate::process::exec;
use crate::process::family::Which;
use crate::process::fork::{self, Extras, Memory};
use crate::process::signal::SIGCHLD;
use crate::process::task::Wait;
use abi::Errno;
use abi::boot::GpaRange;
use zerocopy::{Immutable, IntoBytes};

const CSIGNAL: u64 = 0xff;
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
/// What is understood. CLONE_FS and CLONE_DETACHED change nothing here.
const CLONE_KNOWN: u64 = CSIGNAL
    | CLONE_VM
    | CLONE_FS
    | CLONE_VFORK
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_DETACHED
    | CLONE_CHILD_SETTID;

const WNOHANG: u64 = 1;
const WUNTRACED: u64 = 2;
const WEXITED: u64 = 4;
const WCONTINUED: u64 = 8;
const WNOWAIT: u64 = 0x100_0000;
/// __WNOTHREAD, __WALL, __WCLONE.
const WAIT_KINDS: u64 = 0xe000_0000;
const P_ALL: u64 = 0;
const P_PID: u64 = 1;
const P_PGID: u64 = 2;
const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;

fn start(call: &mut Call<'_>, memory: Memory, extras: &Extras) -> Reply {
    match (
        fork::fork(call.kernel, call.cpu, call.task, memory, extras),
        memory,
    ) {
        (Ok(pid), Memory::Copied) => Reply::Value(u64::from(pid)),
        // The parent's result is in its registers already; it waits.
        (Ok(_), Memory::Lent) => Reply::Parked,
        (Err(error), _) => Reply::Error(error),
    }
}

/// fork(2).
pub fn fork(call: &mut Call<'_>) -> Reply {
    start(call, Memory::Copied, &Extras::default())
}

/// vfork(2).
pub fn vfork(call: &mut Call<'_>) -> Reply {
    start(call, Memory::Lent, &Extras::default())
}

/// clone(2) as far as it makes processes; threads are refused as by a kernel that has none.
pub fn clone(call: &mut Call<'_>) -> Reply {
    let [flags, stack, parent_tid, child_tid, tls, _] = call.args;
    if flags & CLONE_THREAD != 0 && flags & CLONE_SIGHAND == 0
        || flags & CLONE_SIGHAND != 0 && flags & CLONE_VM == 0
    {
        return Reply::Error(Errno::EINVAL);
    }
    let memory = match flags & (CLONE_VM | CLONE_VFORK) {
        0 => Memory::Copied,
        CLONE_VFORK => Memory::Copied,
        CLONE_VM => return Reply::Error(Errno::ENOSYS),
        _ => Memory::Lent,
    };
    if flags & (CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) != 0 {
        return Reply::Error(Errno::ENOSYS);
    }
    if flags & !CLONE_KNOWN != 0 {
        return Reply::Error(Errno::EINVAL);
    }
    let asked = |flag: u64, value: u64| (flags & flag != 0).then_some(value);
    let extras = Extras {
        stack,
        parent_tid: asked(CLONE_PARENT_SETTID, parent_tid),
        child_tid: asked(CLONE_CHILD_SETTID, child_tid),
        clear_child_tid: asked(CLONE_CHILD_CLEARTID, child_tid).unwrap_or(0),
        tls: asked(CLONE_SETTLS, tls),
    };
    start(call, memory, &extras)
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

/// Runs the program whose path is at `path`.
fn run(call: &mut Call<'_>, path: u64, argv: u64, envp: u64) -> Result<(), Errno> {
    ROOMS[0].with(|room| {
        let path = call.path(room, AT_FDCWD as u64, path)?;
        let mut command = [0; COMMAND - 1];
        let mut walker = call.walker(By::Effective);
        let place = path.walk(&mut walker, room, AtEnd::Follow)?;
        let name = match place.last {
            Last::Name(name) => name,
            // By way of /proc/self/exe.
            _ => b"exe",
        };
        let len = name.len().min(command.len());
        command[..len].copy_from_slice(&name[..len]);
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
        if inode.writers > 0 {
            return Err(Errno::ETXTBSY);
        }
        let (start, len_of_file) = walker.memory.contents.whole_image(file).ok_or(Errno::ENOEXEC)?;
        let path = walker.files.path(file, room.for_path());
        let program = exec::Program {
            file,
            path,
            command: &command[..len],
            bytes: given::bytes(GpaRange {
                start: start.get(),
                len: len_of_file,
            }),
            contents: start,
        };
        exec::exec(call, &program, argv, envp)
    })
}

/// An ended child, once it has been taken, or 0 or waiting if there is none yet.
enum Found {
    Child { number: u16, status: u32 },
    NotYet,
    Error(Errno),
}

fn find(call: &mut Call<'_>, which: Which) -> Found {
    let own = call.task().process;
    match call.kernel.ended_child(own, which) {
        Ok(Some(number)) => {
            let status = call.kernel.processes[usize::from(number)].ended.unwrap_or(0);
            Found::Child { number, status }
        }
        Ok(None) => Found::NotYet,
        Err(error) => Found::Error(error),
    }
}

fn park(call: &mut Call<'_>) -> Reply {
    call.kernel.park(call.cpu, call.task, Wait::Child, None);
    Reply::Parked
}

/// wait4(2). Resource usage is told as zero.
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
    match find(call, which) {
        Found::Error(error) => Reply::Error(error),
        Found::NotYet if options & WNOHANG != 0 => Reply::Value(0),
        Found::NotYet => park(call),
        Found::Child { number, status } => {
            let pid = call.kernel.processes[usize::from(number)].pid;
            call.kernel.forget(number);
            let told = call
                .write_if(to, &status)
                .and_then(|()| call.write_if(usage, &[0u64; 18]));
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
    match find(call, which) {
        Found::Error(error) => return Reply::Error(error),
        // There is no stopping, so a wait for that alone finds children, but never one to tell of.
        Found::NotYet | Found::Child { .. } if options & WEXITED == 0 => {
            if options & WNOHANG == 0 {
                return park(call);
            }
        }
        Found::NotYet if options & WNOHANG != 0 => {}
        Found::NotYet => return park(call),
        Found::Child { number, status } => {
            let child = &call.kernel.processes[usize::from(number)];
            let (code, status) = match status & 0x7f {
                0 => (CLD_EXITED, status >> 8),
                signal => (CLD_KILLED, signal),
            };
            let (pid, uid) = (child.pid, child.credentials.uid[0]);
            info = ChildInfo {
                signal: SIGCHLD,
                code,
                pid,
                uid,
                status,
                ..info
            };
            if options & WNOWAIT == 0 {
                call.kernel.forget(number);
            }
        }
    }
    let told = call
        .write_if(usage, &[0u64; 18])
        .and_then(|()| call.write_if(to, &info));
    told.map(|()| 0).into()
}
