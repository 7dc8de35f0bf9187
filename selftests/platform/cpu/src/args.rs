// SPDX-License-Identifier: GPL-2.0
//! The arguments after `-plugin file=…`.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rmp::{Geometry, GeometryError};

use crate::variant::{Checks, Pin, Segments};

/// What the plugin was asked to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// The file behind guest RAM.
    pub ram: PathBuf,
    /// Bytes of RAM below 4 GiB; the rest follows in the file and starts at 4 GiB.
    pub low: u64,
    /// The page shared with the PSP model.
    pub link: PathBuf,
    /// The memory that the machine's firmware has set aside for the RMP.
    pub rmp: Geometry,
    /// The RMP is segmented, or could be.
    pub segments: Option<Segments>,
    /// Where notes and the summary go.
    pub log: Option<PathBuf>,
    /// Offer RMPREAD (CPUID 8000001F EAX bit 21), as Zen 5 does.
    pub rmpread: bool,
    /// CPUs (a bit each) that power on with SNP_EN set, as a kernel finds it that was started by
    /// kexec.
    pub snp_en: u64,
    /// MSRs that differ from what firmware should have left.
    pub pins: Vec<Pin>,
    /// What becomes of accesses that the RMP forbids.
    pub checks: Checks,
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

/// Every argument but `msr`, in the order in which [`Args::parse`] keeps the values.
const NAMES: [&str; 13] = [
    "ram",
    "low",
    "link",
    "rmp_base",
    "rmp_end",
    "log",
    "rmpread",
    "snp_en",
    "rmp",
    "guest",
    "rmp_segment_shift",
    "rmp_segment_limit",
    "rmp_segments",
];
/// The one that may be given any number of times.
const MSR: &str = "msr";

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgError::Unknown(arg) => {
                write!(
                    f,
                    "unknown argument '{arg}'; the arguments are {}=, {MSR}=",
                    NAMES.join("=, ")
                )
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
        let mut pins = Vec::new();
        for arg in args {
            if let Some(pin) = arg.strip_prefix(MSR).and_then(|rest| rest.strip_prefix('=')) {
                pins.push(parse_pin(pin)?);
                continue;
            }
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
        let [ram, low, link, rmp_base, rmp_end, log, rmpread, snp_en, rmp, guest, shift, limit, offered] =
            values;
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
            snp_en: cpus("snp_en", snp_en)?,
            segments: segments(shift, limit, switch("rmp_segments", offered)?)?,
            pins,
            checks: checks("rmp", rmp)?,
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

fn segments(
    shift: Option<&str>,
    limit: Option<&str>,
    offered: bool,
) -> Result<Option<Segments>, ArgError> {
    let within = |name, text: Option<&str>, range: RangeInclusive<u32>, wants| {
        let value = |text: &str| text.parse().ok().filter(|value| range.contains(value));
        let refused = |text: &str| ArgError::Value(name, text.to_owned(), wants);
        text.map(|text| value(text).ok_or_else(|| refused(text))).transpose()
    };
    let limit = within("rmp_segment_limit", limit, 1..=512, "a number from 1 to 512")?;
    let shift = within("rmp_segment_shift", shift, 30..=40, "a number from 30 to 40")?;
    match (shift, limit, offered) {
        (None, None, false) => Ok(None),
        (None, Some(_), false) => Err(ArgError::Missing("rmp_segment_shift")),
        (shift, limit, _) => Ok(Some(Segments { shift, limit })),
    }
}

/// `CPU:MSR=VALUE`.
fn parse_pin(text: &str) -> Result<Pin, ArgError> {
    let parse = || {
        let (cpu, rest) = text.split_once(':')?;
        let (msr, value) = rest.split_once('=')?;
        let cpu = match cpu {
            "all" => None,
            number => Some(number.parse().ok().filter(|cpu| *cpu < link::MAX_CPUS)?),
        };
        let value = match value {
            "absent" => None,
            value => Some(number("msr", Some(value)).ok()?),
        };
        Some(Pin { cpu, msr: crate::msr::number(msr)?, value })
    };
    const WANTS: &str = "CPU:MSR=VALUE with a CPU's number or 'all', a name from README.md, and a \
                         number or 'absent'";
    parse().ok_or_else(|| ArgError::Value("msr", text.to_owned(), WANTS))
}

/// On or off for all CPUs, or which: `0-1+3`.
fn cpus(name: &'static str, value: Option<&str>) -> Result<u64, ArgError> {
    let parse = |text: &str| {
        text.split('+').try_fold(0u64, |mask, part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            let range = (first <= last && last < link::MAX_CPUS).then_some(first..=last)?;
            Some(range.fold(mask, |mask, cpu| mask | (1 << cpu)))
        })
    };
    match value {
        None | Some("off") => Ok(0),
        Some("on") => Ok(u64::MAX),
        Some(text) => parse(text).ok_or_else(|| {
            ArgError::Value(name, text.to_owned(), "on, off, or CPUs such as 0-1+3")
        }),
    }
}

fn checks(name: &'static str, value: Option<&str>) -> Result<Checks, ArgError> {
    match value {
        None => Ok(Checks::default()),
        Some("enforce") => Ok(Checks::Enforce),
        Some("report") => Ok(Checks::Report),
        Some("off") => Ok(Checks::Off),
        Some(other) => Err(ArgError::Value(name, other.to_owned(), "enforce, report or off")),
    }
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
        assert!(args.rmpread && args.snp_en == 0 && args.segments.is_none());
    }

    #[test]
    fn variants_parse() {
        let more = "snp_en=0-1+3 rmp_segment_shift=31 rmp_segment_limit=2 msr=1:HWCR=0 \
                    msr=all:MTRR_DEF_TYPE=0xc06 msr=0:0xc001001d=absent";
        let args = parse(&format!("{GOOD} {more}")).unwrap();
        assert_eq!(args.snp_en, 0b1011);
        assert_eq!(args.segments, Some(Segments { shift: Some(31), limit: Some(2) }));
        let offered = parse(&format!("{GOOD} rmp_segments=on")).unwrap().segments;
        assert_eq!(offered, Some(Segments { shift: None, limit: None }));
        let pins = [
            Pin { cpu: Some(1), msr: 0xc001_0015, value: Some(0) },
            Pin { cpu: None, msr: 0x2ff, value: Some(0xc06) },
            Pin { cpu: Some(0), msr: 0xc001_001d, value: None },
        ];
        assert_eq!(args.pins, pins);
        assert_eq!(parse(&format!("{GOOD} snp_en=on")).unwrap().snp_en, u64::MAX);
        let checks = ["", "rmp=enforce", "rmp=report", "rmp=off"]
            .map(|rmp| parse(&format!("{GOOD} {rmp}")).unwrap().checks);
        assert_eq!(checks, [Checks::Enforce, Checks::Enforce, Checks::Report, Checks::Off]);
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
            (format!("{GOOD} snp_en=yes"), "snp_en=yes: snp_en must be on, off, or CPUs"),
            (format!("{GOOD} snp_en=3-1"), "snp_en=3-1: snp_en must be"),
            (format!("{GOOD} snp_en=64"), "snp_en=64: snp_en must be"),
            (format!("{GOOD} rmp=on"), "rmp=on: rmp must be enforce, report or off"),
            (format!("{GOOD} rmp_check=on"), "unknown argument 'rmp_check=on'"),
            (format!("{GOOD} rmpread=yes"), "rmpread=yes: rmpread must be on or off"),
            (format!("{GOOD} rmp_segment_shift=29"), "must be a number from 30 to 40"),
            (format!("{GOOD} rmp_segments=31"), "rmp_segments=31: rmp_segments must be on or off"),
            (format!("{GOOD} rmp_segment_limit=2"), "rmp_segment_shift= is missing"),
            (format!("{GOOD} msr=1:HWCR"), "msr=1:HWCR: msr must be CPU:MSR=VALUE"),
            (format!("{GOOD} msr=1:EFER=0"), "msr must be CPU:MSR=VALUE"),
            (format!("{GOOD} msr=64:HWCR=0"), "msr must be CPU:MSR=VALUE"),
        ];
        for (line, expected) in rows {
            let sentence = parse(&line).unwrap_err().to_string();
            assert!(sentence.contains(expected), "{line}\n{sentence}\nlacks: {expected}");
        }
    }
}
