//! GDT, TSS and IDT as bytes (SDM 3A, sections 3.4.5, 6.14.1 and 7.7).

use abi::PAGE_SIZE;
use abi::boot::{
    GDT_LEN, KernelHeader, TABLES_GDT, TABLES_TSS, TSS_IST1, TSS_LEN, TSS_RSP0, VECTORS, selector,
};
use abi::memory::{VCPU_AREAS, VCPU_IST_TOP, VCPU_LOCAL, VCPU_STACK_TOP, VCPU_STRIDE, VCPU_TABLES};

/// Bytes of the IDT.
pub const IDT_LEN: usize = VECTORS * 16;

// Flat segments of 4 GiB, present, accessed; code is 64-bit (L).
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;
const TSS_AVAILABLE: u64 = 0x89;
/// Ring 3 may look at it and no more: Linux's descriptor, whose limit is in bytes and holds a number.
const CPU_NUMBER: u64 = 0x0040_f500_0000_0000;

/// Offset of the I/O map base within the TSS: beyond the limit means that there is no map.
const TSS_IO_MAP: u64 = 0x66;

const NMI: usize = 2;
const BREAKPOINT: usize = 3;
const OVERFLOW: usize = 4;
const DOUBLE_FAULT: usize = 8;

/// The start of vCPU `index`'s tables page: its GDT and TSS. The rest, from
/// [`VCPU_LOCAL`] on, is the kernel's.
pub(super) fn tables_page(index: u64) -> [u8; (VCPU_LOCAL - VCPU_TABLES) as usize] {
    let area = VCPU_AREAS + index * VCPU_STRIDE;
    let mut page = [0; (VCPU_LOCAL - VCPU_TABLES) as usize];
    let mut put = |at: u64, bytes: &[u8]| page[at as usize..][..bytes.len()].copy_from_slice(bytes);
    let tss = area + VCPU_TABLES + TABLES_TSS;
    let tss_low = (TSS_LEN - 1) | (tss & 0xff_ffff) << 16 | TSS_AVAILABLE << 40 | (tss >> 24 & 0xff) << 56;
    for (selector, descriptor) in [
        (selector::KERNEL_CODE, KERNEL_CODE),
        (selector::KERNEL_DATA, KERNEL_DATA),
        (selector::USER_DATA & !3, USER_DATA),
        (selector::USER_CODE & !3, USER_CODE),
        (selector::TSS, tss_low),
        (selector::TSS + 8, tss >> 32),
        (selector::CPU_NUMBER & !3, CPU_NUMBER | index),
    ] {
        put(TABLES_GDT + u64::from(selector), &descriptor.to_le_bytes());
    }
    put(TABLES_TSS + TSS_RSP0, &(area + VCPU_STACK_TOP).to_le_bytes());
    put(TABLES_TSS + TSS_IST1, &(area + VCPU_IST_TOP).to_le_bytes());
    put(TABLES_TSS + TSS_IO_MAP, &(TSS_LEN as u16).to_le_bytes());
    page
}

/// The interrupt descriptor table for the kernel's stubs: interrupt gates, so IF is clear on entry.
pub(super) fn idt(header: &KernelHeader) -> [u8; IDT_LEN] {
    let mut idt = [0; IDT_LEN];
    for (vector, gate) in idt.chunks_exact_mut(16).enumerate() {
        let stub = header
            .trap_stubs
            .wrapping_add(vector as u64 * u64::from(header.stub_stride));
        // int3 and into are a program's to use; a stack of their own for what may strike on a bad one.
        let privilege = if matches!(vector, BREAKPOINT | OVERFLOW) {
            3
        } else {
            0
        };
        let stack = if matches!(vector, NMI | DOUBLE_FAULT) {
            1
        } else {
            0
        };
        let low = stub & 0xffff
            | u64::from(selector::KERNEL_CODE) << 16
            | stack << 32
            | (0x8e | privilege << 5) << 40
            | (stub >> 16 & 0xffff) << 48;
        gate[..8].copy_from_slice(&low.to_le_bytes());
        gate[8..].copy_from_slice(&(stub >> 32).to_le_bytes());
    }
    idt
}

const _: () = assert!(TABLES_TSS >= TABLES_GDT + GDT_LEN);
const _: () = assert!(TABLES_TSS + TSS_LEN <= VCPU_LOCAL - VCPU_TABLES);
const _: () = assert!(IDT_LEN as u64 <= PAGE_SIZE);
