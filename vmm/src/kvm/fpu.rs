//! The registers of the FPU and what came after it (SSE, AVX, AVX-512), kept for a guest's tasks that are not running.
//!
//! The kernel of a guest can't do that itself on the software KVM: ring 0 is emulated there, and the emulator has FXSAVE
//! but not XSAVE; programs, however, see the host's CPU and use all of it. KVM knows a vCPU's registers whole
//! (KVM_GET_XSAVE), so a kernel that switches asks for that. What is loaded is what KVM has once given, or its initial
//! value; or, when a signal handler returns, what a program has written, which KVM checks as the CPU would.
// UNSAFETY: KVM_SET_XSAVE is unsafe in kvm-ioctls.
#![expect(unsafe_code, reason = "KVM_SET_XSAVE")]

use crate::hypercall::FpuLoad;
use abi::hypercall::FPU_MOST;
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

/// Bytes of an image that are FXSAVE's area, and of the header that follows it (SDM 1, 13.4).
const LEGACY: usize = 512;
const HEADER: usize = 64;
/// x87 and SSE, as state components.
const LEGACY_FEATURES: u64 = 3;

/// What is in vCPU `fd`'s registers, which become initial.
///
/// # Errors
/// EIO if KVM refuses.
pub(crate) fn take(fd: &VcpuFd) -> Result<[u8; FPU_MOST as usize], Errno> {
    let state = fd.get_xsave().map_err(|_| Errno::EIO)?;
    let mut image = [0; FPU_MOST as usize];
    for (bytes, word) in image.as_chunks_mut::<4>().0.iter_mut().zip(state.region) {
        *bytes = word.to_le_bytes();
    }
    set(fd, &kvm_xsave::default())?;
    Ok(image)
}

/// Loads `image`, of which the first `len` bytes are a program's and the rest is zero, into vCPU `fd`'s registers. Of its
/// state components those in `features` are taken; with fewer bytes than a header needs it has x87 and SSE.
///
/// # Errors
/// EINVAL for what KVM does not take.
pub(crate) fn give(
    fd: &VcpuFd,
    image: &mut [u8; FPU_MOST as usize],
    len: usize,
    features: u64,
) -> Result<(), Errno> {
    if len < LEGACY + HEADER {
        image[LEGACY..LEGACY + 8].copy_from_slice(&LEGACY_FEATURES.to_le_bytes());
    }
    let mut state = kvm_xsave::default();
    for (word, bytes) in state.region.iter_mut().zip(image.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    // First as it is, for what is wrong with it is wrong whatever is taken of it.
    set(fd, &state).map_err(|_| Errno::EINVAL)?;
    let [low, high] = [features as u32, (features >> 32) as u32];
    let [present_low, present_high] = [&state.region[LEGACY / 4], &state.region[LEGACY / 4 + 1]];
    if present_low & !low | present_high & !high == 0 {
        return Ok(());
    }
    state.region[LEGACY / 4] &= low;
    state.region[LEGACY / 4 + 1] &= high;
    set(fd, &state)
}

/// An image of which nothing is present stands for the initial registers (SDM 1, 13.8).
fn set(fd: &VcpuFd, state: &kvm_xsave) -> Result<(), Errno> {
    // SAFETY: KVM reads no more than the structure's 4096 bytes unless the process has asked for dynamically enabled
    // features (arch_prctl(2), ARCH_REQ_XCOMP_GUEST_PERM), which nobody here does.
    unsafe { fd.set_xsave(state) }.map_err(|_| Errno::EIO)
}
