//! fork, vfork, clone, execve, wait4, waitid.

use super::{Call, Reply, file};
use crate::process::family::Which;
use crate::process::fork::{self, Extras, Kind, Maker, Memory, Parent};
use crate::process::signal::SIGCHLD;
use crate::process::task::Wait;
use crate::process::{exec, exit};
use abi::Errno;
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

fn start(call: &mut Call<'_>, kind: Kind, extras: &Extras) -> Reply {
    match fork::process(call.kernel, call.cpu, call.task, kind, extras) {
        // The result is in its registers already.
        Ok(_) if kind.maker == Maker::Waits => Reply::Parked,
        result => result.map(u64::from).into(),
    }
}

/// What fork(2) makes.
const CHILD: Kind = Kind {
    memory: Memory::Copied,
    maker: Maker::GoesOn,
    parent: Parent::Maker,
    exit_signal: SIGCHLD as u8,
};

/// fork(2).
pub fn fork(call: &mut Call<'_>) -> Reply {
    start(call, CHILD, &Extras::default())
}

/// vfork(2).
pub fn vfork(call: &mut Call<'_>) -> Reply {
    let kind = Kind {
        memory: Memory::Shared,
        maker: Maker::Waits,
        ..CHILD
    };
    start(call, kind, &Extras::default())
}

/// clone(2) as far as it makes processes; threads are refused as by a kernel that has none.
pub fn clone(call: &mut Call<'_>) -> Reply {
    let [flags, stack, parent_tid, child_tid, tls, _] = call.args;
    if flags & CLONE_THREAD != 0 && flags & CLONE_SIGHAND == 0
        || flags & CLONE_SIGHAND != 0 && flags & CLONE_VM == 0
    {
        return Reply::Error(Errno::EINVAL);
    }
    if flags & (CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) != 0 {
        return Reply::Error(Errno::ENOSYS);
    }
    if flags & !CLONE_KNOWN != 0 {
        return Reply::Error(Errno::EINVAL);
    }
    let kind = Kind {
        memory: if flags & CLONE_VM != 0 {
            Memory::Shared
        } else {
            Memory::Copied
        },
        maker: if flags & CLONE_VFORK != 0 {
            Maker::Waits
        } else {
            Maker::GoesOn
        },
        ..CHILD
    };
    let asked = |flag: u64, value: u64| (flags & flag != 0).then_some(value);
    let extras = Extras {
        stack,
        parent_tid: asked(CLONE_PARENT_SETTID, parent_tid),
        child_tid: asked(CLONE_CHILD_SETTID, child_tid),
        clear_child_tid: asked(CLONE_CHILD_CLEARTID, child_tid).unwrap_or(0),
        tls: asked(CLONE_SETTLS, tls),
    };
    start(call, kind, &extras)
}

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
    let file = file::program_at(call, path);
    match file.and_then(|file| exec::exec(call, file, argv, envp)) {
        // Its registers are the new program's already.
        Ok(()) => Reply::Parked,
        Err(error) => Reply::Error(error),
    }
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
