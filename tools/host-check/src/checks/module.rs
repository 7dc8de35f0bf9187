// SPDX-License-Identifier: GPL-2.0

//! Which module plays the driver: the file on disk, the copy in the initramfs, the one that is
//! loaded.

use super::kernel::wants_signatures;
use crate::{
    host::{Host, Why},
    initramfs,
    report::Report,
};

/// Parameters that this driver does not have, and the in-tree one has.
const INTREE_ONLY: [&str; 5] = ["nqueues", "max_devs", "dmaengine", "dma_chan_attr", "tio"];
const UPDATE: &str = "update-initramfs -u (or dracut --force), and restart";

/// The module that modprobe would load.
struct OnDisk {
    path: String,
    ours: bool,
    contents: Result<Vec<u8>, Why>,
}

/// All about it.
pub fn check(host: &Host, report: &mut Report) {
    let Ok(release) = host.release() else { return };
    let disk = on_disk(host, &release, report);
    two_drivers(host, report);
    if let Some(disk) = &disk {
        loaded(host, disk, report);
        initramfs_copy(host, &release, disk, report);
        signatures(host, disk, report);
    }
    options(host, disk.is_some_and(|disk| disk.ours), report);
}

fn on_disk(host: &Host, release: &str, report: &mut Report) -> Option<OnDisk> {
    let others: Vec<String> = host
        .list("/lib/modules")
        .into_iter()
        .filter(|other| {
            other != release && host.has(&format!("/lib/modules/{other}/updates/ccp.ko"))
        })
        .collect();
    let path = match host.run("modinfo", &["-n", "ccp"]) {
        Ok(path) => path.trim().to_owned(),
        Err(Why::Missing) => {
            report.unknown("module", "modinfo is not installed", "install kmod");
            return None;
        }
        Err(_) => {
            report.no(
                "module",
                format!("there is no module ccp for kernel {release}"),
                "install that kernel's modules, or run depmod",
            );
            return None;
        }
    };
    let depends = host.run("modinfo", &["-F", "depends", "ccp"]).unwrap_or_default();
    let ours = depends.trim().split(',').any(|name| name == "snp_host");
    let vermagic = host.run("modinfo", &["-F", "vermagic", "ccp"]).unwrap_or_default();
    let name = if ours { "ccp-rs" } else { "the in-tree driver" };
    if vermagic.split_whitespace().next().is_some_and(|built| built != release) {
        let built = vermagic.split_whitespace().next().unwrap_or_default();
        report.no(
            "module",
            format!("{path} ({name}) is built for kernel {built}, and this one is {release}"),
            "build and install it for this kernel",
        );
    } else if !ours && !others.is_empty() {
        report.no(
            "module",
            format!(
                "ccp-rs is installed for kernel {}, and this one is {release}: {name} is used",
                others.join(", ")
            ),
            "start that kernel, or install ccp-rs for this one",
        );
    } else {
        report.ok("module", format!("modprobe loads {name}, {path}"));
    }
    let contents = unpacked(host, &path);
    Some(OnDisk { path, ours, contents })
}

/// A module's contents without compression.
fn unpacked(host: &Host, path: &str) -> Result<Vec<u8>, Why> {
    let program = match path.rsplit('.').next() {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return host.bytes(path),
    };
    host.filter(program, &["-dc"], &host.bytes(path)?)
}

fn two_drivers(host: &Host, report: &mut Report) {
    if !host.has("/sys/module/ccp") || !host.has("/sys/module/snp_host") {
        return;
    }
    if host.list("/sys/module/snp_host/holders").iter().any(|name| name == "ccp") {
        report.ok("one-driver", "ccp and snp_host, both of ccp-rs");
    } else {
        report.no(
            "one-driver",
            "two drivers: snp_host of ccp-rs is loaded, and ccp is the in-tree one, which takes no notice of it",
            "rmmod kvm_amd ccp && modprobe kvm_amd; if that does not help, make the initramfs anew and restart",
        );
    }
}

/// Whether `needle` is somewhere in `bytes`.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Whether what is loaded is the file on disk, by the build ID.
fn loaded(host: &Host, disk: &OnDisk, report: &mut Report) {
    if !host.has("/sys/module/ccp") {
        return;
    }
    let note = host.bytes("/sys/module/ccp/notes/.note.gnu.build-id");
    let (note, contents) = match (&note, &disk.contents) {
        // Behind 16 bytes of head and name stand the 20 of the ID.
        (Ok(note), Ok(contents)) if note.len() >= 36 => (note, contents),
        (Err(why), _) | (_, Err(why)) => {
            return report.unknown(
                "module-loaded",
                why.of("the build ID of ccp, or its file,"),
                why.todo(),
            )
        }
        _ => return report.unknown("module-loaded", "the module ccp has no build ID", ""),
    };
    if contains(contents, &note[16..36]) {
        report.ok("module-loaded", "what is loaded is that file");
    } else {
        report.no(
            "module-loaded",
            format!("the ccp that is loaded is not {}", disk.path),
            format!("reload ccp and kvm_amd; if it comes from the initramfs: {UPDATE}"),
        );
    }
}

fn initramfs_copy(host: &Host, release: &str, disk: &OnDisk, report: &mut Report) {
    let places = ["/boot/initrd.img-", "/boot/initramfs-", "/boot/initrd-"]
        .map(|name| [format!("{name}{release}"), format!("{name}{release}.img")])
        .concat();
    let Some(place) = places.into_iter().find(|place| host.has(place)) else {
        return report.ok("initramfs", format!("none for kernel {release} in /boot"));
    };
    let copies = match initramfs::find(host, &place, "/ccp.ko") {
        Ok(copies) => copies,
        Err(why) => return report.unknown("initramfs", why.of(&place), why.todo()),
    };
    // That of updates/ goes before the other one there, too.
    let used = copies.iter().find(|(name, _)| name.contains("/updates/")).or(copies.first());
    match (used, &disk.contents) {
        (None, _) => report.ok("initramfs", format!("{place} has no ccp")),
        (Some(_), Err(why)) => report.unknown("initramfs", why.of(&disk.path), why.todo()),
        (Some((_, copy)), Ok(contents)) if copy == contents => {
            report.ok("initramfs", format!("{place} has the same ccp"));
        }
        (Some((name, _)), Ok(_)) => report.no(
            "initramfs",
            format!(
                "{place} has another ccp ({name}) than {}, and that one may be loaded first",
                disk.path
            ),
            UPDATE,
        ),
    }
}

fn signatures(host: &Host, disk: &OnDisk, report: &mut Report) {
    let signed =
        disk.contents.as_ref().map(|bytes| bytes.ends_with(b"~Module signature appended~\n"));
    match (wants_signatures(host), signed) {
        (Err(why), _) => report.unknown(
            "lockdown",
            why.of("/sys/kernel/security/lockdown"),
            if why == Why::Missing { "mount -t securityfs securityfs /sys/kernel/security" } else { why.todo() },
        ),
        (Ok(None), _) => report.ok("lockdown", "the kernel takes modules without signatures"),
        (Ok(Some(why)), Ok(true)) => report.ok("lockdown", format!("{why}, and {} is signed", disk.path)),
        (Ok(Some(why)), Ok(false)) => report.no(
            "lockdown",
            format!("{why}, and {} has no signature", disk.path),
            "sign both modules with an enrolled key (Documentation/installing.md), or switch Secure Boot off",
        ),
        (Ok(Some(_)), Err(why)) => report.unknown("lockdown", why.of(&disk.path), why.todo()),
    }
}

/// What modprobe.d has against SNP. The command line is kernel.rs's.
fn options(host: &Host, ours: bool, report: &mut Report) {
    let config = match host.run("modprobe", &["-c"]) {
        Ok(config) => config,
        Err(why) => {
            return report.unknown("modprobe.d", why.of("modprobe's configuration"), why.todo())
        }
    };
    let is_loaded = |name: &str| host.has(&format!("/sys/module/{name}"));
    let mut found = against(&config, ours);
    // It was no hindrance.
    found.retain(|(line, _)| {
        !line.starts_with("blacklist") || !is_loaded(&line["blacklist ".len()..])
    });
    let command_line = host.read("/proc/cmdline").unwrap_or_default().replace('-', "_");
    // modprobe reads that, too.
    found.retain(|(line, _)| {
        let mut words = line.split(' ').skip(1);
        let name = words.next().unwrap_or_default();
        !words.any(|word| command_line.contains(&format!("{name}.{word}")))
    });
    if found.is_empty() {
        report.ok("modprobe.d", "has nothing against SNP");
    }
    for (line, what) in found {
        report.no(
            "modprobe.d",
            format!("\"{line}\" {what}"),
            "remove it there, update-initramfs -u, reload the module",
        );
    }
}

fn against(config: &str, ours: bool) -> Vec<(String, &'static str)> {
    let off = |value: &str| matches!(value, "0" | "n" | "N" | "off");
    let mut out = Vec::new();
    for line in config.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["blacklist", name @ ("ccp" | "kvm_amd" | "snp_host")] => {
                out.push((format!("blacklist {name}"), "keeps udev from loading it"));
            }
            // "install kvm_amd /bin/false" is how many forbid a module.
            ["install", "ccp" | "kvm_amd" | "snp_host", ..] => {
                out.push((line.trim().to_owned(), "runs that in place of loading it"));
            }
            ["options", module, ref parameters @ ..] => {
                for (name, value) in
                    parameters.iter().filter_map(|parameter| parameter.split_once('='))
                {
                    let what = match (module, name) {
                        ("kvm_amd", "sev") if off(value) => "has KVM do without SEV",
                        ("kvm_amd", "sev_es" | "sev_snp") if off(value) => {
                            "has KVM do without SNP guests"
                        }
                        ("ccp", "snp") if off(value) => "has the driver leave SNP off",
                        ("ccp", name) if ours && INTREE_ONLY.contains(&name) => {
                            "is of the in-tree driver alone"
                        }
                        _ => continue,
                    };
                    out.push((format!("options {module} {name}={value}"), what));
                }
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_modprobe() {
        let lines = |config, ours| {
            against(config, ours).into_iter().map(|(line, _)| line).collect::<Vec<_>>()
        };
        let config = "options kvm_amd sev=1 nested=1\nblacklist nouveau\noptions ccp snp=1 psp_probe_timeout=9\n";
        assert!(lines(config, true).is_empty());
        let config = "blacklist ccp\noptions kvm_amd nested=0 sev=0\noptions ccp snp=0 nqueues=1\n";
        assert_eq!(
            lines(config, false),
            ["blacklist ccp", "options kvm_amd sev=0", "options ccp snp=0"]
        );
        assert_eq!(lines(config, true).last().unwrap(), "options ccp nqueues=1");
        assert_eq!(lines("install kvm_amd /bin/false", true), ["install kvm_amd /bin/false"]);
        assert!(lines("install nouveau /bin/false", true).is_empty());
    }

    #[test]
    fn needles() {
        assert!(
            contains(b"abcdef", b"cde") && !contains(b"abcdef", b"ce") && !contains(b"a", b"ab")
        );
    }
}
