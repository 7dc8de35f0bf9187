// SPDX-License-Identifier: GPL-2.0

//! MSRs that have to be set up, and alike on all CPUs.

use super::cpu::Cpu;
use crate::{
    host::{print_list, Host, Why},
    report::Report,
};

/// Numbers and bits: arch/x86/include/asm/msr-index.h; IORRs: AMD64 Architecture Programmer's
/// Manual, volume 2, appendix A.
const SYSCFG: u32 = 0xc001_0010;
const MEM_ENCRYPT: u64 = 1 << 23;
const SNP_EN: u64 = 1 << 24;
const VMPL_EN: u64 = 1 << 25;
const HWCR: u32 = 0xc001_0015;
const SMM_LOCK: u64 = 1;
/// The RMP's first byte.
pub const RMP_BASE: u32 = 0xc001_0132;
/// Its last.
pub const RMP_END: u32 = 0xc001_0133;
/// Whether it is in segments.
pub const RMP_CFG: u32 = 0xc001_0136;
/// What says which memory is of which type.
const MEMORY_TYPES: [(&str, u32, u32); 8] = [
    ("TOM", 0xc001_001a, 1),
    ("TOM2", 0xc001_001d, 1),
    ("IORR", 0xc001_0016, 4),
    ("MTRRdefType", 0x2ff, 1),
    ("MTRRfix64K", 0x250, 1),
    ("MTRRfix16K", 0x258, 2),
    ("MTRRfix4K", 0x268, 8),
    ("MTRRphys", 0x200, 16),
];

/// A register's values, by CPU.
type Values = Vec<(usize, Option<u64>)>;

/// Reads a register of all CPUs that are online.
pub fn read(host: &Host, number: u32) -> Result<Values, Why> {
    host.cpus("online")?.into_iter().map(|cpu| Ok((cpu, host.msr(cpu, number)?))).collect()
}

/// Those of all CPUs.
pub fn check(host: &Host, cpu: &Cpu, report: &mut Report) {
    let syscfg = match read(host, SYSCFG) {
        Ok(values) => values,
        Err(Why::Missing) => {
            return report.unknown(
                "msr",
                "MSRs cannot be read: the kernel's module msr is not loaded",
                "modprobe msr",
            )
        }
        Err(why) => return report.unknown("msr", why.of("/dev/cpu/0/msr"), why.todo()),
    };
    if !cpu.has_snp() {
        return;
    }
    report.ok("msr", format!("those of {} CPUs can be read", syscfg.len()));
    encryption(&syscfg, report);
    snp_en(&syscfg, report);
    if let Ok(hwcr) = read(host, HWCR) {
        let without = lacking(&hwcr, SMM_LOCK);
        if without.is_empty() {
            report.ok("smm-lock", "HWCR.SmmLock is set");
        } else {
            report.no(
                "smm-lock",
                format!("HWCR.SmmLock is clear on CPUs {}, and SEV needs it", print_list(&without)),
                "switch SmmLock on in the BIOS set-up, or update the BIOS",
            );
        }
    }
    same_rmp(host, cpu, report);
    memory_types(host, report);
}

/// CPUs on which not all of these bits are set.
fn lacking(values: &Values, bits: u64) -> Vec<usize> {
    values
        .iter()
        .filter(|(_, value)| value.unwrap_or(0) & bits != bits)
        .map(|(cpu, _)| *cpu)
        .collect()
}

/// CPUs whose value is not that of the first one, and in words which that are.
fn other(values: &Values) -> Option<(Vec<usize>, String)> {
    let (first, expected) = *values.first()?;
    let others: Vec<_> = values.iter().filter(|(_, value)| *value != expected).collect();
    let (cpu, value) = others.first()?;
    let text =
        |value: Option<u64>| value.map_or("not there".to_owned(), |value| format!("{value:#x}"));
    let words = format!("is {} on CPU {first}, and {} on CPU {cpu}", text(expected), text(*value));
    Some((others.iter().map(|(cpu, _)| *cpu).collect(), words))
}

fn encryption(syscfg: &Values, report: &mut Report) {
    let without = lacking(syscfg, MEM_ENCRYPT);
    if without.is_empty() {
        report.ok("mem-encrypt", "SYSCFG.MEM_ENCRYPT is set on all CPUs");
    } else {
        report.no(
            "mem-encrypt",
            format!("SYSCFG.MEM_ENCRYPT is clear on CPUs {}", print_list(&without)),
            "switch SMEE (SME, memory encryption) on in the BIOS set-up",
        );
    }
}

fn snp_en(syscfg: &Values, report: &mut Report) {
    let without = lacking(syscfg, SNP_EN);
    if without.len() == syscfg.len() {
        return report.ok("snp-en", "SYSCFG.SNP_EN is clear on all CPUs");
    }
    let list = print_list(&without);
    if !without.is_empty() {
        report.no(
            "snp-en",
            format!(
                "SYSCFG.SNP_EN is set, but not on CPUs {list}, which bypass the RMP of the others"
            ),
            "reload kvm_amd, and restart the machine if that does not help",
        );
    } else if !lacking(syscfg, VMPL_EN).is_empty() {
        report.no("snp-en", "SYSCFG has SNP_EN without VMPL_EN", "restart the machine");
    } else {
        report.ok("snp-en", "SYSCFG.SNP_EN and VMPL_EN are set on all CPUs");
    }
}

fn same_rmp(host: &Host, cpu: &Cpu, report: &mut Report) {
    let mut registers = vec![("RMP_BASE", RMP_BASE), ("RMP_END", RMP_END)];
    if cpu.has_segmented_rmp() {
        registers.push(("RMP_CFG", RMP_CFG));
    }
    for (name, number) in registers {
        match read(host, number).map(|values| other(&values)) {
            Ok(None) => {}
            Ok(Some((cpus, words))) => {
                return report.no(
                    "rmp-alike",
                    format!("{name} {words}: CPUs {} would enforce another RMP", print_list(&cpus)),
                    "update the BIOS",
                )
            }
            Err(why) => return report.unknown("rmp-alike", why.of(name), why.todo()),
        }
    }
    report.ok("rmp-alike", "all CPUs have the same RMP");
}

fn memory_types(host: &Host, report: &mut Report) {
    for (name, first, count) in MEMORY_TYPES {
        for number in first..first + count {
            match read(host, number).map(|values| other(&values)) {
                Ok(None) => {}
                Ok(Some((_, words))) => {
                    return report.no(
                        "memory-types",
                        format!(
                            "{name} ({number:#x}) {words}; firmware may refuse SNP_INIT for that"
                        ),
                        "update the BIOS",
                    )
                }
                Err(why) => return report.unknown("memory-types", why.of(name), why.todo()),
            }
        }
    }
    report.ok("memory-types", "TOM, TOM2, IORRs and MTRRs are alike on all CPUs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn values(of: &[u64]) -> Values {
        of.iter().enumerate().map(|(cpu, value)| (cpu, Some(*value))).collect()
    }

    #[test]
    fn differences_are_named() {
        assert!(other(&values(&[1, 1, 1])).is_none());
        let (cpus, words) = other(&values(&[1, 2, 1, 3])).unwrap();
        assert_eq!((cpus, words.as_str()), (vec![1, 3], "is 0x1 on CPU 0, and 0x2 on CPU 1"));
        assert_eq!(
            other(&vec![(0, Some(1)), (1, None)]).unwrap().1,
            "is 0x1 on CPU 0, and not there on CPU 1"
        );
    }

    #[test]
    fn snp_en_everywhere_or_nowhere() {
        let both = SNP_EN | VMPL_EN;
        for (syscfg, verdict) in [
            (&[0, 0][..], Verdict::Ok),
            (&[both, both | MEM_ENCRYPT], Verdict::Ok),
            (&[both, 0], Verdict::No),
            (&[0, both], Verdict::No),
            (&[both, SNP_EN], Verdict::No),
            (&[SNP_EN, SNP_EN], Verdict::No),
            // Firmware that ends SNP clears SNP_EN alone.
            (&[VMPL_EN, VMPL_EN], Verdict::Ok),
            (&[VMPL_EN, 0], Verdict::Ok),
        ] {
            let mut report = Report::default();
            snp_en(&values(syscfg), &mut report);
            assert_eq!(report.findings[0].verdict, verdict, "{syscfg:x?}");
        }
    }

    #[test]
    fn encryption_on_every_cpu() {
        assert_eq!(lacking(&values(&[MEM_ENCRYPT, 0, MEM_ENCRYPT | 1]), MEM_ENCRYPT), [1]);
        assert_eq!(lacking(&vec![(4, None)], SMM_LOCK), [4]);
    }
}
