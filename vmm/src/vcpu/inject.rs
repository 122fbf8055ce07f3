//! Faults that tests ask for ([`InjectedFault`]): carried out on the vCPU's own thread, between two exits.

use super::StopReason;
use crate::config::InjectedFault;
use kvm_ioctls::VcpuFd;

/// The invalid-opcode exception: one that needs an IDT entry and no error code.
const INVALID_OPCODE: u8 = 6;

/// Carries out `fault` if it is this vCPU's turn, `exits` exits after it started.
pub(super) fn inject(
    fault: Option<InjectedFault>,
    vcpu: &VcpuFd,
    index: u32,
    exits: u64,
) -> Result<(), StopReason> {
    match fault {
        Some(InjectedFault::RunError { vcpu, after_exits }) if (vcpu, after_exits) == (index, exits) => {
            let error = std::io::Error::from_raw_os_error(libc::EIO);
            Err(StopReason::Failed(format!(
                "KVM_RUN of vCPU {index}: {error} (injected)"
            )))
        }
        Some(InjectedFault::TripleFault {
            vcpu: which,
            after_exits,
        }) if (which, after_exits) == (index, exits) => triple_fault(vcpu)
            .map_err(|error| StopReason::Failed(format!("injecting a triple fault: {error}"))),
        Some(InjectedFault::ThreadPanic { vcpu, after_exits }) if (vcpu, after_exits) == (index, exits) => {
            panic!("injected panic of vCPU {index}'s thread")
        }
        _ => Ok(()),
    }
}

/// Takes the IDT away and raises an exception: neither it nor the double fault that follows can be delivered.
fn triple_fault(vcpu: &VcpuFd) -> Result<(), vmm_sys_util::errno::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.idt.limit = 0;
    vcpu.set_sregs(&sregs)?;
    let mut events = vcpu.get_vcpu_events()?;
    events.exception.injected = 1;
    events.exception.nr = INVALID_OPCODE;
    events.exception.has_error_code = 0;
    vcpu.set_vcpu_events(&events)
}
