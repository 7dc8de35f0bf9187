// SPDX-License-Identifier: GPL-2.0
//! The envelope of guest messages: AES-256-GCM under one of the guest's four VMPCKs.
//!
//! The authenticated part of the header is additional data; the IV is the sequence number, extended
//! by zeros (arch/x86/coco/sev/core.c). The host carries messages, so it may do anything to them.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit};
use zerocopy::{FromBytes, IntoBytes};

use super::launch_abi::{VMPCKS, VMPCK_LEN};
use super::message_abi::{self as abi, Authenticated};
use crate::Status;

/// Bytes of the page that a message is in.
pub(super) const PAGE: usize = 0x1000;

const HEADER: usize = size_of::<abi::Header>();
const AES_256_GCM: u8 = 1;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    pub(super) kind: u8,
    pub(super) version: u8,
    /// Below [`VMPCKS`].
    pub(super) vmpck: u8,
    size: usize,
}

impl Header {
    /// Checks the form of a message (INVALID_PARAM). Nothing is authenticated yet.
    pub(super) fn parse(page: &[u8]) -> Result<Header, Status> {
        let (header, _) = abi::Header::ref_from_prefix(page).map_err(|_| Status::InvalidParam)?;
        let about = &header.authenticated;
        let size = usize::from(about.size);
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let well_formed = page.len() == PAGE
            && about.algorithm == AES_256_GCM
            && about.header_version == 1
            && usize::from(about.header_size) == HEADER
            && size <= PAGE - HEADER
            && usize::from(about.vmpck) < VMPCKS
            && zero(&header.reserved)
            && zero(&about.reserved)
            && zero(&about.reserved2);
        if !well_formed {
            return Err(Status::InvalidParam);
        }
        Ok(Header {
            sequence: header.sequence.get(),
            kind: about.kind,
            version: about.version,
            vmpck: about.vmpck,
            size,
        })
    }

    /// The payload in clear text, if the message was sealed with `key`; else BAD_MEASUREMENT.
    pub(super) fn open(&self, page: &[u8], key: &[u8; VMPCK_LEN]) -> Result<Vec<u8>, Status> {
        let (header, rest) =
            abi::Header::ref_from_prefix(page).map_err(|_| Status::InvalidParam)?;
        let about = header.authenticated.as_bytes();
        let mut payload = rest[..self.size].to_vec();
        Aes256Gcm::new(key.into())
            .decrypt_in_place_detached(&self.iv().into(), about, &mut payload, &header.tag.into())
            .map_err(|_| Status::BadMeasurement)?;
        Ok(payload)
    }

    /// The header of the answer to this request: the next sequence number, the next type.
    pub(super) fn answer(&self, size: usize) -> Header {
        Header { sequence: self.sequence + 1, kind: self.kind + 1, size, ..*self }
    }

    /// The message, up to the end of its payload.
    pub(super) fn seal(&self, payload: &[u8], key: &[u8; VMPCK_LEN]) -> Vec<u8> {
        let authenticated = Authenticated {
            algorithm: AES_256_GCM,
            header_version: 1,
            header_size: (HEADER as u16).into(),
            kind: self.kind,
            version: self.version,
            size: (self.size as u16).into(),
            reserved: [0; 4],
            vmpck: self.vmpck,
            reserved2: [0; 35],
        };
        let mut sealed = payload.to_vec();
        let tag = Aes256Gcm::new(key.into())
            .encrypt_in_place_detached(&self.iv().into(), authenticated.as_bytes(), &mut sealed)
            .expect("a payload of less than a page is within the limits of GCM")
            .into();
        let (reserved_tag, sequence, reserved) = ([0; 16], self.sequence.into(), [0; 8]);
        let header = abi::Header { tag, reserved_tag, sequence, reserved, authenticated };
        [header.as_bytes(), &sealed].concat()
    }

    fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(&self.sequence.to_le_bytes());
        iv
    }
}
