//! fork, vfork, clone, clone3: what their arguments ask for, and in which order Linux finds fault with them
//! (kernel/fork.c: `clone3_args_valid`, `kernel_clone`, `copy_process`).

use super::{Call, Reply};
use crate::mm::is_below_end;
use crate::process::fork::{self, Actions, Child, Descriptors, Extras, Maker, Memory, Parent};
use crate::process::signal::{LAST, SIGCHLD};
use abi::{Errno, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

const CSIGNAL: u64 = 0xff;
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PTRACE: u64 = 0x2000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_SYSVSEM: u64 = 0x4_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_UNTRACED: u64 = 0x80_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_IO: u64 = 0x8000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// In clone3 alone, which has room for it where clone has the signal.
const CLONE_NEWTIME: u64 = 0x80;

/// What changes nothing here: nobody traces, there is no semaphore and no I/O priority to share; each process has a
/// working directory of its own, all of its threads the same.
const WITHOUT_EFFECT: u64 =
    CLONE_FS | CLONE_PTRACE | CLONE_SYSVSEM | CLONE_DETACHED | CLONE_UNTRACED | CLONE_IO;
/// What is done.
const SERVED: u64 = CLONE_VM
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_VFORK
    | CLONE_PARENT
    | CLONE_THREAD
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_CHILD_SETTID
    | CLONE_CLEAR_SIGHAND;

/// `struct clone_args`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The size that the first kernel with clone3 knew.
const FIRST_SIZE: u64 = 64;
/// Most nested PID namespaces (`MAX_PID_NS_LEVEL`).
const MOST_LEVELS: u64 = 32;

/// fork(2).
pub fn fork(call: &mut Call<'_>) -> Reply {
    let args = CloneArgs {
        exit_signal: u64::from(SIGCHLD),
        ..CloneArgs::default()
    };
    make(call, &args, 0)
}

/// vfork(2).
pub fn vfork(call: &mut Call<'_>) -> Reply {
    let args = CloneArgs {
        flags: CLONE_VM | CLONE_VFORK,
        exit_signal: u64::from(SIGCHLD),
        ..CloneArgs::default()
    };
    make(call, &args, 0)
}

/// clone(2).
pub fn clone(call: &mut Call<'_>) -> Reply {
    let [flags, stack, parent_tid, child_tid, tls, _] = call.args;
    let flags = flags & u64::from(u32::MAX);
    let args = CloneArgs {
        flags: flags & !CSIGNAL,
        // One word for either.
        pidfd: parent_tid,
        child_tid,
        parent_tid,
        exit_signal: flags & CSIGNAL,
        tls,
        ..CloneArgs::default()
    };
    make(call, &args, stack)
}

/// clone3(2).
pub fn clone3(call: &mut Call<'_>) -> Reply {
    match clone3_args(call) {
        Ok((args, stack)) => make(call, &args, stack),
        Err(error) => Reply::Error(error),
    }
}

/// clone3's arguments, as far as they are wrong or right by themselves, and the stack pointer they mean.
fn clone3_args(call: &mut Call<'_>) -> Result<(CloneArgs, u64), Errno> {
    let [from, size, ..] = call.args;
    let mut args = CloneArgs::default();
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    let known = size_of::<CloneArgs>();
    // What only later kernels know must be absent, that is zero.
    let mut done = known;
    while done < size as usize {
        let mut bytes = [0u8; 128];
        let piece = &mut bytes[..128.min(size as usize - done)];
        let at = from.wrapping_add(done as u64);
        call.with_space(|space, memory, world| space.read(memory, world, at, piece))?;
        if piece.iter().any(|&byte| byte != 0) {
            return Err(Errno::E2BIG);
        }
        done += piece.len();
    }
    let bytes = &mut args.as_mut_bytes()[..known.min(size as usize)];
    call.with_space(|space, memory, world| space.read(memory, world, from, bytes))?;

    let wrong_ids = args.set_tid_size > MOST_LEVELS || (args.set_tid == 0) != (args.set_tid_size == 0);
    let wrong_signal = args.exit_signal & !CSIGNAL != 0 || args.exit_signal > u64::from(LAST);
    let into_group = args.flags & CLONE_INTO_CGROUP != 0;
    let wrong_group = into_group && (args.cgroup > i32::MAX as u64 || size < known as u64);
    if wrong_ids || wrong_signal || wrong_group {
        return Err(Errno::EINVAL);
    }
    let legacy = u64::from(u32::MAX) & !CSIGNAL | CLONE_NEWTIME;
    let unknown = !(legacy | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP) | CLONE_DETACHED;
    let handlers = CLONE_SIGHAND | CLONE_CLEAR_SIGHAND;
    let no_signal = args.flags & (CLONE_THREAD | CLONE_PARENT) != 0;
    let wrong_stack =
        (args.stack == 0) != (args.stack_size == 0) || !is_below_end(args.stack, args.stack_size);
    if args.flags & unknown != 0
        || args.flags & handlers == handlers
        || no_signal && args.exit_signal != 0
        || wrong_stack
    {
        return Err(Errno::EINVAL);
    }
    if args.set_tid != 0 {
        // Linux lets the privileged choose ids.
        return Err(Errno::ENOSYS);
    }
    Ok((args, args.stack + args.stack_size))
}

/// What is wrong with `flags` together.
fn check(args: &CloneArgs) -> Result<(), Errno> {
    let flags = args.flags;
    let has = |all: u64| flags & all == all;
    let without = |one: u64, other: u64| flags & one != 0 && flags & other == 0;
    if has(CLONE_PIDFD | CLONE_PARENT_SETTID) && args.pidfd == args.parent_tid
        || has(CLONE_NEWNS | CLONE_FS)
        || has(CLONE_NEWUSER | CLONE_FS)
        || without(CLONE_THREAD, CLONE_SIGHAND)
        || without(CLONE_SIGHAND, CLONE_VM)
        || has(CLONE_THREAD) && flags & (CLONE_NEWUSER | CLONE_NEWPID) != 0
        || has(CLONE_PIDFD | CLONE_DETACHED)
    {
        return Err(Errno::EINVAL);
    }
    if flags & !(SERVED | WITHOUT_EFFECT) != 0 {
        return Err(Errno::ENOSYS);
    }
    Ok(())
}

fn make(call: &mut Call<'_>, args: &CloneArgs, stack: u64) -> Reply {
    if let Err(error) = check(args) {
        return Reply::Error(error);
    }
    let has = |flag: u64| args.flags & flag != 0;
    let asked = |flag: u64, value: u64| has(flag).then_some(value);
    let extras = Extras {
        stack,
        parent_tid: asked(CLONE_PARENT_SETTID, args.parent_tid),
        child_tid: asked(CLONE_CHILD_SETTID, args.child_tid),
        clear_child_tid: asked(CLONE_CHILD_CLEARTID, args.child_tid).unwrap_or(0),
        tls: asked(CLONE_SETTLS, args.tls),
        descriptors: if has(CLONE_FILES) {
            Descriptors::Shared
        } else {
            Descriptors::Copied
        },
        maker: if has(CLONE_VFORK) {
            Maker::Waits
        } else {
            Maker::GoesOn
        },
    };
    let made = if has(CLONE_THREAD) {
        fork::thread(call.kernel, call.cpu, call.task, &extras)
    } else {
        let child = Child {
            memory: if has(CLONE_VM) {
                Memory::Shared
            } else {
                Memory::Copied
            },
            parent: if has(CLONE_PARENT) {
                Parent::MakersParent
            } else {
                Parent::Maker
            },
            actions: match args.flags & (CLONE_SIGHAND | CLONE_CLEAR_SIGHAND) {
                CLONE_SIGHAND => Actions::Shared,
                CLONE_CLEAR_SIGHAND => Actions::Cleared,
                _ => Actions::Copied,
            },
            exit_signal: args.exit_signal as u8,
        };
        fork::process(call.kernel, call.cpu, call.task, child, &extras)
    };
    match made {
        // The result is in its registers already.
        Ok(_) if extras.maker == Maker::Waits => Reply::Parked,
        result => result.map(u64::from).into(),
    }
}
