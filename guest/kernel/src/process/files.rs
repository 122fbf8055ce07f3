//! What a process has of files beside its [descriptors](super::descriptors): its working directory, and the file it runs.
//! They are inherited, and go with the process.

use super::Process;
use crate::fs::open::What;
use crate::fs::{FileId, Files, Node};
use crate::kernel::Kernel;

/// What new files of a process that the VMM started are not: writable by others.
const UMASK: u16 = 0o022;

impl Kernel {
    /// Gives process `number`, which the VMM wants, its working directory.
    pub fn first_files(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.directory = Node::ROOT;
        process.umask = UMASK;
        self.files.hold(process.exe);
        self.files.hold_node(process.directory);
    }

    /// Gives process `child`, a free slot, what `parent` has.
    pub fn inherit_files(&mut self, parent: usize, child: usize) {
        let Ok([from, to]) = self.processes.get_disjoint_mut([parent, child]) else {
            unreachable!("process {child} is free, {parent} is not");
        };
        to.exe = from.exe;
        to.directory = from.directory;
        to.umask = from.umask;
        self.files.hold(to.exe);
        self.files.hold_node(to.directory);
    }

    /// Process `number` runs `exe` from now on, of which it has been a user.
    pub fn run_file(&mut self, number: usize, exe: FileId) {
        let process = &mut self.processes[number];
        let old = core::mem::replace(&mut process.exe, exe);
        self.files.release(&mut self.memory, old);
    }

    /// Process `number` has ended.
    pub fn drop_files(&mut self, number: usize) {
        let Kernel {
            processes,
            files,
            memory,
            ..
        } = self;
        let Process { exe, directory, .. } = &mut processes[number];
        files.release(memory, *exe);
        files.release_node(memory, core::mem::replace(directory, Node::ROOT));
    }
}

/// What an open file is for, as a path would lead to it.
pub fn node_of(files: &Files, open: u16) -> Node {
    match files.open.get(open).what {
        What::File(file) => Node::File(file),
        What::Proc(node) => Node::Proc(node),
        _ => Node::Open(open),
    }
}
