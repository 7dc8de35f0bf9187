// SPDX-License-Identifier: GPL-2.0

//! Why this kernel is no SNP host, and what to change.
//!
//! The kernel has decided so at boot and does not say why. The checks here are the kernel's, in its
//! order: `early_detect_mem_encrypt()`, `bsp_determine_snp()` (arch/x86/kernel/cpu/amd.c),
//! `amd_iommu_detect()`, `iommu_snp_enable()` (drivers/iommu/amd/init.c).

use crate::{
    rmp,
    sys::{
        cc,
        cpu,
        crash_dump,
        iommu, //
    },
};

use kernel::bindings;

/// The first cause, if this kernel is no SNP host.
pub(crate) fn reason() -> Option<&'static str> {
    if cc::is_snp_host() {
        return crash_dump::is_kdump_kernel()
            .then_some("this is a kdump kernel, which leaves SNP as the crashed one set it");
    }
    Some(if !cpu::has_snp() {
        "the CPU has no SEV-SNP"
    } else if cpu::has(bindings::X86_FEATURE_HYPERVISOR) {
        "this is a virtual machine, and SNP is its host's"
    } else if !cpu::has(bindings::X86_FEATURE_SEV) {
        "the BIOS has not enabled SEV; for SNP switch SME and SEV on in its set-up"
    } else if cpu::has(bindings::X86_FEATURE_SEV_SNP) {
        rmp_or_iommu()
    } else {
        snp_cleared()
    })
}

/// The kernel has cleared the feature SEV-SNP of a CPU that has it.
fn snp_cleared() -> &'static str {
    if !rmp::is_reserved() {
        "the BIOS has reserved no memory for the RMP; for SNP switch SNP and its memory coverage \
         on in the BIOS set-up"
    } else if cpu::has_rmpread()
        || cpu::has(bindings::X86_FEATURE_ZEN3)
        || cpu::has(bindings::X86_FEATURE_ZEN4)
    {
        "sev=nosnp is on the kernel command line; for SNP remove it"
    } else {
        "the kernel does not know the RMP of this CPU; for SNP install a newer one"
    }
}

/// The CPUs have SEV-SNP: the RMP or the IOMMU is the cause.
fn rmp_or_iommu() -> &'static str {
    if iommu::snp_enabled() {
        "the kernel has refused the RMP, for the reason in the lines that begin with SEV-SNP"
    } else if iommu::is_passthrough() {
        "the IOMMU lets DMA pass as it is; for SNP remove iommu=pt or iommu.passthrough=1 from the \
         kernel command line"
    } else {
        "the IOMMU is off, or has no SNP; for SNP remove iommu=off or amd_iommu=off from the \
         kernel command line, or switch the IOMMU on in the BIOS set-up"
    }
}
