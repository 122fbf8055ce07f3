//! Timers that send signals: of a process (setitimer(2)), made by it (timer_create(2)), and those that count its own time.
//!
//! A periodic timer is started again when its signal is taken, not when it expires, and what it has missed meanwhile is
//! counted then: signals of a fast timer don't pile up, and one whose signal is blocked costs nothing (as on Linux).

use super::signal::info::Info;
use super::signal::queue::Taken;
use super::signal::send::{self, Target};
use super::signal::{SIGALRM, SIGPROF, SIGVTALRM};
use super::task::NONE;
use crate::arch::cpu::Cpu;
use crate::arch::machine::tsc;
use crate::kernel::Kernel;
use crate::syscall::usage;
use crate::time;
use crate::timers::{Notify, Timer, next_after};
use abi::MAX_TASKS;

/// A timer that counts how long a process has run.
#[derive(Clone, Copy, Debug)]
pub struct Countdown {
    /// The process's time at which it expires, TSC ticks; 0 if it is off.
    pub at: u64,
    /// How long after that it expires again, nanoseconds; 0 if never.
    pub period: u64,
}

impl Countdown {
    /// Off.
    pub const OFF: Countdown = Countdown { at: 0, period: 0 };
}

/// What the two of them send: ITIMER_VIRTUAL, ITIMER_PROF. (Both count all the time its threads have: the kernel's share is
/// not told apart.)
const COUNTDOWN_SIGNALS: [u32; 2] = [SIGVTALRM, SIGPROF];

impl Kernel {
    /// Starts `timer` to expire at TSC value `deadline`.
    pub fn start_timer(&mut self, cpu: &Cpu, timer: u16, deadline: u64) {
        self.stop_timer(timer);
        let index = cpu.index.get();
        self.timers.start(timer, index, deadline);
        self.refresh(index as usize);
    }

    /// Stops `timer`, if it is running.
    pub fn stop_timer(&mut self, timer: u16) {
        if let Some(cpu) = self.timers.stop(timer) {
            self.refresh(cpu.into());
        }
    }

    /// Ends the timers of this vCPU that have expired at `now`.
    pub fn expire_timers(&mut self, cpu: &'static Cpu, now: u64) {
        let index = cpu.index.get() as usize;
        while let Some(timer) = self.timers.expired(index, now) {
            self.refresh(index);
            let entry = *self.timers.get(timer);
            if usize::from(timer) < MAX_TASKS {
                let _ = send::send(self, cpu, Target::Process(timer), &Info::kernel(SIGALRM));
                continue;
            }
            if entry.notify == Notify::Readers {
                self.wake_pollers(cpu);
                continue;
            }
            let target = match entry.notify {
                Notify::Nobody | Notify::Readers => None,
                Notify::Process => Some(Target::Process(entry.process)),
                Notify::Thread(id) => self
                    .find_task(id)
                    .filter(|&task| self.tasks[usize::from(task)].process == entry.process)
                    .map(Target::Task),
            };
            let info = Info::timer(entry.signal, entry.id, entry.value);
            let sent = target.map(|target| send::send_for(self, cpu, target, &info, Some(timer)));
            if sent != Some(Ok(true)) && entry.period != 0 {
                // Nobody will take it.
                self.start_again(cpu, timer);
            }
        }
        if self.sched.limit(cpu) <= now {
            self.expire_countdowns(cpu);
        }
    }

    /// Starts `timer`, a periodic one that has expired, again. Returns what it has missed.
    fn start_again(&mut self, cpu: &Cpu, timer: u16) -> u32 {
        let entry = *self.timers.get(timer);
        let (deadline, missed) = next_after(entry.deadline, time::ticks(entry.period).max(1), tsc());
        self.start_timer(cpu, timer, deadline);
        missed.min(i32::MAX as u64) as u32
    }

    /// A signal has been taken: if a timer has sent it, that one goes on, and it is told what it has missed.
    pub fn taken(&mut self, cpu: &Cpu, number: u16, taken: &Taken) -> Info {
        let Taken { mut info, timer } = *taken;
        if let Some(timer) = timer {
            let overrun = if self.timers.get(timer).period == 0 {
                self.timers.get(timer).deadline = 0;
                0
            } else {
                self.start_again(cpu, timer)
            };
            self.timers.get(timer).overrun = overrun;
            info = info.with_overrun(overrun);
        } else if info.signal == SIGALRM
            && self.timers.get(number).period != 0
            && !self.timers.is_running(number)
        {
            // Linux starts it again for any SIGALRM sent to the process.
            self.start_again(cpu, number);
        }
        info
    }

    /// Takes away the timers that process `number` has made.
    pub fn forget_timers(&mut self, number: u16) {
        let process = &mut self.processes[usize::from(number)];
        process.next_timer_id = 0;
        let mut next = core::mem::take(&mut process.timers);
        while let Some(timer) = next {
            next = self.timers.get(timer).sibling;
            self.forget_timer(number, timer);
        }
    }

    /// Takes `timer`, which process `number` has made and which is in its list no more, away, with what it has sent.
    pub fn forget_timer(&mut self, number: u16, timer: u16) {
        self.stop_timer(timer);
        self.discard_of_timer(number, timer);
        self.timers.free(timer);
    }

    /// Forgets the signal of `timer` that has not been taken.
    pub fn discard_of_timer(&mut self, number: u16, timer: u16) {
        let Kernel {
            signals,
            tasks,
            processes,
            ..
        } = self;
        let process = &mut processes[usize::from(number)];
        signals.discard_timer(&mut process.pending, timer);
        let mut task = process.youngest;
        while task != NONE {
            let entry = &mut tasks[usize::from(task)];
            signals.discard_timer(&mut entry.pending, timer);
            task = entry.older;
        }
    }

    /// Process `number` has no timers any more: it ends.
    pub fn end_timers(&mut self, number: u16) {
        self.forget_timers(number);
        self.stop_timer(number);
        *self.timers.get(number) = Timer::OFF;
        self.processes[usize::from(number)].countdowns = [Countdown::OFF; 2];
    }

    /// Task `task` runs on `cpu` now: its process's countdowns limit how long, until they are looked at.
    pub fn limit_by_countdowns(&mut self, cpu: &Cpu, task: u16) {
        let number = self.tasks[usize::from(task)].process;
        let countdowns = self.processes[usize::from(number)].countdowns;
        let on = countdowns.into_iter().filter(|countdown| countdown.at != 0);
        let limit = match on.map(|countdown| countdown.at).min() {
            None => u64::MAX,
            Some(at) => {
                let ran = usage::of_process(self, number);
                tsc().saturating_add(at.saturating_sub(ran))
            }
        };
        self.sched.set_limit(cpu, limit);
        self.refresh(cpu.index.get() as usize);
    }

    /// Looks at the countdowns of the process that runs here.
    fn expire_countdowns(&mut self, cpu: &'static Cpu) {
        let Some(task) = cpu.current_task() else {
            return self.sched.set_limit(cpu, u64::MAX);
        };
        let number = self.tasks[usize::from(task)].process;
        let ran = usage::of_process(self, number);
        for (which, signal) in COUNTDOWN_SIGNALS.into_iter().enumerate() {
            let countdown = &mut self.processes[usize::from(number)].countdowns[which];
            if countdown.at == 0 || countdown.at > ran {
                continue;
            }
            countdown.at = match countdown.period {
                0 => 0,
                period => next_after(countdown.at, time::ticks(period).max(1), ran).0,
            };
            let _ = send::send(self, cpu, Target::Process(number), &Info::kernel(signal));
        }
        self.limit_by_countdowns(cpu, task);
    }
}
