// SPDX-License-Identifier: GPL-2.0
//! What a vendor packs for the processor: firmware of others, and applications. AMD's formats are
//! not public; this one is the model's own. A digest stands in the place of the signature.

use sha2::{Digest, Sha256};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::structures;

const MAGIC: [u8; 8] = *b"ccprspkg";

structures! {
    /// In front of the contents.
    Header {
        magic: [u8; 8],
        /// What it is for.
        part: U32,
        version: U32,
        /// Bytes behind the header.
        length: U32,
        reserved: [u8; 12],
        /// SHA-256 of the header up to here, and of the contents.
        digest: [u8; 32],
    }
}

/// A package that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) part: u32,
    pub(crate) version: u32,
}

/// What is wrong with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It is no package, or not all of it is there.
    Format,
    /// Not as the vendor has made it.
    Signature,
}

/// Verifies the package at the beginning of `bytes`.
pub(crate) fn open(bytes: &[u8]) -> Result<Package, Defect> {
    let (header, rest) = Header::read_from_prefix(bytes).map_err(|_| Defect::Format)?;
    let contents = rest.get(..header.length.get() as usize).ok_or(Defect::Format)?;
    if header.magic != MAGIC || header.reserved != [0; 12] {
        return Err(Defect::Format);
    }
    match digest(&header, contents) == header.digest {
        true => Ok(Package { part: header.part.get(), version: header.version.get() }),
        false => Err(Defect::Signature),
    }
}

fn digest(header: &Header, contents: &[u8]) -> [u8; 32] {
    let signed = &header.as_bytes()[..size_of::<Header>() - header.digest.len()];
    Sha256::new().chain_update(signed).chain_update(contents).finalize().into()
}

/// Packs contents.
#[cfg(test)]
pub(crate) fn make(part: u32, version: u32, contents: &[u8]) -> Vec<u8> {
    let mut header = Header {
        magic: MAGIC,
        part: part.into(),
        version: version.into(),
        length: (contents.len() as u32).into(),
        reserved: [0; 12],
        digest: [0; 32],
    };
    header.digest = digest(&header, contents);
    [header.as_bytes(), contents].concat()
}
