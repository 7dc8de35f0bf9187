// SPDX-License-Identifier: GPL-2.0
//! ID block and ID authentication: the owner's statement of what is to be launched.

use sha2::{Digest, Sha384};
use zerocopy::IntoBytes;

use super::launch_abi::{self as abi, IdAuth, IdSignature};
use crate::call::must_be_zero;
use crate::crypto::{self, PublicKey};
use crate::Status;

/// ECDSA P-384 with SHA-384.
const ECDSA_P384: u32 = 1;

/// What reports say of a block that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdBlock {
    pub(super) family_id: [u8; 16],
    pub(super) image_id: [u8; 16],
    pub(super) guest_svn: u32,
    pub(super) id_key_digest: [u8; 48],
    /// If an author key was given.
    pub(super) author_key_digest: Option<[u8; 48]>,
}

/// Checks a guest's digest and policy against the block, and the block's signatures.
pub(super) fn check(
    block: &abi::IdBlock,
    auth: &IdAuth,
    author_key: bool,
    digest: &[u8; 48],
    policy: u64,
) -> Result<IdBlock, Status> {
    if block.version != 1
        || auth.id_key_algorithm != ECDSA_P384
        || (author_key && auth.author_key_algorithm != ECDSA_P384)
    {
        return Err(Status::InvalidParam);
    }
    must_be_zero(&auth.reserved)?;
    must_be_zero(&auth.reserved2)?;
    must_be_zero(&auth.reserved3)?;
    let signed = |key: &PublicKey, message: &[u8], signature: &IdSignature| {
        crypto::verify(key, &Sha384::digest(message), &signature.ecdsa)
    };
    let id_key = auth.id_key.as_bytes();
    if !signed(&auth.id_key, block.as_bytes(), &auth.block_signature)
        || (author_key && !signed(&auth.author_key, id_key, &auth.id_key_signature))
    {
        return Err(Status::BadSignature);
    }
    if block.digest != *digest {
        return Err(Status::BadMeasurement);
    }
    if block.policy != policy {
        return Err(Status::PolicyFailure);
    }
    let key_digest = |key: &PublicKey| Sha384::digest(key.as_bytes()).into();
    Ok(IdBlock {
        family_id: block.family_id,
        image_id: block.image_id,
        guest_svn: block.guest_svn.get(),
        id_key_digest: key_digest(&auth.id_key),
        author_key_digest: author_key.then(|| key_digest(&auth.author_key)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use zerocopy::{FromBytes, FromZeros};

    /// A block and its authentication, signed with test keys.
    pub(crate) fn signed(digest: &[u8; 48], policy: u64) -> (Vec<u8>, Vec<u8>) {
        let block = abi::IdBlock {
            digest: *digest,
            version: 1.into(),
            policy: policy.into(),
            ..abi::IdBlock::new_zeroed()
        };
        (block.as_bytes().to_vec(), authenticate(block.as_bytes()))
    }

    /// The authentication of a block.
    pub(crate) fn authenticate(block: &[u8]) -> Vec<u8> {
        let (id, author) = (crypto::derive(1, "id", 0), crypto::derive(1, "author", 0));
        let mut auth = IdAuth::new_zeroed();
        auth.id_key_algorithm = ECDSA_P384.into();
        auth.author_key_algorithm = ECDSA_P384.into();
        auth.id_key = crypto::public_key(&id);
        auth.author_key = crypto::public_key(&author);
        auth.block_signature.ecdsa = crypto::sign(&id, &Sha384::digest(block));
        let digest = Sha384::digest(auth.id_key.as_bytes());
        auth.id_key_signature.ecdsa = crypto::sign(&author, &digest);
        auth.as_bytes().to_vec()
    }

    #[test]
    fn everything_is_checked() {
        type Spoil = fn(&mut abi::IdBlock, &mut IdAuth);
        use Status::*;
        let rows: &[(&str, Spoil, Result<(), Status>)] = &[
            ("good", |_, _| (), Ok(())),
            ("version", |block, _| block.version = 2.into(), Err(InvalidParam)),
            ("algorithm", |_, auth| auth.id_key_algorithm = 2.into(), Err(InvalidParam)),
            ("author algorithm", |_, auth| auth.author_key_algorithm = 2.into(), Err(InvalidParam)),
            ("reserved", |_, auth| auth.reserved[0] = 1, Err(InvalidParam)),
            ("reserved", |_, auth| auth.reserved2[59] = 1, Err(InvalidParam)),
            ("reserved", |_, auth| auth.reserved3[891] = 1, Err(InvalidParam)),
            ("block changed", |block, _| block.digest[0] ^= 1, Err(BadSignature)),
            ("signature", |_, auth| auth.block_signature.ecdsa.r[0] ^= 1, Err(BadSignature)),
            ("id key", |_, auth| auth.id_key.qx[1] ^= 1, Err(BadSignature)),
            (
                "author signature",
                |_, auth| auth.id_key_signature.ecdsa.r[0] ^= 1,
                Err(BadSignature),
            ),
        ];
        let good = |policy| {
            let (block, auth) = signed(&[5; 48], policy);
            let block = abi::IdBlock::read_from_bytes(&block).unwrap();
            (block, IdAuth::read_from_bytes(&auth).unwrap())
        };
        for (name, spoil, expected) in rows {
            let (mut block, mut auth) = good(0x30000);
            spoil(&mut block, &mut auth);
            let result = check(&block, &auth, true, &[5; 48], 0x30000);
            assert_eq!(result.map(drop), *expected, "{name}");
        }
        let (block, mut auth) = good(0x30000);
        assert_eq!(check(&block, &auth, true, &[6; 48], 0x30000), Err(BadMeasurement));
        assert_eq!(check(&block, &auth, true, &[5; 48], 0x30001), Err(PolicyFailure));
        auth.author_key_algorithm = 0.into();
        auth.id_key_signature.ecdsa.r[0] ^= 1;
        let accepted = check(&block, &auth, false, &[5; 48], 0x30000);
        assert_eq!(accepted.map(|block| block.author_key_digest), Ok(None));
    }
}
