//! Parents and children: who started whom, whose end has not been waited for, who belongs to which group.
//!
//! A process that ends becomes a zombie until its parent waits for it; one without a parent is init's, which
//! waits at once. Children are linked youngest first.

use super::task::{NONE, State, Wait};
use super::{NOBODY, Process, signal};
use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use abi::Errno;

/// Don't make zombies of children (SA_NOCLDWAIT, sigaction(2)).
const SA_NOCLDWAIT: u64 = 2;

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

impl Kinds {
    fn include(self, process: &Process) -> bool {
        let ordinary = u32::from(process.exit_signal) == signal::SIGCHLD;
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

    /// Gives the children of `parent`, which has ended, to init: those that have ended are forgotten.
    pub fn orphan_children(&mut self, parent: u16) {
        let mut child = core::mem::replace(&mut self.processes[usize::from(parent)].child, NOBODY);
        while child != NOBODY {
            let entry = &mut self.processes[usize::from(child)];
            let next = core::mem::replace(&mut entry.sibling, NOBODY);
            entry.parent = NOBODY;
            if entry.ended.is_some() {
                self.free_process(child);
            }
            child = next;
        }
    }

    /// Process `number` has ended with `status`: its parent is told, or it is forgotten at once.
    pub fn bury(&mut self, cpu: &Cpu, number: u16, status: u32) {
        let parent = self.processes[usize::from(number)].parent;
        if parent == NOBODY {
            return self.forget(number);
        }
        let [handler, flags, ..] = self.processes[usize::from(parent)].action(signal::SIGCHLD);
        let unwanted = handler == signal::SIG_IGN || flags & SA_NOCLDWAIT != 0;
        if unwanted && Kinds::Ordinary.include(&self.processes[usize::from(number)]) {
            self.forget(number);
        } else {
            self.processes[usize::from(number)].ended = Some(status);
        }
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

    /// A child of `parent` that has ended and is meant by `which` and `kinds`. `Ok(None)` if those that are meant
    /// still run.
    ///
    /// # Errors
    /// ECHILD if there are none.
    pub fn ended_child(&self, parent: u16, which: Which, kinds: Kinds) -> Result<Option<u16>, Errno> {
        let mut found = Err(Errno::ECHILD);
        let mut at = self.processes[usize::from(parent)].child;
        while at != NOBODY {
            let process = &self.processes[usize::from(at)];
            if which.means(process) && kinds.include(process) {
                // The eldest that has ended goes first, as on Linux.
                match (process.ended, found) {
                    (Some(_), _) => found = Ok(Some(at)),
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
