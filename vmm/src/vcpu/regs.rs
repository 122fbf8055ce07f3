//! The registers a vCPU starts with: 64-bit mode, on the boot tables, at the kernel's entry (`abi::boot`).

use crate::boot::{IDT_LEN, Loaded, direct};
use crate::error::VmmError;
use crate::image::KernelImage;
use crate::kvm::{KvmHost, failed};
use abi::boot::{GDT_LEN, SYSCALL_FLAG_MASK, TABLES_GDT, TABLES_TSS, TSS_LEN, selector};
use abi::memory::{VCPU_AREAS, VCPU_LOCAL, VCPU_STACK_TOP, VCPU_STRIDE, VCPU_TABLES};
use kvm_bindings::{Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

// SDM 3A, 2.5 (control registers), 2.2.1 (EFER), 5.8.8 (SYSCALL), 11.12 (x2APIC).
const CR0: u64 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
const CR0_PE: u64 = 1;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
/// PAE, OSFXSR, OSXMMEXCPT. Never OSXSAVE; no SMEP and SMAP (PLATFORM.md).
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// As on Linux, where the CPU has it: CPUID tells programs that they may.
const CR4_FSGSBASE: u64 = 1 << 16;
/// SCE, LME, LMA, NXE.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
const APIC_BASE: u64 = 0xfee0_0000;
const APIC_BSP: u64 = 1 << 8;
const APIC_X2APIC: u64 = 1 << 10;
const APIC_ENABLED: u64 = 1 << 11;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_FMASK: u32 = 0xc000_0084;
/// RFLAGS with nothing but the bit that is always set.
const RFLAGS: u64 = 2;

/// Gives vCPU `index` its first registers.
///
/// # Errors
/// [`VmmError::KvmCall`].
pub fn set_initial(
    vcpu: &VcpuFd,
    host: &KvmHost,
    kernel: &KernelImage,
    loaded: &Loaded,
    index: u32,
) -> Result<(), VmmError> {
    let area = VCPU_AREAS + u64::from(index) * VCPU_STRIDE;
    let mut sregs = vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    sregs.cs = kvm_segment {
        limit: u32::MAX,
        selector: selector::KERNEL_CODE,
        // Executable, readable, accessed.
        type_: 0xb,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    sregs.ss = kvm_segment {
        limit: u32::MAX,
        selector: selector::KERNEL_DATA,
        // Writable, accessed.
        type_: 3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..Default::default()
    };
    // As Linux has them in 64-bit mode: null.
    let null = kvm_segment {
        unusable: 1,
        ..Default::default()
    };
    (sregs.ds, sregs.es, sregs.fs, sregs.ldt) = (null, null, null, null);
    sregs.gs = kvm_segment {
        base: area + VCPU_LOCAL,
        ..null
    };
    sregs.tr = kvm_segment {
        base: area + VCPU_TABLES + TABLES_TSS,
        limit: TSS_LEN as u32 - 1,
        selector: selector::TSS,
        // 64-bit TSS, busy.
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    let gdt = area + VCPU_TABLES + TABLES_GDT;
    sregs.gdt = kvm_dtable {
        base: gdt,
        limit: GDT_LEN as u16 - 1,
        ..Default::default()
    };
    sregs.idt = kvm_dtable {
        base: direct(loaded.idt).get(),
        limit: IDT_LEN as u16 - 1,
        ..Default::default()
    };
    sregs.cr0 = CR0;
    sregs.cr3 = loaded.page_table.get();
    sregs.cr4 = CR4 | if host.has_fsgsbase() { CR4_FSGSBASE } else { 0 };
    sregs.efer = EFER;
    sregs.apic_base = APIC_BASE | APIC_ENABLED | APIC_X2APIC | if index == 0 { APIC_BSP } else { 0 };
    vcpu.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;

    let star = u64::from(selector::SYSRET_BASE) << 48 | u64::from(selector::KERNEL_CODE) << 32;
    let msrs = [
        (MSR_STAR, star),
        (MSR_LSTAR, kernel.header().syscall_entry),
        (MSR_FMASK, SYSCALL_FLAG_MASK),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    let count = msrs.len();
    let msrs = Msrs::from_entries(&msrs).map_err(|_| VmmError::Kvm("three MSRs do not fit".into()))?;
    let set = vcpu.set_msrs(&msrs).map_err(failed("KVM_SET_MSRS"))?;
    if set != count {
        return Err(VmmError::Kvm(format!(
            "KVM refused the SYSCALL registers: it set {set} of {count}"
        )));
    }

    let regs = kvm_regs {
        rip: kernel.entry().get(),
        rsp: area + VCPU_STACK_TOP,
        rdi: direct(loaded.boot_info).get(),
        rsi: u64::from(index),
        rflags: RFLAGS,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(failed("KVM_SET_REGS"))
}
