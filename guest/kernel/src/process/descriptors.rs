//! What tasks have open. The threads of a process have it in common, and so have processes that clone(2) has made with
//! CLONE_FILES.

use super::shared::{Entry, Table};
use super::task::threads_of;
use crate::arch::cpu::Cpu;
use crate::arch::lent::Reserve;
use crate::fs::descriptor::{Descriptor, Descriptors};
use crate::fs::lock::Owner;
use crate::fs::open::{STDIO, What};
use crate::kernel::Kernel;
use abi::boot::BootFlags;
use abi::{Errno, MAX_TASKS};

/// Room for those of every task, and for those that execve(2) is making.
pub static ROOM: Reserve<[Entry<Descriptors>; MAX_TASKS + 1]> =
    Reserve::new([const { Entry::free(Descriptors::NONE) }; MAX_TASKS + 1]);

/// The descriptors of all tasks, by number.
pub type AllDescriptors = Table<Descriptors>;

impl Kernel {
    /// New descriptors: what a process the VMM asks for finds.
    pub fn standard_descriptors(&mut self) -> u16 {
        let number = self.descriptors.take();
        let mut standard = Descriptors::NONE;
        for (open, closed) in STDIO.into_iter().zip(BootFlags::CLOSED) {
            if self.flags.contains(closed) {
                continue;
            }
            self.files.open.hold(open);
            let descriptor = Descriptor {
                open,
                close_on_exec: false,
            };
            // The first few need no memory.
            let _ = standard.set(&mut self.memory.frames, open.into(), descriptor);
        }
        self.descriptors[number] = standard;
        number
    }

    /// New descriptors for the same files as number `from`.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn copy_descriptors(&mut self, from: u16) -> Result<u16, Errno> {
        let copy = self.descriptors[from].copy(&mut self.memory.frames, &mut self.files.open)?;
        let number = self.descriptors.take();
        self.descriptors[number] = copy;
        Ok(number)
    }

    /// Task `task` shares its descriptors with tasks of no other process any more.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn unshare_descriptors(&mut self, cpu: &Cpu, task: u16) -> Result<(), Errno> {
        let entry = &self.tasks[usize::from(task)];
        let old = entry.descriptors;
        let own = threads_of(self.tasks, self.processes, entry.process)
            .filter(|&thread| self.tasks[usize::from(thread)].descriptors == old)
            .count();
        if usize::from(self.descriptors.users(old)) > own {
            self.tasks[usize::from(task)].descriptors = self.copy_descriptors(old)?;
            self.drop_descriptors(cpu, old);
        }
        Ok(())
    }

    /// One task less uses descriptors `number`; with the last one they are closed.
    pub fn drop_descriptors(&mut self, cpu: &Cpu, number: u16) {
        if self.descriptors.release(number) {
            for fd in 0..self.descriptors[number].end() {
                self.close(cpu, number, fd);
            }
            self.descriptors[number].free_frames(&mut self.memory.frames);
        }
    }

    /// Closes those of descriptors `number` that do not outlive execve(2).
    pub fn close_on_exec(&mut self, cpu: &Cpu, number: u16) {
        for fd in 0..self.descriptors[number].end() {
            let descriptor = self.descriptors[number].get(fd);
            if descriptor.is_some_and(|descriptor| descriptor.close_on_exec) {
                self.close(cpu, number, fd);
            }
        }
    }

    /// Has `fd` of descriptors `number`, which is below [`MOST`](crate::fs::descriptor::MOST), mean this from now on.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set_descriptor(&mut self, number: u16, fd: u32, to: Descriptor) -> Result<(), Errno> {
        self.descriptors[number].set(&mut self.memory.frames, fd, to)
    }

    /// Closes `fd` of descriptors `number`. Whether it was open.
    pub fn close(&mut self, cpu: &Cpu, number: u16, fd: u32) -> bool {
        match self.descriptors[number].clear(fd) {
            Some(descriptor) => {
                self.drop_locks(cpu, descriptor.open, Owner::Descriptors(number));
                self.release_open(cpu, descriptor.open);
                true
            }
            None => false,
        }
    }

    /// The locks that `owner` has on what open file `open` is open for go.
    fn drop_locks(&mut self, cpu: &Cpu, open: u16, owner: Owner) {
        if let What::File(file) = self.files.open.get(open).what
            && self.files.locks.drop_all(file, owner)
        {
            self.wake_lockers(cpu);
        }
    }

    /// The open file of this number has one user less.
    pub fn release_open(&mut self, cpu: &Cpu, open: u16) {
        if self.files.open.get(open).users == 1 {
            for owner in [Owner::Open(open), Owner::Whole(open)] {
                self.drop_locks(cpu, open, owner);
            }
        }
        let Kernel { files, memory, .. } = self;
        let Some(gone) = files.open.release(open) else {
            return;
        };
        files.epolls.forget(open);
        let open = gone;
        match open.what {
            What::File(file) => {
                if open.can_write() {
                    files.inodes.get_mut(file).writers -= 1;
                }
                files.release(memory, file);
            }
            What::Reader(pipe) => {
                files.pipes.get_mut(pipe).readers -= 1;
                files.pipes.closed(&mut memory.frames, pipe);
                self.wake_pipe(cpu, pipe);
            }
            What::Writer(pipe) => {
                files.pipes.get_mut(pipe).writers -= 1;
                files.pipes.closed(&mut memory.frames, pipe);
                self.wake_pipe(cpu, pipe);
            }
            What::Proc(_) => open.kept.free(&mut memory.frames),
            What::Timer(timer) => {
                self.stop_timer(timer);
                self.timers.free(timer);
            }
            What::Signals => files.signal_readers -= 1,
            What::Epoll(set) => files.epolls.drop_set(set),
            What::Stdio(_) | What::Counter { .. } => {}
        }
    }
}
