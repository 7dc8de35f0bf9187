// SPDX-License-Identifier: GPL-2.0
//! ID block and ID authentication: the owner's statement of what is to be launched
//! (layouts: AMD's sev-tool, virtee/sev).

use sha2::{Digest, Sha384};

use super::word;
use crate::crypto::{self, FIELD, PUBLIC_KEY};
use crate::Status;

/// Bytes of the ID block: `{ld 48, family 16, image 16, version u32, guest_svn u32, policy u64}`.
pub(super) const BLOCK_LEN: u64 = 0x60;
/// Bytes of the ID authentication page.
pub(super) const AUTH_LEN: u64 = 0x1000;

const FAMILY: usize = 0x30;
const IMAGE: usize = 0x40;
const VERSION: usize = 0x50;
const GUEST_SVN: usize = 0x54;
const POLICY: usize = 0x58;

const ID_KEY_ALGORITHM: usize = 0;
const AUTHOR_KEY_ALGORITHM: usize = 4;
const BLOCK_SIGNATURE: usize = 0x40;
const ID_KEY: usize = 0x240;
const ID_KEY_SIGNATURE: usize = 0x680;
const AUTHOR_KEY: usize = 0x880;
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
    block: &[u8],
    auth: &[u8],
    author_key: bool,
    digest: &[u8; 48],
    policy: u64,
) -> Result<IdBlock, Status> {
    let algorithm = |at: usize| word(auth, at) == ECDSA_P384;
    if word(block, VERSION) != 1
        || !algorithm(ID_KEY_ALGORITHM)
        || (author_key && !algorithm(AUTHOR_KEY_ALGORITHM))
    {
        return Err(Status::InvalidParam);
    }
    let signed = |key: usize, message: &[u8], signature: usize| {
        crypto::verify(
            &auth[key..key + PUBLIC_KEY],
            &Sha384::digest(message),
            &auth[signature..signature + 2 * FIELD],
        )
    };
    let id_key = &auth[ID_KEY..ID_KEY + PUBLIC_KEY];
    if !signed(ID_KEY, block, BLOCK_SIGNATURE)
        || (author_key && !signed(AUTHOR_KEY, id_key, ID_KEY_SIGNATURE))
    {
        return Err(Status::BadSignature);
    }
    if block[..48] != digest[..] {
        return Err(Status::BadMeasurement);
    }
    if block[POLICY..POLICY + 8] != policy.to_le_bytes() {
        return Err(Status::PolicyFailure);
    }
    let id = |at: usize| {
        let mut id = [0; 16];
        id.copy_from_slice(&block[at..at + 16]);
        id
    };
    let key_digest = |key: usize| Sha384::digest(&auth[key..key + PUBLIC_KEY]).into();
    Ok(IdBlock {
        family_id: id(FAMILY),
        image_id: id(IMAGE),
        guest_svn: word(block, GUEST_SVN),
        id_key_digest: key_digest(ID_KEY),
        author_key_digest: author_key.then(|| key_digest(AUTHOR_KEY)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A block and its authentication, signed with test keys.
    pub(crate) fn signed(digest: &[u8; 48], policy: u64) -> (Vec<u8>, Vec<u8>) {
        let mut block = vec![0; BLOCK_LEN as usize];
        block[..48].copy_from_slice(digest);
        block[VERSION] = 1;
        block[POLICY..].copy_from_slice(&policy.to_le_bytes());
        let auth = authenticate(&block);
        (block, auth)
    }

    /// The authentication of a block.
    pub(crate) fn authenticate(block: &[u8]) -> Vec<u8> {
        let (id, author) = (crypto::derive(1, "id", 0), crypto::derive(1, "author", 0));
        let mut auth = vec![0; AUTH_LEN as usize];
        auth[ID_KEY_ALGORITHM] = 1;
        auth[AUTHOR_KEY_ALGORITHM] = 1;
        let mut put = |at: usize, bytes: &[u8]| auth[at..at + bytes.len()].copy_from_slice(bytes);
        let id_key = crypto::public_key(&id);
        put(BLOCK_SIGNATURE, &crypto::sign(&id, &Sha384::digest(block)));
        put(ID_KEY, &id_key);
        put(ID_KEY_SIGNATURE, &crypto::sign(&author, &Sha384::digest(id_key)));
        put(AUTHOR_KEY, &crypto::public_key(&author));
        auth
    }

    #[test]
    fn everything_is_checked() {
        type Spoil = fn(&mut Vec<u8>, &mut Vec<u8>);
        let rows: &[(&str, Spoil, Result<(), Status>)] = &[
            ("good", |_, _| (), Ok(())),
            ("version", |block, _| block[VERSION] = 2, Err(Status::InvalidParam)),
            ("algorithm", |_, auth| auth[0] = 2, Err(Status::InvalidParam)),
            ("author algorithm", |_, auth| auth[4] = 2, Err(Status::InvalidParam)),
            ("block changed", |block, _| block[0] ^= 1, Err(Status::BadSignature)),
            ("signature", |_, auth| auth[BLOCK_SIGNATURE] ^= 1, Err(Status::BadSignature)),
            ("id key", |_, auth| auth[ID_KEY + 5] ^= 1, Err(Status::BadSignature)),
            ("author signature", |_, auth| auth[ID_KEY_SIGNATURE] ^= 1, Err(Status::BadSignature)),
        ];
        for (name, spoil, expected) in rows {
            let (mut block, mut auth) = signed(&[5; 48], 0x30000);
            spoil(&mut block, &mut auth);
            let result = check(&block, &auth, true, &[5; 48], 0x30000);
            assert_eq!(result.map(drop), *expected, "{name}");
        }
        let (block, auth) = signed(&[5; 48], 0x30000);
        assert_eq!(check(&block, &auth, true, &[6; 48], 0x30000), Err(Status::BadMeasurement));
        assert_eq!(check(&block, &auth, true, &[5; 48], 0x30001), Err(Status::PolicyFailure));
        let mut no_author = auth;
        no_author[4] = 0;
        no_author[ID_KEY_SIGNATURE] ^= 1;
        let accepted = check(&block, &no_author, false, &[5; 48], 0x30000);
        assert_eq!(accepted.map(|block| block.author_key_digest), Ok(None));
    }
}
