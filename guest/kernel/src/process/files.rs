//! What a process has of files: its descriptors, its working directory, the file it runs. They are inherited,
//! closed when another program is run, and go with the process.

use super::Process;
use crate::arch::cpu::Cpu;
use crate::fs::descriptor::Descriptor;
use crate::fs::lock::Owner;
use crate::fs::open::{STDIO, What};
use crate::fs::{FileId, Files, Node};
use crate::kernel::Kernel;
use abi::Errno;

/// What new files of a process that the VMM started are not: writable by others.
const UMASK: u16 = 0o022;

impl Kernel {
    /// Gives process `number`, which the VMM wants, the command's descriptors.
    pub fn first_files(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.directory = Node::ROOT;
        process.umask = UMASK;
        self.files.hold(process.exe);
        self.files.hold_node(process.directory);
        for open in STDIO {
            self.files.open.hold(open);
            let descriptor = Descriptor {
                open,
                close_on_exec: false,
            };
            // The first few need no memory.
            let _ = process
                .descriptors
                .set(&mut self.memory.frames, open.into(), descriptor);
        }
    }

    /// Gives process `child`, a free slot, what `parent` has.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn inherit_files(&mut self, parent: usize, child: usize) -> Result<(), Errno> {
        let Kernel {
            processes,
            files,
            memory,
            ..
        } = self;
        let Ok([from, to]) = processes.get_disjoint_mut([parent, child]) else {
            unreachable!("process {child} is free, {parent} is not");
        };
        to.descriptors = from.descriptors.copy(&mut memory.frames, &mut files.open)?;
        to.exe = from.exe;
        to.directory = from.directory;
        to.umask = from.umask;
        files.hold(to.exe);
        files.hold_node(to.directory);
        Ok(())
    }

    /// Process `number` runs `exe` from now on, of which it has been a user.
    pub fn run_file(&mut self, cpu: &'static Cpu, number: usize, exe: FileId) {
        let process = &mut self.processes[number];
        let old = core::mem::replace(&mut process.exe, exe);
        self.files.release(&mut self.memory, old);
        for fd in 0..self.processes[number].descriptors.end() {
            let descriptor = self.processes[number].descriptors.get(fd);
            if descriptor.is_some_and(|descriptor| descriptor.close_on_exec) {
                self.close(cpu, number, fd);
            }
        }
    }

    /// Process `number` has ended.
    pub fn drop_files(&mut self, cpu: &Cpu, number: usize) {
        for fd in 0..self.processes[number].descriptors.end() {
            self.close(cpu, number, fd);
        }
        let Kernel {
            processes,
            files,
            memory,
            ..
        } = self;
        let Process {
            descriptors,
            exe,
            directory,
            ..
        } = &mut processes[number];
        descriptors.free_frames(&mut memory.frames);
        files.release(memory, *exe);
        files.release_node(memory, core::mem::replace(directory, Node::ROOT));
    }

    /// Closes descriptor `fd` of process `number`. Whether it was open.
    pub fn close(&mut self, cpu: &Cpu, number: usize, fd: u32) -> bool {
        match self.processes[number].descriptors.clear(fd) {
            Some(descriptor) => {
                self.drop_locks(cpu, descriptor.open, Owner::Process(number as u16));
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
        let Some(open) = files.open.release(open) else {
            return;
        };
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
            What::Stdio(_) | What::Proc(_) => {}
        }
    }
}

/// What an open file is for, as a path would lead to it.
pub fn node_of(files: &Files, open: u16) -> Node {
    match files.open.get(open).what {
        What::File(file) => Node::File(file),
        What::Proc(node) => Node::Proc(node),
        What::Stdio(_) | What::Reader(_) | What::Writer(_) => Node::Open(open),
    }
}
