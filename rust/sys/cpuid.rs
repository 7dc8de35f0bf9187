// SPDX-License-Identifier: GPL-2.0

//! The features of SNP in CPUID.
//!
//! C header: `arch/x86/include/asm/cpufeatures.h`; leaf 0x80000025 as arch/x86/virt/svm/sev.c reads
//! it.

use core::arch::x86_64::{
    CpuidResult,
    __cpuid, //
};

/// A leaf of CPUID; zeros if the CPU does not have it.
fn leaf(number: u32) -> CpuidResult {
    // SAFETY: Every CPU in long mode has CPUID, and this leaf.
    let highest = unsafe { __cpuid(0x8000_0000) }.eax;
    if highest < number {
        return CpuidResult {
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
        };
    }
    // SAFETY: As above; the leaf exists.
    unsafe { __cpuid(number) }
}

/// Whether the CPU has SEV-SNP, enabled or not (leaf 0x8000001f, EAX bit 4).
pub fn has_snp() -> bool {
    leaf(0x8000_001f).eax & 1 << 4 != 0
}

/// Whether RMP_CFG exists and the RMP may be segmented (leaf 0x8000001f, EAX bit 23).
pub fn has_segmented_rmp() -> bool {
    leaf(0x8000_001f).eax & 1 << 23 != 0
}

/// Whether there is the instruction RMPREAD (leaf 0x8000001f, EAX bit 21).
pub fn has_rmpread() -> bool {
    leaf(0x8000_001f).eax & 1 << 21 != 0
}

/// EAX and EBX of leaf 0x80000025: which segment sizes and how many segments the RMP may have.
pub fn rmp_segments() -> (u32, u32) {
    let CpuidResult { eax, ebx, .. } = leaf(0x8000_0025);
    (eax, ebx)
}
