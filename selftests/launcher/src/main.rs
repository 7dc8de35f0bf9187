// SPDX-License-Identifier: GPL-2.0
//! Launches SNP guests: see README.md.
//!
//! | file | what it has |
//! |---|---|
//! | `guest.rs` | the code of a guest that reports in which vCPUs it runs |
//! | `image.rs` | IGVM files: makes them, and reads what is to be launched |
//! | `digest.rs` | the launch digest of that |
//! | `vm.rs` | KVM: a VM, its memory, its vCPUs, the launch |
//! | `run.rs` | launches an image and runs it |
//! | `random.rs` | calls in random order |
//! | `refusals.rs` | what KVM must not take |

use std::process::ExitCode;

mod digest;
mod guest;
mod image;
mod random;
mod refusals;
mod run;
mod vm;

/// What went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: launcher make FILE [--no-vmsa | --vmsas N] [--c-bit N]
       launcher digest FILE
       launcher run FILE [--vcpus N] [--late N] [--no-vmsa | --direct] [--finish-twice]
                    [--wait FILE] [--pause STEP]…
       launcher random FILE CALLS SEED
       launcher refusals
       launcher refusal FILE NAME";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["make", file, options @ ..] => image::make(file, options),
        ["digest", file] => image::read(file)
            .map(|image| println!("@digest {}", digest::hex(&digest::of(&image.pages)))),
        ["run", file, options @ ..] => run::run(file, options),
        ["refusals"] => refusals::names().iter().try_for_each(|name| {
            println!("{name}");
            Ok(())
        }),
        ["random", file, calls, seed] => random::calls(file, calls, seed),
        ["refusal", file, name] => refusals::refusal(file, name),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The value of `--name`, if it is there.
fn option<T: std::str::FromStr>(options: &[&str], name: &str) -> Result<Option<T>> {
    let Some(at) = options.iter().position(|word| *word == name) else { return Ok(None) };
    let value = options.get(at + 1).and_then(|word| word.parse().ok());
    value.map(Some).ok_or_else(|| format!("{name} needs a number").into())
}
