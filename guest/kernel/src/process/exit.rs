//! The end of a process: what it held goes back, the host is told, and with the last one the guest ends.

use super::NO_INDEX;
use crate::arch::cpu::Cpu;
use crate::hypercall;
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use crate::process::task::{State, Task};
use abi::hypercall::{Call, EXIT_DONE};

/// Ends the process of the running task `task` with exit status `code` (its low 8 bits).
pub fn by_exit(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, code: u64) {
    end(kernel, cpu, task, (code as u32 & 0xff) << 8);
}

/// Ends the process of the running task `task` by `signal`.
pub fn by_signal(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    end(kernel, cpu, task, signal);
}

/// `status` is a wait status as waitpid gives it.
fn end(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) {
    kernel.leave(cpu);
    let number = usize::from(kernel.tasks[usize::from(task)].process);
    kernel.tasks[usize::from(task)] = Task::FREE;
    debug_assert!(kernel.tasks[usize::from(task)].state == State::Free);
    discard(kernel, cpu, number, status);
}

/// Takes process `number`, which has no task any more, away.
pub fn discard(kernel: &mut Kernel, cpu: &'static Cpu, number: usize, status: u32) {
    let process = &mut kernel.processes[number];
    let who = process.requester();
    let index = process.index;
    if let Some(mut space) = process.space.take() {
        space.destroy(&mut kernel.memory, &mut KernelWorld { cpu, who });
    }
    kernel.processes[number].pid = 0;
    kernel.alive -= 1;
    if index != NO_INDEX {
        // The host can't refuse an index it gave itself.
        let _ = hypercall::call(Call::ProcessExit, who, &[u64::from(index), u64::from(status)]);
    }
    if kernel.alive == 0 {
        kernel.report_usage();
        hypercall::exit(EXIT_DONE);
    }
}
