// SPDX-License-Identifier: GPL-2.0

//! What the kernel and the driver have said since SNP was started last, with what to do.

use crate::{
    host::{Host, Message},
    report::Report,
};

/// Documentation/errors.md: a table row for each message of the driver's, by its code.
const ERRORS: &str = include_str!("../../../../Documentation/errors.md");
/// Who speaks of the PSP, of SEV and of SNP: the modules, and the kernel when it is started.
const MODULES: [&str; 4] = ["ccp ", "ccp:", "snp_host:", "kvm_amd:"];
const BUILT_IN: [&str; 3] = ["SEV-SNP:", "SEV:", "AMD-Vi: SNP:"];
/// What is said of each module from elsewhere.
const OF_ALL_MODULES: [&str; 2] = ["loading out-of-tree module", "module verification failed"];
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
/// Both drivers say it when SNP was initialised. What went wrong before is over then.
const STARTED: &str = "SEV-SNP API:";
/// And one of these when it has found the PSP, ours the first. What it has said before is over,
/// too.
const FOUND: [&str; 2] = [": SEV enabled (", ": psp enabled"];
/// What the kernel itself says (arch/x86/virt/svm/sev.c, drivers/iommu/amd/init.c,
/// drivers/crypto/ccp), and what to do.
const KERNEL: [(&str, &str); 15] = [
    ("has not been reserved by BIOS", "switch SNP and its memory coverage on in the BIOS set-up"),
    ("RMP configuration not valid", "update the BIOS"),
    ("does not cover full system RAM", "switch SNP memory coverage on in the BIOS set-up"),
    (
        "IOMMU disabled",
        "remove iommu=off and amd_iommu=off from the kernel command line; switch the IOMMU on",
    ),
    ("passthrough mode", "remove iommu=pt or iommu.passthrough=1 from the kernel command line"),
    ("V2 page table mode", "remove amd_iommu=pgtbl_v2 from the kernel command line"),
    (
        "IOMMU SNP feature not enabled",
        "switch SNP on for the IOMMU in the BIOS set-up, or update it",
    ),
    ("RMP initialization failed", "the line before says why"),
    ("not all CPUs online", "bring all CPUs online (chcpu -e), reload kvm_amd"),
    (
        "memory encryption not enabled by BIOS",
        "switch SMEE (SME, memory encryption) on in the BIOS set-up",
    ),
    ("might be running a broken BIOS", "switch the PSP on in the BIOS set-up, or update the BIOS"),
    ("timed out, disabling PSP", "reload ccp, or restart the machine; newer firmware"),
    (
        "SNP_INIT_EX failed",
        "SNP, IOMMU and SNP memory coverage on in the BIOS set-up; see lines above; newer BIOS",
    ),
    (
        "requires at least version",
        "newer firmware: package amd64-microcode or linux-firmware, or a BIOS update",
    ),
    ("could not enable MSI", "remove pci=nomsi from the kernel command line"),
];

/// Names each line that somebody should do something about.
pub fn check(host: &Host, report: &mut Report) {
    let log = match host.log() {
        Ok(log) => log,
        Err(why) => return report.unknown("log", why.of("the kernel's log"), why.todo()),
    };
    let found = trouble(log, host.has("/sys/module/ccp"));
    if found.is_empty() {
        report.ok("log", "no trouble with SEV, SNP or the PSP since SNP was started");
    }
    for (line, todo) in found {
        report.no("log", line, todo);
    }
}

/// Lines, each once, and what to do. What modules said does not count when they are gone.
fn trouble(log: &[Message], loaded: bool) -> Vec<(String, String)> {
    let behind_last = |of_these: &[&str]| {
        let is_one = |message: &Message| of_these.iter().any(|words| message.text.contains(words));
        log.iter().rposition(is_one).map_or(0, |at| at + 1)
    };
    let started = behind_last(&[STARTED]);
    let found = if loaded { behind_last(&FOUND).max(started) } else { log.len() };
    let mut out: Vec<(String, String)> = Vec::new();
    for (at, message) in log.iter().enumerate() {
        let speaks =
            |speakers: &[&str]| speakers.iter().any(|speaker| message.text.starts_with(speaker));
        let counts = speaks(&MODULES) && at >= found || speaks(&BUILT_IN) && at >= started;
        if !counts || OF_ALL_MODULES.iter().any(|words| message.text.contains(words)) {
            continue;
        }
        let Some(todo) = todo(message) else { continue };
        if out.iter().all(|(line, _)| *line != message.text) {
            out.push((message.text.clone(), todo));
        }
    }
    out
}

/// What to do about a line; [`None`] if nothing.
fn todo(message: &Message) -> Option<String> {
    if let Some(code) = code(&message.text) {
        let todo = rows(ERRORS).find(|(name, _)| *name == code).map(|(_, todo)| plain(todo));
        let todo = todo.unwrap_or_else(|| "Documentation/errors.md".into());
        return (message.level <= NOTICE && !todo.starts_with("nothing")).then_some(todo);
    }
    if message.level > WARNING {
        return None;
    }
    let known = KERNEL.iter().find(|(words, _)| message.text.contains(words));
    Some(known.map_or("as the line says", |(_, todo)| todo).to_owned())
}

/// The code at the end of a line of the driver's: "… [pages-lost]".
fn code(text: &str) -> Option<&str> {
    let code = text.strip_suffix(']')?.rsplit_once(" [")?.1;
    (code.contains('-') && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        .then_some(code)
}

/// The rows of all tables that have the column "code": that, and what to do.
fn rows(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut code, mut todo) = (None, None);
    page.lines().filter_map(move |line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        if cells.contains(&"code") || cells.contains(&"message") {
            let place = |name| cells.iter().position(|cell| *cell == name);
            (code, todo) = (place("code"), place("what to do"));
            return None;
        }
        Some((cells.get(code?)?.trim_matches('`'), *cells.get(todo?)?))
    })
}

/// Markdown without its marks.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, after)) = link.split_once("](") else { break };
        let Some((_, after)) = after.split_once(')') else { break };
        out.extend([before, words]);
        rest = after;
    }
    out.push_str(rest);
    out.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: u8, text: &str) -> Message {
        Message { level, text: text.into() }
    }

    fn lines(log: &[Message]) -> Vec<String> {
        trouble(log, true).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn only_what_came_after_the_start_counts() {
        let bad = message(3, "ccp 0000:41:00.0: SNP_INIT_EX failed: X");
        let good = message(6, "ccp 0000:41:00.0: SEV-SNP API:1.55 build:21");
        assert_eq!(lines(&[bad.clone(), good.clone()]), Vec::<String>::new());
        assert_eq!(lines(&[good.clone(), bad.clone(), bad.clone()]), [bad.text.clone()]);
        // The last start counts.
        assert_eq!(lines(&[good.clone(), bad, good]), Vec::<String>::new());
    }

    #[test]
    fn a_module_that_was_loaded_anew_starts_anew() {
        let bad = message(3, "snp_host: SNP is not enabled: CPUs 1 are present but offline");
        let found = message(6, "ccp 0000:41:00.0: SEV enabled (Milan, MSI-X)");
        let boot = message(4, "AMD-Vi: SNP: IOMMU disabled, SNP cannot be supported.");
        assert_eq!(lines(&[boot.clone(), bad.clone(), found.clone()]), [boot.text.clone()]);
        assert_eq!(lines(&[found, bad.clone()]), [bad.text.clone()]);
        assert_eq!(trouble(&[boot, bad], false).len(), 1);
        assert!(lines(&[message(4, "ccp: loading out-of-tree module taints kernel.")]).is_empty());
    }

    #[test]
    fn others_may_say_what_they_want() {
        assert!(lines(&[
            message(3, "usb 1-1: ccp failed"),
            message(6, "ccp 0000:41:00.0: enabled")
        ])
        .is_empty());
    }

    #[test]
    fn what_the_kernel_says_has_a_remedy() {
        let text = "SEV-SNP: Memory for the RMP table has not been reserved by BIOS";
        assert!(trouble(&[message(3, text)], false)[0].1.contains("memory coverage"));
    }

    #[test]
    fn codes_lead_to_rows() {
        assert_eq!(code("ccp: N pages are lost [pages-lost]"), Some("pages-lost"));
        assert_eq!(code("snp_host: RMP [0x1000-0x2000]"), None);
        let page = "| code | message | cause | what to do | test |\n|---|---|---|---|---|\n\
                    | `a-b` | `m` | c | [do](x.md#y) `that` | `t` |\n\n| driver | x |\n| a | b |\n";
        assert_eq!(rows(page).collect::<Vec<_>>(), [("a-b", "[do](x.md#y) `that`")]);
        assert_eq!(plain("[do](x.md#y) `that`"), "do that");
    }
}
