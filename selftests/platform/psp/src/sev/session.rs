// SPDX-License-Identifier: GPL-2.0
//! The session between a guest's owner and the platform, or two platforms: how the guest's keys get
//! here, and what their owner learns of the launch. Source of the formats: virtee/sev
//! (`src/session`), AMD's sev-tool.

use aes::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zerocopy::IntoBytes;

use super::abi;
use crate::{Api, Status};

/// The keys that the other side has wrapped with the secret shared with the platform's PDH.
pub(super) fn open(
    shared: &[u8],
    session: &abi::Session,
    policy: u32,
) -> Result<abi::TransportKeys, Status> {
    let wrapping = Wrapping::new(shared, &session.nonce);
    verify(&wrapping.integrity, &[&session.wrapped_keys], &session.wrap_mac)?;
    let mut keys = session.wrapped_keys;
    encrypt(&wrapping.encryption, session.wrap_iv, &mut keys);
    let keys: abi::TransportKeys = zerocopy::transmute!(keys);
    verify(&keys.integrity, &[&policy.to_le_bytes()], &session.policy_mac)?;
    Ok(keys)
}

/// The reverse, for another platform.
pub(super) fn wrap(
    shared: &[u8],
    keys: &abi::TransportKeys,
    nonce: [u8; 16],
    wrap_iv: [u8; 16],
    policy: u32,
) -> abi::Session {
    let wrapping = Wrapping::new(shared, &nonce);
    let mut wrapped_keys: [u8; 32] = zerocopy::transmute!(keys.clone());
    encrypt(&wrapping.encryption, wrap_iv, &mut wrapped_keys);
    abi::Session {
        nonce,
        wrapped_keys,
        wrap_iv,
        wrap_mac: tag(&wrapping.integrity, &[&wrapped_keys]),
        policy_mac: tag(&keys.integrity, &[&policy.to_le_bytes()]),
    }
}

/// What transport keys are wrapped with.
struct Wrapping {
    encryption: [u8; 16],
    integrity: [u8; 16],
}

impl Wrapping {
    fn new(shared: &[u8], nonce: &[u8; 16]) -> Wrapping {
        let master = derive(shared, "sev-master-secret", nonce);
        let (encryption, integrity) =
            (derive(&master, "sev-kek", &[]), derive(&master, "sev-kik", &[]));
        Wrapping { encryption, integrity }
    }
}

/// AES-128 in counter mode, which is its own reverse.
pub(super) fn encrypt(key: &[u8; 16], iv: [u8; 16], bytes: &mut [u8]) {
    ctr::Ctr128BE::<aes::Aes128>::new(key.into(), &iv.into()).apply_keystream(bytes);
}

/// What the owner compares: the measurement and the nonce in it.
pub(super) fn measurement(
    tik: &[u8; 16],
    api: Api,
    policy: u32,
    digest: [u8; 32],
    nonce: [u8; 16],
) -> abi::Measurement {
    const LAUNCH: u8 = 4;
    let measured = abi::Measured {
        context: LAUNCH,
        api_major: api.major,
        api_minor: api.minor,
        build: api.build,
        policy: policy.into(),
        digest,
        nonce,
    };
    abi::Measurement { measurement: tag(tik, &[measured.as_bytes()]), nonce }
}

/// HMAC-SHA-256 of the parts in sequence.
pub(super) fn tag(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    over(key, parts).finalize().into_bytes().into()
}

/// BAD_MEASUREMENT unless `tag` is that of the parts.
pub(super) fn verify(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> Result<(), Status> {
    over(key, parts).verify_slice(tag).map_err(|_| Status::BadMeasurement)
}

fn over(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    parts.iter().fold(mac(key), |mac, part| mac.chain_update(part))
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
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
        let answer = measurement(&tik, api, 0, Sha256::digest(b"").into(), nonce);
        let expected = "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea";
        assert_eq!(answer.measurement[..], hex(expected)[..]);
        assert_eq!(answer.nonce, nonce);
    }
}
