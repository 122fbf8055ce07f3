//! Switching a vCPU between programs, and to none.
// UNSAFETY: loads page tables.
#![expect(unsafe_code, reason = "loads CR3")]

use super::context::Context;
use super::cpu::Cpu;
use super::machine;
use paging::GuestPhys;

fn load(cpu: &Cpu, root: u64) {
    if cpu.root.get() != root {
        cpu.root.set(root);
        // SAFETY: every address space shares the kernel's upper half, and is destroyed only when no vCPU
        // has it loaded (`AddressSpace::loaded`).
        unsafe { machine::load_page_table(root) }
    }
}

/// Gives this vCPU to task `task`, whose address space has its root at `root`.
pub fn to_task(cpu: &Cpu, task: u16, root: GuestPhys) {
    load(cpu, root.get());
    Context::load(cpu, task);
    cpu.set_frame(Context::of(task).frame());
    cpu.set_current_task(Some(task));
}

/// Leaves this vCPU with the kernel's own page tables, or with others it is to work in for a moment.
pub fn to_kernel(cpu: &Cpu, root: u64) {
    load(cpu, root);
}

/// Goes to ring 3 with `frame`, which [`crate::process::sched::next`] has chosen for this vCPU.
pub fn resume(frame: *mut super::entry::TrapFrame) -> ! {
    // SAFETY: frames come from contexts, whose selectors the kernel sets and whose flags it launders; the
    // address space was loaded by `to_task`.
    unsafe { super::entry::resume(frame) }
}
