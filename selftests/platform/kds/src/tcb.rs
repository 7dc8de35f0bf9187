// SPDX-License-Identifier: GPL-2.0
//! The parts of a TCB version, in the layout of Milan and Genoa.

use std::fmt;
use std::str::FromStr;

/// A TCB version. Byte 0 is the boot loader, 1 the TEE, 6 SNP, 7 the microcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb(pub u64);

impl Tcb {
    /// Security version numbers by the last part of their object identifiers
    /// (1.3.6.1.4.1.3704.1.3.n): 1 boot loader, 2 TEE, 3 SNP, 4 to 7 reserved, 8 microcode.
    pub(crate) fn by_oid(self) -> [(u32, u8); 8] {
        let [boot_loader, tee, spl4, spl5, spl6, spl7, snp, microcode] = self.0.to_le_bytes();
        [
            (1, boot_loader),
            (2, tee),
            (3, snp),
            (4, spl4),
            (5, spl5),
            (6, spl6),
            (7, spl7),
            (8, microcode),
        ]
    }
}

impl FromStr for Tcb {
    type Err = String;

    fn from_str(text: &str) -> Result<Tcb, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u64::from_str_radix(digits, 16).map(Tcb);
        number.map_err(|_| format!("'{text}' is no hexadecimal number of 64 bits"))
    }
}

/// As in the query of a URL of the service.
impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [boot_loader, tee, _, _, _, _, snp, microcode] = self.0.to_le_bytes();
        write!(f, "blSPL={boot_loader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_and_queries_look_as_those_of_snphost() {
        let tcb = Tcb(0xdb14_0000_0000_0004);
        assert_eq!("0xdb14000000000004".parse(), Ok(tcb));
        assert!("db14000000000004x".parse::<Tcb>().is_err());
        assert_eq!(tcb.to_string(), "blSPL=04&teeSPL=00&snpSPL=20&ucodeSPL=219");
    }
}
