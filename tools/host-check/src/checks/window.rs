// SPDX-License-Identifier: GPL-2.0

//! What ccp-rs says of CPU hotplug and of pages that are lost.

use crate::{host::Host, report::Report};

const WINDOW: &str = "/sys/kernel/snp_host";

/// Its files in /sys/kernel.
pub fn check(host: &Host, report: &mut Report) {
    if !host.has("/sys/module/snp_host") {
        if host.has("/sys/module/ccp") {
            report.ok(
                "hotplug",
                "the in-tree driver does not restrict it: take no CPU offline while SNP is up",
            );
        }
        return;
    }
    let read = |file| host.read(&format!("{WINDOW}/{file}"));
    let (state, reason) = match (read("state"), read("reason")) {
        (Ok(state), Ok(reason)) => (state, reason),
        (Err(why), _) | (_, Err(why)) => {
            return report.unknown("hotplug", why.of(WINDOW), why.todo())
        }
    };
    match state.as_str() {
        "enabled" => report.ok("hotplug", format!("refused: {reason}")),
        "closed" if !host.has("/sys/module/kvm_amd") => {
            report.ok("hotplug", format!("allowed: {reason}"))
        }
        "closed" => report.no(
            "hotplug",
            format!("allowed, for SNP is not up although kvm_amd is loaded: {reason}"),
            "lines of the kernel's log say why; then reload kvm_amd",
        ),
        "held" if !host.has("/sys/module/kvm_amd") => report.no(
            "hotplug",
            format!("refused, for SNP_EN stays set without SNP: {reason}"),
            "load kvm_amd, which starts SNP; restart the machine if no SNP is wanted",
        ),
        _ => report.no(
            "hotplug",
            format!("refused, and SNP is not up ({state}): {reason}"),
            "reload kvm_amd; restart the machine if that does not help",
        ),
    }
    match host.read("/sys/kernel/ccp/lost_pages").map(|text| text.parse::<u64>()) {
        Ok(Ok(0)) => report.ok("lost-pages", "none"),
        Ok(Ok(count)) => report.no(
            "lost-pages",
            format!("{count} pages are kept from the allocator until the machine restarts"),
            "a few are harmless; a growing number is a bug: report the kernel's line before the first one",
        ),
        Ok(Err(_)) => report.unknown("lost-pages", "/sys/kernel/ccp/lost_pages has no number", ""),
        // ccp is not loaded.
        Err(_) => {}
    }
}
