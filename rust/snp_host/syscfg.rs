// SPDX-License-Identifier: GPL-2.0

//! SYSCFG.SNP_EN and EFER.SVME on all CPUs.

use crate::{
    sys::{
        msr::Msr,
        percpu::PerCpu, //
    },
    window::SnpEn,
};
use kernel::{
    bindings,
    prelude::*, //
};

pub(crate) const SNP_EN: u64 = 1 << bindings::MSR_AMD64_SYSCFG_SNP_EN_BIT;
pub(crate) const VMPL_EN: u64 = 1 << bindings::MSR_AMD64_SYSCFG_SNP_VMPL_EN_BIT;
pub(crate) const MFDM: u64 = 1 << bindings::MSR_AMD64_SYSCFG_MFDM_BIT;

pub(crate) const SYSCFG: Msr = Msr::new(bindings::MSR_AMD64_SYSCFG);

/// A register of one CPU; [`None`] if the CPU does not have it.
pub(crate) type Register = Option<u64>;

/// SYSCFG of every CPU.
pub(crate) type Syscfg = PerCpu<Register>;

impl Syscfg {
    /// Reads SYSCFG, which interrupts every CPU.
    pub(crate) fn read() -> Result<Self> {
        Self::collect(syscfg)
    }

    /// Where SNP_EN is set.
    pub(crate) fn snp_en(&self) -> SnpEn {
        snp_en(self, has_snp_en)
    }
}

/// SYSCFG of this CPU.
pub(crate) fn syscfg() -> Register {
    SYSCFG.read().ok()
}

/// EFER of this CPU.
pub(crate) fn efer() -> Register {
    Msr::new(bindings::MSR_EFER).read().ok()
}

/// Whether SYSCFG has SNP_EN. A CPU without that register has none.
pub(crate) fn has_snp_en(syscfg: &Register) -> bool {
    syscfg.is_some_and(|value| value & SNP_EN != 0)
}

/// Whether EFER.SVME is set: KVM then relies on the host save area at VM_HSAVE_PA.
pub(crate) fn uses_svm(efer: &Register) -> bool {
    efer.is_some_and(|value| value & u64::from(bindings::EFER_SVME) != 0)
}

/// Where SNP_EN is set, by this test of a CPU's registers.
pub(crate) fn snp_en<T>(cpus: &PerCpu<T>, has_snp_en: impl Fn(&T) -> bool) -> SnpEn {
    if cpus.passing(&has_snp_en).is_empty() {
        SnpEn::Nowhere
    } else if cpus.failing(&has_snp_en).is_empty() {
        SnpEn::Everywhere
    } else {
        SnpEn::Somewhere
    }
}
