// SPDX-License-Identifier: GPL-2.0
//! The keys that the vendor certifies: VCEK and VLEK, which sign attestation reports, and the CEK.
//!
//! Firmware has the private halves; whoever issues certificates for them (AMD, or the crate `kds`)
//! knows the chip's secret or has made the VLEK, and so arrives at the same public halves.
//! How silicon derives keys is not public: everything here but lengths is a model choice.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit};
use p384::ecdsa::SigningKey;
use p384::elliptic_curve::sec1::ToEncodedPoint;
use sha2::{Digest, Sha256, Sha512};
use zerocopy::little_endian::U64;
use zerocopy::IntoBytes;

use crate::abi::structures;
use crate::sev::abi::CertificateBody;
use crate::sev::identity::Identity;
use crate::{crypto, Api, Part};

/// A P-384 point, uncompressed, as SEC 1 has it.
pub type PublicKey = [u8; 97];

/// Bytes of what a VLEK is derived from.
pub const HASHSTICK: usize = 384;

structures! {
    /// A wrapped VLEK (virtee/sev).
    WrappedVlek {
        iv: [u8; 12],
        reserved: [u8; 4],
        key: [u8; HASHSTICK],
        about: AboutVlek,
        tag: [u8; 16],
    }

    /// What is authenticated with the key.
    AboutVlek {
        tcb: U64,
        reserved: [u8; 8],
    }
}

/// The 64-byte identifier of the chip with this seed (GET_ID, CHIP_ID of reports).
pub fn chip_id(part: Part, seed: u64) -> [u8; 64] {
    let chip = [b"ccp-rs PSP model chip".as_slice(), &seed.to_le_bytes()].concat();
    let mut id: [u8; 64] = Sha512::digest(chip).into();
    id[part.chip_id_len()..].fill(0);
    id
}

/// Bytes of an SEV certificate that are signed. The first signature follows: the signer's usage,
/// the algorithm, and 512 bytes.
pub const CEK_BODY: usize = size_of::<CertificateBody>();

/// The SEV certificate of this chip's CEK, which firmware of this version exports, without
/// signatures.
pub fn cek(api: Api, seed: u64) -> Vec<u8> {
    Identity::new(seed).cek(api).bytes().to_vec()
}

/// Public half of the VCEK of the chip with this seed at a TCB version.
pub fn vcek(seed: u64, tcb: u64) -> PublicKey {
    public(&vcek_key(seed, tcb))
}

/// Private half.
pub(crate) fn vcek_key(seed: u64, tcb: u64) -> SigningKey {
    crypto::derive(seed, &format!("VCEK {tcb:016x}"), 0)
}

/// A loaded endorsement key: what its owner got from AMD, for all TCB versions up to `tcb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlek {
    /// What the keys are derived from.
    pub hashstick: [u8; HASHSTICK],
    /// The newest TCB version that it is good for.
    pub tcb: u64,
}

impl Vlek {
    /// Public half of the VLEK at a TCB version.
    pub fn public_key(&self, tcb: u64) -> PublicKey {
        public(&self.key(tcb))
    }

    /// Private half.
    pub(crate) fn key(&self, tcb: u64) -> SigningKey {
        crypto::derive_from(&self.hashstick, &format!("VLEK {tcb:016x}"))
    }

    /// Wraps it for the chip with this seed, for SNP_VLEK_LOAD.
    pub fn wrap(&self, seed: u64, iv: [u8; 12]) -> Vec<u8> {
        let about = AboutVlek { tcb: self.tcb.into(), reserved: [0; 8] };
        let mut key = self.hashstick;
        let tag = wrapping_key(seed)
            .encrypt_in_place_detached(&iv.into(), about.as_bytes(), &mut key)
            .expect("384 bytes are within the limits of GCM")
            .into();
        WrappedVlek { iv, reserved: [0; 4], key, about, tag }.as_bytes().to_vec()
    }

    /// Unwraps what [`Vlek::wrap`] made for this chip.
    pub(crate) fn unwrap(seed: u64, wrapped: &WrappedVlek) -> Option<Vlek> {
        let WrappedVlek { iv, key, about, tag, .. } = wrapped;
        let mut hashstick = *key;
        wrapping_key(seed)
            .decrypt_in_place_detached(iv.into(), about.as_bytes(), &mut hashstick, tag.into())
            .ok()?;
        Some(Vlek { hashstick, tcb: about.tcb.get() })
    }
}

fn wrapping_key(seed: u64) -> Aes256Gcm {
    let key = Sha256::new()
        .chain_update(b"ccp-rs PSP model VLEK wrapping key")
        .chain_update(seed.to_le_bytes())
        .finalize();
    Aes256Gcm::new(&key)
}

fn public(key: &SigningKey) -> PublicKey {
    let mut point = [0; 97];
    point.copy_from_slice(key.verifying_key().as_affine().to_encoded_point(false).as_bytes());
    point
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    #[test]
    fn a_wrapped_vlek_is_for_one_chip_and_cannot_be_changed() {
        let vlek = Vlek { hashstick: [7; HASHSTICK], tcb: 4 };
        let wrapped = vlek.wrap(1, [3; 12]);
        let unwrap =
            |seed, blob: &[u8]| Vlek::unwrap(seed, WrappedVlek::ref_from_bytes(blob).unwrap());
        assert_eq!(wrapped.len(), 0x1b0);
        assert_eq!(unwrap(1, &wrapped), Some(vlek));
        assert_eq!(unwrap(2, &wrapped), None, "another chip");
        for at in [0, 0x10, 0x190, 0x198, 0x1a0, 0x1af] {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert_eq!(unwrap(1, &changed), None, "byte {at:#x}");
        }
    }

    #[test]
    fn keys_depend_on_chip_and_tcb() {
        assert_eq!(vcek(1, 4), vcek(1, 4));
        assert_ne!(vcek(1, 4), vcek(2, 4), "another chip");
        assert_ne!(vcek(1, 4), vcek(1, 5), "another TCB");
        let vlek = Vlek { hashstick: [7; HASHSTICK], tcb: 4 };
        let other = Vlek { hashstick: [8; HASHSTICK], tcb: 4 };
        assert_ne!(vlek.public_key(4), other.public_key(4), "another VLEK");
        assert_ne!(vlek.public_key(4), vlek.public_key(3), "another TCB");
    }
}
