//! The locks of a thread that ends while its guest lives on: its robust list is walked, as Linux walks it in
//! `exit_robust_list`. The walk itself is [`::futex::robust`]; this is the memory it walks in.

use crate::arch::cpu::Cpu;
use crate::kernel::Kernel;
use crate::mm::{Access, Word};
use ::futex::robust::{self, Memory, Word as Found};

/// Gives back the locks that task `task` holds by its robust list, if it has one, and forgets the list. To be called
/// before the task or its memory goes: when it ends, and when it runs another program; with that memory loaded here,
/// because words in segments are reached through the program's own mappings.
pub fn walk(kernel: &mut Kernel, cpu: &'static Cpu, task: u16) {
    let entry = &kernel.tasks[usize::from(task)];
    let (head, id) = (entry.robust_list, entry.id);
    if head == 0 {
        return;
    }
    robust::walk(&mut Dying { kernel, cpu, task }, head, id);
    // Last, so that the host would still find it if this guest died meanwhile: to walk it twice does no harm.
    kernel.tasks[usize::from(task)].robust_list = 0;
    kernel.publish_robust_list(task);
}

/// The memory of a task that ends.
struct Dying<'a> {
    kernel: &'a mut Kernel,
    cpu: &'static Cpu,
    task: u16,
}

impl Dying<'_> {
    fn word(&mut self, address: u64, access: Access) -> Option<Word> {
        self.kernel
            .with_space(self.cpu, self.task, |space, memory, world| {
                space.word(memory, world, address, access).ok()
            })
    }
}

impl Memory for Dying<'_> {
    /// What wakers need, what the lock is, and whether it may be written.
    type Place = (u64, Word, bool);

    fn load64(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.kernel
            .with_space(self.cpu, self.task, |space, memory, world| {
                space.read(memory, world, address, &mut bytes).ok()
            })?;
        Some(u64::from_le_bytes(bytes))
    }

    fn find(&mut self, address: u64) -> Option<Found<Self::Place>> {
        // Most locks of a list are its owner's, and will be written.
        let found = match self.word(address, Access::Write) {
            Some(word) => (address, word, true),
            None => (address, self.word(address, Access::Read)?, false),
        };
        Some(Found::Here(found))
    }

    fn load(&mut self, (_, word, _): Self::Place) -> u32 {
        word.load()
    }

    fn compare_exchange(&mut self, (_, word, writable): Self::Place, old: u32, new: u32) -> Option<bool> {
        writable.then(|| word.compare_exchange(old, new))
    }

    fn wake_one(&mut self, (address, ..): Self::Place) {
        self.kernel.wake_word(self.cpu, self.task, address);
    }
}
