// SPDX-License-Identifier: GPL-2.0
//! The envelope of guest messages: AES-256-GCM under one of the guest's four VMPCKs.
//!
//! Layout (`struct snp_guest_msg_hdr` in asm/sev.h): 0x00 tag (16 of 32 bytes), 0x20 sequence
//! number, 0x30 algorithm, 0x31 header version, 0x32 header size u16, 0x34 type, 0x35 message
//! version, 0x36 payload size u16, 0x3c VMPCK, 0x60 payload. Header bytes 0x30 to 0x5f are
//! authenticated with the payload; the IV is the sequence number, extended by zeros
//! (arch/x86/coco/sev/core.c). The host carries messages, so it may do anything to them.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit};

use crate::Status;

/// VM communication keys of a guest, one per VMPL.
pub(super) const VMPCKS: usize = 4;
/// Bytes of one.
pub(super) const VMPCK_LEN: usize = 32;
/// Bytes of the page that a message is in.
pub(super) const PAGE: usize = 0x1000;

const SEQUENCE: usize = 0x20;
const AUTHENTICATED: std::ops::Range<usize> = 0x30..PAYLOAD;
const ALGORITHM: usize = 0x30;
const HEADER_VERSION: usize = 0x31;
const HEADER_SIZE: usize = 0x32;
const TYPE: usize = 0x34;
const VERSION: usize = 0x35;
const SIZE: usize = 0x36;
const VMPCK: usize = 0x3c;
const PAYLOAD: usize = 0x60;
const TAG_LEN: usize = 16;

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
        let half = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
        let zero = |range: std::ops::Range<usize>| page[range].iter().all(|byte| *byte == 0);
        let well_formed = page.len() == PAGE
            && page[ALGORITHM] == AES_256_GCM
            && page[HEADER_VERSION] == 1
            && half(HEADER_SIZE) == PAYLOAD
            && half(SIZE) <= PAGE - PAYLOAD
            && usize::from(page[VMPCK]) < VMPCKS
            && zero(SEQUENCE + 8..ALGORITHM)
            && zero(SIZE + 2..VMPCK)
            && zero(VMPCK + 1..PAYLOAD);
        if !well_formed {
            return Err(Status::InvalidParam);
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&page[SEQUENCE..SEQUENCE + 8]);
        Ok(Header {
            sequence: u64::from_le_bytes(sequence),
            kind: page[TYPE],
            version: page[VERSION],
            vmpck: page[VMPCK],
            size: half(SIZE),
        })
    }

    /// The payload in clear text, if the message was sealed with `key`; else BAD_MEASUREMENT.
    pub(super) fn open(&self, page: &[u8], key: &[u8; VMPCK_LEN]) -> Result<Vec<u8>, Status> {
        let mut payload = page[PAYLOAD..PAYLOAD + self.size].to_vec();
        let tag = page[..TAG_LEN].into();
        Aes256Gcm::new(key.into())
            .decrypt_in_place_detached(&self.iv().into(), &page[AUTHENTICATED], &mut payload, tag)
            .map_err(|_| Status::BadMeasurement)?;
        Ok(payload)
    }

    /// The header of the answer to this request: the next sequence number, the next type.
    pub(super) fn answer(&self, size: usize) -> Header {
        Header { sequence: self.sequence + 1, kind: self.kind + 1, size, ..*self }
    }

    /// The message, up to the end of its payload.
    pub(super) fn seal(&self, payload: &[u8], key: &[u8; VMPCK_LEN]) -> Vec<u8> {
        let mut page = vec![0; PAYLOAD];
        page[SEQUENCE..SEQUENCE + 8].copy_from_slice(&self.sequence.to_le_bytes());
        page[ALGORITHM] = AES_256_GCM;
        page[HEADER_VERSION] = 1;
        page[HEADER_SIZE..HEADER_SIZE + 2].copy_from_slice(&(PAYLOAD as u16).to_le_bytes());
        page[TYPE] = self.kind;
        page[VERSION] = self.version;
        page[SIZE..SIZE + 2].copy_from_slice(&(self.size as u16).to_le_bytes());
        page[VMPCK] = self.vmpck;
        let mut sealed = payload.to_vec();
        let tag = Aes256Gcm::new(key.into())
            .encrypt_in_place_detached(&self.iv().into(), &page[AUTHENTICATED], &mut sealed)
            .expect("a payload of less than a page is within the limits of GCM");
        page[..TAG_LEN].copy_from_slice(&tag);
        page.extend(sealed);
        page
    }

    fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(&self.sequence.to_le_bytes());
        iv
    }
}
