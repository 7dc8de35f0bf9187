// SPDX-License-Identifier: GPL-2.0
//! P-384 in the form that the SEV structures use: little-endian numbers in 72-byte fields.

use p384::ecdh::diffie_hellman;
use p384::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p384::ecdsa::{self, SigningKey, VerifyingKey};
use p384::elliptic_curve::sec1::ToEncodedPoint;
use p384::{EncodedPoint, FieldBytes};
use sha2::{Digest, Sha384};
use zerocopy::little_endian::U32;
use zerocopy::FromZeros;

use crate::abi::structures;

/// Bytes of a coordinate or signature half as stored.
const FIELD: usize = 72;
/// Bytes of a P-384 number.
pub(crate) const NUMBER: usize = 48;
/// [`PublicKey::curve`] for P-384.
const CURVE_P384: u32 = 2;

structures! {
    /// The public key of certificates and of ID authentication.
    PublicKey {
        curve: U32,
        qx: [u8; FIELD],
        qy: [u8; FIELD],
        reserved: [u8; 880],
    }

    /// An ECDSA signature.
    Signature {
        r: [u8; FIELD],
        s: [u8; FIELD],
    }
}

/// A key that follows from the chip's seed, a purpose and a generation.
pub(crate) fn derive(seed: u64, purpose: &str, generation: u32) -> SigningKey {
    let secret = [seed.to_le_bytes().as_slice(), &generation.to_le_bytes()].concat();
    derive_from(&secret, purpose)
}

/// A key that follows from a secret and a purpose.
pub(crate) fn derive_from(secret: &[u8], purpose: &str) -> SigningKey {
    for attempt in 0u32.. {
        let scalar = Sha384::new()
            .chain_update(b"ccp-rs PSP model key\0")
            .chain_update(purpose.as_bytes())
            .chain_update([0])
            .chain_update(secret)
            .chain_update(attempt.to_le_bytes())
            .finalize();
        // Fails only for a hash of zero or above the curve's order.
        if let Ok(key) = SigningKey::from_slice(&scalar) {
            return key;
        }
    }
    unreachable!("2^32 hashes in a row outside the curve's order")
}

/// The public half.
pub(crate) fn public_key(key: &SigningKey) -> PublicKey {
    let point = key.verifying_key().as_affine().to_encoded_point(false);
    let mut public = PublicKey::new_zeroed();
    public.curve = CURVE_P384.into();
    if let (Some(x), Some(y)) = (point.x(), point.y()) {
        store(&mut public.qx, x);
        store(&mut public.qy, y);
    }
    public
}

/// The signature over a digest.
pub(crate) fn sign(key: &SigningKey, digest: &[u8]) -> Signature {
    let signed: ecdsa::Signature =
        key.sign_prehash(digest).expect("digests of 32 and 48 bytes are long enough for P-384");
    let mut signature = Signature::new_zeroed();
    let (r, s) = signed.split_bytes();
    store(&mut signature.r, &r);
    store(&mut signature.s, &s);
    signature
}

/// Whether `signature` over `digest` was made by the owner of `public`. Malformed input verifies
/// nothing.
pub(crate) fn verify(public: &PublicKey, digest: &[u8], signature: &Signature) -> bool {
    let check = || {
        let key = VerifyingKey::from_encoded_point(&point(public)?).ok()?;
        let (r, s) = (load(&signature.r)?, load(&signature.s)?);
        let signature = ecdsa::Signature::from_scalars(r, s).ok()?;
        key.verify_prehash(digest, &signature).ok()
    };
    check().is_some()
}

/// The secret that the owners of `key` and of `public` share: ECDH. None if that is no public key.
pub(crate) fn agree(key: &SigningKey, public: &PublicKey) -> Option<[u8; NUMBER]> {
    let public = p384::PublicKey::from_sec1_bytes(point(public)?.as_bytes()).ok()?;
    let shared = diffie_hellman(key.as_nonzero_scalar(), public.as_affine());
    Some((*shared.raw_secret_bytes()).into())
}

/// The point; not necessarily one on the curve.
fn point(public: &PublicKey) -> Option<EncodedPoint> {
    if public.curve != CURVE_P384 {
        return None;
    }
    let (x, y) = (load(&public.qx)?, load(&public.qy)?);
    Some(EncodedPoint::from_affine_coordinates(&x, &y, false))
}

/// Big-endian number to little-endian field.
fn store(field: &mut [u8; FIELD], number: &[u8]) {
    for (to, from) in field.iter_mut().zip(number.iter().rev()) {
        *to = *from;
    }
}

/// Little-endian field to big-endian number; none if it is too large for P-384.
fn load(field: &[u8; FIELD]) -> Option<FieldBytes> {
    let (number, rest) = field.split_at(NUMBER);
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut out = FieldBytes::default();
    for (to, from) in out.iter_mut().zip(number.iter().rev()) {
        *to = *from;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Sha256;
    use zerocopy::IntoBytes;

    #[test]
    fn signatures_verify_and_forgeries_do_not() {
        let key = derive(1, "test", 0);
        let public = public_key(&key);
        let digest = Sha256::digest(b"message");
        let signature = sign(&key, &digest);
        assert!(verify(&public, &digest, &signature));
        assert!(!verify(&public_key(&derive(2, "test", 0)), &digest, &signature), "another key");
        assert!(!verify(&public, &Sha256::digest(b"other"), &signature), "another message");
        for at in [0, FIELD, FIELD - 1] {
            let mut bad = signature.clone();
            bad.as_mut_bytes()[at] ^= 1;
            assert!(!verify(&public, &digest, &bad), "flipped byte {at}");
        }
        let wrong_curve = PublicKey { curve: 1.into(), ..public.clone() };
        assert!(!verify(&wrong_curve, &digest, &signature));
        assert!(!verify(&PublicKey::new_zeroed(), &digest, &Signature::new_zeroed()));
    }

    #[test]
    fn keys_depend_on_everything() {
        let base = public_key(&derive(1, "a", 0));
        assert_eq!(base, public_key(&derive(1, "a", 0)));
        for other in [derive(2, "a", 0), derive(1, "b", 0), derive(1, "a", 1)] {
            assert_ne!(base, public_key(&other));
        }
    }
}
