//! Files that areas show: when pages of a file go, or become others, mappings must follow.

use super::FileId;
use crate::arch::cpu::Cpu;
use crate::hypercall::Requester;
use crate::kernel::Kernel;
use crate::mm::world::KernelWorld;
use abi::Errno;

impl Kernel {
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
        let mut world = KernelWorld { cpu, who };
        self.memory.resize_file(&mut world, file, size)
    }

    /// The pages of `file` that hold the bytes from `from` to before `to` may be others than they were: mappings
    /// show them anew.
    pub fn unshow(&mut self, _cpu: &'static Cpu, _file: FileId, _from: u64, _to: u64) {}
}
