//! Looking into a guest while it runs: its page tables and its RAM, for tests; and its vCPUs' threads, for who wants to
//! place them.

use crate::memory::GuestRam;
use abi::Errno;
use abi::hypercall::{Call, Request};
use kvm_ioctls::VcpuFd;
use paging::{GuestPhys, GuestVirt, Leaf, for_each_leaf, lookup};

/// Looks on as guests start and ask for things. Called on the vCPU's own thread.
pub trait Observer: Send + Sync {
    /// vCPU `vcpu` of guest number `guest` is about to execute its first instruction on this thread.
    fn vcpu_starts(&self, guest: u32, vcpu: u32) {
        let _ = (guest, vcpu);
    }

    /// Guest number `guest` has asked `request` (with its answer), and its vCPU has not gone on yet; `view` shows that
    /// guest as this vCPU sees it.
    fn after_hypercall(&self, view: &GuestView<'_>, guest: u32, call: Call, request: &Request) {
        let _ = (view, guest, call, request);
    }
}

/// A guest as one of its vCPUs, which stands still, sees it. Other vCPUs go on meanwhile.
pub struct GuestView<'a> {
    ram: &'a GuestRam,
    vcpu: &'a VcpuFd,
}

impl<'a> GuestView<'a> {
    pub(crate) fn new(ram: &'a GuestRam, vcpu: &'a VcpuFd) -> GuestView<'a> {
        GuestView { ram, vcpu }
    }

    /// Root of the page tables that are loaded (CR3 without its low bits); `None` if KVM does not say.
    #[must_use]
    pub fn root(&self) -> Option<GuestPhys> {
        let sregs = self.vcpu.get_sregs().ok()?;
        Some(GuestPhys::new(sregs.cr3).align_down(paging::PAGE_SIZE))
    }

    /// Everything that is mapped in `pages` pages from `virt` on, in order.
    #[must_use]
    pub fn leaves(&self, virt: GuestVirt, pages: u64) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        if let Some(root) = self.root() {
            for_each_leaf(self.ram, root, virt, pages, |leaf| leaves.push(leaf));
        }
        leaves
    }

    /// What maps `virt`.
    #[must_use]
    pub fn leaf(&self, virt: GuestVirt) -> Option<Leaf> {
        lookup(self.ram, self.root()?, virt)
    }

    /// Copies bytes out of the guest's RAM.
    ///
    /// # Errors
    /// EFAULT if they do not all lie in RAM.
    pub fn read(&self, gpa: GuestPhys, bytes: &mut [u8]) -> Result<(), Errno> {
        self.ram.read(gpa, bytes)
    }
}
