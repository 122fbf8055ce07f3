//! A vCPU's statistics (KVM_GET_STATS_FD): the number of instructions that KVM emulated.
//!
//! On the software KVM that is exactly the number of instructions executed in ring 0. Where a host does not
//! count it, there is no figure. Layout: Linux, Documentation/virt/kvm/api.rst, 4.133.
// UNSAFETY: an ioctl that kvm-ioctls does not wrap.
#![expect(unsafe_code, reason = "KVM_GET_STATS_FD")]

use kvm_bindings::KVMIO;
use kvm_ioctls::VcpuFd;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);

const HEADER_LEN: usize = 24;
/// Bytes of a descriptor before its name.
const DESCRIPTOR_LEN: usize = 16;
/// More than any KVM has; keeps a strange header from asking for much memory.
const MOST_BYTES: usize = 1 << 20;

/// Instructions that KVM emulated for this vCPU so far, if it counts them.
#[must_use]
pub fn emulated_instructions(vcpu: &VcpuFd) -> Option<u64> {
    // SAFETY: the ioctl takes no argument and returns a new file descriptor or -1.
    let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD()) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made for us and has no other owner.
    let file = unsafe { File::from_raw_fd(fd) };
    read(&file, b"insn_emulation")
}

fn read(file: &File, wanted: &[u8]) -> Option<u64> {
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0).ok()?;
    let [_flags, name_len, count, _id_at, descriptors_at, data_at] =
        std::array::from_fn(|index| word(&header, index * 4));
    let len = DESCRIPTOR_LEN + name_len as usize;
    let mut descriptors = vec![
        0;
        len.checked_mul(count as usize)
            .filter(|bytes| *bytes <= MOST_BYTES)?
    ];
    file.read_exact_at(&mut descriptors, descriptors_at.into()).ok()?;
    let descriptor = descriptors
        .chunks_exact(len)
        .find(|descriptor| descriptor[DESCRIPTOR_LEN..].split(|byte| *byte == 0).next() == Some(wanted))?;
    let mut value = [0; 8];
    file.read_exact_at(&mut value, u64::from(data_at) + u64::from(word(descriptor, 8)))
        .ok()?;
    Some(u64::from_le_bytes(value))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}
