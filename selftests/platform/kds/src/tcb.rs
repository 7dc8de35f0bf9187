// SPDX-License-Identifier: GPL-2.0
//! The parts of a TCB version.

use std::fmt;
use std::str::FromStr;

use psp::{Part, TcbLayout};

/// A TCB version, as firmware has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb(pub u64);

/// How a query of the service has a number, and in which order: clients differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Two digits at least: virtee's tools.
    Padded,
    /// As few digits as there are: go-sev-guest.
    Plain,
}

impl Tcb {
    /// Security version numbers by the last part of their object identifiers
    /// (1.3.6.1.4.1.3704.1.3.n): 1 boot loader, 2 TEE, 3 SNP, 4 to 7 reserved, 8 microcode, 9 FMC,
    /// which Turin has in the place of the first reserved one.
    pub(crate) fn by_oid(self, part: Part) -> Vec<(u32, u8)> {
        let bytes = self.0.to_le_bytes();
        let TcbLayout { fmc, boot_loader, tee, snp, microcode } = part.tcb_layout();
        let named = [fmc, Some(boot_loader), Some(tee), Some(snp), Some(microcode)];
        let reserved = (0..bytes.len()).filter(|at| !named.contains(&Some(*at)));
        let mut all = vec![(1, boot_loader), (2, tee), (3, snp)];
        all.extend((4..8).skip(usize::from(fmc.is_some())).zip(reserved));
        all.push((8, microcode));
        all.extend(fmc.map(|at| (9, at)));
        all.into_iter().map(|(oid, at)| (oid, bytes[at])).collect()
    }

    /// The query of a URL of the service.
    pub fn query(self, part: Part, style: Style) -> String {
        let width = match style {
            Style::Padded => 2,
            Style::Plain => 1,
        };
        let number = |(name, byte)| format!("{name}={byte:0width$}");
        self.by_name(part).into_iter().map(number).collect::<Vec<_>>().join("&")
    }

    /// The numbers of a query, by their names.
    fn by_name(self, part: Part) -> Vec<(&'static str, u8)> {
        let bytes = self.0.to_le_bytes();
        names(part).into_iter().map(|(name, at)| (name, bytes[at])).collect()
    }

    /// The version that a query is about, however it has its numbers. What it does not name is 0.
    pub fn from_query(part: Part, query: &str) -> Option<Tcb> {
        let mut bytes = [0; 8];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let (_, at) = names(part).into_iter().find(|(known, _)| *known == name)?;
            bytes[at] = value.parse().ok()?;
        }
        Some(Tcb(u64::from_le_bytes(bytes)))
    }
}

fn names(part: Part) -> Vec<(&'static str, usize)> {
    let TcbLayout { fmc, boot_loader, tee, snp, microcode } = part.tcb_layout();
    let others =
        [("blSPL", boot_loader), ("teeSPL", tee), ("snpSPL", snp), ("ucodeSPL", microcode)];
    fmc.map(|at| ("fmcSPL", at)).into_iter().chain(others).collect()
}

impl FromStr for Tcb {
    type Err = String;

    fn from_str(text: &str) -> Result<Tcb, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u64::from_str_radix(digits, 16).map(Tcb);
        number.map_err(|_| format!("'{text}' is no hexadecimal number of 64 bits"))
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_and_queries_look_as_those_of_clients() {
        let tcb = Tcb(0xdb14_0000_0000_0004);
        assert_eq!("0xdb14000000000004".parse(), Ok(tcb));
        assert_eq!(tcb.to_string().parse(), Ok(tcb));
        assert!("db14000000000004x".parse::<Tcb>().is_err());
        let turin = Tcb(0x4e00_0000_0305_0201);
        let rows = [
            (tcb, Part::Milan, Style::Padded, "blSPL=04&teeSPL=00&snpSPL=20&ucodeSPL=219"),
            (tcb, Part::Genoa, Style::Plain, "blSPL=4&teeSPL=0&snpSPL=20&ucodeSPL=219"),
            (
                turin,
                Part::Turin,
                Style::Padded,
                "fmcSPL=01&blSPL=02&teeSPL=05&snpSPL=03&ucodeSPL=78",
            ),
        ];
        for (tcb, part, style, query) in rows {
            assert_eq!(tcb.query(part, style), query);
            assert_eq!(Tcb::from_query(part, query), Some(tcb), "{query}");
        }
        let other_order = "ucodeSPL=219&snpSPL=0020&blSPL=4";
        assert_eq!(Tcb::from_query(Part::Milan, other_order), Some(tcb));
        for bad in ["fmcSPL=1", "blSPL=256", "blSPL", "blSPL=-1", "blSPL=4&x=1"] {
            assert_eq!(Tcb::from_query(Part::Milan, bad), None, "{bad}");
        }
    }

    #[test]
    fn turin_has_no_fourth_number_but_a_ninth() {
        let numbers = |part| Tcb(0x0807_0605_0403_0201).by_oid(part);
        let milan = [(1, 1), (2, 2), (3, 7), (4, 3), (5, 4), (6, 5), (7, 6), (8, 8)];
        assert_eq!(numbers(Part::Milan), milan);
        let turin = [(1, 2), (2, 3), (3, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 1)];
        assert_eq!(numbers(Part::Turin), turin);
    }
}
