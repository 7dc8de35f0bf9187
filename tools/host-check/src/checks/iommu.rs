// SPDX-License-Identifier: GPL-2.0

//! The IOMMU: SNP wants AMD's, on, with its SNP feature, and translating (drivers/iommu/amd/init.c,
//! `iommu_snp_enable()`).

use crate::{host::Host, report::Report};

/// Bits of the extended features, which sysfs has as "EFR:EFR2".
const EFR_SNP: u64 = 1 << 63;
const EFR2_PAGE_MODE_0: u64 = 1 << 13;

/// All about it.
pub fn check(host: &Host, report: &mut Report) {
    let all = host.list("/sys/class/iommu");
    let amd: Vec<&String> = all.iter().filter(|name| name.starts_with("ivhd")).collect();
    if amd.is_empty() {
        let text = if all.is_empty() { "no IOMMU is in use" } else { "the IOMMU is not AMD's" };
        return report.no(
            "iommu",
            text,
            "remove iommu=off and amd_iommu=off from the kernel command line; switch the IOMMU on in the BIOS set-up",
        );
    }
    report.ok("iommu", format!("{} of AMD's", amd.len()));
    let path = format!("/sys/class/iommu/{}/amd-iommu/features", amd[0]);
    let features = match host.read(&path) {
        Ok(text) => text,
        Err(why) => return report.unknown("iommu-snp", why.of(&path), why.todo()),
    };
    let Some((efr, efr2)) = parse(&features) else {
        return report.unknown("iommu-snp", format!("{path} says {features:?}"), "");
    };
    if efr & EFR_SNP == 0 {
        report.no(
            "iommu-snp",
            "the IOMMU has no SNP",
            "switch SNP on for the IOMMU in the BIOS set-up, or update it",
        );
    } else {
        report.ok("iommu-snp", "the IOMMU has SNP");
    }
    translation(host, efr2, report);
}

fn parse(features: &str) -> Option<(u64, u64)> {
    let (efr, efr2) = features.split_once(':')?;
    Some((u64::from_str_radix(efr, 16).ok()?, u64::from_str_radix(efr2, 16).ok()?))
}

/// How memory accesses of devices are translated by default.
fn translation(host: &Host, efr2: u64, report: &mut Report) {
    let command_line = host.read("/proc/cmdline").unwrap_or_default();
    if efr2 & EFR2_PAGE_MODE_0 != 0 {
        return report.ok("iommu-mode", "the IOMMU takes any mode with SNP");
    }
    if command_line
        .split_whitespace()
        .any(|word| word.starts_with("amd_iommu=") && word.contains("pgtbl_v2"))
    {
        return report.no(
            "iommu-mode",
            "the IOMMU uses page tables of version 2",
            "remove amd_iommu=pgtbl_v2 from the kernel command line",
        );
    }
    let said = host.log().ok().and_then(|log| {
        log.iter().find_map(|line| line.text.strip_prefix("iommu: Default domain type: "))
    });
    let asked = command_line
        .split_whitespace()
        .any(|word| matches!(word, "iommu=pt" | "iommu.passthrough=1"));
    match said {
        Some(kind) if kind.starts_with("Passthrough") => passthrough(report),
        None if asked => passthrough(report),
        Some(kind) => report
            .ok("iommu-mode", format!("by default devices' accesses are {}", kind.to_lowercase())),
        None => report.unknown(
            "iommu-mode",
            "the kernel's log does not have any more whether devices' accesses are translated",
            "journalctl -k -b | grep 'Default domain type'",
        ),
    }
}

fn passthrough(report: &mut Report) {
    report.no(
        "iommu-mode",
        "the IOMMU lets devices' accesses pass as they are",
        "remove iommu=pt or iommu.passthrough=1 from the kernel command line",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Fake;

    #[test]
    fn what_the_iommu_is() {
        let features = "/sys/class/iommu/ivhd0/amd-iommu/features";
        let line = ("/proc/cmdline", "quiet");
        let v2 = ("/proc/cmdline", "amd_iommu=pgtbl_v2");
        for (files, wrong) in [
            (&[line][..], &["iommu"][..]),
            (&[line, ("/sys/class/iommu/dmar0/x", "")], &["iommu"]),
            (&[line, (features, "1:2000")], &["iommu-snp"]),
            (&[v2, (features, "8000000000000001:0")], &["iommu-mode"]),
            // Which takes any mode.
            (&[v2, (features, "8000000000000001:2000")], &[]),
        ] {
            let (fake, mut report) = (Fake::with(files), Report::default());
            check(&fake.host(), &mut report);
            let found = report.findings.iter().filter(|finding| !finding.todo.is_empty());
            assert_eq!(found.map(|finding| finding.name).collect::<Vec<_>>(), wrong, "{files:?}");
        }
    }

    #[test]
    fn features_are_two_numbers() {
        assert_eq!(parse("8000000000000001:2000"), Some((EFR_SNP | 1, EFR2_PAGE_MODE_0)));
        assert_eq!(parse("80"), None);
    }
}
