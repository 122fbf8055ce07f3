//! What programs learn about their CPU: the features whose state the guest kernel saves, and the topology.
//!
//! The kernel saves x87 and SSE state (FXSAVE) and never sets CR4.OSXSAVE (PLATFORM.md), so XSAVE and everything
//! encoded with VEX or EVEX is not offered, and neither is what would need ring 0's help: PKU, CET, UINTR, AMX.
//! Sources: SDM 2A, CPUID; AMD APM 3, appendix E.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

const LEAF_FEATURES: u32 = 1;
const LEAF_CACHES: u32 = 4;
const LEAF_EXTENDED_FEATURES: u32 = 7;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_XSAVE: u32 = 0xd;
const LEAF_AMX_TILES: u32 = 0x1d;
const LEAF_AMX_MULTIPLY: u32 = 0x1e;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_AVX10: u32 = 0x24;
const LEAF_AMD_FEATURES: u32 = 0x8000_0001;
const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;
const LEAF_AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

/// Leaf 1 ECX: FMA, XSAVE, OSXSAVE, AVX, F16C.
const FEATURES_ECX_HIDDEN: u32 = 1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29;
const FEATURES_ECX_X2APIC: u32 = 1 << 21;
const FEATURES_EDX_HTT: u32 = 1 << 28;
const EXTENDED_EBX_FSGSBASE: u32 = 1;
/// Leaf 7.0 EBX: AVX2 and all of AVX-512.
const EXTENDED_EBX_HIDDEN: u32 =
    1 << 5 | 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
/// Leaf 7.0 ECX: AVX-512 VBMI, PKU, OSPKE, VBMI2, shadow stacks, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ.
const EXTENDED_ECX_HIDDEN: u32 =
    1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;
/// Leaf 7.0 EDX: AVX-512 4VNNIW and 4FMAPS, UINTR, VP2INTERSECT, indirect branch tracking, AMX and AVX-512 FP16.
const EXTENDED_EDX_HIDDEN: u32 =
    1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25;
/// Leaf 7.1 EAX: AVX-VNNI, AVX-512 BF16, AMX-FP16, AVX-IFMA.
const EXTENDED_1_EAX_HIDDEN: u32 = 1 << 4 | 1 << 5 | 1 << 21 | 1 << 23;
/// Leaf 0x8000_0001 ECX: XOP, LWP, FMA4.
const AMD_ECX_HIDDEN: u32 = 1 << 11 | 1 << 15 | 1 << 16;

/// CPUID's physical address width, at most what KVM maps for guests.
pub(super) fn phys_bits(supported: &CpuId) -> u32 {
    let sizes = supported
        .as_slice()
        .iter()
        .find(|leaf| leaf.function == LEAF_ADDRESS_SIZES);
    let eax = sizes.map_or(36, |leaf| leaf.eax);
    // Bits 23:16 are KVM's own, narrower width where its page tables can't reach all of it (Linux 6.10).
    match (eax & 0xff, eax >> 16 & 0xff) {
        (bits, 0) => bits,
        (bits, guest_bits) => bits.min(guest_bits),
    }
}

/// Whether programs may read and write their FS and GS base themselves.
pub(super) fn has_fsgsbase(offered: &CpuId) -> bool {
    let features = |leaf: &&kvm_cpuid_entry2| (leaf.function, leaf.index) == (LEAF_EXTENDED_FEATURES, 0);
    offered
        .as_slice()
        .iter()
        .find(features)
        .is_some_and(|leaf| leaf.ebx & EXTENDED_EBX_FSGSBASE != 0)
}

/// What KVM supports without what the guest kernel does not.
pub(super) fn offered(supported: &CpuId) -> Result<CpuId, String> {
    let mut leaves = Vec::new();
    let mut x2apic = false;
    for leaf in supported.as_slice() {
        let mut leaf = *leaf;
        match (leaf.function, leaf.index) {
            (LEAF_FEATURES, _) => {
                leaf.ecx &= !FEATURES_ECX_HIDDEN;
                // KVM emulates it for any guest with an in-kernel LAPIC.
                x2apic = true;
                leaf.ecx |= FEATURES_ECX_X2APIC;
            }
            (LEAF_EXTENDED_FEATURES, 0) => {
                leaf.ebx &= !EXTENDED_EBX_HIDDEN;
                leaf.ecx &= !EXTENDED_ECX_HIDDEN;
                leaf.edx &= !EXTENDED_EDX_HIDDEN;
            }
            (LEAF_EXTENDED_FEATURES, 1) => {
                leaf.eax &= !EXTENDED_1_EAX_HIDDEN;
                leaf.edx = 0;
            }
            (LEAF_AMD_FEATURES, _) => leaf.ecx &= !AMD_ECX_HIDDEN,
            // Programs are not told of XSAVE (leaf 1); KVM is: it keeps for a vCPU what this leaf names (`super::fpu`).
            (LEAF_XSAVE, _) => {}
            (LEAF_AMX_TILES | LEAF_AMX_MULTIPLY | LEAF_AVX10, _) => continue,
            // Rewritten for each vCPU from one entry; AMD's newest is left out, the older leaf says it all.
            (LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2, index) if index > 0 => continue,
            (LEAF_AMD_TOPOLOGY_V2, _) => continue,
            _ => {}
        }
        leaves.push(leaf);
    }
    if !x2apic {
        return Err("CPUID without feature leaf 1".into());
    }
    CpuId::from_entries(&leaves).map_err(|_| format!("{} CPUID leaves do not fit", leaves.len()))
}

/// The offered set as vCPU `index` of `count` sees it: one socket of `count` cores, one thread each.
pub(super) fn of_vcpu(offered: &CpuId, index: u32, count: u32) -> CpuId {
    let mut leaves: Vec<kvm_cpuid_entry2> = Vec::new();
    for leaf in offered.as_slice() {
        let mut leaf = *leaf;
        match leaf.function {
            LEAF_FEATURES => {
                leaf.ebx = leaf.ebx & 0xffff | count << 16 | index << 24;
                leaf.edx = if count > 1 {
                    leaf.edx | FEATURES_EDX_HTT
                } else {
                    leaf.edx & !FEATURES_EDX_HTT
                };
            }
            LEAF_CACHES => {
                let cores = count.next_power_of_two() - 1;
                // Level 3 is shared by all, the others belong to one core.
                let sharing = if leaf.eax >> 5 & 7 == 3 { cores } else { 0 };
                leaf.eax = leaf.eax & 0x3fff | cores << 26 | sharing << 14;
            }
            LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 => {
                let core_bits = count.next_power_of_two().trailing_zeros();
                let level = |number: u32, shift: u32, cpus: u32, kind: u32| kvm_cpuid_entry2 {
                    index: number,
                    eax: shift,
                    ebx: cpus,
                    ecx: number | kind << 8,
                    edx: index,
                    ..leaf
                };
                leaves.extend([
                    level(0, 0, 1, 1),
                    level(1, core_bits, count, 2),
                    level(2, 0, 0, 0),
                ]);
                continue;
            }
            LEAF_ADDRESS_SIZES => {
                let core_bits = count.next_power_of_two().trailing_zeros();
                leaf.ecx = leaf.ecx & !0xf0ff | (count - 1) | core_bits << 12;
            }
            LEAF_AMD_TOPOLOGY => {
                leaf.eax = index;
                leaf.ebx = leaf.ebx & !0xffff | index & 0xff;
                leaf.ecx = 0;
            }
            _ => {}
        }
        leaves.push(leaf);
    }
    CpuId::from_entries(&leaves).unwrap_or_else(|_| offered.clone())
}
