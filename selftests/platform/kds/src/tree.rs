// SPDX-License-Identifier: GPL-2.0
//! The files.

use std::fs;
use std::path::{Path, PathBuf};

use psp::endorsement::{self, Vlek, HASHSTICK};
use sha2::{Digest, Sha512};
use x509_cert::certificate::Certificate;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Encode, EncodePem};

use crate::{Error, Tcb, Vendor};

/// Whom the VLEK was issued to.
const PROVIDER: &str = "ccp-rs";

/// Writes into `dir` what the service has for the chip with this seed at this TCB version, under
/// the paths of its URLs, queries included (as `wget -x` names files), and what a provider with a
/// VLEK would have:
///
/// ```text
/// vcek/v1/Milan/cert_chain                        ASK and ARK, PEM
/// vcek/v1/Milan/CHIP?blSPL=..&teeSPL=..&..        VCEK, DER
/// vlek/v1/Milan/cert_chain                        ASVK and ARK, PEM
/// vlek/v1/Milan/cert?blSPL=..&teeSPL=..&..        VLEK, DER
/// vcek/{ark,ask,vcek}.pem, vlek/{ark,asvk,vlek}.pem    what snpguest and snphost verify with
/// vlek/hashstick                                  the wrapped VLEK, for snphost's vlek-load
/// ```
pub fn write(dir: &Path, seed: u64, tcb: Tcb) -> Result<(), Error> {
    let vendor = Vendor::new()?;
    let vlek = loadable(seed, tcb);
    let [ark, ask, asvk] = [vendor.ark()?, vendor.ask()?, vendor.asvk()?];

    let certificate = vendor.vcek(seed, tcb)?;
    put(&dir.join("vcek/v1/Milan/cert_chain"), pem(&[&ask, &ark])?)?;
    put(&vcek(dir, &endorsement::chip_id(seed), tcb), certificate.to_der()?)?;
    for (name, certificate) in [("ark", &ark), ("ask", &ask), ("vcek", &certificate)] {
        put(&dir.join(format!("vcek/{name}.pem")), pem(&[certificate])?)?;
    }

    let certificate = vendor.vlek(&vlek.public_key(tcb.0), tcb, PROVIDER)?;
    let service = dir.join("vlek/v1/Milan");
    put(&service.join("cert_chain"), pem(&[&asvk, &ark])?)?;
    put(&service.join(format!("cert?{tcb}")), certificate.to_der()?)?;
    for (name, certificate) in [("ark", &ark), ("asvk", &asvk), ("vlek", &certificate)] {
        put(&dir.join(format!("vlek/{name}.pem")), pem(&[certificate])?)?;
    }
    put(&dir.join("vlek/hashstick"), vlek.wrap(seed, [0; 12]))
}

/// Where the VCEK of this chip is.
fn vcek(dir: &Path, chip_id: &[u8; 64], tcb: Tcb) -> PathBuf {
    let chip = chip_id.map(|byte| format!("{byte:02x}")).concat();
    dir.join(format!("vcek/v1/Milan/{chip}?{tcb}"))
}

/// The VLEK that [`write`] hands out for a chip.
fn loadable(seed: u64, tcb: Tcb) -> Vlek {
    let mut hashstick = [0; HASHSTICK];
    for (n, part) in (0u8..).zip(hashstick.chunks_exact_mut(64)) {
        let label = Sha512::new().chain_update(b"ccp-rs PSP model VLEK hashstick");
        part.copy_from_slice(&label.chain_update(seed.to_le_bytes()).chain_update([n]).finalize());
    }
    Vlek { hashstick, tcb: tcb.0 }
}

fn pem(certificates: &[&Certificate]) -> Result<String, Error> {
    certificates.iter().map(|certificate| Ok(certificate.to_pem(LineEnding::LF)?)).collect()
}

fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    let error = |error| format!("cannot write {}: {error}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(error)?;
    }
    Ok(fs::write(path, content).map_err(error)?)
}
