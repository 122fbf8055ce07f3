//! What a guest asks of the host: a [`Request`], decoded into a [`Hypercall`] and then served.
//!
//! Everything in a request may be hostile. It is copied once from the guest's memory; [`decode`], a pure function,
//! turns the copy into a value whose numbers are in range; [`Service`] carries it out. Whether a buffer lies in
//! RAM is asked where the bytes are copied. No answer to a guest is ever a panic: errors are [`Errno`]s.

mod object;
mod serve;

pub use object::ObjectCall;
pub use serve::{Service, ServiceParts};

use crate::broker::{FutexRequeue, FutexWait, FutexWake, ProcFile, Room, Shared, SharedWord};
use crate::outcome::Tables;
use crate::window::WindowKind;
use abi::hypercall::{
    BulkEntry, Call, FPU_INITIAL, FPU_MOST, FPU_NONE, FPU_TASKS, MAX_BULK, MAX_GROUPS, MAX_WRITE,
    REQUEUE_COMPARE, Request, STDIO_FSTAT, STDIO_TERMIOS, STDIO_WINSIZE, WINDOW_RO, WINDOW_RW,
};
use abi::object::WORD_OF_OBJECT;
use abi::{Errno, MAX_TASKS};
use paging::GuestPhys;
use shm::{LockAccount, Setting};
use zerocopy::{FromZeros, IntoBytes};

/// A piece of guest-physical memory, not yet known to be RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// First byte.
    pub gpa: GuestPhys,
    /// Bytes; at most [`MAX_WRITE`].
    pub len: u64,
}

/// What to find out about a host descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdioQuery {
    /// `fstat(2)`.
    Status,
    /// `ioctl(TIOCGWINSZ)`.
    WindowSize,
    /// `ioctl(TCGETS)`.
    Termios,
}

/// A list of pieces of RAM to copy or clear.
#[derive(Clone, Debug, PartialEq)]
pub struct Bulk(Vec<(GuestPhys, GuestPhys, u64)>);

impl Bulk {
    /// To, from and length in bytes of each piece.
    pub fn pieces(&self) -> impl Iterator<Item = (GuestPhys, GuestPhys, u64)> {
        self.0.iter().copied()
    }
}

/// What [`Hypercall::SwitchFpu`] loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FpuLoad {
    /// Nothing.
    Nothing,
    /// What a program finds at its start.
    Initial,
    /// What is kept for the task in this slot.
    Task(u16),
}

/// A request with meaning. See [`Call`] for what each asks.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the arguments that abi::hypercall::Call describes"
)]
pub enum Hypercall {
    Nop,
    /// Let something else run.
    Yield,
    SwitchFpu {
        keep: Option<u16>,
        load: FpuLoad,
    },
    SaveFpu {
        into: [Buffer; 2],
    },
    LoadFpu {
        from: [Buffer; 2],
        features: u64,
    },
    Ready {
        ring0_emulated: bool,
    },
    Write {
        descriptor: u32,
        text: Buffer,
        process: u32,
    },
    WriteReady {
        descriptor: u32,
    },
    Read {
        into: Buffer,
    },
    ReadReady,
    Stdio {
        descriptor: u32,
        query: StdioQuery,
    },
    ProcessExit {
        index: u32,
        wait_status: u32,
        pid: u32,
    },
    Log {
        level: u32,
        text: Buffer,
    },
    Copy(Bulk),
    Zero(Bulk),
    ProcessStart {
        index: u32,
        pid: u32,
    },
    Random {
        into: Buffer,
    },
    ShmGet {
        key: i32,
        size: u64,
        flags: u32,
        task: u32,
    },
    ShmAttach {
        id: i32,
        flags: u32,
        rooms: [Room; 2],
    },
    ShmDetach {
        id: i32,
        window: WindowKind,
        count: u64,
    },
    ShmDetachLast {
        id: i32,
        window: WindowKind,
    },
    ShmControl {
        id: i32,
        command: i32,
        memlock: Option<LockAccount>,
    },
    ShmAttachMore {
        id: i32,
        window: WindowKind,
        count: u64,
    },
    ShmPunch {
        id: i32,
        offset: u64,
        len: u64,
    },
    Usage {
        free_frames: u64,
    },
    ProcRead {
        file: ProcFile,
        offset: u64,
        into: Buffer,
    },
    ProcWrite {
        setting: Setting,
        text: Buffer,
    },
    FutexWait(FutexWait),
    FutexWake(FutexWake),
    FutexRequeue(FutexRequeue),
    FutexCancel {
        task: u32,
    },
    ShmMakerEnded {
        task: u32,
    },
    Tables(Tables),
    /// About objects.
    Object(ObjectCall),
}

/// Gives a request its meaning.
///
/// # Errors
/// ENOSYS for a call that does not exist, EINVAL for arguments that mean nothing.
pub fn decode(request: &Request) -> Result<(Call, Hypercall), Errno> {
    let call = Call::from_raw(request.call).ok_or(Errno::ENOSYS)?;
    if request.group_count as usize > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    if let Some(object) = ObjectCall::decode(call, request)? {
        return Ok((call, Hypercall::Object(object)));
    }
    let [a0, a1, a2, a3, a4, a5] = request.args;
    let hypercall = match call {
        Call::Nop => Hypercall::Nop,
        Call::Yield => Hypercall::Yield,
        Call::SwitchFpu => Hypercall::SwitchFpu {
            keep: match fpu(a0)? {
                FpuLoad::Task(task) => Some(task),
                FpuLoad::Nothing => None,
                FpuLoad::Initial => return Err(Errno::EINVAL),
            },
            load: fpu(a1)?,
        },
        Call::SaveFpu => Hypercall::SaveFpu {
            into: fpu_image([a0, a1, a2, a3])?,
        },
        Call::LoadFpu => Hypercall::LoadFpu {
            from: fpu_image([a0, a1, a2, a3])?,
            features: a4,
        },
        Call::Ready => Hypercall::Ready {
            ring0_emulated: a0 == 1,
        },
        Call::Write if a0 == 1 || a0 == 2 => Hypercall::Write {
            descriptor: a0 as u32,
            text: buffer(a1, a2)?,
            process: small(a3)?,
        },
        Call::WriteReady if a0 == 1 || a0 == 2 => Hypercall::WriteReady {
            descriptor: a0 as u32,
        },
        Call::Write | Call::WriteReady => return Err(Errno::EBADF),
        // A longer buffer is a shorter read.
        Call::Read => Hypercall::Read {
            into: buffer(a0, a1.min(MAX_WRITE))?,
        },
        Call::ReadReady => Hypercall::ReadReady,
        Call::Stdio if a0 <= 2 => Hypercall::Stdio {
            descriptor: a0 as u32,
            query: match a1 {
                STDIO_FSTAT => StdioQuery::Status,
                STDIO_WINSIZE => StdioQuery::WindowSize,
                STDIO_TERMIOS => StdioQuery::Termios,
                _ => return Err(Errno::EINVAL),
            },
        },
        Call::Stdio => return Err(Errno::EBADF),
        Call::ProcessExit => Hypercall::ProcessExit {
            index: small(a0)?,
            wait_status: small(a1)?,
            pid: request.pid,
        },
        Call::Log => Hypercall::Log {
            level: small(a0)?,
            text: buffer(a1, a2)?,
        },
        Call::Copy => Hypercall::Copy(bulk(request)?),
        Call::Zero => Hypercall::Zero(bulk(request)?),
        Call::ProcessStart => Hypercall::ProcessStart {
            index: small(a0)?,
            pid: request.pid,
        },
        Call::Random if a1 <= abi::PAGE_SIZE => Hypercall::Random {
            into: buffer(a0, a1)?,
        },
        Call::Random => return Err(Errno::EINVAL),
        Call::ShmGet => Hypercall::ShmGet {
            key: a0 as i32,
            size: a1,
            flags: a2 as u32,
            task: a3 as u32,
        },
        Call::ShmAttach => Hypercall::ShmAttach {
            id: a0 as i32,
            flags: a1 as u32,
            rooms: [room(a2, a3)?, room(a4, a5)?],
        },
        Call::ShmDetach => Hypercall::ShmDetach {
            id: a0 as i32,
            window: window(a1)?,
            count: a2,
        },
        Call::ShmDetachLast => Hypercall::ShmDetachLast {
            id: a0 as i32,
            window: window(a1)?,
        },
        Call::ShmControl => Hypercall::ShmControl {
            id: a0 as i32,
            command: a1 as i32,
            memlock: a2.checked_sub(1).map(|limit| LockAccount {
                limit,
                user: a3 as u32,
            }),
        },
        Call::ShmAttachMore => Hypercall::ShmAttachMore {
            id: a0 as i32,
            window: window(a1)?,
            count: a2,
        },
        Call::ShmPunch => Hypercall::ShmPunch {
            id: a0 as i32,
            offset: a1,
            len: a2,
        },
        Call::ProcRead if a3 <= abi::PAGE_SIZE => Hypercall::ProcRead {
            file: ProcFile::from_raw(a0)?,
            offset: a1,
            into: buffer(a2, a3)?,
        },
        Call::ProcWrite if a2 <= abi::PAGE_SIZE => Hypercall::ProcWrite {
            setting: match ProcFile::from_raw(a0)? {
                ProcFile::Setting(setting) => setting,
                ProcFile::Table => return Err(Errno::EINVAL),
            },
            text: buffer(a1, a2)?,
        },
        Call::ProcRead | Call::ProcWrite => return Err(Errno::EINVAL),
        Call::Usage => Hypercall::Usage { free_frames: a0 },
        Call::FutexWait => Hypercall::FutexWait(FutexWait {
            word: word(a0, a1),
            expected: a2 as u32,
            bitset: a3 as u32,
            task: task(a4)?,
        }),
        Call::FutexWake => Hypercall::FutexWake(FutexWake {
            word: word(a0, a1),
            count: a2,
            bitset: a3 as u32,
        }),
        Call::FutexRequeue => Hypercall::FutexRequeue(FutexRequeue {
            from: word(a0, a1),
            to: word(a2, a3),
            wake: a4 as u32,
            requeue: (a4 >> 32) as u32,
            expected: (a5 & REQUEUE_COMPARE != 0).then_some(a5 as u32),
        }),
        Call::FutexCancel => Hypercall::FutexCancel { task: task(a0)? },
        Call::Tables => Hypercall::Tables(Tables {
            areas: a0,
            processes: a1,
            tasks: a2,
            open_files: a3,
        }),
        Call::ShmMakerEnded => Hypercall::ShmMakerEnded { task: a0 as u32 },
        // Decoded above.
        Call::ObjectOpen
        | Call::ObjectStat
        | Call::ObjectSet
        | Call::ObjectResize
        | Call::ObjectRead
        | Call::ObjectWrite
        | Call::ObjectLink
        | Call::ObjectUnlink
        | Call::ObjectRename
        | Call::ObjectList
        | Call::ObjectMap
        | Call::ObjectUnmap
        | Call::ObjectNotice
        | Call::ObjectAck
        | Call::ObjectRelease
        | Call::ObjectName => return Err(Errno::ENOSYS),
    };
    Ok((call, hypercall))
}

fn fpu(value: u64) -> Result<FpuLoad, Errno> {
    Ok(match value {
        FPU_NONE => FpuLoad::Nothing,
        FPU_INITIAL => FpuLoad::Initial,
        task => FpuLoad::Task(u16::try_from(task - FPU_TASKS).map_err(|_| Errno::EINVAL)?),
    })
}

fn fpu_image([first, first_len, second, second_len]: [u64; 4]) -> Result<[Buffer; 2], Errno> {
    let pieces = [buffer(first, first_len)?, buffer(second, second_len)?];
    if first_len + second_len > FPU_MOST {
        return Err(Errno::EINVAL);
    }
    Ok(pieces)
}

fn small(value: u64) -> Result<u32, Errno> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

fn buffer(gpa: u64, len: u64) -> Result<Buffer, Errno> {
    if len > MAX_WRITE {
        return Err(Errno::EINVAL);
    }
    Ok(Buffer {
        gpa: GuestPhys::new(gpa),
        len,
    })
}

fn room(bytes: u64, errno: u64) -> Result<Room, Errno> {
    let errno = i32::try_from(errno).ok().and_then(Errno::from_raw);
    Ok(Room {
        bytes,
        errno: errno.ok_or(Errno::EINVAL)?,
    })
}

fn window(value: u64) -> Result<WindowKind, Errno> {
    match value {
        WINDOW_RW => Ok(WindowKind::ReadWrite),
        WINDOW_RO => Ok(WindowKind::ReadOnly),
        _ => Err(Errno::EINVAL),
    }
}

fn word(id: u64, offset: u64) -> SharedWord {
    // Sign-extended or not: an id that is negative means no segment.
    let of = match id & WORD_OF_OBJECT {
        0 => Shared::Segment(id as i32),
        _ => Shared::Object(id & !WORD_OF_OBJECT),
    };
    SharedWord { of, offset }
}

fn task(value: u64) -> Result<u32, Errno> {
    let task = small(value)?;
    if (task as usize) < MAX_TASKS {
        Ok(task)
    } else {
        Err(Errno::EINVAL)
    }
}

fn bulk(request: &Request) -> Result<Bulk, Errno> {
    let count = usize::try_from(request.args[0])
        .ok()
        .filter(|count| *count <= MAX_BULK)
        .ok_or(Errno::EINVAL)?;
    let mut entries = [BulkEntry::default(); MAX_BULK];
    let bytes = entries.as_mut_bytes();
    bytes.copy_from_slice(&request.payload[..bytes.len()]);
    let piece = |entry: &BulkEntry| (GuestPhys::new(entry.to), GuestPhys::new(entry.from), entry.len);
    Ok(Bulk(entries[..count].iter().map(piece).collect()))
}

/// A request that asks nothing, to be filled in.
#[must_use]
pub fn empty_request() -> Request {
    Request::new_zeroed()
}

#[cfg(test)]
mod tests;
