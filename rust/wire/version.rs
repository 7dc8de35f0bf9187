// SPDX-License-Identifier: GPL-2.0

//! Versions: of the firmware API, and of the trusted computing base.

use core::fmt;

/// Version of the SEV API that the firmware implements, with its build number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ApiVersion {
    /// Major.
    pub(crate) major: u8,
    /// Minor.
    pub(crate) minor: u8,
    /// Build; says nothing about features. 32 bits wide in SNP_PLATFORM_STATUS, 8 in
    /// PLATFORM_STATUS; firmware gives the same number.
    pub(crate) build: u32,
}

impl ApiVersion {
    /// Whether the API is at least the version with this major and minor number.
    pub(crate) fn at_least(self, version: (u8, u8)) -> bool {
        (self.major, self.minor) >= version
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Where the security version of the SNP firmware stands in the 64-bit TCB version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TcbLayout {
    /// Milan and Genoa: boot loader, TEE, 4 reserved, SNP, microcode.
    MilanGenoa,
    /// Turin: FMC, boot loader, TEE, SNP, 3 reserved, microcode.
    Turin,
}

impl TcbLayout {
    /// Security version number of the SNP firmware in `tcb`.
    pub(crate) fn snp_svn(self, tcb: u64) -> u8 {
        let bytes = tcb.to_le_bytes();
        match self {
            TcbLayout::MilanGenoa => bytes[6],
            TcbLayout::Turin => bytes[3],
        }
    }
}
