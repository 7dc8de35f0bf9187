// SPDX-License-Identifier: GPL-2.0
//! Images of the platform's firmware, for DOWNLOAD_FIRMWARE and SNP_DOWNLOAD_FIRMWARE_EX.
//!
//! The model runs no code, so an image says what a firmware is and how it behaves when it replaces
//! another, and the rest is filling. The container is the platform's own: that of AMD's images is
//! not documented, and an image of AMD's must not be taken. Whoever makes images (the crate `sbin`)
//! has the vendor's key, which is not secret.

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha384};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::abi::structures;
use crate::{crypto, Api};

const MAGIC: [u8; 8] = *b"CCPRSFW1";
/// Bytes of filling.
const BODY: usize = 0x2000;

structures! {
    /// What is signed, in front of the filling.
    Header {
        magic: [u8; 8],
        /// Of the whole image.
        len: U32,
        family: u8,
        model: u8,
        api_major: u8,
        api_minor: u8,
        build: u8,
        svn: u8,
        takeover: u8,
        reserved: [u8; 13],
    }
}

/// Bytes of an image's signature, which is its end.
pub const SIGNATURE: usize = size_of::<crypto::Signature>();

/// What becomes of a platform on which SNP is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// It goes on.
    Live = 0,
    /// The image cannot take it over: it must be shut down first.
    Shutdown = 1,
    /// The image does not work, SNP or not.
    Broken = 2,
}

/// A firmware that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// CPUID family and model of the part that it is for.
    pub part: [u8; 2],
    /// Its version.
    pub api: Api,
    /// Its security version, SNP's part of a TCB version.
    pub svn: u8,
    /// How it replaces a firmware that works.
    pub takeover: Takeover,
}

/// Who signs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The chip's vendor.
    Vendor,
    /// Somebody else.
    Stranger,
}

/// Why bytes are no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They do not have the form of one.
    Malformed,
    /// The vendor has not signed them.
    Forged,
}

impl Image {
    /// The image as a file.
    pub fn signed(&self, signer: Signer) -> Vec<u8> {
        let header = Header {
            magic: MAGIC,
            len: ((size_of::<Header>() + BODY + SIGNATURE) as u32).into(),
            family: self.part[0],
            model: self.part[1],
            api_major: self.api.major,
            api_minor: self.api.minor,
            build: self.api.build,
            svn: self.svn,
            takeover: self.takeover as u8,
            reserved: [0; 13],
        };
        let filling = (0..BODY).map(|at| (at % 251) as u8);
        let mut image: Vec<u8> = header.as_bytes().iter().copied().chain(filling).collect();
        let signature = crypto::sign(&key(signer), &Sha384::digest(&image));
        image.extend(signature.as_bytes());
        image
    }

    /// What a file is an image of.
    pub fn read(bytes: &[u8]) -> Result<Image, Unreadable> {
        let (header, _) = Header::read_from_prefix(bytes).map_err(|_| Unreadable::Malformed)?;
        let known = [Takeover::Live, Takeover::Shutdown, Takeover::Broken];
        let takeover = known.into_iter().find(|known| *known as u8 == header.takeover);
        let signed = bytes.len().checked_sub(SIGNATURE).filter(|at| *at >= size_of::<Header>());
        let (Some(takeover), Some(signed)) = (takeover, signed) else {
            return Err(Unreadable::Malformed);
        };
        if header.magic != MAGIC || header.len.get() as usize != bytes.len() {
            return Err(Unreadable::Malformed);
        }
        let (signed, signature) = bytes.split_at(signed);
        let signature = crypto::Signature::read_from_bytes(signature)
            .unwrap_or_else(|_| crypto::Signature::new_zeroed());
        let vendor = crypto::public_key(&key(Signer::Vendor));
        if !crypto::verify(&vendor, &Sha384::digest(signed), &signature) {
            return Err(Unreadable::Forged);
        }
        let api = Api { major: header.api_major, minor: header.api_minor, build: header.build };
        Ok(Image { part: [header.family, header.model], api, svn: header.svn, takeover })
    }
}

fn key(signer: Signer) -> SigningKey {
    let secret: &[u8] = match signer {
        Signer::Vendor => b"vendor",
        Signer::Stranger => b"stranger",
    };
    crypto::derive_from(secret, "firmware images")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_as_it_was_made() {
        let api = Api { major: 1, minor: 56, build: 3 };
        for takeover in [Takeover::Live, Takeover::Shutdown, Takeover::Broken] {
            let image = Image { part: [0x19, 1], api, svn: 21, takeover };
            let bytes = image.signed(Signer::Vendor);
            assert_eq!(Image::read(&bytes), Ok(image.clone()));
            assert_eq!(Image::read(&image.signed(Signer::Stranger)), Err(Unreadable::Forged));
            for at in [0x0c, 0x13, 0x20, 0x1000, bytes.len() - SIGNATURE, bytes.len() - 1] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert_eq!(Image::read(&damaged), Err(Unreadable::Forged), "byte {at:#x}");
            }
            // Magic number, length, takeover.
            for at in [0, 8, 0x12] {
                let mut other = bytes.clone();
                other[at] ^= 0x80;
                assert_eq!(Image::read(&other), Err(Unreadable::Malformed), "byte {at:#x}");
            }
            for len in [0, 0x1f, 0x20, SIGNATURE, bytes.len() - 1] {
                assert_eq!(Image::read(&bytes[..len]), Err(Unreadable::Malformed), "{len} bytes");
            }
        }
    }
}
