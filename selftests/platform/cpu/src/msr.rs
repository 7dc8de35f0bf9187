// SPDX-License-Identifier: GPL-2.0
//! The MSRs of an SNP host that TCG does not have. (It answers 0 to an unknown RDMSR and ignores
//! an unknown WRMSR, without #GP.) Their values lie in the link page, where the PSP model reads
//! them and clears SNP_EN.
//!
//! Sources: arch/x86/include/asm/msr-index.h for numbers and bits, arch/x86/virt/svm/sev.c for the
//! order in which Linux uses them, and public notes on the AMD64 manual (volume 2, section 15.36)
//! for the rules. Where those are silent the comment says "model choice".

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use link::{Cpu, CONFIG_MSRS, SNP_EN};
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
    /// Segmented RMP.
    RmpCfg,
    /// An MSR of [`CONFIG_MSRS`] that TCG has: an MTRR. The model only takes a copy.
    Mtrr,
    /// One that TCG does not have: IORRs, TOP_MEM.
    Memory,
}

impl Msr {
    /// Every MSR with its number and its name, in the order of the enum. The last two are those of
    /// [`CONFIG_MSRS`].
    pub const ALL: [(Msr, u32, &'static str); 8] = [
        (Msr::Syscfg, 0xc001_0010, "SYSCFG"),
        (Msr::Hwcr, 0xc001_0015, "HWCR"),
        (Msr::VmHsavePa, 0xc001_0117, "VM_HSAVE_PA"),
        (Msr::RmpBase, 0xc001_0132, "RMP_BASE"),
        (Msr::RmpEnd, 0xc001_0133, "RMP_END"),
        (Msr::RmpCfg, 0xc001_0136, "RMP_CFG"),
        (Msr::Mtrr, 0, "MTRR"),
        (Msr::Memory, 0, "IORR/TOP_MEM"),
    ];

    /// The MSR that ECX selects.
    pub fn from_number(number: u32) -> Option<Msr> {
        match config(number) {
            Some(_) if number < 0x1000 => Some(Msr::Mtrr),
            Some(_) => Some(Msr::Memory),
            None => Self::ALL[..6].iter().find(|row| row.1 == number).map(|row| row.0),
        }
    }
}

/// The place of an MSR in [`CONFIG_MSRS`].
fn config(number: u32) -> Option<usize> {
    CONFIG_MSRS.iter().position(|row| row.0 == number)
}

/// The number of an MSR that the model has a place for, by its name or by its number in
/// hexadecimal.
pub fn number(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let named = Msr::ALL[..6].iter().map(|row| (row.1, row.2)).chain(CONFIG_MSRS);
    named.into_iter().find(|row| row.1 == text || Some(row.0) == hex).map(|row| row.0)
}

/// Where the value of an MSR lies that the model knows.
pub fn place(number: u32, cpu: &Cpu) -> Option<&AtomicU64> {
    match Msr::from_number(number)? {
        Msr::Syscfg => Some(&cpu.syscfg),
        Msr::Hwcr => Some(&cpu.hwcr),
        Msr::VmHsavePa => Some(&cpu.hsave_pa),
        Msr::RmpBase => Some(&cpu.rmp_base),
        Msr::RmpEnd => Some(&cpu.rmp_end),
        Msr::RmpCfg => Some(&cpu.rmp_cfg),
        Msr::Mtrr | Msr::Memory => config(number).map(|n| &cpu.config[n]),
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

/// Power-on and reset: what firmware leaves for the operating system, with RAM up to `low` below 4
/// GiB. INIT changes none of it.
///
/// `snp_en` gives the state that a kernel finds which was started by kexec from an SNP host.
pub fn reset(cpu: &Cpu, rmp: &Geometry, low: u64, snp_en: bool) {
    let snp = if snp_en { MFDM | SNP_EN | VMPL_EN } else { 0 };
    cpu.syscfg.store(MEM_ENCRYPT | snp, Relaxed);
    cpu.hwcr.store(SMM_LOCK | TSC_AT_P0, Relaxed);
    cpu.hsave_pa.store(0, Relaxed);
    cpu.rmp_base.store(rmp.base(), Relaxed);
    cpu.rmp_end.store(rmp.end(), Relaxed);
    cpu.rmp_cfg.store(rmp.cfg(), Relaxed);
    for (value, (_, name)) in cpu.config.iter().zip(CONFIG_MSRS) {
        value.store(if name == "TOP_MEM" { low } else { 0 }, Relaxed);
    }
    cpu.present.store(1, Release);
}

/// RDMSR; none for an MSR that TCG answers itself.
pub fn read(number: u32, cpu: &Cpu) -> Option<u64> {
    match Msr::from_number(number)? {
        Msr::VmHsavePa | Msr::Mtrr => None,
        _ => place(number, cpu).map(|value| value.load(Acquire)),
    }
}

/// WRMSR. `assigned` tells whether the RMP gives the page of an address to somebody else.
pub fn write(number: u32, value: u64, cpu: &Cpu, assigned: impl Fn(u64) -> bool) -> Written {
    let (Some(msr), Some(place)) = (Msr::from_number(number), place(number, cpu)) else {
        return Written::Native;
    };
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
        Msr::RmpCfg => only(value, cpu.rmp_cfg.load(Relaxed)),
        Msr::Mtrr => {
            place.store(value, Release);
            Written::Native
        }
        Msr::Memory => {
            place.store(value, Release);
            Written::Done
        }
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
        reset(&cpu, &Geometry::new(BASE, END).unwrap(), 2 << 30, false);
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
            assert!(*number == 0 || Msr::from_number(*number) == Some(*msr), "{name}");
        }
        assert_eq!(Msr::from_number(0xc001_0131), None);
        let rows = [
            ("MTRR_DEF_TYPE", 0x2ff, Some(Msr::Mtrr)),
            ("TOP_MEM2", 0xc001_001d, Some(Msr::Memory)),
            ("0xc0010015", 0xc001_0015, Some(Msr::Hwcr)),
        ];
        for (text, expected, msr) in rows {
            assert_eq!((number(text), Msr::from_number(expected)), (Some(expected), msr), "{text}");
        }
        assert_eq!([number("MTRR"), number("0x10"), number("")], [None; 3]);
    }

    #[test]
    fn firmware_leaves_a_machine_that_linux_accepts() {
        let cpu = fresh();
        assert_eq!(cpu.present.load(Relaxed), 1);
        assert_eq!(read(number("SYSCFG").unwrap(), &cpu), Some(0x0080_0000));
        assert_eq!(read(number("HWCR").unwrap(), &cpu), Some(0x0100_0001));
        assert_eq!(read(number("RMP_BASE").unwrap(), &cpu), Some(BASE));
        assert_eq!(read(number("RMP_END").unwrap(), &cpu), Some(END));
        assert_eq!(read(number("VM_HSAVE_PA").unwrap(), &cpu), None);
    }

    /// The steps of snp_prepare() and snp_shutdown() in arch/x86/virt/svm/sev.c.
    #[test]
    fn linux_switches_snp_on_and_firmware_switches_it_off() {
        let cpu = fresh();
        let write = |value| write(number("SYSCFG").unwrap(), value, &cpu, |_| false);
        assert_eq!(write(0x0088_0000), Written::Done);
        assert_eq!(write(0x0388_0000), Written::Done);
        assert_eq!(write(0x0280_0000), Written::Ignored, "SNP_EN is write-1-only");
        assert_eq!(write(0x0380_0000), Written::Ignored, "MFDM stays as long as SNP_EN");
        assert_eq!(read(number("SYSCFG").unwrap(), &cpu), Some(0x0388_0000));
        cpu.syscfg.fetch_and(!SNP_EN, Relaxed);
        assert_eq!(write(0x0280_0000), Written::Done);
        assert_eq!(read(number("SYSCFG").unwrap(), &cpu), Some(0x0280_0000));
    }

    #[test]
    fn reserved_bits_of_syscfg_stay_zero() {
        let cpu = fresh();
        assert_eq!(write(number("SYSCFG").unwrap(), !SNP_EN, &cpu, |_| false), Written::Done);
        assert_eq!(read(number("SYSCFG").unwrap(), &cpu), Some(0x06fc_0000));
    }

    #[test]
    fn smm_cannot_be_unlocked() {
        let cpu = fresh();
        assert_eq!(write(number("HWCR").unwrap(), 1 << 30, &cpu, |_| false), Written::Done);
        assert_eq!(read(number("HWCR").unwrap(), &cpu), Some(0x4000_0001));
    }

    /// Name, MSR, CPU, value, whether its page is assigned, what becomes of the write.
    type Row = (&'static str, &'static str, fn() -> Cpu, u64, bool, Written);

    #[test]
    fn write_rules() {
        let rows: &[Row] = &[
            ("hsave", "VM_HSAVE_PA", fresh, 0x7000, true, Written::Native),
            ("hsave, ours", "VM_HSAVE_PA", with_snp, 0x7000, false, Written::Native),
            ("hsave, a guest's", "VM_HSAVE_PA", with_snp, 0x7000, true, Written::Fault),
            ("base, the same", "RMP_BASE", fresh, BASE, false, Written::Done),
            ("base, another", "RMP_BASE", fresh, 0, false, Written::Fault),
            ("end, another", "RMP_END", with_snp, 0, false, Written::Fault),
            ("cfg, off", "RMP_CFG", fresh, 0, false, Written::Done),
            ("cfg, segmented", "RMP_CFG", fresh, 0x2401, false, Written::Fault),
            ("cfg, late", "RMP_CFG", with_snp, 0, false, Written::Fault),
        ];
        for (name, msr, cpu, value, assigned, expected) in rows {
            let written = write(number(msr).unwrap(), *value, &cpu(), |_| *assigned);
            assert_eq!(written, *expected, "{name}");
        }
    }

    #[test]
    fn memory_types_are_kept_for_the_psp() {
        let cpu = fresh();
        let value = |number| place(number, &cpu).unwrap().load(Relaxed);
        assert_eq!(read(0xc001_001a, &cpu), Some(2 << 30), "TOP_MEM is where RAM ends");
        assert_eq!(write(0xc001_001d, 5 << 30, &cpu, |_| false), Written::Done);
        assert_eq!(read(0xc001_001d, &cpu), Some(5 << 30));
        assert_eq!(write(0x2ff, 0xc06, &cpu, |_| false), Written::Native);
        assert_eq!((read(0x2ff, &cpu), value(0x2ff)), (None, 0xc06), "TCG has MTRRs");
    }

    #[test]
    fn hsave_is_copied_only_if_tcg_takes_it() {
        let cpu = fresh();
        for (value, copy) in [(0x7000, 0x7000), (0x8001, 0x7000), (1 << 52, 0x7000), (0, 0)] {
            write(number("VM_HSAVE_PA").unwrap(), value, &cpu, |_| false);
            assert_eq!(cpu.hsave_pa.load(Relaxed), copy, "{value:#x}");
        }
    }

    #[test]
    fn a_kexeced_kernel_finds_snp_on() {
        let cpu = fresh();
        reset(&cpu, &Geometry::new(BASE, END).unwrap(), 2 << 30, true);
        assert_eq!(read(number("SYSCFG").unwrap(), &cpu), Some(0x0388_0000));
    }
}
