//! The end of a process: what it held goes back, the host is told, and with the last one the guest ends.

use super::NO_INDEX;
use crate::arch::cpu::Cpu;
use crate::hypercall;
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use crate::process::task::Task;
use abi::hypercall::{Call, EXIT_DONE};

/// Ends the process of the running task `task` with exit status `code` (its low 8 bits).
pub fn by_exit(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, code: u64) {
    end(kernel, cpu, task, (code as u32 & 0xff) << 8);
}

/// Ends the process of the running task `task` by `signal`.
pub fn by_signal(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, signal: u32) {
    end(kernel, cpu, task, signal);
}

/// Ends the process of task `task`, which runs here or waits, with `status` as waitpid gives it.
fn end(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, status: u32) {
    debug_assert!(
        cpu.current_task() == Some(task),
        "a process ends on the vCPU it runs on"
    );
    kernel.leave(cpu);
    let number = kernel.tasks[usize::from(task)].process;
    kernel.tasks[usize::from(task)] = Task::FREE;
    discard(kernel, cpu, number, status);
}

/// Takes process `number`, which has no task any more, away.
pub fn discard(kernel: &mut Kernel, cpu: &'static Cpu, number: u16, status: u32) {
    if !kernel.give_back(cpu, number) {
        kernel.drop_space(cpu, usize::from(number));
    }
    let process = &kernel.processes[usize::from(number)];
    let (who, index) = (process.requester(), process.index);
    kernel.drop_files(cpu, usize::from(number));
    kernel.orphan_children(number);
    kernel.alive -= 1;
    if index != NO_INDEX {
        // The host can't refuse an index it gave itself.
        let _ = hypercall::call(Call::ProcessExit, who, &[u64::from(index), u64::from(status)]);
    }
    kernel.bury(cpu, number, status);
    if kernel.alive == 0 {
        kernel.report_end();
        hypercall::exit(EXIT_DONE);
    }
}

impl Kernel {
    /// Ends the memory of process `number`, which no vCPU has loaded.
    pub fn drop_space(&mut self, cpu: &'static Cpu, number: usize) {
        let process = &mut self.processes[number];
        let who = process.requester();
        if let Some(mut space) = process.space.take() {
            space.destroy(&mut self.memory, &mut KernelWorld { cpu, who });
        }
    }
}
