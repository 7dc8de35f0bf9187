// SPDX-License-Identifier: GPL-2.0

//! Says whether this machine can be an SNP host, and if not why: see README.md.
//!
//! | file | what it has |
//! |---|---|
//! | `host.rs` | where everything is read: files, MSRs, the kernel's log, other programs |
//! | `cpuid.rs` | CPUID on each CPU |
//! | `ioctl.rs` | what firmware and KVM answer |
//! | `initramfs.rs` | files in an initramfs |
//! | `checks/` | what is looked at, a file for each part of a host |
//! | `load.rs`, `mask.rs` | `--load`; what an archive for others must not have |
//! | `report.rs` | the lines, as text and as JSON |

use std::{path::PathBuf, process::ExitCode};

mod checks;
mod cpuid;
mod host;
mod initramfs;
mod ioctl;
mod load;
mod mask;
mod report;

const USAGE: &str = "\
usage: host-check [--json]
       host-check --load [--yes] [--out FILE]

Says, a line each, whether this machine can be an SNP host:
  OK  as it should be
  NO  why not → what to do
  ??  cannot be seen → what would help

It changes nothing. As root it sees more, and MSRs need the module msr (modprobe msr).
Exit status: 0 all is well, 1 something is wrong, 2 not all could be seen.

  --json      the same for programs
  --load      does change something: reloads ccp and kvm_amd, launches a guest, and packs what was
              seen into an archive for a report, without serial numbers and the like
  --yes       does not ask before that
  --out FILE  the archive, host-check-TIME.tar.gz if not given
  --help      this text
";
/// A command line that makes no sense (EX_USAGE of sysexits.h).
const WRONG_USE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut json, mut load, mut yes, mut out) = (false, false, false, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--load" => load = true,
            "--yes" => yes = true,
            "--out" => out = arguments.next().map(PathBuf::from),
            "-h" | "--help" => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprint!("host-check: what is {other}?\n{USAGE}");
                return ExitCode::from(WRONG_USE);
            }
        }
    }
    if load {
        return match load::run(&load::Options { yes, out }) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                eprintln!("host-check: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let report = checks::run(&host::Host::at("/"));
    print!("{}", if json { report.json() } else { report.text() });
    ExitCode::from(report.status())
}
