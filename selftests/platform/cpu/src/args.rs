// SPDX-License-Identifier: GPL-2.0
//! The arguments after `-plugin file=…`.

use std::fmt;
use std::path::PathBuf;

use rmp::{Geometry, GeometryError};

/// What the plugin was asked to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// The file behind guest RAM.
    pub ram: PathBuf,
    /// Bytes of RAM below 4 GiB; the rest follows in the file and starts at 4 GiB.
    pub low: u64,
    /// The page shared with the PSP model.
    pub link: PathBuf,
    /// What the machine's firmware wrote to RMP_BASE and RMP_END.
    pub rmp: Geometry,
    /// Where notes and the summary go.
    pub log: Option<PathBuf>,
    /// Offer RMPREAD (CPUID 8000001F EAX bit 21), as Zen 5 does.
    pub rmpread: bool,
    /// Power on with SNP_EN set on every CPU, as a kernel finds it that was started by kexec.
    pub snp_en: bool,
    /// Report writes to pages that the RMP gives away.
    pub rmp_check: bool,
    /// Run SEV-ES and SNP guests, instead of refusing them.
    pub guest: bool,
}

/// Why the arguments make no machine.
#[derive(Debug, PartialEq, Eq)]
pub enum ArgError {
    /// Not `name=value` with a name from the table.
    Unknown(String),
    /// The value does not parse; the last field says what would.
    Value(&'static str, String, &'static str),
    /// Given twice.
    Twice(&'static str),
    /// Not given, and there is no default.
    Missing(&'static str),
    /// `low` reaches beyond 4 GiB.
    Low(u64),
    /// `rmp_base` and `rmp_end` describe no table.
    Rmp(GeometryError),
}

/// Every argument, in the order in which [`Args::parse`] keeps the values.
const NAMES: [&str; 10] =
    ["ram", "low", "link", "rmp_base", "rmp_end", "log", "rmpread", "snp_en", "rmp_check", "guest"];

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgError::Unknown(arg) => {
                write!(f, "unknown argument '{arg}'; the arguments are {}=", NAMES.join("=, "))
            }
            ArgError::Value(name, value, wants) => {
                write!(f, "{name}={value}: {name} must be {wants}")
            }
            ArgError::Twice(name) => write!(f, "{name}= is given twice"),
            ArgError::Missing(name) => write!(f, "{name}= is missing"),
            ArgError::Low(low) => {
                write!(f, "low={low:#x}: low RAM ends at 4 GiB (0x100000000) at the latest")
            }
            ArgError::Rmp(error) => write!(f, "rmp_base= and rmp_end= describe no RMP: {error}"),
        }
    }
}

impl Args {
    /// Parses `name=value` strings.
    pub fn parse<'a>(args: impl Iterator<Item = &'a str>) -> Result<Args, ArgError> {
        let mut values: [Option<&str>; NAMES.len()] = [None; NAMES.len()];
        for arg in args {
            let found = arg.split_once('=').and_then(|(name, value)| {
                NAMES.iter().position(|known| *known == name).map(|slot| (slot, value))
            });
            let Some((slot, value)) = found else {
                return Err(ArgError::Unknown(arg.to_owned()));
            };
            if values[slot].replace(value).is_some() {
                return Err(ArgError::Twice(NAMES[slot]));
            }
        }
        let [ram, low, link, rmp_base, rmp_end, log, rmpread, snp_en, rmp_check, guest] = values;
        let low = number("low", low)?;
        if low > 4 << 30 {
            return Err(ArgError::Low(low));
        }
        Ok(Args {
            ram: path("ram", ram)?.ok_or(ArgError::Missing("ram"))?,
            low,
            link: path("link", link)?.ok_or(ArgError::Missing("link"))?,
            rmp: Geometry::new(number("rmp_base", rmp_base)?, number("rmp_end", rmp_end)?)
                .map_err(ArgError::Rmp)?,
            log: path("log", log)?,
            rmpread: switch("rmpread", rmpread)?,
            snp_en: switch("snp_en", snp_en)?,
            rmp_check: switch("rmp_check", rmp_check)?,
            guest: switch("guest", guest)?,
        })
    }
}

fn path(name: &'static str, value: Option<&str>) -> Result<Option<PathBuf>, ArgError> {
    match value {
        Some("") => Err(ArgError::Value(name, String::new(), "a file name")),
        value => Ok(value.map(PathBuf::from)),
    }
}

fn number(name: &'static str, value: Option<&str>) -> Result<u64, ArgError> {
    let value = value.ok_or(ArgError::Missing(name))?;
    let parsed = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| ArgError::Value(name, value.to_owned(), "a number, decimal or 0x…"))
}

fn switch(name: &'static str, value: Option<&str>) -> Result<bool, ArgError> {
    match value {
        None | Some("off" | "0") => Ok(false),
        Some("on" | "1") => Ok(true),
        Some(other) => Err(ArgError::Value(name, other.to_owned(), "on or off (or 1 or 0)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "ram=/r/ram low=0x80000000 link=/r/link rmp_base=939524096 rmp_end=0x38ffffff";

    fn parse(args: &str) -> Result<Args, ArgError> {
        Args::parse(args.split_whitespace())
    }

    #[test]
    fn the_runners_line_parses() {
        let args = parse(&format!("{GOOD} log=/r/cpu.log rmpread=on")).unwrap();
        assert_eq!(args.ram.to_str(), Some("/r/ram"));
        assert_eq!(args.low, 2 << 30);
        assert_eq!((args.rmp.base(), args.rmp.end()), (0x3800_0000, 0x38ff_ffff));
        assert_eq!(args.log, Some(PathBuf::from("/r/cpu.log")));
        assert!(args.rmpread && !args.snp_en);
    }

    #[test]
    fn every_refusal_names_its_argument() {
        let rows = [
            (format!("{GOOD} fast=1"), "unknown argument 'fast=1'"),
            (format!("{GOOD} log"), "unknown argument 'log'"),
            (format!("{GOOD} low=1"), "low= is given twice"),
            (GOOD.replace("ram=/r/ram", ""), "ram= is missing"),
            (GOOD.replace("rmp_end=0x38ffffff", ""), "rmp_end= is missing"),
            (GOOD.replace("low=0x80000000", "low=2G"), "low=2G: low must be a number"),
            (GOOD.replace("low=0x80000000", "low=0x100000001"), "ends at 4 GiB"),
            (GOOD.replace("link=/r/link", "link="), "link=: link must be a file name"),
            (GOOD.replace("0x38ffffff", "0x38fffffe"), "multiples of 8 KiB"),
            (format!("{GOOD} snp_en=yes"), "snp_en=yes: snp_en must be on or off"),
        ];
        for (line, expected) in rows {
            let sentence = parse(&line).unwrap_err().to_string();
            assert!(sentence.contains(expected), "{line}\n{sentence}\nlacks: {expected}");
        }
    }
}
