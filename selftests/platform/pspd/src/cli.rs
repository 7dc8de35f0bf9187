// SPDX-License-Identifier: GPL-2.0
//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use psp::{Api, Config, Part};

use crate::control;
use crate::fault::{self, Fault};
use crate::generation::Generation;
use crate::registers;

#[derive(Parser)]
#[command(about = "The AMD Secure Processor, as a model, for QEMU's vfio-user-pci", long_about = None)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    pub serve: Option<Serve>,
}

#[derive(Subcommand)]
pub enum Action {
    /// Count the RMP entries of a running or stopped machine by page state (JSON on stdout)
    Scan(Scan),
}

#[derive(Args)]
pub struct Scan {
    /// The machine's RAM file
    #[arg(long)]
    pub ram: PathBuf,
    /// The page shared with the CPU model
    #[arg(long)]
    pub link: PathBuf,
}

#[derive(Args)]
pub struct Serve {
    /// Where to listen for QEMU
    #[arg(long)]
    pub socket: PathBuf,
    /// The page shared with the CPU model (64 KiB, created zeroed)
    #[arg(long)]
    pub link: PathBuf,
    /// Where to write one JSON line per command
    #[arg(long)]
    pub trace: PathBuf,
    /// The processor: milan, genoa or turin
    #[arg(long, default_value_t = Part::Milan)]
    pub part: Part,
    /// PCI device id, which also says where the registers are [default: that of the part]
    #[arg(long, value_enum)]
    pub device: Option<Generation>,
    /// What the PSP offers, and what it says about security (C2PMSG_63)
    #[arg(long, value_name = "HEX", default_value_t = Capability(registers::FEATURES))]
    pub capability: Capability,
    /// Version of the firmware that the BIOS loads; images replace it (sbin makes some) [default:
    /// one of the part's]
    #[arg(long)]
    pub api: Option<Api>,
    /// Version that is committed [default: that of --api]
    #[arg(long, value_name = "API")]
    pub committed_api: Option<Api>,
    /// TCB version with that firmware [default: one of the part's]
    #[arg(long, value_name = "HEX")]
    pub tcb: Option<Tcb>,
    /// TCB version that is committed, no part of which is above --tcb's [default: that of --tcb]
    #[arg(long, value_name = "HEX")]
    pub committed_tcb: Option<Tcb>,
    /// Whether SNP_SHUTDOWN_EX can clear SNP_EN (x86) or not (legacy)
    #[arg(long, value_enum, default_value_t = Shutdown::X86)]
    pub shutdown: Shutdown,
    /// Whether SNP_INIT checks CPUs and IOMMU, or believes the host
    #[arg(long, value_enum, default_value_t = Checks::On)]
    pub checks: Checks,
    /// Interrupt capability of the device
    #[arg(long, value_enum, default_value_t = Irq::Msix)]
    pub irq: Irq,
    /// Number of the C-bit, which is masked out of addresses
    #[arg(long, default_value_t = Config::MILAN.c_bit, value_parser = clap::value_parser!(u32).range(32..=63))]
    pub c_bit: u32,
    /// SMT is on, in the BIOS
    #[arg(long)]
    pub smt: bool,
    /// Seed of the chip's identity and keys
    #[arg(long, default_value_t = Config::MILAN.seed)]
    pub seed: u64,
    /// Seed of the chip in the other socket of a machine with two
    #[arg(long)]
    pub second_seed: Option<u64>,
    /// A CPUID function (EAX, such as 0x8000001f) that firmware refuses in a guest's table unless
    /// it is all zero
    #[arg(long, value_name = "FUNCTION", value_parser = function)]
    pub refuse_cpuid: Option<u32>,
    /// Make a command misbehave (may be repeated; see below)
    #[arg(long, value_name = "SPEC", long_help = fault::HELP)]
    pub fault: Vec<Fault>,
    /// Take orders on this Unix socket while the machine runs (see below)
    #[arg(long, value_name = "PATH", long_help = control::HELP)]
    pub control: Option<PathBuf>,
    /// Write the content of every measured launch page into this directory
    #[arg(long, value_name = "DIR")]
    pub dump_pages: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shutdown {
    Legacy,
    X86,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checks {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Irq {
    Msix,
    Msi,
    None,
}

fn function(text: &str) -> Result<u32, String> {
    fault::number(text).ok_or_else(|| format!("'{text}' is no number"))
}

/// A TCB version, in hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Tcb(u64);

impl FromStr for Tcb {
    type Err = String;

    fn from_str(text: &str) -> Result<Tcb, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u64::from_str_radix(digits, 16);
        number.map(Tcb).map_err(|_| format!("'{text}' is no hexadecimal number of 64 bits"))
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the register of capabilities has, in hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Capability(pub u32);

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Capability, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number = u32::from_str_radix(digits, 16);
        number.map(Capability).map_err(|_| format!("'{text}' is no hexadecimal number of 32 bits"))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Serve {
    /// The part to model; a message if there is no such part.
    pub fn psp_config(&self) -> Result<Config, String> {
        let config = self.config();
        match config.commits_what_it_has() {
            true => Ok(config),
            false => Err("what is committed is newer than the firmware".to_owned()),
        }
    }

    /// The PCI function.
    pub fn device(&self) -> Generation {
        self.device.unwrap_or_else(|| Generation::of(self.part))
    }

    fn config(&self) -> Config {
        let part = Config::new(self.part);
        Config {
            api: self.api.unwrap_or(part.api),
            committed_api: self.committed_api,
            tcb: self.tcb.map_or(part.tcb, |tcb| tcb.0),
            committed_tcb: self.committed_tcb.map(|tcb| tcb.0),
            x86_shutdown: self.shutdown == Shutdown::X86,
            checks: self.checks == Checks::On,
            c_bit: self.c_bit,
            smt: self.smt,
            seed: self.seed,
            second_seed: self.second_seed,
            cpuid_refused: self.refuse_cpuid,
            ..part
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn versions_are_the_defaults_or_what_was_given() {
        let serve = |more: &str| {
            let line = format!("pspd --socket s --link l --trace t{more}");
            let cli =
                Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
            cli.serve.expect("serving is what was asked for")
        };
        let config = |more: &str| -> Result<_, String> {
            let config = serve(more).psp_config()?;
            Ok((config.api, config.committed_api, config.tcb, config.committed_tcb))
        };
        assert_eq!(config(""), Ok((Config::MILAN.api, None, Config::MILAN.tcb, None)));
        let api = |build| Api { major: 1, minor: 56, build };
        let given = " --api 1.56.3 --committed-api 1.56.1 --tcb 0xff04 --committed-tcb ff03";
        assert_eq!(config(given), Ok((api(3), Some(api(1)), 0xff04, Some(0xff03))));
        for newer in [" --committed-api 1.55.22", " --tcb 0xff04 --committed-tcb 0xfe05"] {
            assert!(config(newer).is_err_and(|error| error.contains("newer")), "{newer}");
        }
        for part in Part::ALL {
            let Config { api, tcb, .. } = Config::new(part);
            assert_eq!(config(&format!(" --part {part}")), Ok((api, None, tcb, None)));
        }
        let devices = ["", " --part genoa", " --part turin", " --part turin --device 17D8"];
        let expected = [0x1486, 0x14ca, 0x156e, 0x17d8];
        assert_eq!(devices.map(|line| serve(line).device().device_id()), expected);
    }

    #[test]
    fn serving_needs_its_files_and_scanning_does_not() {
        let serve = "pspd --socket s --link l --trace t";
        assert!(Cli::try_parse_from(serve.split(' ')).is_ok());
        assert!(Cli::try_parse_from(["pspd", "--socket", "s"]).is_err());
        let scan = Cli::try_parse_from(["pspd", "scan", "--ram", "r", "--link", "l"]);
        let scan = scan.unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(scan.action, Some(Action::Scan(_))));
    }
}
