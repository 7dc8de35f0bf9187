// SPDX-License-Identifier: GPL-2.0

//! The preflight: compares the registers of all CPUs that firmware compares in SNP_INIT.
//!
//! Firmware answers SNP_INIT with INVALID_CONFIG if CPUs are set up differently, and does not say
//! in which register. There is no complete public list of registers; [`compare::Rule`] says how
//! certain each row is.

use crate::{
    compare::{
        self,
        Difference,
        Register,
        Rule::{
            Refuse,
            Repair,
            Warn, //
        },
        Values, //
    },
    sys::{
        errno::EOPNOTSUPP,
        log,
        msr::Msr,
        percpu::{
            CpuList,
            PerCpu, //
        },
    },
    syscfg,
    window::SnpEn,
};
use kernel::{
    bindings,
    cpu::CpuId,
    prelude::*,
    str::CString, //
};

/// All of a register, or a bit of it.
macro_rules! bits {
    () => {
        !0
    };
    ($bit:expr) => {
        1 << $bit
    };
}

macro_rules! table {
    ($($rule:ident $name:literal = $msr:expr $(, bit $bit:expr)?;)*) => {
        const COUNT: usize = [$($name),*].len();

        const TABLE: [Register; COUNT] = [$(
            Register {
                name: $name,
                msr: $msr,
                bits: bits!($($bit)?),
                rule: $rule,
            },
        )*];
    };
}

/// The numbers without a name in the kernel: variable MTRRs from 0x200 on
/// (arch/x86/include/asm/msr-index.h, `MTRRphysBase_MSR()`), IORRs from 0xc0010016 on (AMD64
/// Architecture Programmer's Manual volume 2, appendix A).
const VARIABLE_MTRR: u32 = 0x200;
const IORR: u32 = 0xc001_0016;

// SNP cannot work on CPUs with different RMPs, which would enforce different rules.
table! {
    Refuse "RMP_BASE" = bindings::MSR_AMD64_RMP_BASE;
    Refuse "RMP_END" = bindings::MSR_AMD64_RMP_END;
    Refuse "RMP_CFG" = bindings::MSR_AMD64_RMP_CFG;
    Warn "SYSCFG.MEM_ENCRYPT" = bindings::MSR_AMD64_SYSCFG,
        bit bindings::MSR_AMD64_SYSCFG_MEM_ENCRYPT_BIT;
    Repair "SYSCFG.MFDM" = bindings::MSR_AMD64_SYSCFG,
        bit bindings::MSR_AMD64_SYSCFG_MFDM_BIT;
    Repair "SYSCFG.SNP_EN" = bindings::MSR_AMD64_SYSCFG,
        bit bindings::MSR_AMD64_SYSCFG_SNP_EN_BIT;
    Repair "SYSCFG.VMPL_EN" = bindings::MSR_AMD64_SYSCFG,
        bit bindings::MSR_AMD64_SYSCFG_SNP_VMPL_EN_BIT;
    Warn "HWCR.SMMLOCK" = bindings::MSR_K7_HWCR, bit bindings::MSR_K7_HWCR_SMMLOCK_BIT;
    Warn "TOM" = bindings::MSR_K8_TOP_MEM1;
    Warn "TOM2" = bindings::MSR_K8_TOP_MEM2;
    Warn "IORRBase0" = IORR;
    Warn "IORRMask0" = IORR + 1;
    Warn "IORRBase1" = IORR + 2;
    Warn "IORRMask1" = IORR + 3;
    Warn "MTRRdefType" = bindings::MSR_MTRRdefType;
    Warn "MTRRfix64K_00000" = bindings::MSR_MTRRfix64K_00000;
    Warn "MTRRfix16K_80000" = bindings::MSR_MTRRfix16K_80000;
    Warn "MTRRfix16K_A0000" = bindings::MSR_MTRRfix16K_A0000;
    Warn "MTRRfix4K_C0000" = bindings::MSR_MTRRfix4K_C0000;
    Warn "MTRRfix4K_C8000" = bindings::MSR_MTRRfix4K_C8000;
    Warn "MTRRfix4K_D0000" = bindings::MSR_MTRRfix4K_D0000;
    Warn "MTRRfix4K_D8000" = bindings::MSR_MTRRfix4K_D8000;
    Warn "MTRRfix4K_E0000" = bindings::MSR_MTRRfix4K_E0000;
    Warn "MTRRfix4K_E8000" = bindings::MSR_MTRRfix4K_E8000;
    Warn "MTRRfix4K_F0000" = bindings::MSR_MTRRfix4K_F0000;
    Warn "MTRRfix4K_F8000" = bindings::MSR_MTRRfix4K_F8000;
    Warn "MTRRphysBase0" = VARIABLE_MTRR;
    Warn "MTRRphysMask0" = VARIABLE_MTRR + 1;
    Warn "MTRRphysBase1" = VARIABLE_MTRR + 2;
    Warn "MTRRphysMask1" = VARIABLE_MTRR + 3;
    Warn "MTRRphysBase2" = VARIABLE_MTRR + 4;
    Warn "MTRRphysMask2" = VARIABLE_MTRR + 5;
    Warn "MTRRphysBase3" = VARIABLE_MTRR + 6;
    Warn "MTRRphysMask3" = VARIABLE_MTRR + 7;
    Warn "MTRRphysBase4" = VARIABLE_MTRR + 8;
    Warn "MTRRphysMask4" = VARIABLE_MTRR + 9;
    Warn "MTRRphysBase5" = VARIABLE_MTRR + 10;
    Warn "MTRRphysMask5" = VARIABLE_MTRR + 11;
    Warn "MTRRphysBase6" = VARIABLE_MTRR + 12;
    Warn "MTRRphysMask6" = VARIABLE_MTRR + 13;
    Warn "MTRRphysBase7" = VARIABLE_MTRR + 14;
    Warn "MTRRphysMask7" = VARIABLE_MTRR + 15;
}

/// The registers of one CPU.
struct Registers {
    table: Values<COUNT>,
    syscfg: syscfg::Register,
    efer: syscfg::Register,
}

impl AsRef<Values<COUNT>> for Registers {
    fn as_ref(&self) -> &Values<COUNT> {
        &self.table
    }
}

/// The registers of all CPUs.
pub(crate) struct Preflight(PerCpu<Registers>);

impl Preflight {
    /// Reads the registers, in one round of interrupts.
    pub(crate) fn read() -> Result<Self> {
        let cpus = PerCpu::collect(|| Registers {
            table: TABLE
                .each_ref()
                .map(|register| Msr::new(register.msr).read().ok()),
            syscfg: syscfg::syscfg(),
            efer: syscfg::efer(),
        })?;
        Ok(Self(cpus))
    }

    /// Where SNP_EN is set.
    pub(crate) fn snp_en(&self) -> SnpEn {
        syscfg::snp_en(&self.0, |cpu| syscfg::has_snp_en(&cpu.syscfg))
    }

    /// The CPUs that use SVM.
    pub(crate) fn using_svm(&self) -> CpuList<impl Fn(CpuId) -> bool + '_> {
        self.0.passing(|cpu| syscfg::uses_svm(&cpu.efer))
    }

    /// Logs where CPUs differ, and adds to `warnings` what firmware may refuse.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if SNP cannot work with that difference; [`ENOMEM`].
    pub(crate) fn compare(&self, warnings: &mut KVec<CString>) -> Result {
        let mut verdict = Ok(());
        for difference in compare::differences(&TABLE, self.0.as_slice()) {
            let text = self.describe(&difference)?;
            match difference.register.rule {
                Refuse => {
                    log::err!(
                        "cpus-unequal",
                        "SNP stays off: {text}; look for a newer BIOS",
                        text = &*text
                    );
                    verdict = Err(EOPNOTSUPP);
                }
                Warn => {
                    log::warn!(
                        "cpus-differ",
                        "{text}; firmware may refuse SNP_INIT for that",
                        text = &*text
                    );
                    warnings.push(text, GFP_KERNEL)?;
                }
                Repair => log::notice!(
                    "cpus-repaired",
                    "{text}; writing it on all CPUs",
                    text = &*text
                ),
            }
        }
        verdict
    }

    fn describe(&self, difference: &Difference<'_>) -> Result<CString> {
        let name = difference.register.name;
        let (first, value) = difference.first;
        let (other, differing) = difference.other;
        let differ = self.0.passing(|cpu| difference.concerns(&cpu.table));
        CString::try_from_fmt(fmt!(
            "{name} is {value:#x} on CPU {first}, but not on CPUs {differ} \
             ({differing:#x} on CPU {other})"
        ))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
