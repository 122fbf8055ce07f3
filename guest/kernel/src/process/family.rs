//! Parents and children: who started whom, whose end has not been waited for, who belongs to which group.
//!
//! A process that ends becomes a zombie until its parent waits for it; one without a parent is its next ancestor's that
//! has asked for such (`PR_SET_CHILD_SUBREAPER`), else init's, which waits at once. Children are linked youngest first.

use super::signal::info::{CLD_EXITED, CLD_KILLED, Info, SI_USER};
use super::signal::send::{self, Target};
use super::signal::stop::News;
use super::signal::{SA_NOCLDWAIT, SIG_IGN, SIGCHLD};
use super::task::{NONE, State, Task, Wait};
use super::{NOBODY, Process};
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use abi::Errno;
use bitflags::bitflags;

/// Which children a wait is for (wait4(2), waitid(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// The one with this id.
    Pid(u32),
    /// Those of this group.
    Group(u32),
}

/// Of which kind they may be, by the signal that says that they have ended (__WCLONE, __WALL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// With SIGCHLD.
    Ordinary,
    /// With another one, or none.
    Clones,
    /// Whatever.
    All,
}

bitflags! {
    /// What of them it is to be told.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Events: u8 {
        /// That they have ended.
        const ENDED = 1;
        /// That a signal has stopped them.
        const STOPPED = 2;
        /// That they go on.
        const CONTINUED = 4;
    }
}

impl Events {
    /// What there is to tell of `process`, as a wait status. `Err` if this wait does not count it at all.
    fn of(self, process: &Process) -> Result<Option<u32>, ()> {
        match (process.ended, process.news) {
            (Some(_), _) if !self.contains(Events::ENDED) => Err(()),
            (Some(status), _) => Ok(Some(status)),
            (None, News::Stopped(_)) if !self.contains(Events::STOPPED) => Ok(None),
            (None, News::Continued) if !self.contains(Events::CONTINUED) => Ok(None),
            (None, news) => Ok(news.status()),
        }
    }
}

impl Kinds {
    fn include(self, process: &Process) -> bool {
        let ordinary = u32::from(process.exit_signal) == SIGCHLD;
        match self {
            Kinds::Ordinary => ordinary,
            Kinds::Clones => !ordinary,
            Kinds::All => true,
        }
    }
}

impl Which {
    fn means(self, process: &Process) -> bool {
        match self {
            Which::Any => true,
            Which::Pid(pid) => process.pid == pid,
            Which::Group(group) => process.group == group,
        }
    }
}

impl Kernel {
    /// Makes `child` the youngest child of `parent`.
    pub fn adopt(&mut self, parent: u16, child: u16) {
        let next = core::mem::replace(&mut self.processes[usize::from(parent)].child, child);
        let entry = &mut self.processes[usize::from(child)];
        entry.parent = parent;
        entry.sibling = next;
    }

    /// Process `child`, which has ended, has been waited for.
    pub fn reap(&mut self, child: u16) {
        let Process {
            parent,
            ran,
            children_ran,
            ..
        } = self.processes[usize::from(child)];
        if parent != NOBODY {
            self.processes[usize::from(parent)].children_ran += ran + children_ran;
        }
        self.forget(child);
    }

    /// Takes `child` out of its parent's list and frees its slot.
    fn forget(&mut self, child: u16) {
        let Process { parent, sibling, .. } = self.processes[usize::from(child)];
        if parent != NOBODY {
            let mut at = &mut self.processes[usize::from(parent)].child;
            while *at != child {
                let link = usize::from(*at);
                at = &mut self.processes[link].sibling;
            }
            *at = sibling;
        }
        self.free_process(child);
    }

    fn free_process(&mut self, number: u16) {
        let entry = &mut self.processes[usize::from(number)];
        entry.pid = 0;
        entry.ended = None;
        entry.parent = NOBODY;
        self.process_slots.give(number);
    }

    /// Gives the children of `parent`, which has ended, to its next ancestor that wants them, else to init: there those that
    /// have ended are forgotten. Threads of theirs that have asked for a signal get it.
    pub fn orphan_children(&mut self, cpu: &'static Cpu, parent: u16) {
        let first = core::mem::replace(&mut self.processes[usize::from(parent)].child, NOBODY);
        if first == NOBODY {
            return;
        }
        let reaper = self.reaper_of(parent);
        let (mut child, mut last) = (first, first);
        while child != NOBODY {
            self.tell_of_death(cpu, parent, child);
            let entry = &mut self.processes[usize::from(child)];
            let next = entry.sibling;
            entry.parent = reaper;
            entry.exit_signal = SIGCHLD as u8;
            if reaper == NOBODY {
                entry.sibling = NOBODY;
                if entry.ended.is_some() {
                    self.free_process(child);
                }
            }
            last = child;
            child = next;
        }
        if reaper == NOBODY {
            return;
        }
        // They come after those it has.
        let older = core::mem::replace(&mut self.processes[usize::from(reaper)].child, first);
        self.processes[usize::from(last)].sibling = older;
        let mut child = first;
        while child != older {
            let Process { sibling, ended, .. } = self.processes[usize::from(child)];
            if let Some(status) = ended {
                self.bury(cpu, child, status);
            }
            child = sibling;
        }
    }

    /// The next ancestor of process `number` that takes what its descendants leave behind.
    fn reaper_of(&self, number: u16) -> u16 {
        let mut at = self.processes[usize::from(number)].parent;
        while at != NOBODY {
            let process = &self.processes[usize::from(at)];
            if process.subreaper && process.lives() {
                break;
            }
            at = process.parent;
        }
        at
    }

    /// Sends the threads of process `child` the signals that they have asked for when `parent` ends.
    fn tell_of_death(&mut self, cpu: &'static Cpu, parent: u16, child: u16) {
        let mut task = self.processes[usize::from(child)].youngest;
        while task != NONE {
            let Task {
                death_signal, older, ..
            } = self.tasks[usize::from(task)];
            let [sender, taker] = [parent, child].map(|number| &self.processes[usize::from(number)]);
            if death_signal != 0 && sender.may_send(taker, death_signal.into()) {
                let Process { pid, credentials, .. } = sender;
                let info = Info::sent(death_signal.into(), SI_USER, *pid, credentials.uid[0]);
                // It comes even if there is no room for what comes with it.
                let _ = send::send(self, cpu, Target::Process(child), &info);
            }
            task = older;
        }
    }

    /// Process `number` has ended with `status`: its parent is told, or it is forgotten at once.
    pub fn bury(&mut self, cpu: &'static Cpu, number: u16, status: u32) {
        let process = &self.processes[usize::from(number)];
        let parent = process.parent;
        if parent == NOBODY {
            return self.forget(number);
        }
        let signal = u32::from(process.exit_signal);
        let told = match status & 0x7f {
            0 => process.told(signal, CLD_EXITED, status >> 8),
            by => process.told(signal, CLD_KILLED, by),
        };
        let [handler, flags, ..] = self.actions_of(parent).get(SIGCHLD);
        let unwanted = signal == SIGCHLD && (handler == SIG_IGN || flags & SA_NOCLDWAIT != 0);
        if unwanted {
            self.forget(number);
        } else {
            self.processes[usize::from(number)].ended = Some(status);
        }
        // First who waits, who then has the child although the signal comes.
        self.wake_waiting_parent(cpu, parent);
        if signal != 0 {
            // It comes even if there is no room for what comes with it.
            let _ = send::send(self, cpu, Target::Process(parent), &told);
        }
    }

    /// Has those threads of process `parent` look that wait for a child.
    pub fn wake_waiting_parent(&mut self, cpu: &Cpu, parent: u16) {
        let mut task = self.processes[usize::from(parent)].youngest;
        while task != NONE {
            let entry = &mut self.tasks[usize::from(task)];
            let next = entry.older;
            if entry.state == State::Parked(Wait::Child) {
                entry.retry = true;
                self.wake(cpu, task);
            }
            task = next;
        }
    }

    /// A child of `parent` that is meant by `which` and `kinds` and of which one of `events` is to be told, and its
    /// status. `Ok(None)` if there is nothing to tell of those that are meant.
    ///
    /// # Errors
    /// ECHILD if there are none, or none of which there could still be something to tell.
    pub fn child_with(
        &self,
        parent: u16,
        which: Which,
        kinds: Kinds,
        events: Events,
    ) -> Result<Option<(u16, u32)>, Errno> {
        let mut found = Err(Errno::ECHILD);
        let mut at = self.processes[usize::from(parent)].child;
        while at != NOBODY {
            let process = &self.processes[usize::from(at)];
            if which.means(process)
                && kinds.include(process)
                && let Ok(status) = events.of(process)
            {
                // The eldest goes first, as on Linux.
                match (status, found) {
                    (Some(status), _) => found = Ok(Some((at, status))),
                    (None, Err(_)) => found = Ok(None),
                    (None, Ok(_)) => {}
                }
            }
            at = process.sibling;
        }
        found
    }

    /// The id of `number`'s parent, 1 if that is outside.
    pub fn parent_pid(&self, number: u16) -> u32 {
        let parent = self.processes[usize::from(number)].parent;
        if parent == NOBODY {
            1
        } else {
            self.processes[usize::from(parent)].pid
        }
    }

    /// The number of the process with id `pid`, ended or not.
    pub fn find_process(&self, pid: u32) -> Option<u16> {
        if pid == 0 {
            return None;
        }
        self.processes
            .iter()
            .position(|process| process.pid == pid)
            .map(|at| at as u16)
    }

    /// The task with id `id`.
    pub fn find_task(&self, id: u32) -> Option<u16> {
        if id == 0 {
            return None;
        }
        self.tasks
            .iter()
            .position(|task| task.id == id)
            .map(|at| at as u16)
    }

    /// The number of the process with id `id`, or of the one that has a thread with this id.
    pub fn find_process_of(&self, id: u32) -> Option<u16> {
        match self.find_task(id) {
            Some(task) => Some(self.tasks[usize::from(task)].process),
            None => self.find_process(id),
        }
    }
}
