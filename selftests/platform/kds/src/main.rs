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
    /// Reported TCB version, as a hexadecimal number [default: that of pspd]
    #[arg(long)]
    tcb: Option<Tcb>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let tcb = cli.tcb.unwrap_or(Tcb(psp::Config::MILAN.tcb));
    match tree::write(&cli.dir, cli.seed, tcb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kds: {error}");
            ExitCode::FAILURE
        }
    }
}
