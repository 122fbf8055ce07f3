//! The registers of the FPU and what came after it (SSE, AVX, AVX-512), kept for a guest's tasks that are not running.
//!
//! The kernel of a guest can't do that itself on the software KVM: ring 0 is emulated there, and the emulator has FXSAVE
//! but not XSAVE; programs, however, see the host's CPU and use all of it. KVM knows a vCPU's registers whole
//! (KVM_GET_XSAVE), so a kernel that switches asks for that. What is loaded is what KVM has once given, or its initial
//! value: nothing a guest has written.
// UNSAFETY: KVM_SET_XSAVE is unsafe in kvm-ioctls.
#![expect(unsafe_code, reason = "KVM_SET_XSAVE")]

use crate::hypercall::FpuLoad;
use abi::{Errno, MAX_TASKS};
use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;
use std::sync::{Mutex, PoisonError};

/// The kept registers of one guest's tasks, by slot.
pub struct FpuStates {
    kept: Mutex<[Option<Box<kvm_xsave>>; MAX_TASKS]>,
}

impl Default for FpuStates {
    fn default() -> FpuStates {
        FpuStates {
            kept: Mutex::new([const { None }; MAX_TASKS]),
        }
    }
}

impl FpuStates {
    /// Keeps what is in vCPU `fd`'s registers as task `keep`'s, then loads others.
    ///
    /// # Errors
    /// EINVAL for a task there can't be, or of which nothing is kept; EIO if KVM refuses.
    pub fn switch(&self, fd: &VcpuFd, keep: Option<u16>, load: FpuLoad) -> Result<(), Errno> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = keep {
            let place = kept.get_mut(usize::from(task)).ok_or(Errno::EINVAL)?;
            let state = fd.get_xsave().map_err(|_| Errno::EIO)?;
            match place {
                Some(place) => **place = state,
                None => *place = Some(Box::new(state)),
            }
        }
        match load {
            FpuLoad::Nothing => Ok(()),
            FpuLoad::Initial => set(fd, &kvm_xsave::default()),
            FpuLoad::Task(task) => {
                let state = kept.get(usize::from(task)).and_then(Option::as_deref);
                set(fd, state.ok_or(Errno::EINVAL)?)
            }
        }
    }
}

/// An image of which nothing is present stands for the initial registers (SDM 1, 13.8).
fn set(fd: &VcpuFd, state: &kvm_xsave) -> Result<(), Errno> {
    // SAFETY: KVM reads no more than the structure's 4096 bytes unless the process has asked for dynamically enabled
    // features (arch_prctl(2), ARCH_REQ_XCOMP_GUEST_PERM), which nobody here does.
    unsafe { fd.set_xsave(state) }.map_err(|_| Errno::EIO)
}
