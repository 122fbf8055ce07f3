//! /dev/kvm: what a host must offer, virtual machines, and how their vCPUs are set up.
//!
//! [`KvmHost`] is opened once for a group and asks KVM everything that is the same for all its guests (CPUID is
//! slow to ask where CPUID itself is emulated). [`Vm`] is one virtual machine with its RAM and a split irqchip:
//! LAPICs in the host's kernel, no PIC, IOAPIC or PIT. Interrupts from the host are MSIs: [`Vm::route_event`] for who has
//! an eventfd, [`Reach::interrupt`] for who knows the vCPU.
// UNSAFETY: registers memory with KVM; asks KVM for things kvm-ioctls has no call for.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION, KVM_SET_DEVICE_ATTR")]

mod cpuid;
pub(crate) mod fpu;
mod stats;

pub use fpu::FpuStates;
pub use stats::emulated_instructions;

use crate::broker::Reach;
use crate::error::VmmError;
use crate::memory::GuestRam;
use crate::window::SlotRegistrar;
use abi::MAX_VCPUS;
use abi::boot::{VECTOR_EVENT, VECTOR_WAKE};
use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MAX_CPUID_ENTRIES,
    KVM_MEM_READONLY, KVM_MP_STATE_RUNNABLE, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, KvmIrqRouting,
    kvm_device_attr, kvm_enable_cap, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi, kvm_mp_state, kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use paging::GuestPhys;
use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

/// Requests that kvm-ioctls has for other architectures only.
mod request {
    use super::{KVMIO, ioctl_iow_nr, kvm_device_attr};
    ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
    ioctl_iow_nr!(KVM_HAS_DEVICE_ATTR, KVMIO, 0xe3, kvm_device_attr);
}

/// Memory slots that RAM takes; the windows' start here.
pub const RAM_SLOTS: u32 = 2;

/// Where MSIs are written to (SDM 3A, 11.11): the destination's APIC id stands in the address, the vector in the data,
/// fixed delivery.
const MSI_ADDRESS: u32 = 0xfee0_0000;
const MSI_DESTINATION_SHIFT: u32 = 12;

/// The GSI that stands for the event interrupt.
const EVENT_GSI: u32 = 0;

/// KVM, checked for what is needed.
pub struct KvmHost {
    kvm: Kvm,
    cpuid: CpuId,
    phys_bits: u32,
}

impl KvmHost {
    /// Opens /dev/kvm.
    ///
    /// # Errors
    /// [`VmmError::Kvm`], which says what is missing and what to do about it.
    pub fn open() -> Result<KvmHost, VmmError> {
        KvmHost::open_at(c"/dev/kvm")
    }

    fn open_at(path: &CStr) -> Result<KvmHost, VmmError> {
        let name = path.to_string_lossy();
        let kvm = Kvm::new_with_path(path).map_err(|error| {
            VmmError::Kvm(match error.errno() {
                libc::ENOENT | libc::ENODEV | libc::ENXIO => format!(
                    "{name}: not there: this machine offers no virtualization, or its module is not loaded \
                     (`modprobe kvm_intel` or `modprobe kvm_amd`)"
                ),
                libc::EACCES | libc::EPERM => format!(
                    "{name}: permission denied: add yourself to the group that owns it \
                     (`sudo usermod -aG kvm $USER`) and log in again"
                ),
                _ => format!("{name}: {}", io::Error::from(error)),
            })
        })?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(VmmError::Kvm(format!(
                "{name}: KVM API version {version}: version {KVM_API_VERSION} is needed"
            )));
        }
        for (cap, what) in [
            (Cap::UserMemory, "user memory"),
            (Cap::ReadonlyMem, "read-only memory slots"),
            (Cap::SplitIrqchip, "a split irqchip"),
            (Cap::ImmediateExit, "immediate exits"),
            (Cap::MpState, "setting the state of vCPUs"),
            (Cap::Irqfd, "irqfds"),
            (Cap::SignalMsi, "signalling MSIs"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(VmmError::Kvm(format!(
                    "{name}: this KVM lacks {what}: a newer Linux is needed"
                )));
            }
        }
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("KVM_GET_SUPPORTED_CPUID"))?;
        let phys_bits = cpuid::phys_bits(&supported);
        let cpuid = cpuid::offered(&supported).map_err(|why| VmmError::Kvm(format!("{name}: {why}")))?;
        Ok(KvmHost {
            kvm,
            cpuid,
            phys_bits,
        })
    }

    /// Bits of guest-physical address on this CPU.
    #[must_use]
    pub fn phys_bits(&self) -> u32 {
        self.phys_bits
    }

    /// Whether guests' programs may use RDFSBASE and its kin, once CR4 allows it.
    #[must_use]
    pub fn has_fsgsbase(&self) -> bool {
        cpuid::has_fsgsbase(&self.cpuid)
    }

    /// Makes a virtual machine with this RAM and no vCPUs yet.
    ///
    /// # Errors
    /// [`VmmError::KvmCall`].
    pub fn create_vm(&self, ram: GuestRam) -> Result<Vm, VmmError> {
        let vm = Vm {
            fd: self.kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?,
            ram,
        };
        let mut split = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            ..Default::default()
        };
        // Routes reserved for an IOAPIC: none, there is none.
        split.args[0] = 0;
        vm.fd
            .enable_cap(&split)
            .map_err(failed("KVM_CAP_SPLIT_IRQCHIP"))?;
        for (slot, piece) in vm.ram.slots().enumerate() {
            vm.register(slot as u32, piece.gpa, piece.host, piece.len, false)
                .map_err(|source| VmmError::KvmCall {
                    what: "KVM_SET_USER_MEMORY_REGION",
                    source,
                })?;
        }
        Ok(vm)
    }

    /// Makes vCPU `index` of `count`, runnable and with the host's TSC; registers are `vcpu::regs`'s.
    ///
    /// # Errors
    /// [`VmmError::KvmCall`].
    pub fn create_vcpu(&self, vm: &Vm, index: u32, count: u32) -> Result<VcpuFd, VmmError> {
        let vcpu = vm
            .fd
            .create_vcpu(index.into())
            .map_err(failed("KVM_CREATE_VCPU"))?;
        let cpuid = cpuid::of_vcpu(&self.cpuid, index, count);
        vcpu.set_cpuid2(&cpuid).map_err(failed("KVM_SET_CPUID2"))?;
        // All vCPUs start at once, without INIT and SIPI.
        let runnable = kvm_mp_state {
            mp_state: KVM_MP_STATE_RUNNABLE,
        };
        vcpu.set_mp_state(runnable).map_err(failed("KVM_SET_MP_STATE"))?;
        share_tsc(&vcpu)?;
        Ok(vcpu)
    }
}

/// Gives the guest the host's TSC, offset 0: then one formula turns it into time everywhere.
fn share_tsc(vcpu: &VcpuFd) -> Result<(), VmmError> {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: (&raw const offset).addr() as u64,
        flags: 0,
    };
    // Where it is not offered (before Linux 5.16) an offset of its own makes a guest's clock start with it; on the
    // software KVM the guest's TSC is the host's anyway.
    // SAFETY: both requests read the structure, and a u64 at the address in it; both outlive the call.
    unsafe {
        if ioctl_with_ref(vcpu, request::KVM_HAS_DEVICE_ATTR(), &attribute) != 0 {
            return Ok(());
        }
        if ioctl_with_ref(vcpu, request::KVM_SET_DEVICE_ATTR(), &attribute) != 0 {
            return Err(failed("KVM_VCPU_TSC_OFFSET")(errno::Error::last()));
        }
    }
    Ok(())
}

/// One virtual machine and its RAM; the RAM goes after the machine (fields are dropped in this order).
pub struct Vm {
    fd: VmFd,
    ram: GuestRam,
}

impl Vm {
    /// Its RAM.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Makes writes to `event` raise the event interrupt on vCPU 0.
    ///
    /// # Errors
    /// [`VmmError::KvmCall`].
    pub fn route_event(&self, event: &EventFd) -> Result<(), VmmError> {
        let msi = kvm_irq_routing_msi {
            address_lo: MSI_ADDRESS,
            data: VECTOR_EVENT.into(),
            ..Default::default()
        };
        let route = kvm_irq_routing_entry {
            gsi: EVENT_GSI,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
            ..Default::default()
        };
        let routing = KvmIrqRouting::from_entries(&[route])
            .map_err(|_| VmmError::Kvm("one interrupt route does not fit".into()))?;
        self.fd
            .set_gsi_routing(&routing)
            .map_err(failed("KVM_SET_GSI_ROUTING"))?;
        self.fd
            .register_irqfd(event, EVENT_GSI)
            .map_err(failed("KVM_IRQFD"))
    }

    fn register(
        &self,
        slot: u32,
        gpa: GuestPhys,
        host: *mut u8,
        len: u64,
        read_only: bool,
    ) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: gpa.get(),
            memory_size: len,
            userspace_addr: host.addr() as u64,
        };
        // SAFETY: the callers register memory that guests may change and that stays mapped as long as vCPUs run:
        // RAM, which this machine owns, and windows, which are unmapped after the vCPUs have been joined.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(io::Error::from)
    }
}

impl Reach for Vm {
    fn ram(&self) -> &GuestRam {
        &self.ram
    }

    fn interrupt(&self, vcpu: u32) {
        if vcpu as usize >= MAX_VCPUS {
            return;
        }
        let msi = kvm_msi {
            address_lo: MSI_ADDRESS | vcpu << MSI_DESTINATION_SHIFT,
            data: VECTOR_WAKE.into(),
            ..Default::default()
        };
        // Fails for a vCPU that is not there, and for one whose local APIC is off: a kernel that never waits.
        if let Err(error) = self.fd.signal_msi(msi) {
            tracing::debug!("the wake interrupt of vCPU {vcpu}: {error}");
        }
    }
}

/// A machine as its windows see it.
pub struct WindowSlots(pub Arc<Vm>);

impl SlotRegistrar for WindowSlots {
    fn register(
        &self,
        slot: u32,
        gpa: GuestPhys,
        host: *mut u8,
        len: u64,
        read_only: bool,
    ) -> io::Result<()> {
        self.0.register(slot, gpa, host, len, read_only)
    }
}

/// For `map_err`: a call to KVM that failed.
pub(crate) fn failed(what: &'static str) -> impl Fn(errno::Error) -> VmmError {
    move |error| VmmError::KvmCall {
        what,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &CStr) -> String {
        KvmHost::open_at(path)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_host_without_kvm_is_told_what_to_do() {
        assert!(message(c"/dev/no-such-kvm").contains("modprobe"));
        // Not a KVM device: the first ioctl fails.
        assert!(
            message(c"/dev/null").contains("API version -1"),
            "{}",
            message(c"/dev/null")
        );
    }

    #[test]
    fn this_host_has_what_is_needed() {
        let host = KvmHost::open().expect("these tests need /dev/kvm");
        assert!((36..=52).contains(&host.phys_bits()), "{} bits", host.phys_bits());
    }
}
