//! The processes the VMM asks for in [`BootInfo`](abi::boot::BootInfo), started in order.

use super::task::{NONE, Task};
use super::{NO_INDEX, NOBODY, exit, load, signal, stack};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::arch::given;
use crate::fs::FileId;
use crate::fs::inode::FIRST_GIVEN;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::mm::world::KernelWorld;
use abi::boot::BootProcess;
use abi::hypercall::Call;
use abi::{Errno, MAX_TASKS, PID_BITS_IN_GUEST, group_pid};
use paging::GuestPhys;

/// The process outside that starts everyone; its group and session have its id.
const INIT: u32 = 1;
/// Exit status of a program that can't be run, as a shell gives it.
const NOT_RUNNABLE: u32 = 126;

/// Starts every process of the boot information.
pub fn all(kernel: &mut Kernel, cpu: &'static Cpu) {
    let boot = kernel.boot();
    let processes = given::processes(boot);
    kernel.alive = processes.len() as u32;
    for (at, process) in processes.iter().enumerate() {
        let pid = kernel.new_pid();
        let slot = &mut kernel.processes[at % MAX_TASKS];
        slot.pid = pid;
        slot.index = process.index;
        slot.origin = process.index;
        (slot.parent, slot.child, slot.sibling, slot.borrowed_from) = (NOBODY, NOBODY, NOBODY, NOBODY);
        // As a script's commands: in the group and session of whoever started them.
        (slot.group, slot.session) = (INIT, INIT);
        slot.exe = FileId(FIRST_GIVEN + process.file as u16);
        slot.credentials.uid = [boot.uid; 3];
        slot.credentials.gid = [boot.gid; 3];
        slot.credentials.fs = [boot.uid, boot.gid];
        kernel.first_files(at);
        match prepare(kernel, cpu, at, process) {
            Ok((rip, rsp)) => {
                begin(kernel, cpu, at as u16, rip, rsp);
            }
            // As Linux: an exec that runs out of memory past the point of no return is killed.
            Err(Errno::ENOMEM) => exit::discard(kernel, cpu, at as u16, signal::SIGKILL),
            Err(_) => exit::discard(kernel, cpu, at as u16, NOT_RUNNABLE << 8),
        }
    }
}

fn prepare(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    number: usize,
    process: &BootProcess,
) -> Result<(u64, u64), Errno> {
    let boot = kernel.boot();
    let file = given::files(boot)
        .get(process.file as usize)
        .ok_or(Errno::ENOENT)?;
    let random = kernel.random();
    let Kernel {
        memory,
        processes,
        kernel_root,
        ..
    } = kernel;
    let slot = &mut processes[number];
    let mut world = KernelWorld {
        cpu,
        who: slot.requester(),
    };
    let space = slot
        .space
        .insert(AddressSpace::new(memory, GuestPhys::new(*kernel_root))?);
    let contents = GuestPhys::new(file.contents.start);
    let loaded = load::load(space, memory, &mut world, given::bytes(file.contents), contents)?;
    let told = stack::Told {
        argc: process.argc,
        envc: process.envc,
        strings: given::bytes(process.strings),
        name: given::bytes(file.name),
        random,
        loaded: &loaded,
        credentials: &slot.credentials,
    };
    let sp = stack::make(space, memory, &mut world, &told)?;
    Ok((loaded.entry, sp))
}

fn begin(kernel: &mut Kernel, cpu: &Cpu, number: u16, rip: u64, rsp: u64) {
    let process = &kernel.processes[usize::from(number)];
    let (pid, index) = (process.pid, process.index);
    let context = Context::of(number);
    context.reset(rip, rsp);
    kernel.tasks[usize::from(number)] = Task {
        process: number,
        next: NONE,
        id: pid,
        affinity: u32::MAX >> (32 - kernel.vcpus),
        last_cpu: (u32::from(number) % kernel.vcpus) as u8,
        ..Task::FREE
    };
    debug_assert!(index != NO_INDEX);
    let who = Requester {
        pid,
        ..Requester::default()
    };
    let _ = hypercall::call(Call::ProcessStart, who, &[u64::from(index)]);
    kernel.wake(cpu, number);
}

impl Kernel {
    /// An id no process of this guest has. 0 and 1 are nobody's: programs take 1 for init.
    pub fn new_pid(&mut self) -> u32 {
        let guest = self.boot().guest;
        loop {
            self.last_pid += 1;
            let pid = group_pid(guest, self.last_pid);
            let local = self.last_pid % (1 << PID_BITS_IN_GUEST);
            // Before the numbers have gone round once, a new one is free without looking.
            let fresh = self.last_pid == local;
            if local > 1 && (fresh || self.processes.iter().all(|process| process.pid != pid)) {
                return pid;
            }
        }
    }

    /// 16 bytes from the seed the VMM gave, different every time (SplitMix64 over it).
    pub fn random(&mut self) -> [u8; 16] {
        let seed = self.boot().seed;
        let mut bytes = [0; 16];
        for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            self.randoms += 1;
            let mut z = seed[i] ^ seed[i + 2].wrapping_mul(self.randoms * 2 + 1);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        bytes
    }
}
