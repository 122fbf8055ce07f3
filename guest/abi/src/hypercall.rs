//! How the guest kernel asks the host for something.
//!
//! Each vCPU has a page of slots ([`HypercallPage`]). The kernel fills a [`Request`], then writes the
//! slot's number to [`PORT_HYPERCALL`] with a 32-bit `out`; when the instruction is done, the host has set
//! [`Request::result`] (negated errno, or a value from 0) and [`Request::out`]. A request never blocks: what
//! must wait answers `EAGAIN`, and [`crate::boot::VECTOR_EVENT`] is raised when it is worth asking again.
//!
//! The host copies a request once, checks everything in it, and trusts nothing. Addresses in requests are
//! guest-physical and must lie in RAM, never in a window.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// 32-bit `out`: the request in slot number EAX of this vCPU's page.
pub const PORT_HYPERCALL: u16 = 0x500;
/// 32-bit `out`: this guest is done; EAX says how. Does not return.
pub const PORT_EXIT: u16 = 0x504;

/// [`PORT_EXIT`]: all processes have ended.
pub const EXIT_DONE: u32 = 0;
/// [`PORT_EXIT`]: the kernel died; the vCPU's epitaph page says why.
pub const EXIT_PANIC: u32 = 1;

/// Slots in a page.
pub const SLOTS: usize = 8;
/// Bytes of [`Request::payload`].
pub const PAYLOAD_LEN: usize = 256;
/// Most supplementary groups a request carries.
pub const MAX_GROUPS: usize = 32;

/// One request. What its fields mean is said at each [`Call`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// A [`Call`]'s number.
    pub call: u32,
    /// Group-wide id of the process on whose behalf this is, 0 for the kernel itself.
    pub pid: u32,
    /// That process's effective user id.
    pub euid: u32,
    /// That process's effective group id.
    pub egid: u32,
    /// Arguments.
    pub args: [u64; 6],
    /// Answer: from 0, or a negated errno.
    pub result: i64,
    /// More answer.
    pub out: [u64; 2],
    /// How many of [`Request::groups`] are set.
    pub group_count: u32,
    /// Supplementary groups of the process.
    pub groups: [u32; MAX_GROUPS],
    #[doc(hidden)]
    pub pad: u32,
    /// Structures, in or out.
    pub payload: [u8; PAYLOAD_LEN],
}

/// A vCPU's page of request slots.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallPage {
    /// The slots.
    pub slots: [Request; SLOTS],
}

const _: () = assert!(size_of::<HypercallPage>() <= crate::PAGE_SIZE as usize);

/// One element of the list that [`Call::Copy`] and [`Call::Zero`] take.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BulkEntry {
    /// GPA written to.
    pub to: u64,
    /// GPA read from; ignored by [`Call::Zero`].
    pub from: u64,
    /// Bytes.
    pub len: u64,
}

/// Most [`BulkEntry`]s in one request: they lie in [`Request::payload`].
pub const MAX_BULK: usize = PAYLOAD_LEN / size_of::<BulkEntry>();

/// A [`Call::Write`]'s or [`Call::Log`]'s piece of text is at most this long.
pub const MAX_WRITE: u64 = 1 << 20;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// What can be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Call { $($(#[$doc])* $name = $value,)* }

        impl Call {
            /// The call with this number.
            #[must_use]
            pub const fn from_raw(value: u32) -> Option<Call> {
                match value { $($value => Some(Call::$name),)* _ => None }
            }
            /// Every call.
            pub const ALL: &[Call] = &[$(Call::$name),*];
        }
    };
}

calls! {
    /// Nothing. For measuring the way to the host and back.
    Nop = 0,
    /// The kernel is up, programs start now. args\[0\]: 1 if ring 0 is emulated; args\[1\]: 1 if SYSCALL arrives
    /// in ring 3; args\[2\]: TSC at the kernel's entry.
    Ready = 1,
    /// Bytes for the command's stdout or stderr. args: descriptor (1 or 2), GPA, length (to [`MAX_WRITE`]),
    /// process index (as in `BootProcess::index`). Result: bytes taken, which may be fewer, or the host descriptor's
    /// errno (EPIPE …); EAGAIN when it takes none now: the event interrupt comes when that has changed.
    Write = 2,
    /// Bytes of the command's stdin. args: GPA, length. Result: bytes, 0 at the end, EAGAIN when there are none
    /// yet: the event interrupt comes when that has changed. Guests other than the first read the end at once.
    Read = 3,
    /// Is there something to read? Result 1 (bytes or the end) or EAGAIN as [`Call::Read`].
    ReadReady = 4,
    /// About the host's descriptor. args: descriptor 0–2, operation ([`STDIO_FSTAT`] …). Result 0 and the
    /// structure in the payload, or ENOTTY as Linux.
    Stdio = 5,
    /// A process ended. args: index, Linux wait status; pid is the request's.
    ProcessExit = 6,
    /// Text of the kernel's own log. args: level (1 error … 5 trace), GPA, length.
    Log = 7,
    /// Copy within RAM. args\[0\]: entries in the payload (≤ [`MAX_BULK`]). Entries are carried out in order.
    Copy = 8,
    /// Zero RAM. args\[0\]: entries in the payload.
    Zero = 9,
    /// A process began its first instruction in ring 3. args: index. Sent just before.
    ProcessStart = 10,
    /// Random bytes from the host's generator. args: GPA, length (to one page). Result 0.
    Random = 11,

    /// shmget. args: key (as i32), size, flags, the task that asks (0: the process's first). Result: id.
    ShmGet = 16,
    /// shmat's host half. args: id, flags ([`crate::ipc::SHM_RDONLY`], [`crate::ipc::SHM_EXEC`]), how many
    /// bytes there is room for at the address asked for, and the errno if the segment (rounded up to pages) is
    /// larger than that; how many it may have otherwise, and the errno if it is larger than that, which is looked at
    /// next. Both are found out after Linux's checks of id and permission, before anything is counted.
    /// Result: the key the segment was made with, as a u32; out: GPA of the segment in the window that serves the
    /// flags, size in bytes (not rounded; of a
    /// segment of huge pages: rounded up to those).
    /// nattch +1.
    ShmAttach = 17,
    /// One or more attaches of a segment end. args: id, window ([`WINDOW_RW`] or [`WINDOW_RO`]), how many.
    /// When the guest's last one in that window is gone, so is the segment from the window.
    ShmDetach = 18,
    /// shmctl. args: id, command, and for SHM_LOCK the process's RLIMIT_MEMLOCK in bytes + 1 (infinity: all ones; 0:
    /// the effective user has the group's limit) and its real user id, whose account it is; for IPC_SET the payload holds a `ShmidDs`. Result as Linux; structures out in the
    /// payload.
    ShmControl = 19,
    /// An attach was split, moved or inherited (munmap of a part, mprotect, mremap, fork): args as
    /// [`Call::ShmDetach`]; nattch + how many, without permission checks; the request's pid becomes lpid, atime is now.
    ShmAttachMore = 20,
    /// Numbers for tests and the report. args: free frames, processes alive. No answer.
    Usage = 21,
    /// Reads a text that the broker makes ([`PROC_SHM`] …). args: which, offset, GPA, length (to one page).
    /// Result: bytes, 0 at the end. The offset is in bytes; of the table of segments, which is given in whole lines, it
    /// is 0 for all of it, or the index of the first segment wanted (the low 15 bits of its id) and 1.
    ProcRead = 22,
    /// Writes a setting ([`PROC_SHMMAX`] …), by root only (the guest kernel checks that). args: which, GPA, length
    /// (to one page). Result: bytes taken, or EINVAL for what is not a number, EPERM unless euid is 0. (Linux takes
    /// writes at other offsets than 0 and ignores them; of a longer text it looks at the first page.)
    ProcWrite = 23,
    /// Bytes of a segment that the guest has attached read-write become zeros, and their memory is given back
    /// (MADV_REMOVE). args: id, offset, length (not 0; both in whole pages, within the segment). Result 0.
    ShmPunch = 32,
    /// One attach of a segment ends, if the segment is destroyed with it: it has been removed, and this is its only
    /// attach in the group. args: id, window. Result 0; EAGAIN if not, then nothing has changed.
    ShmDetachLast = 34,
    /// The FPU's registers and those that came after it, whole: what this vCPU has is kept for a task, then those of
    /// another are loaded. For kernels that can't do that themselves. args: the task whose registers the vCPU has
    /// ([`FPU_NONE`], [`FPU_TASKS`] + slot), the one whose are to be loaded (the same, or [`FPU_INITIAL`]). Result 0.
    SwitchFpu = 33,
    /// The FPU's registers of this vCPU, and those that came after it, are written to RAM as XSAVE lays them out (SDM 1,
    /// 13.4), and become those a program finds at its start. args: GPA and length of two pieces of RAM, which together
    /// take no more than [`FPU_MOST`] bytes; the second may have none. Result 0.
    SaveFpu = 40,
    /// The other way: what lies there is loaded, unless the CPU would not take it (EINVAL: what XRSTOR would fault on).
    /// args: the pieces; the state components to take (a bit each), others become initial. Fewer bytes than XSAVE's
    /// header would need are FXSAVE's: x87 and SSE. Result 0.
    LoadFpu = 41,
    /// Nothing to do here but wait for another vCPU: the host may run something else first. Result 0.
    Yield = 24,
    /// Would [`Call::Write`] take something? args: descriptor (1 or 2), process index. Result 1 (bytes, or an error)
    /// or EAGAIN as [`Call::Write`].
    WriteReady = 48,

    /// A task waits for a word of a segment that this guest has attached, or of an object of which it has a range that
    /// shows the word ([`crate::object::WORD_OF_OBJECT`] + serial number for the id). args: id, offset in bytes, the value the
    /// word must have, bitset, task slot. Result 0: it is queued, until its wake bit is set ([`crate::tasks`]) or
    /// [`Call::FutexCancel`]; EAGAIN: the word has another value. Comparing and queueing are one step for every waker.
    /// The interrupt comes to the vCPU that asked.
    FutexWait = 25,
    /// Wakes tasks, in the order they came. args: id, offset, how many at most, bitset. Result: how many; out\[0\]: 1
    /// if tasks of this guest are among them (their wake bits are set, and no interrupt comes for those).
    FutexWake = 26,
    /// Wakes some of those who wait for a word, and has others wait for a second one. args: id, offset, the second
    /// word's id and offset, how many to wake (low half) and to move (high half), and in the last the value the first
    /// word must have (low half) if bit 32 is set. Result: woken and moved together, or EAGAIN; out\[0\] as
    /// [`Call::FutexWake`].
    FutexRequeue = 27,
    /// A task no longer waits. args: task slot. Result 0: it was taken out; 1: it had been woken, its wake bit is
    /// set and stays so.
    FutexCancel = 28,
    /// A task that may have made segments has ended. args: the task. On Linux that is `exit_shm`, which matters to
    /// kernel.shm_rmid_forced. Result 0.
    ShmMakerEnded = 29,
    /// What is in use in the kernel's tables ([`crate::boot::BootFlags::TEST_COUNT_TABLES`]). args: areas of memory,
    /// processes (ended ones nobody has waited for included), tasks, open files. No answer.
    Tables = 30,

    // Objects: [`crate::object`] says what they are. Names are GPA and length in RAM. Rights are those of the request's
    // user as far as the guest is believed; what a guest holds by a request it holds until ObjectRelease.
    /// Holds an object, with rights. args: flags ([`crate::object::OPEN_READ`] …), serial number (then there is no name)
    /// or 0, name's GPA, length, mode for one that is made. Result: 1 if it was made, else 0; its
    /// [`ObjectStatus`](crate::object::ObjectStatus) in the payload. Without OPEN_READ and OPEN_WRITE nobody is asked.
    /// ENOENT, EEXIST, EACCES, ENFILE, ENOSPC; EBADF for a number the guest does not hold.
    ObjectOpen = 50,
    /// args: serial number, or 0 for the directory. Result 0, the status in the payload. EBADF.
    ObjectStat = 51,
    /// chmod, chown, utimensat. args: serial number, what ([`crate::object::SET_MODE`] …), mode, uid (low half) and gid
    /// (high half), time of access, time of modification. Result 0. EPERM, EACCES, EBADF.
    ObjectSet = 52,
    /// The size changes, or there is room for so much at least. args: serial number, size, and the number that an
    /// earlier EAGAIN gave in out\[0\], or 0. Result 0; EAGAIN, out\[0\] as said (0: nothing has begun); ENOSPC, EFBIG,
    /// EBADF.
    ObjectResize = 53,
    /// args: serial number, offset, GPA, length (to [`MAX_WRITE`]). Result: bytes, 0 at the end. EBADF, EFAULT.
    ObjectRead = 54,
    /// args: serial number, offset ([`crate::object::AT_END`]: the end), GPA, length (to [`MAX_WRITE`]). Result: bytes;
    /// out\[0\]: the offset after them. EAGAIN, ENOSPC, EFBIG, EBADF, EFAULT.
    ObjectWrite = 55,
    /// Another name. args: serial number, name's GPA, length. Result 0. EEXIST, EPERM, EMLINK, ENOENT, EBADF.
    ObjectLink = 56,
    /// A name goes. args: GPA, length. Result 0. ENOENT, EPERM.
    ObjectUnlink = 57,
    /// args: old name's GPA, length, new name's GPA, length, flags ([`crate::object::RENAME_NOREPLACE`] …). Result 0.
    /// ENOENT, EEXIST, EPERM.
    ObjectRename = 58,
    /// The next name. args: 0, or what out\[0\] was for the last one; GPA, length of room for a name (255 at least).
    /// Result: the name's length, 0 when there is none left; out: for the next request, the object's serial number.
    ObjectList = 59,
    /// A range of an object appears. args: serial number, window ([`WINDOW_RW`] or [`WINDOW_RO`]), offset, length (both
    /// in whole pages). Result 0; out: GPA, the object's size. EBADF, EACCES, ENOMEM.
    ObjectMap = 60,
    /// A range disappears. args: GPA. Result 0. The pages must be in no page table.
    ObjectUnmap = 61,
    /// Which object is to shrink? Result 1, out: serial number and size: pages past it go from all page tables, then
    /// ObjectAck follows; or 0. Asked again without that, the answer is the same.
    ObjectNotice = 62,
    /// args: serial number. Result 0, also if nobody waited for it.
    ObjectAck = 63,
    /// The guest does not hold an object any longer. args: serial number. EBUSY while ranges of it are there; EBADF.
    ObjectRelease = 64,
    /// A name that leads to an object, or the last one that did. args: serial number, GPA, length of room for a name.
    /// Result: its length; out\[0\]: 1 if it does. EBADF.
    ObjectName = 65,
}

/// [`Call::SaveFpu`], [`Call::LoadFpu`]: most bytes.
pub const FPU_MOST: u64 = 4096;
/// [`Call::SwitchFpu`]: of nobody.
pub const FPU_NONE: u64 = 0;
/// [`Call::SwitchFpu`]: as a program finds them at its start.
pub const FPU_INITIAL: u64 = 1;
/// [`Call::SwitchFpu`]: of the task in the slot whose number is added.
pub const FPU_TASKS: u64 = 2;

/// [`Call::ProcRead`]: /proc/sysvipc/shm.
pub const PROC_SHM: u64 = 0;
/// [`Call::ProcRead`], [`Call::ProcWrite`]: /proc/sys/kernel/shmmax.
pub const PROC_SHMMAX: u64 = 1;
/// [`Call::ProcRead`], [`Call::ProcWrite`]: /proc/sys/kernel/shmall.
pub const PROC_SHMALL: u64 = 2;
/// [`Call::ProcRead`], [`Call::ProcWrite`]: /proc/sys/kernel/shmmni.
pub const PROC_SHMMNI: u64 = 3;
/// [`Call::ProcRead`], [`Call::ProcWrite`]: /proc/sys/kernel/shm_next_id.
pub const PROC_SHM_NEXT_ID: u64 = 4;
/// [`Call::ProcRead`], [`Call::ProcWrite`]: /proc/sys/kernel/shm_rmid_forced.
pub const PROC_SHM_RMID_FORCED: u64 = 5;

/// [`Call::ShmDetach`]: the read-write window.
pub const WINDOW_RW: u64 = 0;
/// [`Call::ShmDetach`]: the read-only window.
pub const WINDOW_RO: u64 = 1;

/// [`Call::FutexRequeue`], last argument: the first word is compared.
pub const REQUEUE_COMPARE: u64 = 1 << 32;

/// [`Call::Stdio`]: `struct stat` (144 bytes).
pub const STDIO_FSTAT: u64 = 0;
/// [`Call::Stdio`]: `struct winsize` (8 bytes), TIOCGWINSZ.
pub const STDIO_WINSIZE: u64 = 1;
/// [`Call::Stdio`]: the kernel's `struct termios` (36 bytes), TCGETS.
pub const STDIO_TERMIOS: u64 = 2;
