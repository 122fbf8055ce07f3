//! Files that areas show: when pages of a file go, or become others, the mappings of all processes follow.

use super::FileId;
use crate::arch::cpu::Cpu;
use crate::hypercall::Requester;
use crate::kernel::Kernel;
use crate::mm::Taken;
use crate::mm::contents::MOST_BYTES;
use crate::mm::world::KernelWorld;
use abi::{Errno, PAGE_SIZE};

impl Kernel {
    /// Takes the bytes of `file` from `from` to before `to`, whole pages, out of all mappings.
    pub(super) fn take_from_mappings(
        &mut self,
        cpu: &'static Cpu,
        who: Requester,
        file: FileId,
        range: (u64, u64),
        what: Taken,
    ) {
        if !self.memory.areas.shows(file) {
            return;
        }
        let mut world = KernelWorld { cpu, who };
        for space in self.spaces.all() {
            space.take_file(&mut self.memory, &mut world, file, range, what);
        }
    }

    /// Makes `file` `size` bytes long. What is cut off goes from all mappings first.
    ///
    /// # Errors
    /// ENOSPC; then nothing has changed, but pages may have to be faulted in again.
    pub fn resize_file(
        &mut self,
        cpu: &'static Cpu,
        who: Requester,
        file: FileId,
        size: u64,
    ) -> Result<(), Errno> {
        let old = self.memory.contents.size(file);
        if size < old {
            let from = size.next_multiple_of(PAGE_SIZE);
            self.take_from_mappings(cpu, who, file, (from, MOST_BYTES), Taken::All);
            // The page that is cut may be one of the image.
            self.unshow(cpu, who, file, size, from);
        }
        let mut world = KernelWorld { cpu, who };
        self.memory.resize_file(&mut world, file, size)
    }

    /// The pages of `file` that hold the bytes from `from` to before `to` are, or are about to be, its own and no
    /// longer those of its image: mappings of these are to be made anew.
    pub fn unshow(&mut self, cpu: &'static Cpu, who: Requester, file: FileId, from: u64, to: u64) {
        let from = from - from % PAGE_SIZE;
        self.take_from_mappings(cpu, who, file, (from, to), Taken::Image);
    }

    /// Makes `file` one without an image, so that it can be changed through mappings.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn own_image(&mut self, cpu: &'static Cpu, who: Requester, file: FileId) -> Result<(), Errno> {
        if !self.memory.contents.has_image(file) {
            return Ok(());
        }
        let mut world = KernelWorld { cpu, who };
        let owned = self.memory.own_image(&mut world, file);
        self.unshow(cpu, who, file, 0, MOST_BYTES);
        owned
    }

    /// Lets go of files that have neither name nor user, if areas have let go of some.
    pub fn sweep_files(&mut self) {
        if core::mem::take(&mut self.memory.areas.let_go) {
            self.files.sweep(&mut self.memory);
        }
    }
}
