//! A process runs another program (execve(2)).
//!
//! The new address space is made, filled and given its stack before the old one is touched, so that a
//! failure changes nothing.

use super::{Process, load, stack};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::arch::lent::Lent;
use crate::fs::FileId;
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::mm::world::KernelWorld;
use crate::process::signal::SIG_IGN;
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

/// A program to run.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Its file.
    pub file: FileId,
    /// The path of that.
    pub path: &'a [u8],
    /// The last part of the path that named it.
    pub command: &'a [u8],
    /// What is in the file.
    pub bytes: &'static [u8],
    /// Where that lies, page-aligned.
    pub contents: GuestPhys,
}

/// Has the calling process run `program`, with the arguments and environment at `argv` and `envp`. Afterwards the
/// caller's task is ready to run the program's first instruction.
///
/// # Errors
/// E2BIG, EFAULT, ENOEXEC, ENOMEM; nothing has changed then.
pub fn exec(call: &mut Call<'_>, program: &Program<'_>, argv: u64, envp: u64) -> Result<(), Errno> {
    ROOM.with(|room| {
        let (mut argc, mut used) = gather(call, argv, room, 0)?;
        if argc == 0 {
            // A program without even its name gets an empty one (Linux 5.18).
            room[used] = 0;
            (argc, used) = (1, used + 1);
        }
        let (envc, used) = gather(call, envp, room, used)?;
        let made = make(
            call.kernel,
            call.cpu,
            call.task,
            program,
            &room[..used],
            argc,
            envc,
        )?;
        commit(call.kernel, call.cpu, call.task, program, made);
        Ok(())
    })
}

/// A new address space, and where its program starts.
type Made = (AddressSpace, u64, u64);

fn make(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    task: u16,
    program: &Program<'_>,
    strings: &[u8],
    argc: u32,
    envc: u32,
) -> Result<Made, Errno> {
    let random = kernel.random();
    let number = usize::from(kernel.tasks[usize::from(task)].process);
    let Kernel {
        memory,
        processes,
        kernel_root,
        ..
    } = kernel;
    let Process { credentials, .. } = &processes[number];
    let mut world = KernelWorld {
        cpu,
        who: processes[number].requester(),
    };
    let mut space = AddressSpace::new(memory, GuestPhys::new(*kernel_root))?;
    let filled =
        load::load(&mut space, memory, &mut world, program.bytes, program.contents).and_then(|loaded| {
            let told = stack::Told {
                argc,
                envc,
                strings,
                name: program.path,
                random,
                loaded: &loaded,
                credentials,
            };
            Ok((loaded.entry, stack::make(&mut space, memory, &mut world, &told)?))
        });
    match filled {
        Ok((rip, rsp)) => Ok((space, rip, rsp)),
        Err(error) => {
            space.destroy(memory, &mut world);
            Err(error)
        }
    }
}

fn commit(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, program: &Program<'_>, (space, rip, rsp): Made) {
    kernel.leave(cpu);
    let number = kernel.tasks[usize::from(task)].process;
    if !kernel.give_back(cpu, number) {
        kernel.drop_space(cpu, usize::from(number));
    }
    let process = &mut kernel.processes[usize::from(number)];
    process.space = Some(space);
    process.credentials.uid[2] = process.credentials.uid[1];
    process.credentials.gid[2] = process.credentials.gid[1];
    // Handlers are gone with the old program; what was ignored stays so.
    let mut set = process.actions_set;
    while set != 0 {
        let at = set.trailing_zeros();
        set &= set - 1;
        if process.actions[at as usize][0] != SIG_IGN {
            process.actions_set &= !(1 << at);
        }
    }
    kernel.run_file(cpu, usize::from(number), program.file, program.command);
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.alternate_stack = [0; 3];
    entry.clear_child_tid = 0;
    entry.robust_list = 0;
    Context::of(task).reset(rip, rsp);
    kernel.wake(cpu, task);
}
