// SPDX-License-Identifier: GPL-2.0
//! The MSRs of an SNP host that TCG does not have. (It answers 0 to an unknown RDMSR and ignores
//! an unknown WRMSR, without #GP.) Their values lie in the link page, where the PSP model reads
//! them and clears SNP_EN.
//!
//! Sources: arch/x86/include/asm/msr-index.h for numbers and bits, arch/x86/virt/svm/sev.c for the
//! order in which Linux uses them, and public notes on the AMD64 manual (volume 2, section 15.36)
//! for the rules. Where those are silent the comment says "model choice".

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use link::{Cpu, SNP_EN};
use rmp::Geometry;

use crate::cpuid::PHYS_BITS;

/// SYSCFG bit 19, MtrrFixDramModEn (MFDM): fixed MTRRs' RdMem and WrMem are visible.
pub const MFDM: u64 = 1 << 19;
/// SYSCFG bit 23: SME may be used. Set by firmware on a machine that is to run SEV.
pub const MEM_ENCRYPT: u64 = 1 << 23;
/// SYSCFG bit 25: VMPLs in use.
pub const VMPL_EN: u64 = 1 << 25;
/// What SYSCFG holds: 18 to 22 are the MTRR and TOM2 switches, 23 to 26 the encryption ones. That
/// other bits stay 0 is a model choice.
const SYSCFG_BITS: u64 = 0x1ff << 18;

/// HWCR bit 0: SMM is locked until reset. Linux takes SEV away if firmware left it open.
const SMM_LOCK: u64 = 1 << 0;
/// HWCR bit 24: the TSC counts at the P0 frequency. Linux calls it a firmware bug if not.
const TSC_AT_P0: u64 = 1 << 24;

/// An MSR that the model has rules for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Msr {
    /// System configuration: the switches for SME and SNP.
    Syscfg,
    /// Hardware configuration.
    Hwcr,
    /// Where VMRUN saves host state. TCG has this one; the model only takes a copy.
    VmHsavePa,
    /// First byte of the RMP.
    RmpBase,
    /// Last byte of the RMP.
    RmpEnd,
    /// Segmented RMP. Not modelled: reads as 0 (by TCG), can only be written with 0.
    RmpCfg,
}

impl Msr {
    /// Every MSR with its number and its name, in the order of the enum.
    pub const ALL: [(Msr, u32, &'static str); 6] = [
        (Msr::Syscfg, 0xc001_0010, "SYSCFG"),
        (Msr::Hwcr, 0xc001_0015, "HWCR"),
        (Msr::VmHsavePa, 0xc001_0117, "VM_HSAVE_PA"),
        (Msr::RmpBase, 0xc001_0132, "RMP_BASE"),
        (Msr::RmpEnd, 0xc001_0133, "RMP_END"),
        (Msr::RmpCfg, 0xc001_0136, "RMP_CFG"),
    ];

    /// The MSR that ECX selects.
    pub fn from_number(number: u32) -> Option<Msr> {
        Self::ALL.iter().find(|row| row.1 == number).map(|row| row.0)
    }
}

/// What becomes of a WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// TCG executes it.
    Native,
    /// Executed.
    Done,
    /// The register is locked; the write has no effect.
    Ignored,
    /// #GP(0).
    Fault,
}

/// Power-on and reset: what firmware leaves for the operating system. INIT changes none of it.
///
/// `snp_en` gives the state that a kernel finds which was started by kexec from an SNP host.
pub fn reset(cpu: &Cpu, rmp: &Geometry, snp_en: bool) {
    let snp = if snp_en { MFDM | SNP_EN | VMPL_EN } else { 0 };
    cpu.syscfg.store(MEM_ENCRYPT | snp, Relaxed);
    cpu.hwcr.store(SMM_LOCK | TSC_AT_P0, Relaxed);
    cpu.hsave_pa.store(0, Relaxed);
    cpu.rmp_base.store(rmp.base(), Relaxed);
    cpu.rmp_end.store(rmp.end(), Relaxed);
    cpu.present.store(1, Release);
}

/// RDMSR; none for an MSR that TCG answers itself.
pub fn read(msr: Msr, cpu: &Cpu) -> Option<u64> {
    match msr {
        Msr::Syscfg => Some(cpu.syscfg.load(Acquire)),
        Msr::Hwcr => Some(cpu.hwcr.load(Relaxed)),
        Msr::RmpBase => Some(cpu.rmp_base.load(Relaxed)),
        Msr::RmpEnd => Some(cpu.rmp_end.load(Relaxed)),
        Msr::VmHsavePa | Msr::RmpCfg => None,
    }
}

/// WRMSR. `assigned` tells whether the RMP gives the page of an address to somebody else.
pub fn write(msr: Msr, value: u64, cpu: &Cpu, assigned: impl Fn(u64) -> bool) -> Written {
    let snp = cpu.syscfg.load(Acquire) & SNP_EN != 0;
    match msr {
        Msr::Syscfg => write_syscfg(value, cpu),
        Msr::Hwcr => {
            let lock = cpu.hwcr.load(Relaxed) & SMM_LOCK;
            cpu.hwcr.store(value | lock, Relaxed);
            Written::Done
        }
        // A page of somebody else's cannot take the host's state.
        Msr::VmHsavePa if snp && assigned(value) => Written::Fault,
        Msr::VmHsavePa => {
            // Others raise #GP in TCG.
            if value % 4096 == 0 && value >> PHYS_BITS == 0 {
                cpu.hsave_pa.store(value, Release);
            }
            Written::Native
        }
        // Firmware has placed the RMP and reserved its memory: elsewhere it cannot be. That a
        // write faults is a model choice; nobody should miss it.
        Msr::RmpBase => only(value, cpu.rmp_base.load(Relaxed)),
        Msr::RmpEnd => only(value, cpu.rmp_end.load(Relaxed)),
        Msr::RmpCfg if snp => Written::Fault,
        Msr::RmpCfg => only(value, 0),
    }
}

fn only(value: u64, current: u64) -> Written {
    if value == current {
        Written::Done
    } else {
        Written::Fault
    }
}

/// Once SNP_EN is set, writes have no effect: not even MFDM can be cleared until firmware has
/// cleared SNP_EN (X86_SNP_SHUTDOWN).
fn write_syscfg(value: u64, cpu: &Cpu) -> Written {
    // One step, because the PSP model clears SNP_EN from its own process.
    let stored = cpu
        .syscfg
        .fetch_update(Release, Acquire, |old| (old & SNP_EN == 0).then_some(value & SYSCFG_BITS));
    match stored {
        Ok(_) => Written::Done,
        Err(_) => Written::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x3800_0000;
    const END: u64 = 0x38ff_ffff;

    fn fresh() -> Cpu {
        // SAFETY: a Cpu consists of atomics; all-zero bytes are a value of each.
        let cpu: Cpu = unsafe { std::mem::zeroed() };
        reset(&cpu, &Geometry::new(BASE, END).unwrap(), false);
        cpu
    }

    fn with_snp() -> Cpu {
        let cpu = fresh();
        cpu.syscfg.fetch_or(MFDM | SNP_EN | VMPL_EN, Relaxed);
        cpu
    }

    #[test]
    fn numbers_lead_to_their_rows() {
        for (n, (msr, number, name)) in Msr::ALL.iter().enumerate() {
            assert_eq!(*msr as usize, n, "{name}");
            assert_eq!(Msr::from_number(*number), Some(*msr), "{name}");
        }
        assert_eq!(Msr::from_number(0xc001_0131), None);
    }

    #[test]
    fn firmware_leaves_a_machine_that_linux_accepts() {
        let cpu = fresh();
        assert_eq!(cpu.present.load(Relaxed), 1);
        assert_eq!(read(Msr::Syscfg, &cpu), Some(0x0080_0000));
        assert_eq!(read(Msr::Hwcr, &cpu), Some(0x0100_0001));
        assert_eq!(read(Msr::RmpBase, &cpu), Some(BASE));
        assert_eq!(read(Msr::RmpEnd, &cpu), Some(END));
        assert_eq!(read(Msr::VmHsavePa, &cpu), None);
    }

    /// The steps of snp_prepare() and snp_shutdown() in arch/x86/virt/svm/sev.c.
    #[test]
    fn linux_switches_snp_on_and_firmware_switches_it_off() {
        let cpu = fresh();
        let write = |value| write(Msr::Syscfg, value, &cpu, |_| false);
        assert_eq!(write(0x0088_0000), Written::Done);
        assert_eq!(write(0x0388_0000), Written::Done);
        assert_eq!(write(0x0280_0000), Written::Ignored, "SNP_EN is write-1-only");
        assert_eq!(write(0x0380_0000), Written::Ignored, "MFDM stays as long as SNP_EN");
        assert_eq!(read(Msr::Syscfg, &cpu), Some(0x0388_0000));
        cpu.syscfg.fetch_and(!SNP_EN, Relaxed);
        assert_eq!(write(0x0280_0000), Written::Done);
        assert_eq!(read(Msr::Syscfg, &cpu), Some(0x0280_0000));
    }

    #[test]
    fn reserved_bits_of_syscfg_stay_zero() {
        let cpu = fresh();
        assert_eq!(write(Msr::Syscfg, !SNP_EN, &cpu, |_| false), Written::Done);
        assert_eq!(read(Msr::Syscfg, &cpu), Some(0x06fc_0000));
    }

    #[test]
    fn smm_cannot_be_unlocked() {
        let cpu = fresh();
        assert_eq!(write(Msr::Hwcr, 1 << 30, &cpu, |_| false), Written::Done);
        assert_eq!(read(Msr::Hwcr, &cpu), Some(0x4000_0001));
    }

    /// Name, MSR, CPU, value, whether its page is assigned, what becomes of the write.
    type Row = (&'static str, Msr, fn() -> Cpu, u64, bool, Written);

    #[test]
    fn write_rules() {
        let rows: &[Row] = &[
            ("hsave", Msr::VmHsavePa, fresh, 0x7000, true, Written::Native),
            ("hsave, ours", Msr::VmHsavePa, with_snp, 0x7000, false, Written::Native),
            ("hsave, a guest's", Msr::VmHsavePa, with_snp, 0x7000, true, Written::Fault),
            ("base, the same", Msr::RmpBase, fresh, BASE, false, Written::Done),
            ("base, another", Msr::RmpBase, fresh, 0, false, Written::Fault),
            ("end, another", Msr::RmpEnd, with_snp, 0, false, Written::Fault),
            ("cfg, off", Msr::RmpCfg, fresh, 0, false, Written::Done),
            ("cfg, segmented", Msr::RmpCfg, fresh, 0x2401, false, Written::Fault),
            ("cfg, late", Msr::RmpCfg, with_snp, 0, false, Written::Fault),
        ];
        for (name, msr, cpu, value, assigned, expected) in rows {
            assert_eq!(write(*msr, *value, &cpu(), |_| *assigned), *expected, "{name}");
        }
    }

    #[test]
    fn hsave_is_copied_only_if_tcg_takes_it() {
        let cpu = fresh();
        for (value, copy) in [(0x7000, 0x7000), (0x8001, 0x7000), (1 << 49, 0x7000), (0, 0)] {
            write(Msr::VmHsavePa, value, &cpu, |_| false);
            assert_eq!(cpu.hsave_pa.load(Relaxed), copy, "{value:#x}");
        }
    }

    #[test]
    fn a_kexeced_kernel_finds_snp_on() {
        let cpu = fresh();
        reset(&cpu, &Geometry::new(BASE, END).unwrap(), true);
        assert_eq!(read(Msr::Syscfg, &cpu), Some(0x0388_0000));
    }
}
