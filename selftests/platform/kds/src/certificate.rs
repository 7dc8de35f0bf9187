// SPDX-License-Identifier: GPL-2.0
//! X.509 as AMD's certificates have it (looked up in public ones: `tests/certs_data` of
//! virtee/sev).

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rsa::pss::BlindedSigningKey;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::RsaPrivateKey;
use sha2::{Digest, Sha256, Sha384};
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::der::asn1::{BitString, OctetString, UtcTime};
use x509_cert::der::{oid::ObjectIdentifier, Encode};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, SubjectPublicKeyInfoOwned,
};
use x509_cert::time::{Time, Validity};

/// Why no certificate could be made.
pub type Error = Box<dyn std::error::Error>;

/// Seconds from 1970 to 2025-01-01 and to 2049-12-31, the last day but one that UTCTime can say.
pub(crate) const NOT_BEFORE: u64 = 1_735_689_600;
pub(crate) const NOT_AFTER: u64 = 2_524_521_600;

/// Whose the names in certificates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// Nobody shall take it for AMD's.
    Model,
    /// For verifiers that look at names. The keys are not AMD's.
    Amd,
}

impl Names {
    /// Who is named in a certificate.
    pub(crate) fn name(self, common_name: &str) -> Result<Name, Error> {
        let organisation = match self {
            Names::Model => "ccp-rs PSP model (not AMD)",
            Names::Amd => "Advanced Micro Devices",
        };
        let rest = format!("O={organisation},ST=CA,L=Santa Clara,C=US,OU=Engineering");
        Ok(Name::from_str(&format!("CN={common_name},{rest}"))?)
    }
}

/// An extension. `value` is what the octet string holds.
pub(crate) fn extension(oid: &str, critical: bool, value: &[u8]) -> Result<Extension, Error> {
    Ok(Extension {
        extn_id: ObjectIdentifier::from_str(oid)?,
        critical,
        extn_value: OctetString::new(value)?,
    })
}

/// What a certificate says of its subject.
pub(crate) struct Subject<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) name: Name,
    pub(crate) key: SubjectPublicKeyInfoOwned,
    pub(crate) extensions: Vec<Extension>,
}

pub(crate) fn time(seconds: u64) -> Result<Time, Error> {
    Ok(Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(seconds))?))
}

/// Signs with RSASSA-PSS and SHA-384.
pub(crate) struct Signer {
    key: BlindedSigningKey<Sha384>,
    pub(crate) algorithm: AlgorithmIdentifierOwned,
}

impl Signer {
    pub(crate) fn new(key: &RsaPrivateKey) -> Result<Signer, Error> {
        let key = BlindedSigningKey::new(key.clone());
        let algorithm = key.signature_algorithm_identifier()?;
        Ok(Signer { key, algorithm })
    }

    /// The salt follows from the message, so that the same one has the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut salt = ChaCha20Rng::from_seed(Sha256::digest(message).into());
        Ok(self.key.try_sign_with_rng(&mut salt, message)?.to_vec())
    }
}

/// A certificate, signed.
pub(crate) fn issue(
    subject: Subject<'_>,
    issuer: Name,
    key: &RsaPrivateKey,
) -> Result<Certificate, Error> {
    let signer = Signer::new(key)?;
    let body = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(subject.serial)?,
        signature: signer.algorithm.clone(),
        issuer,
        validity: Validity { not_before: time(NOT_BEFORE)?, not_after: time(NOT_AFTER)? },
        subject: subject.name,
        subject_public_key_info: subject.key,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(subject.extensions),
    };
    let message = body.to_der()?;
    let signature = signer.sign(&message)?;
    Ok(Certificate {
        tbs_certificate: body,
        signature_algorithm: signer.algorithm,
        signature: BitString::from_bytes(&signature)?,
    })
}
