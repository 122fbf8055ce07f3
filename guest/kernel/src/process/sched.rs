//! The scheduler: one run queue for the guest, a list of deadlines for each vCPU.
//!
//! A vCPU keeps its task until the task waits or ends, or its turn is over while others want to run; only
//! then is there a timer interrupt. One queue means that a vCPU never idles while a task is ready, and that
//! tasks move between vCPUs freely, within their affinity. A task that waits with a deadline is in the list
//! of the vCPU it waited on, whose timer ends the wait.
//!
//! [`next`] is the only way out of the kernel: it delivers what has come in, chooses, switches, or idles. Only there does a
//! task look at its signals ([`Task::attention`](super::task::Task)).

use super::signal::deliver;
use super::task::{NONE, State, Tasks, Wait};
use crate::arch::context::{self, Context};
use crate::arch::cpu::Cpu;
use crate::arch::entry::TrapFrame;
use crate::arch::lock::Held;
use crate::arch::machine::{self, tsc};
use crate::arch::{apic, switch};
use crate::kernel::{KERNEL, Kernel};
use crate::{syscall, time};
use abi::boot::{VECTOR_EVENT, VECTOR_TIMER, VECTOR_WAKE};
use abi::{Errno, MAX_VCPUS};
use core::sync::atomic::Ordering::Relaxed;

/// How long a task runs while others want to, nanoseconds.
pub const TURN_NS: u64 = 4_000_000;

/// How often a turn may begin anew because of signals: on the way back from the handler it began in, into the next one, and
/// back from that, so that the program itself has a turn then; and once more.
const RENEWALS: u8 = 4;

/// The queues.
pub struct Scheduler {
    head: u16,
    tail: u16,
    ready: u32,
    /// For each vCPU, the task whose deadline is next.
    sleepers: [u16; MAX_VCPUS],
    /// For each vCPU, the TSC value at which the process that runs there has used up its own time, if it counts it.
    limits: [u64; MAX_VCPUS],
    /// For each vCPU, the TSC value at which it has something to end: a wait, a timer, a countdown.
    due: [u64; MAX_VCPUS],
    /// For each vCPU, the TSC ticks it has run tasks, without the turn that is on.
    busy: [u64; MAX_VCPUS],
    turn: u64,
}

impl Scheduler {
    /// Nothing to run.
    pub const fn new() -> Scheduler {
        Scheduler {
            head: NONE,
            tail: NONE,
            ready: 0,
            sleepers: [NONE; MAX_VCPUS],
            limits: [u64::MAX; MAX_VCPUS],
            due: [u64::MAX; MAX_VCPUS],
            busy: [0; MAX_VCPUS],
            turn: 0,
        }
    }

    /// To be called when [`time`] is set up.
    pub fn init(&mut self) {
        self.turn = time::ticks(TURN_NS);
    }

    /// TSC value at which the countdowns of the process that runs on `cpu` are to be looked at.
    pub fn limit(&self, cpu: &Cpu) -> u64 {
        self.limits[cpu.index.get() as usize]
    }

    /// Sets that; [`Kernel::refresh`] has it take effect.
    pub fn set_limit(&mut self, cpu: &Cpu, limit: u64) {
        self.limits[cpu.index.get() as usize] = limit;
    }

    /// TSC ticks that vCPU `index` has run tasks, without the turn that is on.
    pub fn busy(&self, index: u32) -> u64 {
        self.busy[index as usize]
    }

    fn push(&mut self, tasks: &mut Tasks, task: u16) {
        tasks[usize::from(task)].state = State::Ready;
        tasks[usize::from(task)].next = NONE;
        if self.head == NONE {
            self.head = task;
        } else {
            tasks[usize::from(self.tail)].next = task;
        }
        self.tail = task;
        self.ready += 1;
    }

    /// Takes the first task that may run on the vCPU with bit `bit`.
    fn pop(&mut self, tasks: &mut Tasks, bit: u32) -> Option<u16> {
        let mut before = NONE;
        let mut at = self.head;
        while at != NONE && tasks[usize::from(at)].affinity & bit == 0 {
            before = at;
            at = tasks[usize::from(at)].next;
        }
        if at == NONE {
            return None;
        }
        let next = tasks[usize::from(at)].next;
        if before == NONE {
            self.head = next;
        } else {
            tasks[usize::from(before)].next = next;
        }
        if self.tail == at {
            self.tail = before;
        }
        self.ready -= 1;
        Some(at)
    }

    /// Takes all tasks of process `process` out, which are to end.
    pub fn remove_process(&mut self, tasks: &mut Tasks, process: u16) {
        let mut before = NONE;
        let mut at = self.head;
        while at != NONE {
            let next = tasks[usize::from(at)].next;
            if tasks[usize::from(at)].process != process {
                before = at;
            } else {
                match before {
                    NONE => self.head = next,
                    before => tasks[usize::from(before)].next = next,
                }
                self.ready -= 1;
            }
            at = next;
        }
        self.tail = before;
    }

    /// Is there a task that may run on the vCPU with bit `bit`?
    fn wanted(&self, tasks: &Tasks, bit: u32) -> bool {
        let mut at = self.head;
        while at != NONE {
            if tasks[usize::from(at)].affinity & bit != 0 {
                return true;
            }
            at = tasks[usize::from(at)].next;
        }
        false
    }

    /// Puts `task` into the deadline list of vCPU `cpu`.
    fn sleep(&mut self, tasks: &mut Tasks, task: u16, cpu: u32) {
        let deadline = tasks[usize::from(task)].deadline;
        let mut before = NONE;
        let mut at = self.sleepers[cpu as usize];
        while at != NONE && tasks[usize::from(at)].deadline <= deadline {
            before = at;
            at = tasks[usize::from(at)].sleep_next;
        }
        tasks[usize::from(task)].sleep_next = at;
        tasks[usize::from(task)].sleep_cpu = Some(cpu as u8);
        if before == NONE {
            self.sleepers[cpu as usize] = task;
        } else {
            tasks[usize::from(before)].sleep_next = task;
        }
    }

    /// Takes `task` out of the deadline list it is in, if it is in one. Returns whose it is if that has another first one
    /// now.
    fn unsleep(&mut self, tasks: &mut Tasks, task: u16) -> Option<u8> {
        let cpu = tasks[usize::from(task)].sleep_cpu.take()?;
        let next = tasks[usize::from(task)].sleep_next;
        let mut at = self.sleepers[usize::from(cpu)];
        if at == task {
            self.sleepers[usize::from(cpu)] = next;
            return Some(cpu);
        }
        while at != NONE {
            let after = tasks[usize::from(at)].sleep_next;
            if after == task {
                tasks[usize::from(at)].sleep_next = next;
                break;
            }
            at = after;
        }
        None
    }
}

impl Kernel {
    /// Parks the running task `task` until someone wakes it, or until TSC value `deadline`.
    pub fn park(&mut self, cpu: &Cpu, task: u16, wait: Wait, deadline: Option<u64>) {
        let entry = &mut self.tasks[usize::from(task)];
        entry.state = State::Parked(wait);
        entry.expired = false;
        entry.deadline = deadline.unwrap_or(0);
        if matches!(wait, Wait::Pipe(_) | Wait::Poll) {
            self.file_waiters[usize::from(task / 64)] |= 1 << (task % 64);
        }
        if deadline.is_some() {
            let index = cpu.index.get();
            self.sched.sleep(self.tasks, task, index);
            self.refresh(index as usize);
        }
    }

    /// Works out when vCPU `cpu` has something to end: a wait, a timer or a countdown has come or gone.
    pub fn refresh(&mut self, cpu: usize) {
        let mut due = self.sched.limits[cpu].min(self.timers.next(cpu));
        let sleeper = self.sched.sleepers[cpu];
        if sleeper != NONE {
            due = due.min(self.tasks[usize::from(sleeper)].deadline);
        }
        self.sched.due[cpu] = due;
    }

    /// Takes task `task` out of the deadline list it is in, if it is in one.
    fn unsleep(&mut self, task: u16) {
        if let Some(cpu) = self.sched.unsleep(self.tasks, task) {
            self.refresh(cpu.into());
        }
    }

    /// Makes a parked or new task ready, and sees to it that a vCPU looks. The caller has delivered the
    /// result of the call it waited in.
    pub fn wake(&mut self, cpu: &Cpu, task: u16) {
        self.unsleep(task);
        self.sched.push(self.tasks, task);
        self.find_vcpu(cpu, task);
    }

    /// Sees to it that a vCPU looks at task `task`, which is ready.
    fn find_vcpu(&mut self, cpu: &Cpu, task: u16) {
        let affinity = self.tasks[usize::from(task)].affinity;
        let last = u32::from(self.tasks[usize::from(task)].last_cpu);
        let idle = |index: u32| affinity & (1 << index) != 0 && Cpu::of(index).idle.load(Relaxed);
        let chosen = if idle(last) {
            Some(last)
        } else {
            (0..self.vcpus).find(|&index| idle(index))
        };
        if let Some(index) = chosen {
            Cpu::of(index).idle.store(false, Relaxed);
            if index != cpu.index.get() {
                apic::send_reschedule(index);
            }
        } else if affinity & cpu.bit() == 0 {
            // All are busy, and this vCPU can't take it: the one that can must start its timer.
            apic::send_reschedule(affinity.trailing_zeros());
        }
    }

    /// Takes task `task` out of whatever it waits in, if it waits. It is in no list then; the caller says what
    /// becomes of it. True if a futex it waited for had woken it already: then its call returns 0.
    pub fn leave_wait(&mut self, cpu: &'static Cpu, task: u16) -> bool {
        let State::Parked(wait) = self.tasks[usize::from(task)].state else {
            return false;
        };
        self.unsleep(task);
        let mut was_woken = false;
        match wait {
            Wait::Futex { .. } | Wait::SharedFutex => was_woken = self.leave_futex(task),
            Wait::Vfork(child) => self.tasks[usize::from(child)].awaited_by = None,
            Wait::Exec => self.abort_exec(cpu, task),
            Wait::Sleep
            | Wait::Input
            | Wait::Pipe(_)
            | Wait::Poll
            | Wait::Child
            | Wait::Pause
            | Wait::Signal(_)
            | Wait::Object
            | Wait::Stopped => {}
        }
        self.tasks[usize::from(task)].state = State::Ready;
        was_woken
    }

    /// Ends the wait of every task that waits for input: its call is made again.
    pub fn wake_input(&mut self, cpu: &Cpu) {
        for task in 0..self.tasks.len() as u16 {
            if matches!(
                self.tasks[usize::from(task)].state,
                State::Parked(Wait::Input | Wait::Poll)
            ) {
                self.tasks[usize::from(task)].retry = true;
                self.wake(cpu, task);
            }
        }
    }

    /// Ends the wait of every task that waits for pipe `pipe`, or for any of several things: its call is made again.
    pub fn wake_pipe(&mut self, cpu: &Cpu, pipe: u16) {
        for word in 0..self.file_waiters.len() {
            let mut bits = self.file_waiters[word];
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                let task = (word as u32 * u64::BITS + bit) as u16;
                match self.tasks[usize::from(task)].state {
                    State::Parked(Wait::Pipe(other)) if other != pipe => continue,
                    State::Parked(Wait::Pipe(_) | Wait::Poll) => {
                        self.tasks[usize::from(task)].retry = true;
                        self.wake(cpu, task);
                    }
                    _ => {}
                }
                self.file_waiters[word] &= !(1 << bit);
            }
        }
    }

    /// Ends the wait of every task that waits for any of several things: its call is made again.
    pub fn wake_pollers(&mut self, cpu: &Cpu) {
        self.wake_pipe(cpu, u16::MAX);
    }

    /// Ends the wait of every task that waits for a lock, among others: its call is made again.
    pub fn wake_lockers(&mut self, cpu: &Cpu) {
        self.wake_pollers(cpu);
    }

    /// Ends the waits whose deadline has passed on this vCPU.
    fn expire(&mut self, cpu: &'static Cpu) {
        let now = tsc();
        self.expire_timers(cpu, now);
        loop {
            let task = self.sched.sleepers[cpu.index.get() as usize];
            if task == NONE || self.tasks[usize::from(task)].deadline > now {
                return;
            }
            match self.tasks[usize::from(task)].state {
                State::Parked(Wait::Sleep) => Context::of(task).set_result(0),
                State::Parked(Wait::Futex { .. } | Wait::SharedFutex) => {
                    let result = if self.leave_futex(task) {
                        0
                    } else {
                        Errno::ETIMEDOUT.to_result()
                    };
                    Context::of(task).set_result(result);
                }
                State::Parked(Wait::Input | Wait::Pipe(_) | Wait::Poll | Wait::Signal(_)) => {
                    self.tasks[usize::from(task)].expired = true;
                    self.tasks[usize::from(task)].retry = true;
                }
                state => panic!("task {task} has a deadline but is {state:?}"),
            }
            self.wake(cpu, task);
        }
    }

    /// The task that runs here gives up its turn.
    pub fn yield_now(&mut self, cpu: &Cpu, task: u16) {
        if self.sched.ready > 0 {
            cpu.slice_end.set(0);
            debug_assert!(self.tasks[usize::from(task)].state == State::Running);
        }
    }

    /// The task that runs here has been sent into a signal's handler, or has come back from one: its turn begins anew.
    ///
    /// Where ring 0 is emulated, the way in and back can be all of a turn. If a turn ended within a handler, whoever sends
    /// signals all the time would send the next one before the handler returned, and the way back would lead into the
    /// handler again: the turn would be over there again, and so on, without one instruction of the program. [`RENEWALS`]
    /// sees to it that one who sends signals to itself doesn't run forever.
    pub fn renew_turn(&mut self, cpu: &Cpu) {
        if cpu.renewed.get() < RENEWALS {
            cpu.renewed.set(cpu.renewed.get() + 1);
            cpu.slice_end.set(tsc() + self.sched.turn);
        }
    }

    /// The task that runs here may no longer do so: another vCPU takes it over.
    pub fn give_away(&mut self, cpu: &Cpu, task: u16) {
        self.take_off(cpu, task);
        switch::to_kernel(cpu, self.kernel_root);
        self.wake(cpu, task);
    }

    /// Task `task` may run on the vCPUs in `mask` (a bit each, at least one) from now on.
    pub fn set_affinity(&mut self, cpu: &Cpu, task: u16, mask: u32) {
        let entry = &mut self.tasks[usize::from(task)];
        entry.affinity = mask;
        let on = u32::from(entry.last_cpu);
        match entry.state {
            State::Running if mask & 1 << on != 0 => {}
            State::Running if cpu.current_task() == Some(task) => self.give_away(cpu, task),
            State::Running => {
                entry.attention = true;
                apic::send_reschedule(on);
            }
            State::Ready => self.find_vcpu(cpu, task),
            State::Parked(_) | State::Free => {}
        }
    }

    /// Takes the current task's state off the CPU and loads the kernel's own page tables, so that this vCPU
    /// holds nothing of any program.
    pub fn leave(&mut self, cpu: &Cpu) {
        if let Some(task) = cpu.current_task() {
            self.take_off(cpu, task);
            switch::to_kernel(cpu, self.kernel_root);
        }
    }

    /// As [`Kernel::leave`], for a task that will not go on where it was: its state is not kept.
    pub fn abandon(&mut self, cpu: &Cpu) {
        if let Some(task) = cpu.current_task() {
            self.forget_on(cpu, task);
            cpu.set_fpu(None);
            switch::to_kernel(cpu, self.kernel_root);
        }
    }

    fn take_off(&mut self, cpu: &Cpu, task: u16) {
        Context::save(task);
        self.forget_on(cpu, task);
    }

    /// Task `task` no longer runs on `cpu`.
    fn forget_on(&mut self, cpu: &Cpu, task: u16) {
        let entry = &mut self.tasks[usize::from(task)];
        let turn = tsc().wrapping_sub(entry.since);
        entry.ran += turn;
        self.sched.busy[cpu.index.get() as usize] += turn;
        self.spaces[entry.space].loaded &= !cpu.bit();
        cpu.set_current_task(None);
        if self.sched.limit(cpu) != u64::MAX {
            self.sched.set_limit(cpu, u64::MAX);
            self.refresh(cpu.index.get() as usize);
        }
    }

    fn put_on(&mut self, cpu: &Cpu, task: u16) {
        let now = tsc();
        let entry = &mut self.tasks[usize::from(task)];
        entry.state = State::Running;
        entry.last_cpu = cpu.index.get() as u8;
        entry.since = now;
        cpu.slice_end.set(now + self.sched.turn);
        cpu.renewed.set(0);
        let process = entry.process;
        let space = &mut self.spaces[entry.space];
        space.loaded |= cpu.bit();
        switch::to_task(cpu, task, space.root());
        if self.processes[usize::from(process)].counts() {
            self.limit_by_countdowns(cpu, task);
        }
    }
}

fn arm(kernel: &Kernel, cpu: &Cpu, turn_ends: bool) {
    let mut at = kernel.sched.due[cpu.index.get() as usize];
    if turn_ends {
        at = at.min(cpu.slice_end.get());
    }
    if at == u64::MAX {
        apic::disarm_timer(cpu);
    } else {
        apic::arm_timer(cpu, at);
    }
}

/// Task `task` has just been given this vCPU: makes the call again that it waited in, if that is to be done. Its signals act
/// after that, in [`next`]: if what it waited for has come, it has not been interrupted.
fn resumed(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    if kernel.tasks[usize::from(task)].attention && !deliver::admit(kernel, cpu, task) {
        return;
    }
    if core::mem::take(&mut kernel.tasks[usize::from(task)].retry) {
        syscall::again(kernel, cpu, task);
    }
}

/// Chooses what this vCPU does next, does it, and returns the frame of the program to go on with.
#[inline]
pub fn next(kernel: Held<'static, Kernel>, cpu: &'static Cpu) -> *mut TrapFrame {
    // After most calls: nothing has come, and nobody else wants to run.
    if cpu.interrupts.load(Relaxed) == 0
        && kernel.sched.ready == 0
        && let Some(task) = cpu.current_task()
    {
        let entry = &kernel.tasks[usize::from(task)];
        if !entry.attention && entry.state == State::Running {
            arm(&kernel, cpu, false);
            return Context::of(task).frame();
        }
    }
    choose(kernel, cpu)
}

#[inline(never)]
fn choose(mut kernel: Held<'static, Kernel>, cpu: &'static Cpu) -> *mut TrapFrame {
    loop {
        if cpu.interrupts.load(Relaxed) != 0 {
            let came = cpu.interrupts.swap(0, Relaxed);
            if came & 1 << (VECTOR_TIMER & 31) != 0 {
                cpu.timer_at.set(u64::MAX);
                kernel.expire(cpu);
            }
            if came & 1 << (VECTOR_EVENT & 31) != 0 {
                kernel.wake_input(cpu);
            }
            if came & 1 << (VECTOR_WAKE & 31) != 0 {
                kernel.take_wake_ups(cpu);
                kernel.take_notices(cpu);
            }
        }
        if let Some(task) = cpu.current_task()
            && kernel.tasks[usize::from(task)].attention
        {
            deliver::attend(&mut kernel, cpu, task);
        }
        if let Some(task) = cpu.current_task()
            && kernel.tasks[usize::from(task)].state == State::Running
        {
            if kernel.sched.ready == 0 || !kernel.sched.wanted(kernel.tasks, cpu.bit()) {
                arm(&kernel, cpu, false);
                return Context::of(task).frame();
            }
            if tsc() < cpu.slice_end.get() {
                arm(&kernel, cpu, true);
                return Context::of(task).frame();
            }
            kernel.take_off(cpu, task);
            kernel.wake(cpu, task);
        }
        if let Some(task) = {
            let Kernel { sched, tasks, .. } = &mut *kernel;
            sched.pop(tasks, cpu.bit())
        } {
            if let Some(old) = cpu.current_task() {
                kernel.take_off(cpu, old);
            }
            kernel.put_on(cpu, task);
            resumed(&mut kernel, cpu, task);
            continue;
        }
        kernel.leave(cpu);
        context::settle(cpu);
        cpu.idle.store(true, Relaxed);
        arm(&kernel, cpu, false);
        drop(kernel);
        machine::wait_for_interrupt();
        kernel = KERNEL.lock(cpu);
        cpu.idle.store(false, Relaxed);
    }
}
