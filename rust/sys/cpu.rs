// SPDX-License-Identifier: GPL-2.0

//! Caches, identity and features of the CPUs.
//!
//! C header: `arch/x86/include/asm/cpufeatures.h`; leaf 0x80000025 of CPUID as
//! arch/x86/virt/svm/sev.c reads it.

use core::arch::x86_64::{
    CpuidResult,
    __cpuid, //
};
use kernel::bindings;

/// Writes the caches of all online CPUs back and invalidates them. Sleeps.
pub(crate) fn wbinvd_on_all() {
    // SAFETY: May be called in any context that allows cross calls.
    unsafe { bindings::wbinvd_on_all_cpus() };
}

/// Writes the caches of this CPU back and invalidates them.
pub(crate) fn wbinvd_local() {
    // SAFETY: WBINVD changes no memory and no register. In ring 0 it does not fault on any CPU that
    // has SEV.
    unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Whether the boot CPU has a feature (`X86_FEATURE_*`) that neither BIOS nor kernel has disabled.
pub(crate) fn has(feature: u32) -> bool {
    // SAFETY: `boot_cpu_data` does not change after boot; the words are plain integers in every
    // variant of the union.
    let words = unsafe { bindings::boot_cpu_data.__bindgen_anon_3.x86_capability };
    words
        .get((feature / 32) as usize)
        .is_some_and(|word| word & (1 << (feature % 32)) != 0)
}

/// Family and model as CPUID gives them.
pub(crate) fn family_model() -> (u8, u8) {
    // SAFETY: `boot_cpu_data` does not change after boot; both fields are plain bytes.
    let id = unsafe { bindings::boot_cpu_data.__bindgen_anon_1.__bindgen_anon_1 };
    (id.x86, id.x86_model)
}

/// A leaf of CPUID; zeros if the CPU does not have it.
pub(crate) fn leaf(number: u32) -> CpuidResult {
    #[cfg(CONFIG_KUNIT = "y")]
    if let Some(leaf) = super::fake_cpuid::leaf(number) {
        return leaf;
    }
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

/// The bit of a physical address that selects encryption, also where the kernel does not use it
/// (leaf 0x8000001f, EBX bits 5:0); 0 if the CPU has none.
pub(crate) fn c_bit() -> u64 {
    match leaf(0x8000_001f).ebx & 0x3f {
        0 => 0,
        bit => 1 << bit,
    }
}

/// Whether the CPU has SEV-SNP, enabled or not (leaf 0x8000001f, EAX bit 4).
pub(crate) fn has_snp() -> bool {
    leaf(0x8000_001f).eax & 1 << 4 != 0
}

/// The last ASID of guests with encrypted memory, and the first one that is for guests of SEV
/// without SEV-ES (leaf 0x8000001f, ECX and EDX).
pub(crate) fn sev_asids() -> (u32, u32) {
    let CpuidResult { ecx, edx, .. } = leaf(0x8000_001f);
    (ecx, edx)
}

/// Whether RMP_CFG exists and the RMP may be segmented (leaf 0x8000001f, EAX bit 23).
pub(crate) fn has_segmented_rmp() -> bool {
    leaf(0x8000_001f).eax & 1 << 23 != 0
}

/// Whether there is the instruction RMPREAD (leaf 0x8000001f, EAX bit 21).
pub(crate) fn has_rmpread() -> bool {
    leaf(0x8000_001f).eax & 1 << 21 != 0
}

/// EAX and EBX of leaf 0x80000025: which segment sizes and how many segments the RMP may have.
pub(crate) fn rmp_segments() -> (u32, u32) {
    let CpuidResult { eax, ebx, .. } = leaf(0x8000_0025);
    (eax, ebx)
}
