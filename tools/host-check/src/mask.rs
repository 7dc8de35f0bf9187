// SPDX-License-Identifier: GPL-2.0

//! Takes out of texts what tells one machine from another: serial numbers, chip ids, addresses of
//! networks, names of disks and whatever else a command line may have.

use crate::host::Message;

/// Who may speak in the log of an archive.
const SPEAKERS: [&str; 13] = [
    "Linux version ",
    "BIOS-e820:",
    "SEV",
    "AMD-Vi:",
    "iommu:",
    "smp:",
    "smpboot:",
    "microcode:",
    "ccp",
    "snp_host:",
    "kvm_amd:",
    "kvm:",
    "RMP",
];
/// Parameters of the kernel that go into the archive with their values; of others the name alone
/// does.
const PARAMETERS: [&str; 26] = [
    "amd_iommu",
    "ccp",
    "crashkernel",
    "efi",
    "hugepages",
    "hugepagesz",
    "init_on_alloc",
    "intremap",
    "iommu",
    "isolcpus",
    "kvm",
    "kvm_amd",
    "lockdown",
    "maxcpus",
    "mem",
    "mem_encrypt",
    "memmap",
    "mitigations",
    "module",
    "module_blacklist",
    "nosmt",
    "nr_cpus",
    "pci",
    "sev",
    "snp_host",
    "transparent_hugepage",
];
const MASK: &str = "…";
/// As many digits have an address and a TCB; a chip id has 128, a UUID 32.
const LONGEST_NUMBER: usize = 20;

/// The lines that are about SEV, SNP, the PSP, and what they stand on.
pub fn log(log: &[Message]) -> String {
    let lines = log
        .iter()
        .filter(|message| SPEAKERS.iter().any(|speaker| message.text.starts_with(speaker)));
    let lines = lines.map(|message| format!("<{}> {}", message.level, line(&message.text)));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Any text: words that are long numbers or addresses of networks are masked.
pub fn line(text: &str) -> String {
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == ':');
    let mut out = String::new();
    for part in text.split_inclusive(end) {
        let word = part.trim_end_matches(end);
        out += if tells(word) { MASK } else { word };
        out += &part[word.len()..];
    }
    out
}

/// Whether a word tells which machine it is: a UUID, an Ethernet address, or a number of many
/// digits.
fn tells(word: &str) -> bool {
    let digits = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = word.split([':', '-']).collect();
    if parts.len() >= 6 && parts.iter().all(|part| digits(part, 2)) {
        return true;
    }
    let number = word.replace(['-', ':'], "");
    number.len() > LONGEST_NUMBER
        && number.trim_start_matches("0x").bytes().all(|b| b.is_ascii_hexdigit())
}

/// A kernel command line.
pub fn command_line(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let (name, value) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let owner = name.split('.').next().unwrap_or_default().replace('-', "_");
        match value {
            Some(_) if !PARAMETERS.contains(&owner.as_str()) => format!("{name}={MASK}"),
            _ => line(word),
        }
    });
    words.collect::<Vec<_>>().join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_is_masked() {
        let chip = "ab12".repeat(32);
        for secret in [
            chip.as_str(),
            "52:54:00:12:34:56",
            "123e4567-e89b-12d3-a456-426614174000",
            "123456789012345678901",
            "00-11-22-33-44-55-66-77",
        ] {
            assert_eq!(line(&format!("id={secret}, end")), "id=…, end");
        }
    }

    #[test]
    fn what_helps_stays() {
        for text in [
            "ccp 0000:41:00.0: SEV-SNP API:1.55 build:21",
            "RMP table physical range [0x0000000038080000 - 0x00000000388fffff]",
            "attestation reports have TCB 0xdb14000000000004, firmware has 0xdb16000000000004",
            "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn of_the_command_line_names_stay() {
        assert_eq!(
            command_line(
                "BOOT_IMAGE=/vmlinuz root=UUID=1-2 iommu=pt kvm-amd.sev=1 quiet password=x"
            ),
            "BOOT_IMAGE=… root=… iommu=pt kvm-amd.sev=1 quiet password=…\n"
        );
    }

    #[test]
    fn others_do_not_speak() {
        let message = |text: &str| Message { level: 6, text: text.into() };
        let all = [message("usb 1-1: SerialNumber: A1"), message("ccp 0000:41:00.0: SEV enabled")];
        assert_eq!(log(&all), "<6> ccp 0000:41:00.0: SEV enabled\n");
    }
}
