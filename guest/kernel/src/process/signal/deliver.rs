//! A thread takes the signals that are due before it goes on in ring 3: the frames of handlers are pushed, one on the
//! other, the process ends, or it stops. And the way back from a handler.
//!
//! The order is that of Linux (kernel/signal.c, get_signal; arch/x86/kernel/signal.c): all that is due and not blocked is
//! acted on at once, so the handler of the last signal taken runs first, unless an earlier one's mask holds it back.

use super::info::Info;
use super::send::{force, force_fault, mask_changed};
use super::{
    Disposition, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SA_SIGINFO, SIG_DFL, SIGSEGV,
    UNBLOCKABLE, bit, dumps_core, fault, stop,
};
use crate::arch::context::{Context, with_frame_of_running};
use crate::arch::cpu::Cpu;
use crate::arch::entry::TrapFrame;
use crate::arch::signal_fpu;
use crate::arch::signal_frame::{Frame, OnStack, Place, UserContext};
use crate::kernel::Kernel;
use crate::process::actions::Action;
use crate::process::task::{State, Wait};
use crate::process::{Fate, exit};
use crate::syscall::{self, Restart};
use abi::Errno;
use zerocopy::{FromZeros, IntoBytes};

/// Does what task `task`, which runs here or has just begun to wait, has been asked to look at.
pub fn attend(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    if admit(kernel, cpu, task) {
        deliver(kernel, cpu, task);
    }
}

/// Whether task `task`, which has been asked to look, may go on here. If not, it has ended, stopped, or gone elsewhere.
pub fn admit(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) -> bool {
    if cpu.current_task() != Some(task) {
        return false;
    }
    let entry = &mut kernel.tasks[usize::from(task)];
    let process = &kernel.processes[usize::from(entry.process)];
    match process.fate {
        Fate::Ends(status) => {
            exit::go(kernel, cpu, task, status);
            return false;
        }
        Fate::Runs(program) if program.task != task => {
            exit::go(kernel, cpu, task, 0);
            return false;
        }
        Fate::None | Fate::Runs(_) => {}
    }
    if entry.state != State::Running {
        return true;
    }
    if process.stopped {
        // Not by `park`: the deadline of a call that is still to be made again stays.
        entry.state = State::Parked(Wait::Stopped);
        return false;
    }
    if entry.affinity & cpu.bit() == 0 {
        kernel.give_away(cpu, task);
        return false;
    }
    true
}

/// Acts on the signals that are due for task `task`, which runs here or has just begun to wait.
pub fn deliver(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    if let State::Parked(Wait::Vfork(_) | Wait::Exec | Wait::Object) = kernel.tasks[usize::from(task)].state {
        return end_if_fatal(kernel, cpu, task);
    }
    loop {
        while let Some(info) = take_due(kernel, cpu, task) {
            let number = kernel.tasks[usize::from(task)].process;
            match kernel.disposition(number, info.signal) {
                Disposition::Ignored => {}
                Disposition::Ends => {
                    kernel.leave_wait(cpu, task);
                    return exit::group(kernel, cpu, task, info.signal);
                }
                Disposition::Stops => {
                    stop::stop(kernel, cpu, task, info.signal);
                    if let State::Parked(Wait::Signal(_)) = kernel.tasks[usize::from(task)].state {
                        // Alone among calls, sigtimedwait(2) fails for that.
                        leave_call(kernel, cpu, task, Restart::Never);
                    }
                    if !admit(kernel, cpu, task) {
                        return;
                    }
                }
                Disposition::Caught(action) => call_handler(kernel, cpu, task, &info, action),
            }
        }
        if !finish(kernel, cpu, task) {
            return;
        }
    }
}

/// Task `task` waits for something that can't be undone for a handler. A signal that ends its process ends that wait;
/// others are looked at when it is over.
fn end_if_fatal(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let entry = &kernel.tasks[usize::from(task)];
    let number = entry.process;
    let process = &kernel.processes[usize::from(number)];
    let mut due = (entry.pending.set() | process.pending.set()) & !entry.blocked;
    while due != 0 {
        let signal = due.trailing_zeros() + 1;
        due &= due - 1;
        if kernel.disposition(number, signal) == Disposition::Ends && !dumps_core(signal) {
            kernel.leave_wait(cpu, task);
            return exit::group(kernel, cpu, task, signal);
        }
    }
}

/// No more signals are due for task `task`: its call goes on if it was interrupted for nothing, and the mask it had before
/// is its mask again. Returns whether to look once more.
fn finish(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) -> bool {
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.attention = false;
    if core::mem::take(&mut entry.interrupted) {
        syscall::again(kernel, cpu, task);
        if cpu.current_task() != Some(task) {
            return false;
        }
    }
    let entry = &mut kernel.tasks[usize::from(task)];
    if entry.state == State::Running
        && let Some(mask) = entry.saved_mask.take()
    {
        set_mask(kernel, cpu, task, mask);
    }
    let entry = &mut kernel.tasks[usize::from(task)];
    let look_again = entry.attention;
    // One that waits stops when it would go on.
    entry.attention |= kernel.processes[usize::from(entry.process)].stopped;
    look_again
}

/// Takes the next signal that is due for task `task`, and returns what comes with it.
fn take_due(kernel: &mut Kernel, cpu: &Cpu, task: u16) -> Option<Info> {
    let Kernel {
        signals,
        tasks,
        processes,
        ..
    } = kernel;
    let entry = &mut tasks[usize::from(task)];
    let process = &processes[usize::from(entry.process)];
    let blocked = entry.blocked;
    if (entry.pending.set() | process.pending.set()) & !blocked == 0 {
        return None;
    }
    match signals.take_fault(&mut entry.pending, blocked) {
        Some(fault) => Some(fault.info),
        None => take(kernel, cpu, task, blocked),
    }
}

/// Takes the first signal for task `task` that is not among `blocked`, its own before its process's, and returns what comes
/// with it.
pub fn take(kernel: &mut Kernel, cpu: &Cpu, task: u16, blocked: u64) -> Option<Info> {
    let Kernel {
        signals,
        tasks,
        processes,
        ..
    } = kernel;
    let entry = &mut tasks[usize::from(task)];
    let number = entry.process;
    let taken = match signals.take(&mut entry.pending, blocked) {
        Some(taken) => taken,
        None => signals.take(&mut processes[usize::from(number)].pending, blocked)?,
    };
    Some(kernel.taken(cpu, number, &taken))
}

/// Blocks the signals in `mask`, and no others, for task `task`.
pub fn set_mask(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, mask: u64) {
    let entry = &mut kernel.tasks[usize::from(task)];
    let before = core::mem::replace(&mut entry.blocked, mask & !UNBLOCKABLE);
    mask_changed(kernel, cpu, task, before);
}

/// Has task `task` run the handler in `action` for what `info` says, when it goes on.
fn call_handler(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, info: &Info, action: Action) {
    let [handler, flags, _, mask] = action;
    if flags & SA_RESETHAND != 0 {
        let [_, rest @ ..] = action;
        let mut default = [SIG_DFL; 4];
        default[1..].copy_from_slice(&rest);
        let number = kernel.tasks[usize::from(task)].process;
        kernel.actions_of(number).set(info.signal, default);
    }
    let restart = if flags & SA_RESTART != 0 {
        Restart::IfItCan
    } else {
        Restart::Never
    };
    leave_call(kernel, cpu, task, restart);
    if push(kernel, cpu, task, info, &action).is_err() {
        return force_fault(kernel, task, info.signal);
    }
    kernel.renew_turn(cpu);
    let entry = &mut kernel.tasks[usize::from(task)];
    entry.saved_mask = None;
    entry.signal_stack = entry.signal_stack.during_handler();
    let itself = if flags & SA_NODEFER == 0 {
        bit(info.signal)
    } else {
        0
    };
    let blocked = entry.blocked | mask | itself;
    set_mask(kernel, cpu, task, blocked);
    if fault::at_address(kernel, task, handler) && info.signal == SIGSEGV {
        force_fault(kernel, task, SIGSEGV);
    }
}

/// Task `task` is about to run a handler: if it waits it no longer does, and the call it waited in has its result.
fn leave_call(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, restart: Restart) {
    if let State::Parked(_) = kernel.tasks[usize::from(task)].state {
        let over = kernel.leave_wait(cpu, task);
        let entry = &mut kernel.tasks[usize::from(task)];
        entry.state = State::Running;
        entry.interrupted = !over;
        if over {
            Context::of(task).set_result(0);
        }
    }
    if core::mem::take(&mut kernel.tasks[usize::from(task)].interrupted) {
        syscall::interrupted(kernel, cpu, task, restart);
    }
}

/// Puts a frame on the stack of task `task`, and sends it into the handler.
fn push(
    kernel: &mut Kernel,
    cpu: &'static Cpu,
    task: u16,
    info: &Info,
    action: &Action,
) -> Result<(), Errno> {
    let &[handler, flags, restorer, _] = action;
    if flags & SA_RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let entry = &kernel.tasks[usize::from(task)];
    let (stack, fault) = (entry.signal_stack, entry.last_fault);
    let mask = entry.saved_mask.unwrap_or(entry.blocked);
    let wants_stack = (flags & SA_ONSTACK != 0).then_some(OnStack);
    with_frame_of_running(cpu, task, |registers| {
        let form = signal_fpu::form();
        let place = Place::new(registers.rsp, &stack, wants_stack, form).ok_or(Errno::EFAULT)?;
        let mut frame = Frame::new(registers, &fault, stack, mask, &place, restorer);
        let bytes = if flags & SA_SIGINFO != 0 {
            frame.info = info.to_user();
            frame.as_bytes()
        } else {
            frame.without_info()
        };
        kernel.with_space(cpu, task, |space, memory, world| {
            space.write(memory, world, place.frame, bytes)?;
            signal_fpu::push(space, memory, world, place.fpu)
        })?;
        Frame::enter(registers, &place, info.signal, handler);
        Ok(())
    })
}

/// rt_sigreturn(2): task `task`, whose `registers` these are, goes on where the frame on its stack says. A frame that
/// can't be gone back to is a fault.
pub fn return_from_handler(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, registers: &mut TrapFrame) {
    let mut context = UserContext::new_zeroed();
    let read = kernel.with_space(cpu, task, |space, memory, world| {
        space.read(memory, world, registers.rsp, context.as_mut_bytes())
    });
    if read.is_err() {
        registers.rax = 0;
        return force(kernel, task, &Info::kernel(SIGSEGV));
    }
    set_mask(kernel, cpu, task, context.mask);
    let entry = &mut kernel.tasks[usize::from(task)];
    // As on Linux, what is wrong with the stack doesn't count.
    if let Ok(stack) = entry.signal_stack.changed(context.stack, registers.rsp) {
        entry.signal_stack = stack;
    }
    let restored = context.restore(registers);
    if pop_fpu(kernel, cpu, task, context.fpu()).is_err() || restored.is_err() {
        return force(kernel, task, &Info::kernel(SIGSEGV));
    }
    kernel.renew_turn(cpu);
    fault::at_address(kernel, task, registers.rip);
}

/// Gives task `task`, which runs here, the FPU state that lies in its memory at `address`, or that of a new program if
/// that is 0 or there is no state the CPU would take.
fn pop_fpu(kernel: &mut Kernel, cpu: &'static Cpu, task: u16, address: u64) -> Result<(), Errno> {
    if address == 0 {
        signal_fpu::reset();
        return Ok(());
    }
    let loaded = kernel.with_space(cpu, task, |space, memory, world| {
        signal_fpu::pop(space, memory, world, address)
    });
    if loaded.is_err() {
        signal_fpu::reset();
    }
    loaded
}
