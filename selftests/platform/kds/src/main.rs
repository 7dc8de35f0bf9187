// SPDX-License-Identifier: GPL-2.0
//! Writes the certificates of a modelled chip to files, or serves them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use kds::{http, tree, Error, Names, Service, Tcb};
use psp::{Config, Part};

#[derive(Parser)]
#[command(about = "Certificates for the reports of the PSP model", long_about = None)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)))]
struct Cli {
    /// Where to write them
    #[arg(group = "what")]
    dir: Option<PathBuf>,
    /// Answer on this port of the loopback (0: any) as AMD's service does, over HTTP, until killed;
    /// the address is printed
    #[arg(long, value_name = "PORT", group = "what")]
    serve: Option<u16>,
    /// The processor, as for pspd
    #[arg(long, default_value_t = Part::Milan)]
    part: Part,
    /// Seed of the chip, as for pspd
    #[arg(long, default_value_t = Config::MILAN.seed)]
    seed: u64,
    /// Reported TCB version, as a hexadecimal number [default: that of pspd]
    #[arg(long)]
    tcb: Option<Tcb>,
    /// Who the certificates say has issued them: this model, or AMD, for verifiers that look
    #[arg(long, value_enum, default_value_t = Names::Model)]
    names: Names,
}

fn run(cli: &Cli) -> Result<(), Error> {
    let tcb = cli.tcb.unwrap_or(Tcb(Config::new(cli.part).tcb));
    if let Some(dir) = &cli.dir {
        tree::write(dir, cli.part, cli.seed, tcb, cli.names)?;
    }
    if let Some(port) = cli.serve {
        let service = Service::new(cli.part, cli.seed, tcb, cli.names)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        println!("http://{}", listener.local_addr()?);
        http::serve(&listener, &service)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kds: {error}");
            ExitCode::FAILURE
        }
    }
}
