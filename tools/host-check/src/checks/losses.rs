// SPDX-License-Identifier: GPL-2.0

//! What this host uses of the in-tree driver, and ccp-rs does not have
//! (Documentation/differences.md).

use crate::{host::Host, report::Report};

/// Looks while the in-tree driver is loaded.
pub fn check(host: &Host, report: &mut Report) {
    if host.has("/sys/module/snp_host") || !host.has("/sys/module/ccp") {
        return;
    }
    let found: Vec<String> = [random(host), crypto(host), dma(host), boost(host), tio(host)]
        .into_iter()
        .flatten()
        .collect();
    if found.is_empty() {
        report
            .ok("losses", "this host uses nothing of the in-tree driver that ccp-rs does not have");
    }
    for text in found {
        report.no(
            "losses",
            text,
            "keep the in-tree driver, or do without (Documentation/differences.md)",
        );
    }
}

fn random(host: &Host) -> Option<String> {
    let current = host.read("/sys/class/misc/hw_random/rng_current").ok()?;
    current
        .starts_with("ccp")
        .then(|| format!("{current} feeds the kernel's random numbers, beside RDRAND"))
}

/// Algorithms of the crypto engine that somebody uses: each entry of /proc/crypto has one reference
/// of its own.
fn crypto(host: &Host) -> Option<String> {
    let text = host.read("/proc/crypto").ok()?;
    let used = users(&text);
    (!used.is_empty()).then(|| format!("the crypto engine works for somebody: {}", used.join(", ")))
}

fn users(text: &str) -> Vec<&str> {
    text.split("\n\n")
        .filter_map(|entry| {
            let field = |name: &str| {
                let line = entry
                    .lines()
                    .find(|line| line.split(':').next().map(str::trim) == Some(name))?;
                Some(line.split_once(':')?.1.trim())
            };
            let driver = field("driver")?;
            let count: u32 = field("refcnt")?.parse().ok()?;
            (driver.ends_with("-ccp") && count > 1).then_some(driver)
        })
        .collect()
}

fn dma(host: &Host) -> Option<String> {
    let used: Vec<String> = host
        .list("/sys/class/dma")
        .into_iter()
        .filter(|name| {
            host.link(&format!("/sys/class/dma/{name}/device/driver")).as_deref() == Some("ccp")
        })
        .filter(|name| {
            host.read(&format!("/sys/class/dma/{name}/in_use")).is_ok_and(|count| count != "0")
        })
        .collect();
    (!used.is_empty()).then(|| format!("DMA engines of the PSP are in use: {}", used.join(", ")))
}

fn boost(host: &Host) -> Option<String> {
    host.has("/dev/dbc").then(|| "there is /dev/dbc, dynamic boost control".into())
}

/// Devices that are connected. That there is a TSM means nothing: the in-tree driver registers one.
fn tio(host: &Host) -> Option<String> {
    let connected: Vec<String> = host
        .list("/sys/bus/pci/devices")
        .into_iter()
        .filter(|name| {
            let connect = host.read(&format!("/sys/bus/pci/devices/{name}/tsm/connect"));
            connect.is_ok_and(|tsm| !tsm.is_empty())
        })
        .collect();
    (!connected.is_empty())
        .then(|| format!("SEV-TIO encrypts the links to {}", connected.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Fake;

    const LOADED: (&str, &str) = ("/sys/module/ccp/refcnt", "1");
    const TSM: &str = "/sys/bus/pci/devices/0000:81:00.0/tsm/connect";

    fn found(files: &[(&str, &str)]) -> Vec<(u8, String)> {
        let (fake, mut report) = (Fake::with(files), Report::default());
        check(&fake.host(), &mut report);
        report.findings.iter().map(|finding| (report.status(), finding.text.clone())).collect()
    }

    #[test]
    fn what_this_host_would_lose() {
        let hwrng = "/sys/class/misc/hw_random/rng_current";
        for (files, words) in [
            (&[(hwrng, "ccp-1-rng")][..], "ccp-1-rng feeds"),
            (&[("/proc/crypto", "driver : sha1-ccp\nrefcnt : 2")], "sha1-ccp"),
            (&[("/dev/dbc", "")], "dynamic boost"),
            (&[(TSM, "tsm0\n")], "0000:81:00.0"),
            (
                &[
                    ("/sys/class/dma/dma0chan0/in_use", "1"),
                    ("/sys/class/dma/dma0chan0/device/driver", "-> ../drivers/ccp"),
                ],
                "dma0chan0",
            ),
        ] {
            let found = found(&[&[LOADED], files].concat());
            assert!(found.len() == 1 && found[0].0 == 1 && found[0].1.contains(words), "{found:?}");
        }
    }

    #[test]
    fn what_is_there_and_not_used_is_no_loss() {
        let files = [
            LOADED,
            ("/sys/class/misc/hw_random/rng_current", "tpm-rng-0"),
            ("/proc/crypto", "driver : sha1-ccp\nrefcnt : 1"),
            (TSM, "\n"),
            ("/sys/class/dma/dma0chan0/in_use", "0"),
            ("/sys/class/dma/dma0chan0/device/driver", "-> ../drivers/ccp"),
            ("/sys/class/dma/dma1chan0/in_use", "1"),
            ("/sys/class/dma/dma1chan0/device/driver", "-> ../drivers/idxd"),
        ];
        let found_there = found(&files);
        assert!(found_there.len() == 1 && found_there[0].0 == 0, "{found_there:?}");
        // Where ours is loaded, there is nothing to be lost.
        assert!(found(&[LOADED, ("/sys/module/snp_host/refcnt", "1"), ("/dev/dbc", "")]).is_empty());
    }

    #[test]
    fn who_uses_the_crypto_engine() {
        let text = "name         : cbc(aes)\ndriver       : cbc-aes-ccp\nrefcnt       : 2\n\n\
                    name         : sha1\ndriver       : sha1-ccp\nrefcnt       : 1\n\n\
                    name         : sha1\ndriver       : sha1-generic\nrefcnt       : 5";
        assert_eq!(users(text), ["cbc-aes-ccp"]);
    }
}
