// SPDX-License-Identifier: GPL-2.0
//! The session between a guest's owner and the platform: how the guest's keys get here, and what
//! their owner learns of the launch. Source of the formats: virtee/sev (`src/session`), AMD's
//! sev-tool.

use aes::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Api, Status};

/// Bytes of a session buffer: `{nonce 16, wrapped keys 32, IV 16, MAC of the wrapped keys 32, MAC
/// of the policy 32}`.
pub(super) const LEN: usize = 128;
/// Bytes of what LAUNCH_MEASURE answers: `{measurement 32, nonce 16}`.
pub(super) const MEASUREMENT: usize = 48;

/// The key that measurements are made with. (Its companion, the transport encryption key, encrypts
/// what the owner sends into the guest; there is no command for that here.)
pub(super) type IntegrityKey = [u8; 16];

/// The keys that the owner has wrapped with the secret shared with the platform's PDH.
pub(super) fn open(
    shared: &[u8],
    session: &[u8; LEN],
    policy: u32,
) -> Result<IntegrityKey, Status> {
    let (nonce, wrapped) = (&session[..16], &session[16..48]);
    let (iv, wrap_mac, policy_mac) = (&session[48..64], &session[64..96], &session[96..]);
    let master = derive(shared, "sev-master-secret", nonce);
    let (encryption, integrity) =
        (derive(&master, "sev-kek", &[]), derive(&master, "sev-kik", &[]));
    verify(&integrity, wrapped, wrap_mac)?;
    let mut keys = [0; 32];
    keys.copy_from_slice(wrapped);
    let mut iv_bytes = [0; 16];
    iv_bytes.copy_from_slice(iv);
    ctr::Ctr128BE::<aes::Aes128>::new(&encryption.into(), &iv_bytes.into())
        .apply_keystream(&mut keys);
    let mut tik = [0; 16];
    tik.copy_from_slice(&keys[16..]);
    verify(&tik, &policy.to_le_bytes(), policy_mac)?;
    Ok(tik)
}

/// What the owner compares: the measurement and the nonce in it.
pub(super) fn measurement(
    tik: &IntegrityKey,
    api: Api,
    policy: u32,
    digest: &[u8],
    nonce: [u8; 16],
) -> [u8; MEASUREMENT] {
    let measured = mac(tik)
        .chain_update([4, api.major, api.minor, api.build])
        .chain_update(policy.to_le_bytes())
        .chain_update(digest)
        .chain_update(nonce)
        .finalize()
        .into_bytes();
    let mut answer = [0; MEASUREMENT];
    answer[..32].copy_from_slice(&measured);
    answer[32..].copy_from_slice(&nonce);
    answer
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn verify(key: &[u8], bytes: &[u8], tag: &[u8]) -> Result<(), Status> {
    mac(key).chain_update(bytes).verify_slice(tag).map_err(|_| Status::BadMeasurement)
}

/// NIST SP 800-108 in counter mode with HMAC-SHA-256, whose first block is all that 128 bits need.
fn derive(key: &[u8], label: &str, context: &[u8]) -> [u8; 16] {
    const BITS: u32 = 128;
    let block = mac(key)
        .chain_update(1u32.to_le_bytes())
        .chain_update(label)
        .chain_update([0])
        .chain_update(context)
        .chain_update(BITS.to_le_bytes())
        .finalize()
        .into_bytes();
    std::array::from_fn(|n| block[n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// The vector of sev-tool's own tests.
    #[test]
    fn measurement_as_published() {
        let api = Api { major: 0, minor: 0x12, build: 0xf };
        let tik = hex("66320db73158a35a255d051758e95ed4").try_into().unwrap();
        let nonce = hex("4fbe0bedbad6c86ae8f68971d103e554").try_into().unwrap();
        let answer = measurement(&tik, api, 0, &Sha256::digest(b""), nonce);
        let expected = "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea";
        assert_eq!(answer[..32], hex(expected)[..]);
        assert_eq!(answer[32..], nonce);
    }
}
