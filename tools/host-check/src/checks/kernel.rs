// SPDX-License-Identifier: GPL-2.0

//! The kernel: its version, options, command line and lockdown.

use crate::{
    host::{Host, Why},
    report::Report,
};

/// KVM runs SNP guests from here on.
const FIRST: (u32, u32) = (6, 11);
/// Options without which there is no SNP host.
const OPTIONS: [&str; 4] = ["KVM_AMD", "KVM_AMD_SEV", "CRYPTO_DEV_SP_PSP", "AMD_IOMMU"];

/// What stands on a kernel command line and keeps a host from SNP: words, and what they do.
const WORDS: [(&[&str], &str); 10] = [
    (&["iommu=off", "amd_iommu=off", "iommu=soft"], "switches the IOMMU off"),
    (&["iommu=pt", "iommu.passthrough=1"], "lets devices' accesses pass the IOMMU as they are"),
    (&["sev=nosnp"], "switches SNP off"),
    (
        &["nosmt", "nosmt=force", "mitigations=auto,nosmt"],
        "leaves the second threads of cores offline, and without SNP_EN",
    ),
    (&["maxcpus=*", "nosmp"], "leaves CPUs offline, and without SNP_EN"),
    (&["pci=nomsi"], "leaves the PSP without an interrupt"),
    (
        &["kvm_amd.sev=0", "kvm_amd.sev=N", "kvm_amd.sev=n", "kvm_amd.sev=off"],
        "has KVM do without SEV",
    ),
    (
        &[
            "kvm_amd.sev_snp=0",
            "kvm_amd.sev_snp=N",
            "kvm_amd.sev_snp=n",
            "kvm_amd.sev_es=0",
            "kvm_amd.sev_es=N",
        ],
        "has KVM do without SNP guests",
    ),
    (&["ccp.snp=0", "ccp.snp=N", "ccp.snp=n"], "has the driver leave SNP off"),
    (
        &["modprobe.blacklist=*ccp*", "module_blacklist=*ccp*", "module_blacklist=*kvm_amd*"],
        "keeps the driver from being loaded",
    ),
];

/// All about it.
pub fn check(host: &Host, report: &mut Report) {
    let release = match host.release() {
        Ok(release) => release,
        Err(why) => return report.unknown("kernel", why.of("the kernel's release"), why.todo()),
    };
    if version(&release).is_some_and(|version| version >= FIRST) {
        report.ok("kernel", &release);
    } else {
        let (major, minor) = FIRST;
        report.no(
            "kernel",
            format!("{release} runs no SNP guests"),
            format!("use Linux {major}.{minor} or later"),
        );
    }
    options(host, &release, report);
    command_line(host, report);
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn options(host: &Host, release: &str, report: &mut Report) {
    let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let config = places.iter().find_map(|place| host.read(place).ok()).or_else(|| {
        let text = host.filter("gzip", &["-dc"], &host.bytes("/proc/config.gz").ok()?).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    });
    let Some(config) = config else {
        return report.unknown(
            "config",
            format!("there is no list of the kernel's options ({})", places[0]),
            "",
        );
    };
    let missing: Vec<String> = OPTIONS
        .iter()
        .filter(|name| {
            !config.lines().any(|line| {
                [format!("CONFIG_{name}=y"), format!("CONFIG_{name}=m")].contains(&line.to_owned())
            })
        })
        .map(|name| format!("CONFIG_{name}"))
        .collect();
    if missing.is_empty() {
        report.ok("config", "has the kernel's parts of SNP");
    } else {
        report.no(
            "config",
            format!("the kernel was built without {}", missing.join(", ")),
            "use a distribution's kernel",
        );
    }
}

/// Whether a word is meant by a pattern, which may have a star at its ends.
fn matches(pattern: &str, word: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == word };
    let inner = after.trim_end_matches('*');
    word.strip_prefix(before)
        .is_some_and(|rest| rest.split(',').any(|part| inner.is_empty() || part == inner))
}

fn command_line(host: &Host, report: &mut Report) {
    let line = match host.read("/proc/cmdline") {
        Ok(line) => line,
        Err(why) => return report.unknown("command-line", why.of("/proc/cmdline"), why.todo()),
    };
    let found = against(&line);
    if found.is_empty() {
        report.ok("command-line", "has nothing against SNP");
    }
    for (word, what) in found {
        report.no(
            "command-line",
            format!("{word} {what}"),
            format!("remove {word} from the kernel command line"),
        );
    }
}

/// What it has against SNP: words, and what they do.
fn against(line: &str) -> Vec<(String, &'static str)> {
    line.split_whitespace()
        .filter_map(|word| {
            // Of a module's parameters "-" and "_" are the same.
            let (name, value) =
                word.split_once('=').map_or((word, ""), |(name, value)| (name, value));
            let plain = if value.is_empty() {
                name.to_owned()
            } else {
                format!("{}={value}", name.replace('-', "_"))
            };
            let (_, what) =
                WORDS.iter().find(|(patterns, _)| patterns.iter().any(|p| matches(p, &plain)))?;
            Some((word.to_owned(), *what))
        })
        .collect()
}

/// Whether the kernel takes signed modules only: [`Some`] says why.
pub fn wants_signatures(host: &Host) -> Result<Option<String>, Why> {
    if host.read("/sys/module/module/parameters/sig_enforce").as_deref() == Ok("Y") {
        return Ok(Some("module.sig_enforce is set".into()));
    }
    if host.list("/sys/kernel/security").is_empty() {
        return Err(Why::Missing);
    }
    match host.read("/sys/kernel/security/lockdown") {
        Ok(text) => {
            let mode =
                text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("none");
            Ok((mode != "none").then(|| format!("the kernel is locked down ({mode})")))
        }
        Err(Why::Missing) => Ok(None),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("7.3.4+deb13-amd64"), Some((7, 3)));
        assert_eq!(version("6.12-rc1"), Some((6, 12)));
        assert!(version("6.10.9").unwrap() < FIRST && version("6.11.0").unwrap() >= FIRST);
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn words_of_the_command_line() {
        let found =
            |line: &str| against(line).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert_eq!(
            found("quiet root=/dev/sda1 mem_encrypt=on kvm_amd.sev=1 iommu=nopt"),
            Vec::<String>::new()
        );
        for word in [
            "iommu=pt",
            "amd_iommu=off",
            "sev=nosnp",
            "nosmt",
            "maxcpus=1",
            "kvm-amd.sev=0",
            "ccp.snp=0",
            "modprobe.blacklist=foo,ccp",
            "pci=nomsi",
        ] {
            assert_eq!(found(&format!("quiet {word} ro")), [word]);
        }
        assert!(found("modprobe.blacklist=ccp-crypto nosmt-not").is_empty());
    }
}
