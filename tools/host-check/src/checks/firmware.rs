// SPDX-License-Identifier: GPL-2.0

//! Firmware: its version, whether SNP is up, and its TCB.

use crate::{
    host::{Host, Why},
    ioctl::{self, Firmware, NoAnswer, Snp},
    report::Report,
};

/// SNP needs this version of the API (drivers/crypto/ccp/sev-dev.c, SNP_MIN_API_MAJOR).
const NEEDED: (u8, u8) = (1, 51);
const INITIALISED: u8 = 1;
const NEWER: &str = "newer firmware: package amd64-microcode or linux-firmware, or a BIOS update";

/// Everything that it tells.
pub fn check(host: &Host, report: &mut Report) {
    let sev = match ioctl::sev(host) {
        Ok(sev) => sev,
        Err(NoAnswer::Device(Why::Missing)) if !host.has("/sys/module/ccp") => {
            return report.unknown(
                "firmware",
                "firmware cannot be asked: ccp is not loaded",
                "modprobe ccp",
            );
        }
        Err(NoAnswer::Device(Why::Missing)) => {
            return report.no(
                "firmware",
                "the driver has no /dev/sev: firmware did not answer it, or there is no PSP",
                "lines of the kernel's log say why; BIOS update",
            );
        }
        Err(NoAnswer::Device(why)) => {
            return report.unknown("firmware", why.of("/dev/sev"), why.todo())
        }
        Err(NoAnswer::Call(error, status)) => {
            return no_answer("firmware", "PLATFORM_STATUS", &error, status, report)
        }
    };
    version(&sev, report);
    match ioctl::snp(host) {
        Ok(snp) => check_snp(&snp, report),
        Err(NoAnswer::Device(why)) => report.unknown("snp", why.of("/dev/sev"), why.todo()),
        Err(NoAnswer::Call(error, status)) => {
            no_answer("snp", "SNP_PLATFORM_STATUS", &error, status, report)
        }
    }
}

fn no_answer(
    name: &'static str,
    command: &str,
    error: &std::io::Error,
    status: u32,
    report: &mut Report,
) {
    report.no(
        name,
        format!("firmware gives no answer to {command}: {error}, status {status:#x}"),
        "bind the PSP again (/sys/bus/pci/drivers/ccp/) or reload ccp; if that does not help, restart the machine",
    );
}

fn version(firmware: &Firmware, report: &mut Report) {
    let (major, minor, build) = firmware.version;
    if (major, minor) >= NEEDED {
        report.ok("firmware", format!("API {major}.{minor}, build {build}"));
    } else {
        report.no(
            "firmware",
            format!("API {major}.{minor}, build {build}, and SNP needs {}.{}", NEEDED.0, NEEDED.1),
            NEWER,
        );
    }
}

fn check_snp(snp: &Snp, report: &mut Report) {
    if snp.firmware.state != INITIALISED || !snp.rmp {
        report.no(
            "snp",
            format!("SNP firmware is not initialised (state {})", snp.firmware.state),
            "reload kvm_amd; why it failed is in the kernel's log",
        );
        return;
    }
    report
        .ok("snp", format!("SNP firmware is initialised, and has {} guests", snp.firmware.guests));
    if snp.alias_check {
        report.ok("alias-check", "firmware has looked for memory that appears at two addresses");
    } else {
        report.no(
            "alias-check",
            "firmware has not looked for memory that appears at two addresses (BadRAM)",
            "update the BIOS",
        );
    }
    let (current, reported) = snp.tcb;
    if current == reported {
        report.ok("tcb", format!("reports have that of firmware, {current:#x}"));
    } else {
        report.no(
            "tcb",
            format!("reports have {reported:#x}, and firmware has {current:#x}"),
            "snphost commit raises the committed TCB, snphost config set the reported one",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn firmware(version: (u8, u8, u32), state: u8) -> Firmware {
        Firmware { version, state, guests: 0 }
    }

    #[test]
    fn the_version_that_snp_needs() {
        for (numbers, verdict) in [
            ((1, 50, 255), Verdict::No),
            ((1, 51, 0), Verdict::Ok),
            ((0, 99, 0), Verdict::No),
            ((2, 0, 0), Verdict::Ok),
        ] {
            let mut report = Report::default();
            version(&firmware(numbers, 1), &mut report);
            assert_eq!(report.findings[0].verdict, verdict, "{numbers:?}");
        }
    }

    #[test]
    fn what_snp_says() {
        let good =
            Snp { firmware: firmware((1, 55, 1), 1), rmp: true, alias_check: true, tcb: (7, 7) };
        for (snp, name) in [
            (Snp { firmware: firmware((1, 55, 1), 0), ..good.clone() }, "snp"),
            (Snp { rmp: false, ..good.clone() }, "snp"),
            (Snp { alias_check: false, ..good.clone() }, "alias-check"),
            (Snp { tcb: (8, 7), ..good.clone() }, "tcb"),
        ] {
            let mut report = Report::default();
            check_snp(&snp, &mut report);
            let wrong: Vec<_> = report
                .findings
                .iter()
                .filter(|f| f.verdict == Verdict::No)
                .map(|f| f.name)
                .collect();
            assert_eq!(wrong, [name]);
        }
        let mut report = Report::default();
        check_snp(&good, &mut report);
        assert_eq!(report.status(), 0);
    }
}
