// SPDX-License-Identifier: GPL-2.0
//! What differs from one modelled part to another.

use std::fmt;
use std::str::FromStr;

use crate::part::Part;
use crate::snp::tcb;

/// A firmware version. Legacy PLATFORM_STATUS and SNP_PLATFORM_STATUS report the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api {
    /// API major.
    pub major: u8,
    /// API minor.
    pub minor: u8,
    /// Build id.
    pub build: u8,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Api, String> {
        let parts: Result<Vec<u8>, _> = text.split('.').map(str::parse).collect();
        match parts.as_deref() {
            Ok([major, minor, build]) => Ok(Api { major: *major, minor: *minor, build: *build }),
            _ => Err(format!("'{text}' is no version; write MAJOR.MINOR.BUILD, e.g. 1.55.21")),
        }
    }
}

impl Api {
    /// Whether the firmware commits what it is replaced with by DOWNLOAD_FIRMWARE
    /// (sev_update_firmware(), sev-dev.c).
    pub(crate) fn commits_downloads(self) -> bool {
        (self.major, self.minor) >= (1, 50)
    }

    /// Whether contexts and ASIDs are as good after SNP_DOWNLOAD_FIRMWARE_EX as before (Andersen's
    /// patches: from 1.58 on).
    pub(crate) fn needs_no_flush_after_download(self) -> bool {
        (self.major, self.minor) >= (1, 58)
    }

    /// Whether SNP_FEATURE_INFO exists. The first version that has it is not public; 1.55 has
    /// (model choice).
    pub(crate) fn has_feature_info(self) -> bool {
        (self.major, self.minor) >= (1, 55)
    }

    /// Whether the IOMMU's pages become Reclaim at shutdown, not Hypervisor (sev-dev.c: from 1.53
    /// on).
    pub(crate) fn reclaims_iommu_pages(self) -> bool {
        (self.major, self.minor) >= (1, 53)
    }

    /// Whether a guest's policy can forbid that its pages are swapped.
    pub(crate) fn has_page_swap_disable(self) -> bool {
        (self.major, self.minor) >= (1, 58)
    }

    /// Whether reports and derived keys know of verified mitigations (virtee/sev: from 1.58 on).
    pub(crate) fn attests_mitigations(self) -> bool {
        (self.major, self.minor) >= (1, 58)
    }

    /// The version of reports. 3 is the first with the CPU's family, model and stepping, 4 has
    /// nothing else that is public, 5 has mitigations. Public reports: 2 of 1.52.4 (virtee/sev,
    /// tests/certs_data), 4 of 1.55.31 (virtee/sev, pull request 307), 5 of a Turin (AMDSEV issue
    /// 285). The first firmware with 3 is not public; 1.55 has it (model choice).
    pub(crate) fn report_version(self) -> u32 {
        match (self.major, self.minor, self.build) {
            version if version >= (1, 58, 0) => 5,
            version if version >= (1, 55, 31) => 4,
            version if version >= (1, 55, 0) => 3,
            _ => 2,
        }
    }

    /// Whether SNP_INIT_EX exists (sev-dev.c: from 1.52 on).
    pub(crate) fn has_init_ex(self) -> bool {
        (self.major, self.minor) >= (1, 52)
    }
}

/// A modelled part with its firmware.
#[derive(Clone, Debug)]
pub struct Config {
    /// The generation.
    pub part: Part,
    /// Version of the firmware that the BIOS loads.
    pub api: Api,
    /// Whether SNP_SHUTDOWN_EX can clear SNP_EN (FEATURE_INFO.ECX bit 1).
    pub x86_shutdown: bool,
    /// Whether SNP_INIT looks at the CPUs' settings and the IOMMU's. Without, it believes the host.
    pub checks: bool,
    /// Number of the C-bit (CPUID 8000001F EBX 5:0). Drivers set it in addresses, or not.
    pub c_bit: u32,
    /// Largest ASID (CPUID 8000001F ECX).
    pub max_asid: u32,
    /// Smallest ASID of SEV guests without ES (CPUID 8000001F EDX); ES and SNP use those below.
    pub min_sev_asid: u32,
    /// Frequency of the machine's TSC, which the TSC of a guest with Secure TSC is a multiple of.
    pub tsc_khz: u32,
    /// Security version numbers in the layout of the part, as TCB_VERSION.
    pub tcb: u64,
    /// Firmware version and TCB that the chip does not go back behind, if they are not those above.
    pub committed_api: Option<Api>,
    /// See [`Config::committed_api`].
    pub committed_tcb: Option<u64>,
    /// Whether SMT is on: then a guest whose policy forbids it cannot be launched.
    pub smt: bool,
    /// A CPUID function (EAX) that has to be all zero in a guest's table.
    pub cpuid_refused: Option<u32>,
    /// Where the chip's identity and keys come from. The same seed gives the same chip.
    pub seed: u64,
    /// That of the chip in the other socket, if there is one.
    pub second_seed: Option<u64>,
}

impl Config {
    /// Whether what is committed is not newer than the firmware, in no part.
    pub fn commits_what_it_has(&self) -> bool {
        let api = self.committed_api.is_none_or(|api| api <= self.api);
        api && self.committed_tcb.is_none_or(|tcb| tcb::within(tcb, self.tcb))
    }

    /// A Milan.
    pub const MILAN: Config = Config::new(Part::Milan);

    /// A processor with firmware that Linux 7.3 uses fully. All parts of its TCB version differ,
    /// and SNP's stays below 0x1b, or 4 of Turin, from where on Linux offers no plain SEV-ES next
    /// to SNP (AMD-SB-3023).
    pub const fn new(part: Part) -> Config {
        let (minor, build, tcb) = match part {
            Part::Milan => (55, 21, 0xdb14_0000_0000_0004),
            Part::Genoa => (55, 24, 0x4815_0000_0000_0009),
            Part::Turin => (58, 4, 0x4e00_0000_0305_0201),
        };
        Config { part, api: Api { major: 1, minor, build }, tcb, ..Config::ANY }
    }

    /// What no generation differs in.
    const ANY: Config = Config {
        part: Part::Milan,
        api: Api { major: 0, minor: 0, build: 0 },
        x86_shutdown: true,
        checks: true,
        c_bit: 51,
        max_asid: 100,
        min_sev_asid: 50,
        tsc_khz: 2_450_000,
        tcb: 0,
        committed_api: None,
        committed_tcb: None,
        smt: false,
        cpuid_refused: None,
        seed: 0,
        second_seed: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_or_say_why_not() {
        assert_eq!("1.55.21".parse(), Ok(Config::MILAN.api));
        for bad in ["", "1.55", "1.55.256", "1.55.21.0", "a.b.c"] {
            assert!(bad.parse::<Api>().unwrap_err().contains("MAJOR.MINOR.BUILD"), "{bad}");
        }
    }
}
