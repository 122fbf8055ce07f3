//! The Linux x86-64 system calls: numbers, structures and errors as Linux has them, so that unmodified
//! programs run, and Linux itself is the judge.
//!
//! | file | family |
//! |---|---|
//! | `number` | the numbers |
//! | `file` | files and descriptors |
//! | `memory` | mmap and friends |
//! | `residence` | mlock and its kin, mincore |
//! | `time` | clocks and sleeping |
//! | `timer` | timers that send signals |
//! | `identity` | who am I, where am I, what may I |
//! | `capability` | what root may |
//! | `credentials` | the setuid and setgid families, groups, sessions |
//! | `clone` | fork, and threads |
//! | `process` | execve, the end, waiting |
//! | `signal` | actions, masks, signal stacks; waiting for signals |
//! | `kill` | sending signals |
//! | `thread` | thread-local state, barriers |
//! | `prctl`, `personality` | what a thread is to be like |
//! | `sched`, `priority` | where and how threads run |
//! | `usage` | how long they did |
//! | `futex` | waiting for words |
//! | `absent` | what there is of semaphores and message queues: none |
//!
//! System V shared memory is in [`crate::shm`]. Each call gets a [`Call`] and answers with a [`Reply`]. A call
//! that must wait parks its task; whoever ends the wait delivers the result, or has the call made again
//! ([`again`]).

mod absent;
mod capability;
mod clone;
mod credentials;
mod file;
mod futex;
mod identity;
mod kill;
mod memory;
pub mod number;
mod personality;
mod prctl;
mod priority;
mod process;
mod residence;
mod sched;
mod signal;
mod thread;
mod time;
mod timer;
pub mod usage;

use crate::arch::context::with_frame_of_running;
use crate::arch::cpu::Cpu;
use crate::arch::entry::TrapFrame;
use crate::fs::descriptor::Descriptors;
use crate::hypercall::Requester;
use crate::kernel::Kernel;
use crate::mm::{AddressSpace, Memory, world::KernelWorld};
use crate::process::Process;
use crate::process::signal::deliver::return_from_handler;
use crate::process::signal::info::{Info, SI_USER};
use crate::process::signal::send::{self, Target};
use crate::process::task::{Task, Wait};
use crate::{log, shm};
use abi::Errno;
use abi::boot::BootFlags;
use credentials::Ids;
use file::transfer::{self, Direction};
use file::{
    advice, attribute, copy, descriptor, epoll, event, listing, lock, memfd, name, object, open, pipe, poll,
    random, timerfd, times,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a call comes to.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// It returns this.
    Value(u64),
    /// It fails with this.
    Error(Errno),
    /// Its task waits; the result comes later.
    Parked,
    /// Its task is no more.
    Ended,
    /// This is to be done with the caller's registers, which hold the result then.
    OnRegisters(OnRegisters),
}

/// See [`Reply::OnRegisters`].
pub type OnRegisters = fn(&mut Kernel, &'static Cpu, u16, &mut TrapFrame);

impl From<Result<u64, Errno>> for Reply {
    fn from(result: Result<u64, Errno>) -> Reply {
        match result {
            Ok(value) => Reply::Value(value),
            Err(error) => Reply::Error(error),
        }
    }
}

/// Whether a call is made for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// By the program.
    First,
    /// By the kernel, because what it waited for may have come.
    Again,
}

/// One call being served.
pub struct Call<'a> {
    /// The kernel's state.
    pub kernel: &'a mut Kernel,
    /// The vCPU it is made on.
    pub cpu: &'static Cpu,
    /// The task that makes it.
    pub task: u16,
    /// Its arguments: rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
    /// Whether it has been made before and waited.
    pub attempt: Attempt,
}

impl Call<'_> {
    /// The calling process.
    pub fn process(&mut self) -> &mut Process {
        self.kernel.process(self.task)
    }

    /// The calling task.
    pub fn task(&mut self) -> &mut Task {
        &mut self.kernel.tasks[usize::from(self.task)]
    }

    /// What the calling task has open.
    pub fn descriptors(&mut self) -> &mut Descriptors {
        let number = self.task().descriptors;
        &mut self.kernel.descriptors[number]
    }

    /// The calling process as the host sees it.
    pub fn requester(&mut self) -> Requester {
        self.process().requester()
    }

    /// Works on the caller's address space.
    pub fn with_space<R>(
        &mut self,
        work: impl FnOnce(&mut AddressSpace, &mut Memory, &mut KernelWorld) -> R,
    ) -> R {
        self.kernel.with_space(self.cpu, self.task, work)
    }

    /// Parks the caller until `wait` ends or TSC value `deadline` comes; then the call is made again. `moved` bytes
    /// have been moved so far.
    pub fn wait(&mut self, wait: Wait, moved: u64, deadline: Option<u64>) -> Reply {
        self.task().moved = moved;
        self.kernel.park(self.cpu, self.task, wait, deadline);
        Reply::Parked
    }

    /// Whether there are signals that the caller does not block.
    pub fn has_signals(&mut self) -> bool {
        let for_all = self.process().pending.set();
        let task = self.task();
        (task.pending.set() | for_all) & !task.blocked != 0
    }

    /// Sends `signal` to the caller, as Linux does for a write that can't be made.
    pub fn signal_itself(&mut self, signal: u32) {
        let process = self.process();
        let info = Info::sent(signal, SI_USER, process.pid, process.credentials.uid[0]);
        // There is always room for a signal that is no real-time one.
        let _ = send::send(self.kernel, self.cpu, Target::Task(self.task), &info);
    }

    /// Copies a structure from the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read<T: FromBytes + IntoBytes>(&mut self, address: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.with_space(|space, memory, world| space.read(memory, world, address, value.as_mut_bytes()))?;
        Ok(value)
    }

    /// Copies a structure to the program.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write<T: IntoBytes + Immutable + ?Sized>(&mut self, address: u64, value: &T) -> Result<(), Errno> {
        self.with_space(|space, memory, world| space.write(memory, world, address, value.as_bytes()))
    }

    /// As [`Call::write`], but nothing happens for a null pointer.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_if<T: IntoBytes + Immutable>(&mut self, address: u64, value: &T) -> Result<(), Errno> {
        if address == 0 {
            Ok(())
        } else {
            self.write(address, value)
        }
    }

    /// Copies a NUL-terminated path, without the NUL, into `buffer`.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG if there is no NUL within the buffer.
    pub fn read_path<'b>(&mut self, address: u64, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        // Piece by piece: the page after the string may not be there.
        const PIECE: usize = 32;
        let mut at = 0;
        while at < buffer.len() {
            let here = address.checked_add(at as u64).ok_or(Errno::EFAULT)?;
            let take = (PIECE - here as usize % PIECE).min(buffer.len() - at);
            let piece = &mut buffer[at..at + take];
            self.with_space(|space, memory, world| space.read(memory, world, here, piece))?;
            if let Some(end) = piece.iter().position(|&byte| byte == 0) {
                return Ok(&buffer[..at + end]);
            }
            at += take;
        }
        Err(Errno::ENAMETOOLONG)
    }
}

/// The running task `task` has made a call; its registers are in `frame`.
pub fn made(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, frame: &mut TrapFrame) {
    attempt(kernel, cpu, task, frame, Attempt::First);
}

/// Makes the call again that task `task`, now on this vCPU, waited in.
pub fn again(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    with_frame_of_running(cpu, task, |frame| {
        attempt(kernel, cpu, task, frame, Attempt::Again)
    });
}

/// Whether a handler has asked for a call it interrupts to be made again (SA_RESTART).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It has, and those that can be are.
    IfItCan,
    /// It has not.
    Never,
}

/// Task `task`, on this vCPU, is about to run a handler for the signal that has ended the wait of its call: the call fails,
/// or is made once more when the handler returns; one that has moved bytes tells how many. Those that wait for a time or for signals always fail (signal(7)).
pub fn interrupted(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, restart: Restart) {
    with_frame_of_running(cpu, task, |frame| {
        let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
        let which = frame.rax;
        let mut call = Call {
            kernel,
            cpu,
            task,
            args,
            attempt: Attempt::Again,
        };
        if let Some(moved) = transfer::interrupted(&mut call, which) {
            frame.rax = moved;
        } else if restart == Restart::IfItCan && can_restart(which, &args) {
            // The registers are still those of the call: it is enough to go back to the instruction.
            frame.rip = frame.rip.wrapping_sub(SYSCALL_LEN);
        } else {
            poll::interrupted(&mut call, which);
            frame.rax = time::what_is_left(&mut call, which).to_result() as u64;
        }
    });
}

/// Bytes of the instruction `syscall`.
const SYSCALL_LEN: u64 = 2;

/// Whether call `which` may be made again after a handler has run.
fn can_restart(which: u64, args: &[u64; 6]) -> bool {
    match which {
        number::POLL
        | number::SELECT
        | number::PSELECT6
        | number::PPOLL
        | number::EPOLL_WAIT
        | number::EPOLL_PWAIT
        | number::EPOLL_PWAIT2
        | number::PAUSE
        | number::NANOSLEEP
        | number::CLOCK_NANOSLEEP
        | number::RT_SIGTIMEDWAIT
        | number::RT_SIGSUSPEND => false,
        // With a time-out it would begin to wait anew.
        number::FUTEX => args[3] == 0,
        _ => true,
    }
}

fn attempt(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, frame: &mut TrapFrame, attempt: Attempt) {
    let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    match serve(
        &mut Call {
            kernel,
            cpu,
            task,
            args,
            attempt,
        },
        frame.rax,
    ) {
        Reply::Value(value) => frame.rax = value,
        Reply::Error(error) => frame.rax = error.to_result() as u64,
        Reply::Parked | Reply::Ended => {}
        Reply::OnRegisters(work) => work(kernel, cpu, task, frame),
    }
    if kernel.memory.areas.let_go {
        // What the call has only looked at, or let go of.
        kernel.sweep_files();
    }
}

fn serve(call: &mut Call<'_>, which: u64) -> Reply {
    match which {
        number::READ => transfer::read(call),
        number::WRITE => transfer::write(call),
        number::OPEN => object::or_wait(call, open::open),
        number::CLOSE => open::close(call).into(),
        number::STAT => attribute::stat(call).into(),
        number::FSTAT => attribute::fstat(call).into(),
        number::LSTAT => attribute::lstat(call).into(),
        number::POLL => poll::poll(call),
        number::LSEEK => transfer::lseek(call).into(),
        number::MMAP => memory::mmap(call).into(),
        number::MPROTECT => memory::mprotect(call).into(),
        number::MUNMAP => memory::munmap(call).into(),
        number::BRK => memory::brk(call).into(),
        number::RT_SIGACTION => signal::sigaction(call).into(),
        number::RT_SIGPROCMASK => signal::sigprocmask(call).into(),
        number::IOCTL => descriptor::ioctl(call).into(),
        number::PREAD64 => transfer::pread(call),
        number::PWRITE64 => transfer::pwrite(call),
        number::READV => transfer::vectored(call, Direction::Read),
        number::WRITEV => transfer::vectored(call, Direction::Write),
        number::ACCESS => attribute::access(call).into(),
        number::PIPE => pipe::pipe(call).into(),
        number::SELECT => poll::select(call),
        number::SCHED_YIELD => sched::sched_yield(call).into(),
        number::MREMAP => memory::mremap(call).into(),
        number::MSYNC => memory::msync(call).into(),
        number::MINCORE => residence::mincore(call).into(),
        number::MLOCK => residence::mlock(call).into(),
        number::MUNLOCK => residence::munlock(call).into(),
        number::MLOCKALL => residence::mlockall(call).into(),
        number::MUNLOCKALL => residence::munlockall(call).into(),
        number::MLOCK2 => residence::mlock2(call).into(),
        number::REMAP_FILE_PAGES => memory::remap_file_pages(call).into(),
        number::MADVISE => memory::madvise(call).into(),
        number::SHMGET => shm::get(call).into(),
        number::SHMAT => shm::attach(call).into(),
        number::SHMCTL => shm::control(call).into(),
        number::DUP => descriptor::dup(call).into(),
        number::DUP2 => descriptor::dup2(call).into(),
        number::GETITIMER => timer::getitimer(call).into(),
        number::ALARM => timer::alarm(call).into(),
        number::SETITIMER => timer::setitimer(call).into(),
        number::NANOSLEEP => time::nanosleep(call),
        number::GETPID => identity::getpid(call).into(),
        number::EXIT => process::exit(call),
        number::EXIT_GROUP => process::exit_group(call),
        number::RT_SIGRETURN => Reply::OnRegisters(return_from_handler),
        number::PAUSE => signal::pause(call),
        number::KILL => kill::kill(call).into(),
        number::UNAME => identity::uname(call).into(),
        number::SEMCTL => absent::semctl(call).into(),
        number::SHMDT => shm::detach(call).into(),
        number::MSGCTL => absent::msgctl(call).into(),
        number::SENDFILE => copy::sendfile(call),
        number::FCNTL => descriptor::fcntl(call),
        number::FLOCK => lock::flock(call),
        number::FSYNC | number::FDATASYNC => attribute::fsync(call).into(),
        number::TRUNCATE => object::or_wait(call, attribute::truncate),
        number::FTRUNCATE => object::or_wait(call, attribute::ftruncate),
        number::GETCWD => name::getcwd(call).into(),
        number::CHDIR => name::chdir(call).into(),
        number::FCHDIR => name::fchdir(call).into(),
        number::RENAME => name::rename(call).into(),
        number::MKDIR => name::mkdir(call).into(),
        number::RMDIR => name::rmdir(call).into(),
        number::CREAT => object::or_wait(call, open::creat),
        number::LINK => name::link(call).into(),
        number::UNLINK => name::unlink(call).into(),
        number::SYMLINK => name::symlink(call).into(),
        number::READLINK => name::readlink(call).into(),
        number::CHMOD => attribute::chmod(call).into(),
        number::FCHMOD => attribute::fchmod(call).into(),
        number::CHOWN => attribute::chown(call).into(),
        number::FCHOWN => attribute::fchown(call).into(),
        number::LCHOWN => attribute::lchown(call).into(),
        number::UMASK => name::umask(call).into(),
        number::MKNOD => name::mknod(call).into(),
        number::STATFS => attribute::statfs(call).into(),
        number::FSTATFS => attribute::fstatfs(call).into(),
        number::EVENTFD => event::eventfd(call).into(),
        number::EVENTFD2 => event::eventfd2(call).into(),
        number::SIGNALFD => event::signalfd(call).into(),
        number::SIGNALFD4 => event::signalfd4(call).into(),
        number::TIMERFD_CREATE => timerfd::timerfd_create(call).into(),
        number::TIMERFD_SETTIME => timerfd::timerfd_settime(call).into(),
        number::TIMERFD_GETTIME => timerfd::timerfd_gettime(call).into(),
        number::EPOLL_CREATE => epoll::epoll_create(call).into(),
        number::EPOLL_CREATE1 => epoll::epoll_create1(call).into(),
        number::EPOLL_CTL => epoll::epoll_ctl(call).into(),
        number::EPOLL_WAIT => epoll::epoll_wait(call),
        number::EPOLL_PWAIT => epoll::epoll_pwait(call),
        number::EPOLL_PWAIT2 => epoll::epoll_pwait2(call),
        number::SYNCFS => advice::syncfs(call).into(),
        number::SYNC_FILE_RANGE => advice::sync_file_range(call).into(),
        number::FADVISE64 => advice::fadvise64(call).into(),
        number::READAHEAD => advice::readahead(call).into(),
        number::COPY_FILE_RANGE => copy::copy_file_range(call).into(),
        number::MEMFD_CREATE => memfd::memfd_create(call).into(),
        number::UTIME => times::utime(call).into(),
        number::UTIMES => times::utimes(call).into(),
        number::FUTIMESAT => times::futimesat(call).into(),
        number::SYNC => attribute::sync(call).into(),
        number::GETDENTS64 => listing::getdents64(call).into(),
        number::GETTIMEOFDAY => time::gettimeofday(call).into(),
        number::GETRLIMIT => identity::getrlimit(call).into(),
        number::GETRUSAGE => usage::getrusage(call).into(),
        number::SYSINFO => usage::sysinfo(call).into(),
        number::TIMES => usage::times(call).into(),
        number::GETUID => Reply::Value(u64::from(call.process().credentials.uid[0])),
        number::GETGID => Reply::Value(u64::from(call.process().credentials.gid[0])),
        number::GETEUID => Reply::Value(u64::from(call.process().credentials.uid[1])),
        number::GETEGID => Reply::Value(u64::from(call.process().credentials.gid[1])),
        number::GETPPID => Reply::Value(u64::from(process::parent_pid(call))),
        number::GETRESUID => credentials::get_res(call, Ids::User).into(),
        number::GETRESGID => credentials::get_res(call, Ids::Group).into(),
        number::SETUID => credentials::set_id(call, Ids::User).into(),
        number::SETGID => credentials::set_id(call, Ids::Group).into(),
        number::SETREUID => credentials::set_re(call, Ids::User).into(),
        number::SETREGID => credentials::set_re(call, Ids::Group).into(),
        number::SETRESUID => credentials::set_res(call, Ids::User).into(),
        number::SETRESGID => credentials::set_res(call, Ids::Group).into(),
        number::SETFSUID => credentials::set_fs(call, Ids::User).into(),
        number::SETFSGID => credentials::set_fs(call, Ids::Group).into(),
        number::GETGROUPS => credentials::getgroups(call).into(),
        number::SETGROUPS => credentials::setgroups(call).into(),
        number::SETPGID => credentials::setpgid(call).into(),
        number::GETPGRP => Reply::Value(u64::from(call.process().group)),
        number::GETPGID => credentials::getpgid(call).into(),
        number::SETSID => credentials::setsid(call).into(),
        number::GETSID => credentials::getsid(call).into(),
        number::FORK => clone::fork(call),
        number::VFORK => clone::vfork(call),
        number::CLONE => clone::clone(call),
        number::CLONE3 => clone::clone3(call),
        number::EXECVE => process::execve(call),
        number::WAIT4 => process::wait4(call),
        number::WAITID => process::waitid(call),
        number::OPENAT => object::or_wait(call, open::openat),
        number::MKDIRAT => name::mkdirat(call).into(),
        number::MKNODAT => name::mknodat(call).into(),
        number::FCHOWNAT => attribute::fchownat(call).into(),
        number::UNLINKAT => name::unlinkat(call).into(),
        number::RENAMEAT => name::renameat(call).into(),
        number::LINKAT => name::linkat(call).into(),
        number::SYMLINKAT => name::symlinkat(call).into(),
        number::READLINKAT => name::readlinkat(call).into(),
        number::FCHMODAT => attribute::fchmodat(call).into(),
        number::FACCESSAT => attribute::faccessat(call).into(),
        number::PSELECT6 => poll::pselect6(call),
        number::PPOLL => poll::ppoll(call),
        number::UTIMENSAT => times::utimensat(call).into(),
        number::FALLOCATE => object::or_wait(call, attribute::fallocate),
        number::DUP3 => descriptor::dup3(call).into(),
        number::PIPE2 => pipe::pipe2(call).into(),
        number::PREADV => transfer::vectored_at(call, Direction::Read),
        number::PWRITEV => transfer::vectored_at(call, Direction::Write),
        number::RENAMEAT2 => name::renameat2(call).into(),
        number::PREADV2 => transfer::vectored_at_2(call, Direction::Read),
        number::PWRITEV2 => transfer::vectored_at_2(call, Direction::Write),
        number::STATX => attribute::statx(call).into(),
        number::CLOSE_RANGE => open::close_range(call).into(),
        number::FACCESSAT2 => attribute::faccessat2(call).into(),
        number::FCHMODAT2 => attribute::fchmodat2(call).into(),
        number::RT_SIGPENDING => signal::sigpending(call).into(),
        number::RT_SIGTIMEDWAIT => signal::sigtimedwait(call),
        number::RT_SIGQUEUEINFO => kill::sigqueueinfo(call).into(),
        number::RT_SIGSUSPEND => signal::sigsuspend(call),
        number::SIGALTSTACK => Reply::OnRegisters(signal::sigaltstack),
        number::SCHED_SETPARAM => sched::sched_setparam(call).into(),
        number::SCHED_GETPARAM => sched::sched_getparam(call).into(),
        number::SCHED_SETSCHEDULER => sched::sched_setscheduler(call).into(),
        number::SCHED_GETSCHEDULER => sched::sched_getscheduler(call).into(),
        number::SCHED_GET_PRIORITY_MAX => sched::priority_bound(call, 99).into(),
        number::SCHED_GET_PRIORITY_MIN => sched::priority_bound(call, 1).into(),
        number::SCHED_RR_GET_INTERVAL => sched::sched_rr_get_interval(call).into(),
        number::PRCTL => prctl::prctl(call).into(),
        number::PERSONALITY => personality::personality(call).into(),
        number::GETPRIORITY => priority::getpriority(call).into(),
        number::SETPRIORITY => priority::setpriority(call).into(),
        number::CAPGET => capability::capget(call).into(),
        number::CAPSET => capability::capset(call).into(),
        number::ARCH_PRCTL => thread::arch_prctl(call).into(),
        number::SETRLIMIT => identity::setrlimit(call).into(),
        number::GETTID => Reply::Value(u64::from(call.task().id)),
        number::TKILL => kill::tkill(call).into(),
        number::TIME => time::time(call).into(),
        number::FUTEX => futex::futex(call),
        number::SCHED_SETAFFINITY => sched::sched_setaffinity(call).into(),
        number::SCHED_GETAFFINITY => sched::sched_getaffinity(call).into(),
        number::SET_TID_ADDRESS => thread::set_tid_address(call).into(),
        number::TIMER_CREATE => timer::timer_create(call).into(),
        number::TIMER_SETTIME => timer::timer_settime(call).into(),
        number::TIMER_GETTIME => timer::timer_gettime(call).into(),
        number::TIMER_GETOVERRUN => timer::timer_getoverrun(call).into(),
        number::TIMER_DELETE => timer::timer_delete(call).into(),
        number::CLOCK_GETTIME => time::clock_gettime(call).into(),
        number::CLOCK_GETRES => time::clock_getres(call).into(),
        number::CLOCK_NANOSLEEP => time::clock_nanosleep(call),
        number::TGKILL => kill::tgkill(call).into(),
        number::NEWFSTATAT => attribute::newfstatat(call).into(),
        number::SET_ROBUST_LIST => thread::set_robust_list(call).into(),
        number::GET_ROBUST_LIST => thread::get_robust_list(call).into(),
        number::RT_TGSIGQUEUEINFO => kill::tgsigqueueinfo(call).into(),
        number::PRLIMIT64 => identity::prlimit64(call).into(),
        number::GETCPU => thread::getcpu(call).into(),
        number::GETRANDOM => random::getrandom(call).into(),
        number::MEMBARRIER => thread::membarrier(call).into(),
        // glibc and musl take ENOSYS for "this kernel has none".
        number::RSEQ => Reply::Error(Errno::ENOSYS),
        other => unknown(call, other),
    }
}

/// ENOSYS, and a line in the log the first time.
fn unknown(call: &mut Call<'_>, which: u64) -> Reply {
    let slot = (which as usize / 64).min(call.kernel.named.len() - 1);
    let bit = 1 << (which % 64);
    if call.kernel.named[slot] & bit == 0 {
        call.kernel.named[slot] |= bit;
        let pid = call.process().pid;
        log::debug(
            call.kernel,
            format_args!("process {pid}: system call {which} is not implemented"),
        );
    }
    Reply::Error(Errno::ENOSYS)
}

/// For tests: see [`BootFlags::TEST_PANIC_ON_GETPID`].
fn panic_if_asked(call: &Call<'_>) {
    assert!(
        !call.kernel.flags.contains(BootFlags::TEST_PANIC_ON_GETPID),
        "a panic was asked for at the first getpid"
    );
}
