// SPDX-License-Identifier: GPL-2.0
//! Verifies a report with virtee's `sev`: the chain, the signature, and that the VCEK's certificate is
//! for the chip and the TCB version of the report.

use std::path::{Path, PathBuf};
use std::{env, fs};

use kds::{tree, Error, Tcb};
use openssl::x509::X509;
use sev::certs::snp::{ca, Certificate, Chain, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

/// `verify DIR REPORT`: `DIR` is what `kds` wrote. Prints the report; ends with an error if anything is wrong.
fn main() -> Result<(), Error> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [dir, report] = arguments.as_slice() else {
        return Err("usage: verify DIR REPORT".into());
    };
    let raw = fs::read(report)?;
    let report = AttestationReport::from_bytes(&raw)?;
    let chain = Chain {
        ca: ca::Chain { ark: pem(dir, "ark")?, ask: pem(dir, "ask")? },
        // The name of the file has both: it is the one that the service would be asked for.
        vek: Certificate::from_der(&fs::read(tree::vcek(
            dir,
            &report.chip_id,
            reported(&report),
        ))?)?,
    };
    (&chain, &report).verify()?;
    // sev writes the report anew before it verifies; what it leaves out must be zero.
    if report.to_bytes()?[..] != raw {
        return Err("the report has bytes that sev does not know".into());
    }
    println!("{report}\nsigned by {:?}", X509::from(&chain.vek).subject_name());
    Ok(())
}

fn pem(dir: &Path, name: &str) -> Result<Certificate, Error> {
    Ok(Certificate::from_pem(&fs::read(dir.join(format!("vcek/{name}.pem")))?)?)
}

fn reported(report: &AttestationReport) -> Tcb {
    let tcb = report.reported_tcb;
    Tcb(u64::from_le_bytes([tcb.bootloader, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.microcode]))
}
