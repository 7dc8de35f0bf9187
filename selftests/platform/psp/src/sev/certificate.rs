// SPDX-License-Identifier: GPL-2.0
//! SEV certificates: 2084 bytes, layout as in AMD's sev-tool (`sev_cert`).

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha256};

use crate::crypto::{self, FIELD, PUBLIC_KEY};
use crate::Api;

/// Bytes of a certificate.
pub(crate) const LEN: usize = 0x824;
/// What is signed: everything before the first signature.
const BODY: usize = 0x414;
const KEY: usize = 0x10;
const SIGNATURES: [usize; 2] = [0x414, 0x61c];

const ECDSA_SHA256: u32 = 2;
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
pub(crate) struct Certificate(Box<[u8; LEN]>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate(usage {:#x})", self.u32(8))
    }
}

impl Certificate {
    /// An unsigned certificate for the public half of `key`.
    pub(crate) fn new(api: Api, usage: Usage, key: &SigningKey) -> Certificate {
        let algorithm = if usage == Usage::Pdh { ECDH_SHA256 } else { ECDSA_SHA256 };
        let mut cert = Certificate(Box::new([0; LEN]));
        cert.set_u32(0, 1);
        cert.0[4] = api.major;
        cert.0[5] = api.minor;
        cert.set_u32(8, usage as u32);
        cert.set_u32(12, algorithm);
        cert.0[KEY..KEY + PUBLIC_KEY].copy_from_slice(&crypto::public_key(key));
        for slot in SIGNATURES {
            cert.set_u32(slot, Usage::Invalid as u32);
        }
        cert
    }

    /// From memory; none if it has the wrong length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Certificate> {
        Some(Certificate(Box::new(bytes.try_into().ok()?)))
    }

    pub(crate) fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// Puts the signature of `signer` (who is what `usage` says) into slot 0 or 1.
    pub(crate) fn signed(mut self, slot: usize, usage: Usage, signer: &SigningKey) -> Certificate {
        let signature = crypto::sign(signer, &Sha256::digest(&self.0[..BODY]));
        let at = SIGNATURES[slot];
        self.set_u32(at, usage as u32);
        self.set_u32(at + 4, ECDSA_SHA256);
        self.0[at + 8..at + 8 + 2 * FIELD].copy_from_slice(&signature);
        self
    }

    /// Whether the certificate is for `usage` and well formed.
    pub(crate) fn is(&self, usage: Usage) -> bool {
        self.u32(0) == 1 && self.u32(8) == usage as u32
    }

    /// The public key structure.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.0[KEY..KEY + PUBLIC_KEY]
    }

    /// Whether one of the two signatures is by `signer`, in the role `usage`.
    pub(crate) fn is_signed_by(&self, usage: Usage, signer: &Certificate) -> bool {
        SIGNATURES.iter().any(|at| {
            self.u32(*at) == usage as u32
                && self.u32(at + 4) == ECDSA_SHA256
                && crypto::verify(
                    signer.public_key(),
                    &Sha256::digest(&self.0[..BODY]),
                    &self.0[at + 8..],
                )
        })
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
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
