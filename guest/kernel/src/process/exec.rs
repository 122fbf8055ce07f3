//! A process runs another program (execve(2)).
//!
//! The new address space is made, filled and given its stack before the old one is touched, so that a
//! failure changes nothing. Then the process's other threads end, and the last of them, or the caller if it is alone,
//! changes the memory.

use super::signal::send;
use super::task::{NAME, Wait};
use super::{Fate, exit, load, signal, stack};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::arch::lent::Lent;
use crate::fs::FileId;
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::mm::world::KernelWorld;
use crate::syscall::Call;
use abi::{Errno, PAGE_SIZE};
use paging::GuestPhys;

/// Most bytes of arguments and environment together: what Linux promised before they could take a quarter of
/// the stack (`ARG_MAX`).
const MOST_BYTES: usize = 128 << 10;

/// For the strings on their way from the old memory to the new.
static ROOM: Lent<[u8; MOST_BYTES]> = Lent::new([0; MOST_BYTES]);

/// Copies the strings that the NULL-terminated array at `array` points to into `room` from `used` on.
/// Returns how many there are, and how much is used then.
fn gather(call: &mut Call<'_>, array: u64, room: &mut [u8], mut used: usize) -> Result<(u32, usize), Errno> {
    const POINTERS: u64 = 16;
    if array == 0 {
        // Linux takes a null array for an empty one.
        return Ok((0, used));
    }
    let mut count = 0u32;
    let mut at = array;
    loop {
        // As many pointers as lie on this page: the next one may not be there.
        let here = POINTERS.min((PAGE_SIZE - at % PAGE_SIZE) / 8).max(1);
        let mut bytes = [0; 8 * POINTERS as usize];
        let bytes = &mut bytes[..8 * here as usize];
        call.with_space(|space, memory, world| space.read(memory, world, at, bytes))?;
        for pointer in bytes.as_chunks::<8>().0 {
            let pointer = u64::from_le_bytes(*pointer);
            if pointer == 0 {
                return Ok((count, used));
            }
            let string = match call.read_path(pointer, &mut room[used..]) {
                Ok(string) => string.len(),
                Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
                Err(error) => return Err(error),
            };
            used += string + 1;
            count += 1;
        }
        at = at.wrapping_add(8 * here);
    }
}

/// A file that holds a program.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// The file.
    pub file: FileId,
    /// Its path.
    pub path: &'a [u8],
    /// What its thread is called.
    pub name: [u8; NAME],
    /// Where what is in it is.
    pub source: load::Source<'a>,
}

/// What a program is to run with.
pub struct Given<'a> {
    /// The program.
    pub image: Image<'a>,
    /// How many of the strings are arguments.
    pub argc: u32,
    /// How many are environment.
    pub envc: u32,
    /// NUL-terminated strings, one after the other.
    pub strings: &'a [u8],
}

/// A program that is ready to run.
pub struct Made {
    /// Its memory.
    pub space: AddressSpace,
    /// Its first instruction.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
}

/// The program a process is about to run, as soon as it has one thread only.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The thread that has asked for it.
    pub task: u16,
    /// Its memory.
    pub space: u16,
    /// Its file, of which this is a user.
    file: FileId,
    name: [u8; NAME],
    rip: u64,
    rsp: u64,
}

/// Has the calling process run the program `image`, with the arguments and environment at
/// `argv` and `envp`. Afterwards the caller's task is ready to run the program's first instruction, or waits for that
/// until the other threads have gone.
///
/// # Errors
/// E2BIG, EFAULT, ENOEXEC, ENOMEM; nothing has changed then.
pub fn exec(call: &mut Call<'_>, image: Image<'_>, argv: u64, envp: u64) -> Result<(), Errno> {
    ROOM.with(|room| {
        let (mut argc, mut used) = gather(call, argv, room, 0)?;
        if argc == 0 {
            // A program without even its name gets an empty one (Linux 5.18).
            room[used] = 0;
            (argc, used) = (1, used + 1);
        }
        let (envc, used) = gather(call, envp, room, used)?;
        let number = call.task().process;
        let given = Given {
            image,
            argc,
            envc,
            strings: &room[..used],
        };
        let made = make(call.kernel, call.cpu, number, &given).inspect_err(|error| {
            // Linux finds out when there is no way back.
            if *error == Errno::ENOMEM && call.process().memory_limits().is_some() {
                send::force_fault(call.kernel, call.task, signal::SIGSEGV);
            }
        })?;
        if let Err(error) = call.kernel.unshare_descriptors(call.cpu, call.task) {
            let who = call.requester();
            let space = call.kernel.spaces.add(made.space);
            call.kernel.drop_space(call.cpu, who, space);
            return Err(error);
        }
        begin(call.kernel, call.cpu, call.task, &image, made);
        Ok(())
    })
}

/// Makes memory for process `number` with a program in it and a stack.
///
/// # Errors
/// ENOENT, ENOEXEC, E2BIG, ENOMEM.
pub fn make(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, given: &Given<'_>) -> Result<Made, Errno> {
    let random = kernel.random();
    let boot = kernel.boot();
    let Kernel {
        memory,
        processes,
        kernel_root,
        ..
    } = kernel;
    let process = &processes[usize::from(number)];
    let mut world = KernelWorld {
        cpu,
        who: process.requester(),
    };
    let image = &given.image;
    let mut space = AddressSpace::new(memory, GuestPhys::new(*kernel_root))?;
    space.limits = process.memory_limits();
    let filled = load::load(&mut space, memory, &mut world, &image.source).and_then(|loaded| {
        let told = stack::Told {
            argc: given.argc,
            envc: given.envc,
            strings: given.strings,
            name: image.path,
            random,
            boot,
            loaded: &loaded,
            credentials: &process.credentials,
        };
        Ok((loaded.entry, stack::make(&mut space, memory, &mut world, &told)?))
    });
    match filled {
        Ok((rip, rsp)) => Ok(Made { space, rip, rsp }),
        Err(error) => {
            space.destroy(memory, &mut world);
            Err(error)
        }
    }
}

impl Kernel {
    /// Task `task`, which waits to run another program, is to end instead.
    pub fn abort_exec(&mut self, cpu: &'static Cpu, task: u16) {
        let process = self.process(task);
        let who = process.requester();
        if let Fate::Runs(program) = core::mem::replace(&mut process.fate, Fate::None) {
            self.files.release(&mut self.memory, program.file);
            self.drop_space(cpu, who, program.space);
        }
    }
}

/// From here on the old program can't go on: its other threads end, and when none is left the new one runs.
fn begin(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, image: &Image<'_>, made: Made) {
    let number = kernel.tasks[usize::from(task)].process;
    let Made { space, rip, rsp } = made;
    let space = kernel.spaces.add(space);
    kernel.files.hold(image.file);
    let process = &mut kernel.processes[usize::from(number)];
    process.fate = Fate::Runs(Program {
        task,
        space,
        file: image.file,
        name: image.name,
        rip,
        rsp,
    });
    let threads = process.threads;
    exit::let_go_of_memory(kernel, cpu, task, threads);
    exit::end_others(kernel, cpu, task);
    if kernel.processes[usize::from(number)].threads == 1 {
        commit(kernel, cpu, number);
    } else {
        kernel.park(cpu, task, Wait::Exec, None);
    }
}

/// Process `number`, which has one thread left, runs the program it has made: that thread has the process's number now.
pub fn commit(kernel: &mut Kernel, cpu: &'static Cpu, number: u16) {
    let process = &mut kernel.processes[usize::from(number)];
    let Fate::Runs(program) = core::mem::replace(&mut process.fate, Fate::None) else {
        return;
    };
    let who = process.requester();
    process.credentials.uid[2] = process.credentials.uid[1];
    process.credentials.gid[2] = process.credentials.gid[1];
    process.exit_signal = signal::SIGCHLD as u8;
    process.wants_barriers = false;
    let pid = process.pid;
    kernel.forget_timers(number);
    let task = program.task;
    kernel.run_file(usize::from(number), program.file);
    if cpu.current_task() == Some(task) {
        kernel.abandon(cpu);
    }
    kernel.unshare_actions(number);
    kernel.actions_of(number).clear_handlers();
    kernel.close_on_exec(cpu, kernel.tasks[usize::from(task)].descriptors);
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.id = pid;
    entry.signal_stack = entry.signal_stack.after_exec();
    entry.name = program.name;
    let old = core::mem::replace(&mut entry.space, program.space);
    kernel.drop_space(cpu, who, old);
    Context::of(task).reset(program.rip, program.rsp);
    kernel.wake(cpu, task);
}
