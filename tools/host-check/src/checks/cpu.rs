// SPDX-License-Identifier: GPL-2.0

//! What the processor has, whether the kernel uses it, and which CPUs are online.

use crate::{
    cpuid,
    host::{print_list, Host},
    report::Report,
};

/// Bits of CPUID 8000001F EAX (AMD64 Architecture Programmer's Manual, volume 3) that an SNP host
/// needs.
const NEEDED: [(u32, &str); 4] = [(0, "SME"), (1, "SEV"), (3, "SEV-ES"), (4, "SEV-SNP")];
const SNP: u32 = 1 << 4;
const SEGMENTED_RMP: u32 = 1 << 23;
/// CPUID 1 ECX: a hypervisor is below.
const HYPERVISOR: u32 = 1 << 31;

/// What CPUID says.
pub struct Cpu {
    /// "AuthenticAMD".
    pub vendor: String,
    /// The processor's name.
    pub brand: String,
    /// Whether a hypervisor is below.
    pub guest: bool,
    /// 8000001F EAX.
    pub features: u32,
    /// 8000001F EBX bits 0 to 5: which address bit is the C-bit.
    pub c_bit: u32,
    /// 8000001F ECX and EDX: the number of ASIDs, and the first that is not for SEV-ES and SNP.
    pub asids: (u32, u32),
}

impl Cpu {
    /// That of the CPU that runs this.
    pub fn read() -> Self {
        let sev = cpuid::leaf(0x8000_001f);
        Self {
            vendor: cpuid::vendor(),
            brand: cpuid::brand(),
            guest: cpuid::leaf(1).ecx & HYPERVISOR != 0,
            features: sev.eax,
            c_bit: sev.ebx & 0x3f,
            asids: (sev.ecx, sev.edx),
        }
    }

    /// Whether it has SNP.
    pub fn has_snp(&self) -> bool {
        self.vendor == "AuthenticAMD" && self.features & SNP != 0
    }

    /// Whether the RMP may come in segments.
    pub fn has_segmented_rmp(&self) -> bool {
        self.features & SEGMENTED_RMP != 0
    }
}

/// All about CPUs but their registers.
pub fn check(host: &Host, cpu: &Cpu, report: &mut Report) {
    features(cpu, report);
    if cpu.has_snp() {
        asids(cpu, report);
        alike(host, cpu, report);
        kernel_flags(host, report);
    }
    online(host, report);
    smt(host, report);
}

fn features(cpu: &Cpu, report: &mut Report) {
    if cpu.vendor != "AuthenticAMD" {
        report.no(
            "vendor",
            format!("the CPU is {}'s, and SEV is AMD's", cpu.vendor),
            "use a machine with an EPYC",
        );
        return;
    }
    report.ok("vendor", format!("{}, {}", cpu.vendor, cpu.brand));
    if cpu.guest {
        report.no(
            "bare-metal",
            "this is a virtual machine: Linux is no SNP host below a hypervisor",
            "run host-check on the host",
        );
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(bit, _)| cpu.features & 1 << bit == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        report.ok("cpuid", format!("SME, SEV, SEV-ES and SEV-SNP, C-bit {}", cpu.c_bit));
    } else {
        report.no(
            "cpuid",
            format!("the CPU has no {} (CPUID 8000001F)", missing.join(", no ")),
            "SNP needs an EPYC 7003 or later; if this is one, switch SMEE and SNP on in the BIOS set-up, or update it",
        );
    }
}

fn asids(cpu: &Cpu, report: &mut Report) {
    let (count, first) = cpu.asids;
    if first > 1 {
        report
            .ok("asids", format!("{count}, of which {} are for SEV-ES and SNP guests", first - 1));
    } else {
        report.no(
            "asids",
            format!("none of the {count} ASIDs is for SEV-ES and SNP guests"),
            "raise the BIOS' limit of SEV-ES ASIDs (the first ASID of SEV guests without ES)",
        );
    }
}

/// Whether all CPUs say the same.
fn alike(host: &Host, cpu: &Cpu, report: &mut Report) {
    let Ok(online) = host.cpus("online") else { return };
    let other: Vec<usize> = online
        .into_iter()
        .filter(|&n| {
            cpuid::on_cpu(n, || cpuid::leaf(0x8000_001f).eax).is_some_and(|eax| eax != cpu.features)
        })
        .collect();
    if other.is_empty() {
        report.ok("cpuid-alike", "all CPUs have the same features");
    } else {
        report.no(
            "cpuid-alike",
            format!("CPUs {} have other features", print_list(&other)),
            "update the BIOS",
        );
    }
}

/// What the kernel has left of the features: arch/x86/kernel/cpu/amd.c takes them away where the
/// BIOS has not set them up.
fn kernel_flags(host: &Host, report: &mut Report) {
    let flags = match host.read("/proc/cpuinfo") {
        Ok(text) => text,
        Err(why) => return report.unknown("kernel-flags", why.of("/proc/cpuinfo"), why.todo()),
    };
    let flags: Vec<&str> = flags
        .lines()
        .find(|line| line.starts_with("flags"))
        .map_or(vec![], |line| line.split_whitespace().collect());
    let missing: Vec<&str> =
        ["sev", "sev_es", "sev_snp"].into_iter().filter(|flag| !flags.contains(flag)).collect();
    match missing[..] {
        [] => report.ok("kernel-flags", "the kernel uses SEV, SEV-ES and SEV-SNP"),
        ["sev_snp"] => report.no(
            "kernel-flags",
            "the kernel has SEV, and does without SEV-SNP: the RMP is not set up, or the kernel was told so",
            "switch SNP and its memory coverage on in the BIOS set-up; lines below say more",
        ),
        _ => report.no(
            "kernel-flags",
            format!("the kernel does without {}: the BIOS has not enabled memory encryption", missing.join(", ")),
            "switch SMEE (SME, memory encryption) on in the BIOS set-up",
        ),
    }
}

fn online(host: &Host, report: &mut Report) {
    let (present, online) = match (host.cpus("present"), host.cpus("online")) {
        (Ok(present), Ok(online)) => (present, online),
        (Err(why), _) | (_, Err(why)) => {
            return report.unknown("online", why.of("the list of CPUs"), why.todo())
        }
    };
    let missing: Vec<usize> = present.iter().copied().filter(|cpu| !online.contains(cpu)).collect();
    if missing.is_empty() {
        report.ok("online", format!("all {} CPUs", present.len()));
    } else {
        let list = print_list(&missing);
        report.no(
            "online",
            format!("CPUs {list} are present but offline, and would bypass the RMP"),
            format!("chcpu -e {list}; without nosmt and maxcpus= on the kernel command line"),
        );
    }
}

fn smt(host: &Host, report: &mut Report) {
    match host.read("/sys/devices/system/cpu/smt/control").as_deref() {
        Ok("off") => report.no(
            "smt",
            "SMT is switched off by the kernel, which leaves the second threads without SNP_EN",
            "switch SMT on (echo on >/sys/devices/system/cpu/smt/control, no nosmt), or off in the BIOS set-up",
        ),
        Ok("on") => report.ok("smt", "on: guests whose policy forbids SMT are refused"),
        Ok(other) => report.ok("smt", other),
        Err(why) => report.unknown("smt", why.of("the control of SMT"), why.todo()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn epyc() -> Cpu {
        Cpu {
            vendor: "AuthenticAMD".into(),
            brand: "EPYC".into(),
            guest: false,
            features: 0x1b,
            c_bit: 51,
            asids: (509, 100),
        }
    }

    fn found(cpu: &Cpu) -> Vec<(&'static str, Verdict)> {
        let mut report = Report::default();
        features(cpu, &mut report);
        asids(cpu, &mut report);
        report.findings.iter().map(|finding| (finding.name, finding.verdict)).collect()
    }

    #[test]
    fn an_epyc_is_fit() {
        assert_eq!(
            found(&epyc()),
            [("vendor", Verdict::Ok), ("cpuid", Verdict::Ok), ("asids", Verdict::Ok)]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (bit, name) in NEEDED {
            let mut report = Report::default();
            features(&Cpu { features: 0x1b & !(1 << bit), ..epyc() }, &mut report);
            let finding = &report.findings[1];
            assert_eq!((finding.name, finding.verdict), ("cpuid", Verdict::No));
            assert!(finding.text.contains(&format!("no {name} (")), "{}", finding.text);
        }
    }

    #[test]
    fn others_are_not() {
        assert_eq!(
            found(&Cpu { vendor: "GenuineIntel".into(), ..epyc() })[0],
            ("vendor", Verdict::No)
        );
        assert_eq!(found(&Cpu { guest: true, ..epyc() })[1], ("bare-metal", Verdict::No));
        assert_eq!(found(&Cpu { asids: (509, 1), ..epyc() })[2], ("asids", Verdict::No));
        assert_eq!(found(&Cpu { asids: (509, 2), ..epyc() })[2], ("asids", Verdict::Ok));
    }
}
