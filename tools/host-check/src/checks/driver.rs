// SPDX-License-Identifier: GPL-2.0

//! The PSP and the driver that has it.

use crate::{
    host::{Host, Why},
    ioctl,
    report::Report,
};

const DEVICES: &str = "/sys/bus/pci/devices";
/// The PCI functions with SEV: drivers/crypto/ccp/sp-pci.c, those whose `psp_vdata` has a
/// `sev_vdata`.
const WITH_SEV: [(&str, &str); 5] = [
    ("0x1456", "Naples"),
    ("0x1486", "Rome or Milan"),
    ("0x14ca", "Genoa"),
    ("0x156e", "Turin or later"),
    ("0x17d8", "Turin or later"),
];
/// The bit of KVM_X86_SNP_VM (arch/x86/include/uapi/asm/kvm.h).
const SNP_VM: u32 = 1 << 4;

/// Everything about them.
pub fn check(host: &Host, report: &mut Report) {
    psps(host, report);
    kvm(host, report);
}

/// Who has the PSP.
fn psps(host: &Host, report: &mut Report) {
    let psps = functions(host);
    if psps.is_empty() {
        report.no(
            "psp",
            "there is no PCI function with SEV",
            "switch the PSP on in the BIOS set-up, or update the BIOS",
        );
    }
    for (address, name) in &psps {
        match host.link(&format!("{DEVICES}/{address}/driver")).as_deref() {
            Some("ccp") => report.ok("psp", format!("{address} ({name}) has the driver ccp")),
            Some(other) => report.no(
                "psp",
                format!("{address} ({name}) is in the hands of {other}"),
                format!("unbind it (/sys/bus/pci/drivers/{other}/unbind), and bind it to ccp"),
            ),
            None if !host.has("/sys/module/ccp") => {
                report.no("psp", format!("{address} ({name}) has no driver: ccp is not loaded"), "modprobe kvm_amd")
            }
            None => report.no(
                "psp",
                format!("{address} ({name}) has no driver, although ccp is loaded"),
                format!("echo {address} >/sys/bus/pci/drivers/ccp/bind; why it failed is in the kernel's log"),
            ),
        }
    }
}

/// The PSP's functions: address, generation.
fn functions(host: &Host) -> Vec<(String, &'static str)> {
    let read = |address: &str, file: &str| {
        host.read(&format!("{DEVICES}/{address}/{file}")).unwrap_or_default()
    };
    host.list(DEVICES)
        .into_iter()
        .filter(|address| read(address, "vendor") == "0x1022")
        .filter_map(|address| {
            let device = read(&address, "device");
            let (_, name) = WITH_SEV.iter().find(|(id, _)| *id == device)?;
            Some((address, *name))
        })
        .collect()
}

/// What KVM offers.
fn kvm(host: &Host, report: &mut Report) {
    if !host.has("/sys/module/kvm_amd") {
        return report.no(
            "kvm",
            "kvm_amd is not loaded, and SNP is initialised for it",
            "modprobe kvm_amd",
        );
    }
    let off: Vec<&str> = ["sev", "sev_es", "sev_snp"]
        .into_iter()
        .filter(|name| {
            host.read(&format!("/sys/module/kvm_amd/parameters/{name}")).as_deref() != Ok("Y")
        })
        .collect();
    if off.is_empty() {
        report.ok("kvm", "kvm_amd offers SEV, SEV-ES and SEV-SNP guests");
        match ioctl::vm_types(host) {
            Ok(types) if types & SNP_VM != 0 => report.ok("kvm-snp", "KVM makes SNP guests"),
            Ok(_) => report.no("kvm-snp", "KVM makes no SNP guests", "reload kvm_amd"),
            Err(Why::Missing) => {
                report.no("kvm-snp", "there is no /dev/kvm", "switch SVM on in the BIOS set-up")
            }
            Err(why) => report.unknown("kvm-snp", why.of("/dev/kvm"), why.todo()),
        }
    } else {
        report.no(
            "kvm",
            format!("kvm_amd has {} off", off.join(", ")),
            "other lines say why; without kvm_amd.sev=0 and the like reload kvm_amd",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Fake;

    /// What is said of a PSP with this driver, and the status.
    fn said(files: &[(&str, &str)]) -> (u8, String) {
        let psp = [
            ("/sys/bus/pci/devices/0000:41:00.0/vendor", "0x1022\n"),
            ("/sys/bus/pci/devices/0000:41:00.0/device", "0x14ca\n"),
            ("/sys/bus/pci/devices/0000:42:00.0/vendor", "0x10de\n"),
            ("/sys/bus/pci/devices/0000:42:00.0/device", "0x14ca\n"),
        ];
        let (fake, mut report) = (Fake::with(&[&psp, files].concat()), Report::default());
        psps(&fake.host(), &mut report);
        assert_eq!(report.findings.len(), 1, "the other function is not AMD's");
        (report.status(), report.findings[0].text.clone())
    }

    #[test]
    fn who_holds_the_psp() {
        let driver = "/sys/bus/pci/devices/0000:41:00.0/driver";
        assert_eq!(said(&[(driver, "-> ../../drivers/ccp")]).0, 0);
        let (status, text) = said(&[(driver, "-> ../../drivers/vfio-pci")]);
        assert!(status == 1 && text.contains("in the hands of vfio-pci"), "{text}");
        assert!(said(&[]).1.contains("ccp is not loaded"));
        assert!(said(&[("/sys/module/ccp/refcnt", "0")]).1.contains("although ccp is loaded"));
    }

    #[test]
    fn no_psp_at_all() {
        let (fake, mut report) = (Fake::with(&[]), Report::default());
        psps(&fake.host(), &mut report);
        assert_eq!((report.status(), report.findings[0].name), (1, "psp"));
    }
}
