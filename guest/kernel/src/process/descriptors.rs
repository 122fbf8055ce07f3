//! What tasks have open. The threads of a process have it in common, and so have processes that clone(2) has made with
//! CLONE_FILES.

use super::shared::{Entry, Table};
use crate::arch::lent::Reserve;
use crate::kernel::Kernel;
use crate::syscall::procfs::Files;
use abi::MAX_TASKS;

/// One set of descriptors.
#[derive(Clone, Copy)]
pub struct Descriptors {
    /// Which of 0 to 2 are closed, a bit each.
    pub closed: u8,
    /// Those from 3 on.
    pub files: Files,
}

impl Descriptors {
    /// 0 to 2 are open, no others.
    pub const STANDARD: Descriptors = Descriptors {
        closed: 0,
        files: Files::NONE,
    };
}

/// Room for those of every task, and for those that execve(2) is making.
pub static ROOM: Reserve<[Entry<Descriptors>; MAX_TASKS + 1]> =
    Reserve::new([const { Entry::free(Descriptors::STANDARD) }; MAX_TASKS + 1]);

/// The descriptors of all tasks, by number.
pub type AllDescriptors = Table<Descriptors>;

impl Kernel {
    /// New descriptors: what a process the VMM asks for finds.
    pub fn standard_descriptors(&mut self) -> u16 {
        let number = self.descriptors.take();
        self.descriptors[number] = Descriptors::STANDARD;
        number
    }

    /// New descriptors for the same files as number `from`.
    pub fn copy_descriptors(&mut self, from: u16) -> u16 {
        let number = self.descriptors.take();
        let copy = self.descriptors[from];
        copy.files.shared(&mut self.open_files);
        self.descriptors[number] = copy;
        number
    }

    /// Task `task` shares its descriptors with no other any more.
    pub fn unshare_descriptors(&mut self, task: u16) {
        let old = self.tasks[usize::from(task)].descriptors;
        if self.descriptors.users(old) > 1 {
            self.tasks[usize::from(task)].descriptors = self.copy_descriptors(old);
            self.drop_descriptors(old);
        }
    }

    /// One task less uses descriptors `number`; with the last one they are closed.
    pub fn drop_descriptors(&mut self, number: u16) {
        if self.descriptors.release(number) {
            self.descriptors[number].files.close_all(&mut self.open_files);
        }
    }
}
