// SPDX-License-Identifier: GPL-2.0
//! The keys of the vendor, and what it certifies with them.

use std::sync::{Mutex, PoisonError};

use psp::endorsement::{self, PublicKey};
use psp::Part;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rsa::pkcs8::EncodePublicKey;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::certificate::Certificate;
use x509_cert::der::asn1::{BitString, Ia5String, Ia5StringRef, OctetString};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode, Encode};
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, KeyUsage, KeyUsages,
    SubjectKeyIdentifier,
};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::certificate::{extension, issue, Error, Names, Subject};
use crate::Tcb;

const SUBJECT_KEY_ID: &str = "2.5.29.14";
const KEY_USAGE: &str = "2.5.29.15";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const CRL_POINTS: &str = "2.5.29.31";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P384: &str = "1.3.132.0.34";
/// AMD's arc for endorsement keys: `.1` structure, `.2` product, `.3.n` security version numbers,
/// `.4` chip, `.5` cloud service provider.
const AMD: &str = "1.3.6.1.4.1.3704.1";

const RSA_BITS: usize = 4096;

/// Three RSA keys that certify, for one generation.
pub struct Vendor {
    part: Part,
    names: Names,
    keys: &'static Keys,
}

/// The same everywhere, and for all generations: chips differ, their vendor does not.
struct Keys {
    ark: RsaPrivateKey,
    ask: RsaPrivateKey,
    asvk: RsaPrivateKey,
}

impl Keys {
    /// Generates them, once, which takes a few seconds.
    fn get() -> Result<&'static Keys, Error> {
        static KEYS: Mutex<Option<&'static Keys>> = Mutex::new(None);
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = *keys {
            return Ok(keys);
        }
        // Searching for primes takes 1 s to 20 s, as luck has it; with these numbers it is short.
        let new = Box::leak(Box::new(Keys {
            ark: generate("ARK", 7)?,
            ask: generate("ASK", 3)?,
            asvk: generate("ASVK", 0)?,
        }));
        Ok(keys.insert(new))
    }
}

impl Vendor {
    /// With certificates for this generation.
    pub fn new(part: Part, names: Names) -> Result<Vendor, Error> {
        Ok(Vendor { part, names, keys: Keys::get()? })
    }

    pub(crate) fn root_key(&self) -> &RsaPrivateKey {
        &self.keys.ark
    }

    pub(crate) fn ask_key(&self) -> &RsaPrivateKey {
        &self.keys.ask
    }

    pub(crate) fn name(&self, common_name: &str) -> Result<Name, Error> {
        self.names.name(common_name)
    }

    pub(crate) fn root(&self) -> String {
        format!("ARK-{}", self.part)
    }

    fn signs_vceks(&self) -> String {
        format!("SEV-{}", self.part)
    }

    fn signs_vleks(&self) -> String {
        format!("SEV-VLEK-{}", self.part)
    }

    /// The root, signed by itself.
    pub fn ark(&self) -> Result<Certificate, Error> {
        let usage = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        self.authority(0, &self.root(), &self.keys.ark, usage, None)
    }

    /// Signs VCEKs.
    pub fn ask(&self) -> Result<Certificate, Error> {
        self.authority(
            1,
            &self.signs_vceks(),
            &self.keys.ask,
            KeyUsages::KeyCertSign.into(),
            Some(0),
        )
    }

    /// Signs VLEKs.
    pub fn asvk(&self) -> Result<Certificate, Error> {
        let usage = KeyUsages::KeyCertSign.into();
        self.authority(2, &self.signs_vleks(), &self.keys.asvk, usage, Some(0))
    }

    /// The VCEK of the chip with this seed.
    pub fn vcek(&self, seed: u64, tcb: Tcb) -> Result<Certificate, Error> {
        // As a public certificate of a Milan has it, and one of a Turin.
        let product = match self.part {
            Part::Milan | Part::Genoa => format!("{}-B0", self.part),
            Part::Turin => self.part.to_string(),
        };
        let mut extensions = endorsement(self.part, tcb, &product)?;
        // Without an octet string of its own: the bytes as they are.
        let chip = endorsement::chip_id(self.part, seed);
        extensions.push(extension(&format!("{AMD}.4"), false, &chip[..self.part.chip_id_len()])?);
        let subject = Subject {
            serial: &[0],
            name: self.name("SEV-VCEK")?,
            key: p384(&endorsement::vcek(seed, tcb.0))?,
            extensions,
        };
        issue(subject, self.name(&self.signs_vceks())?, &self.keys.ask)
    }

    /// The VLEK with this public half, issued to a cloud service provider.
    pub fn vlek(&self, key: &PublicKey, tcb: Tcb, provider: &str) -> Result<Certificate, Error> {
        let mut extensions = endorsement(self.part, tcb, &self.part.to_string())?;
        let provider = Ia5StringRef::new(provider)?.to_der()?;
        extensions.push(extension(&format!("{AMD}.5"), false, &provider)?);
        let subject =
            Subject { serial: &[0], name: self.name("SEV-VLEK")?, key: p384(key)?, extensions };
        issue(subject, self.name(&self.signs_vleks())?, &self.keys.asvk)
    }

    /// The certificate of one of the vendor's own keys, signed by the root. Serial numbers of a
    /// Milan's start at 0x1_0000, of a Turin's at 0x3_0000.
    fn authority(
        &self,
        number: u8,
        common_name: &str,
        key: &RsaPrivateKey,
        usage: FlagSet<KeyUsages>,
        path_len_constraint: Option<u8>,
    ) -> Result<Certificate, Error> {
        let key = rsa_key(key)?;
        let constraints = BasicConstraints { ca: true, path_len_constraint };
        let mut extensions = vec![extension(SUBJECT_KEY_ID, false, &subject_key_id(&key)?)?];
        if path_len_constraint.is_some() {
            let root = SubjectKeyIdentifier(key_id(&rsa_key(&self.keys.ark)?)?);
            let root =
                AuthorityKeyIdentifier { key_identifier: Some(root.0), ..Default::default() };
            extensions.push(extension(AUTHORITY_KEY_ID, false, &root.to_der()?)?);
        }
        extensions.push(extension(BASIC_CONSTRAINTS, true, &constraints.to_der()?)?);
        if self.names == Names::Amd {
            let list = if common_name == self.signs_vleks() { "vlek" } else { "vcek" };
            extensions.push(extension(CRL_POINTS, false, &crl_point(self.part, list)?)?);
        }
        extensions.push(extension(KEY_USAGE, true, &KeyUsage(usage).to_der()?)?);
        let serial = &[1 + self.part as u8, 0, number];
        let subject = Subject { serial, name: self.name(common_name)?, key, extensions };
        issue(subject, self.name(&self.root())?, &self.keys.ark)
    }
}

fn generate(purpose: &str, number: u32) -> Result<RsaPrivateKey, Error> {
    let seed = Sha256::new()
        .chain_update(b"ccp-rs PSP model vendor\0")
        .chain_update(purpose)
        .chain_update(number.to_le_bytes());
    let mut random = ChaCha20Rng::from_seed(seed.finalize().into());
    Ok(RsaPrivateKey::new(&mut random, RSA_BITS)?)
}

/// What certificates of VCEKs and VLEKs have in common.
fn endorsement(part: Part, tcb: Tcb, product: &str) -> Result<Vec<Extension>, Error> {
    let structure = u8::from(part == Part::Turin);
    let mut extensions = vec![
        extension(&format!("{AMD}.1"), false, &structure.to_der()?)?,
        extension(&format!("{AMD}.2"), false, &Ia5StringRef::new(product)?.to_der()?)?,
    ];
    for (n, svn) in tcb.by_oid(part) {
        extensions.push(extension(&format!("{AMD}.3.{n}"), false, &svn.to_der()?)?);
    }
    Ok(extensions)
}

/// Where AMD's list is said to be: there is one below `vcek`, and the same below `vlek`.
fn crl_point(part: Part, list: &str) -> Result<Vec<u8>, Error> {
    let address = format!("https://kdsintf.amd.com/{list}/v1/{part}/crl");
    let address = GeneralName::UniformResourceIdentifier(Ia5String::new(&address)?);
    let point = DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![address])),
        reasons: None,
        crl_issuer: None,
    };
    Ok(CrlDistributionPoints(vec![point]).to_der()?)
}

fn rsa_key(key: &RsaPrivateKey) -> Result<SubjectPublicKeyInfoOwned, Error> {
    let der = RsaPublicKey::from(key).to_public_key_der()?;
    Ok(SubjectPublicKeyInfoOwned::from_der(der.as_bytes())?)
}

fn p384(point: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, Error> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new(EC_PUBLIC_KEY)?,
            parameters: Some(Any::encode_from(&ObjectIdentifier::new(P384)?)?),
        },
        subject_public_key: BitString::from_bytes(point)?,
    })
}

/// SHA-1 of the public key, as RFC 5280 suggests.
fn key_id(key: &SubjectPublicKeyInfoOwned) -> Result<OctetString, Error> {
    Ok(OctetString::new(Sha1::digest(key.subject_public_key.raw_bytes()).to_vec())?)
}

fn subject_key_id(key: &SubjectPublicKeyInfoOwned) -> Result<Vec<u8>, Error> {
    Ok(SubjectKeyIdentifier(key_id(key)?).to_der()?)
}
