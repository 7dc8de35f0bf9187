// SPDX-License-Identifier: GPL-2.0
//! Writes the certificates of a modelled chip to files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kds::{tree, Tcb};

#[derive(Parser)]
#[command(about = "Certificates for the reports of the PSP model", long_about = None)]
struct Cli {
    /// Where to write them
    dir: PathBuf,
    /// Seed of the chip, as for pspd
    #[arg(long, default_value_t = psp::Config::MILAN.seed)]
    seed: u64,
    /// Reported TCB version, as a hexadecimal number
    #[arg(long, value_parser = hex, default_value_t = psp::Config::MILAN.tcb)]
    tcb: u64,
}

fn hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map_err(|_| format!("'{text}' is no hexadecimal number of 64 bits"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tree::write(&cli.dir, cli.seed, Tcb(cli.tcb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kds: {error}");
            ExitCode::FAILURE
        }
    }
}
