// SPDX-License-Identifier: GPL-2.0
//! P-384 in the form that the SEV structures use: little-endian numbers in 72-byte fields.

use p384::ecdh::diffie_hellman;
use p384::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};
use p384::elliptic_curve::sec1::ToEncodedPoint;
use p384::{EncodedPoint, FieldBytes, PublicKey};
use sha2::{Digest, Sha384};

/// Bytes of a coordinate or signature half as stored.
pub(crate) const FIELD: usize = 72;
/// Bytes of a P-384 number.
pub(crate) const NUMBER: usize = 48;
/// The public key structure that certificates and ID authentication blocks share.
pub(crate) const PUBLIC_KEY: usize = 0x404;
/// Its curve field for P-384.
const CURVE_P384: u32 = 2;

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

/// `{curve, qx, qy}` padded to [`PUBLIC_KEY`] bytes.
pub(crate) fn public_key(key: &SigningKey) -> [u8; PUBLIC_KEY] {
    let point = key.verifying_key().as_affine().to_encoded_point(false);
    let mut out = [0; PUBLIC_KEY];
    out[..4].copy_from_slice(&CURVE_P384.to_le_bytes());
    if let (Some(x), Some(y)) = (point.x(), point.y()) {
        store(&mut out[4..4 + FIELD], x);
        store(&mut out[4 + FIELD..4 + 2 * FIELD], y);
    }
    out
}

/// `{r, s}`.
pub(crate) fn sign(key: &SigningKey, digest: &[u8]) -> [u8; 2 * FIELD] {
    let signature: Signature =
        key.sign_prehash(digest).expect("digests of 32 and 48 bytes are long enough for P-384");
    let mut out = [0; 2 * FIELD];
    let (r, s) = signature.split_bytes();
    store(&mut out[..FIELD], &r);
    store(&mut out[FIELD..], &s);
    out
}

/// Whether `signature` (`{r, s}`) over `digest` was made by the owner of `public` (a
/// [`PUBLIC_KEY`] structure). Malformed input verifies nothing.
pub(crate) fn verify(public: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let check = || {
        let key = VerifyingKey::from_encoded_point(&point(public)?).ok()?;
        let r = load(signature.get(..FIELD)?)?;
        let s = load(signature.get(FIELD..2 * FIELD)?)?;
        let signature = Signature::from_scalars(r, s).ok()?;
        key.verify_prehash(digest, &signature).ok()
    };
    check().is_some()
}

/// The secret that the owners of `key` and of `public` (a [`PUBLIC_KEY`] structure) share: ECDH.
/// None if that is no public key.
pub(crate) fn agree(key: &SigningKey, public: &[u8]) -> Option<[u8; NUMBER]> {
    let public = PublicKey::from_sec1_bytes(point(public)?.as_bytes()).ok()?;
    let shared = diffie_hellman(key.as_nonzero_scalar(), public.as_affine());
    Some((*shared.raw_secret_bytes()).into())
}

/// The point in a [`PUBLIC_KEY`] structure; not necessarily one on the curve.
fn point(public: &[u8]) -> Option<EncodedPoint> {
    if public.get(..4)? != CURVE_P384.to_le_bytes() {
        return None;
    }
    let x = load(public.get(4..4 + FIELD)?)?;
    let y = load(public.get(4 + FIELD..4 + 2 * FIELD)?)?;
    Some(EncodedPoint::from_affine_coordinates(&x, &y, false))
}

/// Big-endian number to little-endian field.
fn store(field: &mut [u8], number: &[u8]) {
    for (to, from) in field.iter_mut().zip(number.iter().rev()) {
        *to = *from;
    }
}

/// Little-endian field to big-endian number; none if it is too large for P-384.
fn load(field: &[u8]) -> Option<FieldBytes> {
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
            let mut bad = signature;
            bad[at] ^= 1;
            assert!(!verify(&public, &digest, &bad), "flipped byte {at}");
        }
        let mut wrong_curve = public;
        wrong_curve[0] = 1;
        assert!(!verify(&wrong_curve, &digest, &signature));
        assert!(!verify(&[], &digest, &[]));
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
