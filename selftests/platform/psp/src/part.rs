// SPDX-License-Identifier: GPL-2.0
//! The processors that are modelled, and in what they differ.

use std::fmt;
use std::str::FromStr;

/// A generation of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

/// Which byte of a TCB version is which component's security version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbLayout {
    /// Of what loads the boot loader; older parts have none.
    pub fmc: Option<usize>,
    /// Boot loader.
    pub boot_loader: usize,
    /// TEE.
    pub tee: usize,
    /// SNP firmware.
    pub snp: usize,
    /// Microcode.
    pub microcode: usize,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Milan, Part::Genoa, Part::Turin];

    /// CPUID family, model and stepping, which are those of QEMU's models of that name.
    pub const fn cpu(self) -> [u8; 3] {
        match self {
            Part::Milan => [0x19, 0x01, 1],
            Part::Genoa => [0x19, 0x11, 0],
            Part::Turin => [0x1a, 0x00, 0],
        }
    }

    /// include/linux/psp-sev.h: `sev_snp_tcb_version_genoa_milan`, `sev_snp_tcb_version_turin`.
    pub const fn tcb_layout(self) -> TcbLayout {
        match self {
            Part::Milan | Part::Genoa => {
                TcbLayout { fmc: None, boot_loader: 0, tee: 1, snp: 6, microcode: 7 }
            }
            Part::Turin => TcbLayout { fmc: Some(0), boot_loader: 1, tee: 2, snp: 3, microcode: 7 },
        }
    }

    /// How many bytes of a chip's identifier are not zero (virtee/sev, AMDSEV issue 285).
    pub const fn chip_id_len(self) -> usize {
        match self {
            Part::Milan | Part::Genoa => 64,
            Part::Turin => 8,
        }
    }
}

/// As in names of certificates and in addresses of the key service.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Milan => "Milan",
            Part::Genoa => "Genoa",
            Part::Turin => "Turin",
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let named = |part: &Part| part.to_string().eq_ignore_ascii_case(text);
        let names = Part::ALL.map(|part| part.to_string().to_lowercase()).join(", ");
        let unknown = || format!("'{text}' is none of the parts {names}");
        Part::ALL.into_iter().find(named).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names() {
        for part in Part::ALL {
            assert_eq!(part.to_string().to_lowercase().parse(), Ok(part));
        }
        assert!("rome".parse::<Part>().unwrap_err().contains("milan, genoa, turin"));
    }
}
