//! The processes the VMM asks for in [`BootInfo`](abi::boot::BootInfo), started in order.

use super::exec::{self, Made};
use super::load::Source;
use super::task::{NAME, NONE, Task, name_of};
use super::{NO_INDEX, NOBODY, actions, exit, signal};
use crate::arch::context::Context;
use crate::arch::cpu::Cpu;
use crate::arch::given;
use crate::fs::FileId;
use crate::fs::inode::FIRST_GIVEN;
use crate::hypercall::{self, Requester};
use crate::kernel::Kernel;
use abi::Errno;
use abi::boot::BootProcess;
use abi::hypercall::Call;
use paging::GuestPhys;

/// The process outside that starts everyone; its group and session have its id.
pub const INIT: u32 = 1;
/// Exit status of a program that can't be run, as a shell gives it.
const NOT_RUNNABLE: u32 = 126;

/// Starts every process of the boot information.
pub fn all(kernel: &mut Kernel, cpu: &'static Cpu) {
    let boot = kernel.boot();
    let processes = given::processes(boot);
    kernel.alive = processes.len() as u32;
    for process in processes {
        let number = kernel
            .process_slots
            .take()
            .expect("the VMM asks for no more than there may be");
        let pid = kernel.new_id();
        let actions = actions::default(&mut kernel.actions);
        let slot = &mut kernel.processes[usize::from(number)];
        slot.pid = pid;
        slot.index = process.index;
        slot.origin = process.index;
        (slot.parent, slot.child, slot.sibling) = (NOBODY, NOBODY, NOBODY);
        slot.youngest = NONE;
        slot.actions = actions;
        slot.exit_signal = signal::SIGCHLD as u8;
        // As a script's commands: in the group and session of whoever started them.
        (slot.group, slot.session) = (INIT, INIT);
        slot.exe = FileId(FIRST_GIVEN + process.file as u16);
        slot.credentials.uid = [boot.uid; 3];
        slot.credentials.gid = [boot.gid; 3];
        slot.credentials.fs = [boot.uid, boot.gid];
        kernel.first_files(usize::from(number));
        match prepare(kernel, cpu, number, process) {
            Ok((program, name)) => begin(kernel, cpu, number, program, name),
            // As Linux: an exec that runs out of memory past the point of no return is killed.
            Err(Errno::ENOMEM) => exit::end_process(kernel, cpu, number, signal::SIGKILL),
            Err(_) => exit::end_process(kernel, cpu, number, NOT_RUNNABLE << 8),
        }
    }
}

fn prepare(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    number: u16,
    process: &BootProcess,
) -> Result<(Made, [u8; NAME]), Errno> {
    let file = given::files(kernel.boot())
        .get(process.file as usize)
        .ok_or(Errno::ENOENT)?;
    let path = given::bytes(file.name);
    let image = exec::Image {
        file: kernel.processes[usize::from(number)].exe,
        path,
        name: name_of(path),
        source: Source::Image(given::bytes(file.contents), GuestPhys::new(file.contents.start)),
    };
    let given = exec::Given {
        image,
        argc: process.argc,
        envc: process.envc,
        strings: given::bytes(process.strings),
    };
    exec::make(kernel, cpu, number, &given).map(|made| (made, image.name))
}

fn begin(kernel: &mut Kernel, cpu: &Cpu, number: u16, made: Made, name: [u8; NAME]) {
    let process = &kernel.processes[usize::from(number)];
    let (pid, index) = (process.pid, process.index);
    let slot = kernel
        .task_slots
        .take()
        .expect("there are no more processes than tasks");
    Context::of(slot).reset(made.rip, made.rsp);
    let space = kernel.spaces.add(made.space);
    let descriptors = kernel.standard_descriptors();
    let task = Task {
        process: number,
        space,
        descriptors,
        id: pid,
        affinity: u32::MAX >> (32 - kernel.vcpus),
        name,
        last_cpu: (u32::from(number) % kernel.vcpus) as u8,
        ..Task::FREE
    };
    kernel.add_task(slot, task);
    debug_assert!(index != NO_INDEX);
    let who = Requester {
        pid,
        ..Requester::default()
    };
    let _ = hypercall::call(Call::ProcessStart, who, &[u64::from(index)]);
    kernel.wake(cpu, slot);
}

impl Kernel {
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
