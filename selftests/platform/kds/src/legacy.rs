// SPDX-License-Identifier: GPL-2.0
//! The authority over SEV without SNP: ARK and ASK in AMD's own format, and a chip's CEK, which the
//! ASK signs. (AMD's sev-tool: `amd_cert`, `sev_cert`; virtee/sev: `certs/sev/ca`.)

use psp::endorsement::{self, CEK_BODY};
use psp::Api;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPrivateKey};
use sha2::{Digest, Sha256};

use crate::certificate::{Error, Signer};
use crate::Vendor;

/// Of the keys.
const BITS: u32 = 4096;
const BYTES: usize = BITS as usize / 8;
const VERSION: u32 = 1;
const RSA_SHA384: u32 = 0x101;

/// What a key is for.
#[derive(Clone, Copy)]
enum Usage {
    Ark = 0,
    Ask = 0x13,
}

impl Vendor {
    /// ASK and ARK behind each other, as AMD publishes them.
    pub fn ask_ark(&self) -> Result<Vec<u8>, Error> {
        let (ark, ask) = (self.root_key(), self.ask_key());
        let ask = self.certificate(Usage::Ask, ask, key_id(ark))?;
        Ok([ask, self.certificate(Usage::Ark, ark, key_id(ark))?].concat())
    }

    /// The CEK of the chip with this seed, signed.
    pub fn cek(&self, api: Api, seed: u64) -> Result<Vec<u8>, Error> {
        let mut certificate = endorsement::cek(api, seed);
        let signed = sign(self.ask_key(), &certificate[..CEK_BODY])?;
        let slot = &mut certificate[CEK_BODY..][..8 + BYTES];
        slot[..4].copy_from_slice(&(Usage::Ask as u32).to_le_bytes());
        slot[4..8].copy_from_slice(&RSA_SHA384.to_le_bytes());
        slot[8..].copy_from_slice(&signed);
        Ok(certificate)
    }

    /// A certificate of one of our keys, by the root.
    fn certificate(
        &self,
        usage: Usage,
        key: &RsaPrivateKey,
        root: [u8; 16],
    ) -> Result<Vec<u8>, Error> {
        let mut out = VERSION.to_le_bytes().to_vec();
        out.extend(key_id(key));
        out.extend(root);
        out.extend((usage as u32).to_le_bytes());
        out.extend([0; 16]);
        out.extend(BITS.to_le_bytes());
        out.extend(BITS.to_le_bytes());
        out.extend(number(key.e()));
        out.extend(number(key.n()));
        let signed = sign(self.root_key(), &out)?;
        out.extend(signed);
        Ok(out)
    }
}

/// Like the numbers, the least significant byte first.
fn sign(key: &RsaPrivateKey, message: &[u8]) -> Result<Vec<u8>, Error> {
    let mut signed = Signer::new(key)?.sign(message)?;
    signed.reverse();
    Ok(signed)
}

fn number(number: &BigUint) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    let bytes = number.to_bytes_le();
    out[..bytes.len()].copy_from_slice(&bytes);
    out
}

/// Arbitrary; silicon's are.
fn key_id(key: &RsaPrivateKey) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(key.n().to_bytes_le())[..16]);
    id
}
