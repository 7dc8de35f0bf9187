// SPDX-License-Identifier: GPL-2.0
//! The keys of the vendor, and what it certifies with them.

use psp::endorsement::{self, PublicKey};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rsa::pkcs8::EncodePublicKey;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::certificate::Certificate;
use x509_cert::der::asn1::{BitString, Ia5StringRef, OctetString};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode, Encode};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::Extension;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::certificate::{extension, issue, name, Error, Subject};
use crate::Tcb;

const SUBJECT_KEY_ID: &str = "2.5.29.14";
const KEY_USAGE: &str = "2.5.29.15";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P384: &str = "1.3.132.0.34";
/// AMD's arc for endorsement keys: `.1` structure, `.2` product, `.3.n` security version numbers,
/// `.4` chip, `.5` cloud service provider.
const AMD: &str = "1.3.6.1.4.1.3704.1";

const RSA_BITS: usize = 4096;

/// Three RSA keys that certify. The same everywhere: chips differ, their vendor does not.
pub struct Vendor {
    ark: RsaPrivateKey,
    ask: RsaPrivateKey,
    asvk: RsaPrivateKey,
}

impl Vendor {
    /// Generates the keys, which takes a few seconds.
    pub fn new() -> Result<Vendor, Error> {
        // Searching for primes takes 1 s to 20 s, as luck has it; with these numbers it is short.
        Ok(Vendor {
            ark: generate("ARK", 7)?,
            ask: generate("ASK", 3)?,
            asvk: generate("ASVK", 0)?,
        })
    }

    /// The root, signed by itself.
    pub fn ark(&self) -> Result<Certificate, Error> {
        let usage = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        self.authority(&[1, 0, 0], "ARK-Milan", &self.ark, usage, None)
    }

    /// Signs VCEKs.
    pub fn ask(&self) -> Result<Certificate, Error> {
        self.authority(&[1, 0, 1], "SEV-Milan", &self.ask, KeyUsages::KeyCertSign.into(), Some(0))
    }

    /// Signs VLEKs.
    pub fn asvk(&self) -> Result<Certificate, Error> {
        let usage = KeyUsages::KeyCertSign.into();
        self.authority(&[1, 0, 2], "SEV-VLEK-Milan", &self.asvk, usage, Some(0))
    }

    /// The VCEK of the chip with this seed.
    pub fn vcek(&self, seed: u64, tcb: Tcb) -> Result<Certificate, Error> {
        let mut extensions = endorsement(tcb, "Milan-B0")?;
        // Without an octet string of its own: the 64 bytes as they are.
        extensions.push(extension(&format!("{AMD}.4"), false, &endorsement::chip_id(seed))?);
        let subject = Subject {
            serial: &[0],
            name: name("SEV-VCEK")?,
            key: p384(&endorsement::vcek(seed, tcb.0))?,
            extensions,
        };
        issue(subject, name("SEV-Milan")?, &self.ask)
    }

    /// The VLEK with this public half, issued to a cloud service provider.
    pub fn vlek(&self, key: &PublicKey, tcb: Tcb, provider: &str) -> Result<Certificate, Error> {
        let mut extensions = endorsement(tcb, "Milan")?;
        let provider = Ia5StringRef::new(provider)?.to_der()?;
        extensions.push(extension(&format!("{AMD}.5"), false, &provider)?);
        let subject =
            Subject { serial: &[0], name: name("SEV-VLEK")?, key: p384(key)?, extensions };
        issue(subject, name("SEV-VLEK-Milan")?, &self.asvk)
    }

    /// The certificate of one of the vendor's own keys, signed by the root.
    fn authority(
        &self,
        serial: &[u8],
        common_name: &str,
        key: &RsaPrivateKey,
        usage: FlagSet<KeyUsages>,
        path_len_constraint: Option<u8>,
    ) -> Result<Certificate, Error> {
        let key = rsa_key(key)?;
        let constraints = BasicConstraints { ca: true, path_len_constraint };
        let mut extensions = vec![extension(SUBJECT_KEY_ID, false, &subject_key_id(&key)?)?];
        if path_len_constraint.is_some() {
            let root = SubjectKeyIdentifier(key_id(&rsa_key(&self.ark)?)?);
            let root =
                AuthorityKeyIdentifier { key_identifier: Some(root.0), ..Default::default() };
            extensions.push(extension(AUTHORITY_KEY_ID, false, &root.to_der()?)?);
        }
        extensions.push(extension(BASIC_CONSTRAINTS, true, &constraints.to_der()?)?);
        extensions.push(extension(KEY_USAGE, true, &KeyUsage(usage).to_der()?)?);
        let subject = Subject { serial, name: name(common_name)?, key, extensions };
        issue(subject, name("ARK-Milan")?, &self.ark)
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
fn endorsement(tcb: Tcb, product: &str) -> Result<Vec<Extension>, Error> {
    let mut extensions = vec![
        extension(&format!("{AMD}.1"), false, &0u8.to_der()?)?,
        extension(&format!("{AMD}.2"), false, &Ia5StringRef::new(product)?.to_der()?)?,
    ];
    for (n, svn) in tcb.by_oid() {
        extensions.push(extension(&format!("{AMD}.3.{n}"), false, &svn.to_der()?)?);
    }
    Ok(extensions)
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
