// SPDX-License-Identifier: GPL-2.0
//! What the service answers, by the paths of AMD's.

use psp::endorsement::{self, Vlek, HASHSTICK};
use psp::{Config, Part};
use sha2::{Digest, Sha512};
use x509_cert::certificate::Certificate;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Encode, EncodePem};

use crate::{Error, Names, Tcb, Vendor};

/// Whom the VLEK was issued to.
const PROVIDER: &str = "ccp-rs";

/// The service, as far as it concerns one chip.
pub struct Service {
    /// Who issues.
    pub vendor: Vendor,
    part: Part,
    seed: u64,
    vlek: Vlek,
}

impl Service {
    /// Of the chip with this seed, whose firmware has this TCB version.
    pub fn new(part: Part, seed: u64, tcb: Tcb, names: Names) -> Result<Service, Error> {
        Ok(Service { vendor: Vendor::new(part, names)?, part, seed, vlek: loadable(seed, tcb) })
    }

    /// The answer for a path with its query; none if there is nothing.
    ///
    /// ```text
    /// /vcek/v1/PART/cert_chain                        ASK and ARK, PEM
    /// /vcek/v1/PART/crl                               what the ARK has revoked, DER
    /// /vcek/v1/PART/CHIP?blSPL=..&teeSPL=..&..        VCEK, DER
    /// /vlek/v1/PART/cert_chain, crl                   the same with the ASVK
    /// /vlek/v1/PART/cert?blSPL=..&teeSPL=..&..        VLEK, DER
    /// /cek/id/CHIP                                    CEK of SEV, signed by the ASK
    /// /wp-content/resources/ask_ark_PART.cert         ASK and ARK in SEV's format
    /// ```
    ///
    /// CHIP may have capital letters, and numbers may have any number of zeros in front.
    pub fn get(&self, target: &str) -> Result<Option<Vec<u8>>, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let part = self.part.to_string();
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let tcb = || Tcb::from_query(self.part, query);
        Ok(match words.as_slice() {
            ["vcek", "v1", of, "cert_chain"] if *of == part => {
                Some(self.chain(self.vendor.ask()?)?)
            }
            ["vlek", "v1", of, "cert_chain"] if *of == part => {
                Some(self.chain(self.vendor.asvk()?)?)
            }
            ["vcek" | "vlek", "v1", of, "crl"] if *of == part => Some(self.vendor.crl()?.to_der()?),
            ["vcek", "v1", of, chip] if *of == part && self.is(chip) => {
                let vcek = tcb().map(|tcb| self.vcek(tcb)?.to_der().map_err(Error::from));
                vcek.transpose()?
            }
            ["vlek", "v1", of, "cert"] if *of == part => {
                let vlek = tcb().map(|tcb| self.vlek(tcb)?.to_der().map_err(Error::from));
                vlek.transpose()?
            }
            ["cek", "id", chip] if self.is(chip) => {
                Some(self.vendor.cek(Config::new(self.part).api, self.seed)?)
            }
            ["wp-content", "resources", file] if **file == *ask_ark(self.part) => {
                Some(self.vendor.ask_ark()?)
            }
            _ => None,
        })
    }

    /// The chip's certificate.
    pub fn vcek(&self, tcb: Tcb) -> Result<Certificate, Error> {
        self.vendor.vcek(self.seed, tcb)
    }

    /// That of the VLEK which the chip's owner has.
    pub fn vlek(&self, tcb: Tcb) -> Result<Certificate, Error> {
        self.vendor.vlek(&self.vlek.public_key(tcb.0), tcb, PROVIDER)
    }

    /// That VLEK, wrapped for the chip.
    pub fn hashstick(&self) -> Vec<u8> {
        self.vlek.wrap(self.seed, [0; 12])
    }

    /// What the chip is called by whom asks for its certificate.
    pub fn chip(&self) -> String {
        let id = endorsement::chip_id(self.part, self.seed);
        id[..self.part.chip_id_len()]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat()
    }

    fn is(&self, chip: &str) -> bool {
        self.chip().eq_ignore_ascii_case(chip)
    }

    fn chain(&self, intermediate: Certificate) -> Result<Vec<u8>, Error> {
        Ok(pem(&[&intermediate, &self.vendor.ark()?])?.into_bytes())
    }
}

/// The name of the file with SEV's authorities.
pub(crate) fn ask_ark(part: Part) -> String {
    format!("ask_ark_{part}.cert").to_lowercase()
}

/// Certificates behind each other.
pub(crate) fn pem(certificates: &[&Certificate]) -> Result<String, Error> {
    certificates.iter().map(|certificate| Ok(certificate.to_pem(LineEnding::LF)?)).collect()
}

/// The VLEK of a chip's owner.
fn loadable(seed: u64, tcb: Tcb) -> Vlek {
    let mut hashstick = [0; HASHSTICK];
    for (n, part) in (0u8..).zip(hashstick.chunks_exact_mut(64)) {
        let label = Sha512::new().chain_update(b"ccp-rs PSP model VLEK hashstick");
        part.copy_from_slice(&label.chain_update(seed.to_le_bytes()).chain_update([n]).finalize());
    }
    Vlek { hashstick, tcb: tcb.0 }
}
