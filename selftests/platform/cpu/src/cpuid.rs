// SPDX-License-Identifier: GPL-2.0
//! CPUID leaves that differ from what TCG answers for `-cpu EPYC-Milan`.
//!
//! Source of the bits: words 15 and 19 of arch/x86/include/asm/cpufeatures.h. What Linux makes of
//! them: arch/x86/kernel/cpu/amd.c (early_detect_mem_encrypt, bsp_determine_snp) and
//! arch/x86/kvm/svm/sev.c (sev_hardware_setup). Beyond what kvm-amd insists on, a feature without
//! a model is not announced.

use crate::variant::Segments;

/// Width of a physical address, which QEMU must be told with `phys-bits=`: the C-bit is the top
/// one, so that TCG's page walks take it for an address bit instead of a reserved one.
pub const PHYS_BITS: u32 = 52;
/// How many address bits there are with encryption on, as EPYCs have it: those between are reserved
/// but for the C-bit. Linux needs such bits: KVM marks emulated devices with them
/// (`svm_adjust_mmio_mask`), and does without SEV-ES if there are none. To TCG they are address
/// bits; the model refuses them ([`crate::guest::walk`]).
pub const REDUCED_PHYS_BITS: u32 = 47;

/// What a leaf returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// "Encrypted memory capabilities".
pub const ENCRYPTED_MEMORY: u32 = 0x8000_001f;
/// "Segmented RMP".
pub const SEGMENTED_RMP: u32 = 0x8000_0025;
/// "SVM features".
pub const SVM: u32 = 0x8000_000a;

// 8000001F EAX
const SME: u32 = 1 << 0;
const SEV: u32 = 1 << 1;
const SEV_ES: u32 = 1 << 3;
const SEV_SNP: u32 = 1 << 4;
const VMPL: u32 = 1 << 5;
/// Hardware keeps caches coherent over encryption, so software need not flush.
const COHERENT: u32 = 1 << 10;
const RMPREAD: u32 = 1 << 21;
const SEGMENTS: u32 = 1 << 23;

// 8000001F EBX
pub const C_BIT: u32 = PHYS_BITS - 1;
const PHYS_REDUCTION: u32 = (PHYS_BITS - REDUCED_PHYS_BITS) << 6;
/// The number of VMPLs, 4 as on every part so far.
const VMPLS: u32 = 4 << 12;

/// ASIDs for encrypted guests: 1 to this one. Few, so that tests can use them all up.
pub const ASIDS: u32 = 100;
/// The first ASID for guests without SEV-ES; SEV-ES and SNP guests have those below.
pub const MIN_SEV_ASID: u32 = 50;

// 80000025: EAX 5:0 and 11:6 are the logarithms of the smallest and largest segment, EBX 9:0 is how
// many segments the processor caches, and bit 10 says that there can be no more.
const SEGMENT_SHIFTS: u32 = 30 | (40 << 6);
const CACHED_SEGMENTS: u32 = 16;
const HARD_LIMIT: u32 = 1 << 10;

// 8000000A EDX
const NESTED_PAGING: u32 = 1 << 0;
const LBR_VIRTUALISATION: u32 = 1 << 1;
const NRIP_SAVE: u32 = 1 << 3;
const FLUSH_BY_ASID: u32 = 1 << 6;
const DECODE_ASSISTS: u32 = 1 << 7;
const VIRTUAL_GIF: u32 = 1 << 16;
/// VMRUN and friends check their address operand.
const SVME_ADDRESS_CHECK: u32 = 1 << 28;

/// The answer for `leaf`, if it is not TCG's own. None of these leaves has sub-leaves.
pub fn leaf(leaf: u32, rmpread: bool, segments: Option<Segments>) -> Option<Leaf> {
    match leaf {
        ENCRYPTED_MEMORY => Some(Leaf {
            eax: [SME, SEV, SEV_ES, SEV_SNP, VMPL, COHERENT]
                .into_iter()
                .fold(0, |all, bit| all | bit)
                | if rmpread { RMPREAD } else { 0 }
                | if segments.is_some() { SEGMENTS } else { 0 },
            ebx: C_BIT | PHYS_REDUCTION | VMPLS,
            ecx: ASIDS,
            edx: MIN_SEV_ASID,
        }),
        SEGMENTED_RMP => Some(match segments {
            Some(Segments { limit, .. }) => Leaf {
                eax: SEGMENT_SHIFTS,
                ebx: limit.map_or(CACHED_SEGMENTS, |limit| HARD_LIMIT | limit),
                ecx: 0,
                edx: 0,
            },
            None => Leaf { eax: 0, ebx: 0, ecx: 0, edx: 0 },
        }),
        // TCG has NPT, VGIF and the address check with 16 ASIDs. kvm-amd refuses SEV without
        // decode assists, LBR virtualisation and NRIP save, and warns without flush by ASID.
        SVM => Some(Leaf {
            eax: 1,
            ebx: 0x8000,
            ecx: 0,
            edx: NESTED_PAGING
                | LBR_VIRTUALISATION
                | NRIP_SAVE
                | FLUSH_BY_ASID
                | DECODE_ASSISTS
                | VIRTUAL_GIF
                | SVME_ADDRESS_CHECK,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_change_their_own_bits_alone() {
        let usual = leaf(ENCRYPTED_MEMORY, false, None).unwrap();
        let segments = |limit| Some(Segments { shift: Some(31), limit });
        let offered = Some(Segments { shift: None, limit: None });
        let rows = [
            (ENCRYPTED_MEMORY, true, None, Leaf { eax: usual.eax ^ RMPREAD, ..usual }),
            (ENCRYPTED_MEMORY, false, segments(None), Leaf { eax: usual.eax ^ SEGMENTS, ..usual }),
            (ENCRYPTED_MEMORY, false, offered, Leaf { eax: usual.eax ^ SEGMENTS, ..usual }),
            (SEGMENTED_RMP, true, None, Leaf { eax: 0, ebx: 0, ecx: 0, edx: 0 }),
        ];
        for (number, rmpread, segments, expected) in rows {
            assert_eq!(leaf(number, rmpread, segments), Some(expected), "leaf {number:#x}");
        }
        let limited = leaf(SEGMENTED_RMP, false, segments(Some(2))).unwrap();
        assert_eq!(limited.ebx, HARD_LIMIT | 2);
        assert_eq!(leaf(SEGMENTED_RMP, false, segments(None)).unwrap().ebx & HARD_LIMIT, 0);
    }

    #[test]
    fn other_leaves_are_tcgs() {
        for number in [0, 1, 0x8000_0000, 0x8000_001e, 0x8000_0020, 0x8000_0026] {
            assert_eq!(leaf(number, true, Some(Segments { shift: Some(31), limit: None })), None);
        }
    }
}
