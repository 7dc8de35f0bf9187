// SPDX-License-Identifier: GPL-2.0
//! SEV certificates: 2084 bytes, layout as in AMD's sev-tool (`sev_cert`).

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::abi;
use crate::crypto::{self, PublicKey};
use crate::Api;

/// Bytes of a certificate.
pub(crate) const LEN: usize = size_of::<abi::Certificate>();

/// An algorithm of signatures.
pub(crate) const ECDSA_SHA256: u32 = 2;
const ECDH_SHA256: u32 = 3;

/// Whose key a certificate or signature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Invalid = 0x1000,
    Oca = 0x1001,
    Pek = 0x1002,
    Pdh = 0x1003,
    Cek = 0x1004,
}

/// A certificate in its stored form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate(Box<abi::Certificate>);

impl From<abi::Certificate> for Certificate {
    fn from(stored: abi::Certificate) -> Certificate {
        Certificate(Box::new(stored))
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate(usage {:#x})", self.0.body.usage)
    }
}

impl Certificate {
    /// An unsigned certificate for the public half of `key`.
    pub(crate) fn new(api: Api, usage: Usage, key: &SigningKey) -> Certificate {
        let algorithm = if usage == Usage::Pdh { ECDH_SHA256 } else { ECDSA_SHA256 };
        let body = abi::CertificateBody {
            version: 1.into(),
            api_major: api.major,
            api_minor: api.minor,
            reserved: [0; 2],
            usage: (usage as u32).into(),
            algorithm: algorithm.into(),
            key: crypto::public_key(key),
        };
        let mut unsigned = abi::Signature::new_zeroed();
        unsigned.usage = (Usage::Invalid as u32).into();
        let signatures = [unsigned.clone(), unsigned];
        Certificate(Box::new(abi::Certificate { body, signatures }))
    }

    /// From memory; none if it has the wrong length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Certificate> {
        abi::Certificate::read_from_bytes(bytes).ok().map(Certificate::from)
    }

    pub(crate) fn stored(&self) -> &abi::Certificate {
        &self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Puts the signature of `signer` (who is what `usage` says) into slot 0 or 1.
    pub(crate) fn signed(mut self, slot: usize, usage: Usage, signer: &SigningKey) -> Certificate {
        let signature = &mut self.0.signatures[slot];
        signature.usage = (usage as u32).into();
        signature.algorithm = ECDSA_SHA256.into();
        signature.ecdsa = crypto::sign(signer, &Sha256::digest(self.0.body.as_bytes()));
        self
    }

    /// Whether the certificate is for `usage` and well formed.
    pub(crate) fn is(&self, usage: Usage) -> bool {
        self.0.body.version == 1 && self.0.body.usage == usage as u32
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.0.body.key
    }

    /// Whether one of the two signatures is by `signer`, in the role `usage`.
    pub(crate) fn is_signed_by(&self, usage: Usage, signer: &Certificate) -> bool {
        let digest = Sha256::digest(self.0.body.as_bytes());
        self.0.signatures.iter().any(|signature| {
            signature.usage == usage as u32
                && signature.algorithm == ECDSA_SHA256
                && crypto::verify(signer.public_key(), &digest, &signature.ecdsa)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn signatures_are_bound_to_signer_role_and_body() {
        let api = Config::MILAN.api;
        let (oca_key, pek_key) = (crypto::derive(0, "oca", 0), crypto::derive(0, "pek", 0));
        let oca = Certificate::new(api, Usage::Oca, &oca_key).signed(0, Usage::Oca, &oca_key);
        let pek = Certificate::new(api, Usage::Pek, &pek_key).signed(1, Usage::Oca, &oca_key);
        assert!(oca.is(Usage::Oca) && oca.is_signed_by(Usage::Oca, &oca));
        assert!(pek.is_signed_by(Usage::Oca, &oca));
        assert!(!pek.is_signed_by(Usage::Cek, &oca), "another role");
        assert!(!pek.is_signed_by(Usage::Oca, &pek), "another key");
        let mut bytes = pek.bytes().to_vec();
        bytes[0x20] ^= 1;
        assert!(!Certificate::from_bytes(&bytes).unwrap().is_signed_by(Usage::Oca, &oca));
        assert!(Certificate::from_bytes(&bytes[1..]).is_none());
    }
}
