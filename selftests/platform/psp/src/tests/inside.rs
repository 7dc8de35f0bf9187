// SPDX-License-Identifier: GPL-2.0
//! Software in a guest, as far as it speaks to firmware: after the Linux kernel's header files and
//! with OpenSSL's AES-GCM, so that it cannot share a mistake with the model.

use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};

use super::lab::*;
use crate::snp::digest::PageType;
use crate::{Config, Outcome, Status};

pub(super) const POLICY: u64 = 0x30000;
pub(super) const REQUEST: u64 = 0x6_0000;
pub(super) const RESPONSE: u64 = 0x6_1000;

const ASID: u32 = 3;
const PAYLOAD: usize = 0x60;

pub(super) const MSG_CPUID_REQ: u8 = 1;
pub(super) const MSG_KEY_REQ: u8 = 3;
pub(super) const MSG_REPORT_REQ: u8 = 5;
pub(super) const MSG_TSC_INFO_REQ: u8 = 17;

/// A guest, and the machine that it runs on.
pub(super) struct Inside {
    pub(super) lab: Lab,
    /// From its secrets page.
    pub(super) keys: [[u8; 32]; 4],
    /// Of the last answer, for each key.
    pub(super) sequence: [u64; 4],
}

/// What is special about a launch.
pub(super) struct Launch {
    pub(super) lab: fn() -> Lab,
    pub(super) start: Buf,
    pub(super) finish: Buf,
    /// SEV_FEATURES of its VMSA.
    pub(super) features: u64,
}

impl Launch {
    pub(super) fn plain() -> Launch {
        let start = buf(48).u64(0, GCTX).u64(8, POLICY);
        Launch { lab: Lab::context, start, finish: buf(64).u64(0, GCTX), features: 1 }
    }

    /// Launches it with a normal page, a VMSA and a secrets page; before the end of the launch
    /// `prepare` can look at the digest and write an ID block.
    pub(super) fn run_with(self, prepare: impl FnOnce(&Lab, [u8; 48])) -> Inside {
        let mut lab = (self.lab)();
        lab.ok("SNP_LAUNCH_START", &self.start);
        lab.ok("SNP_ACTIVATE", &buf(12).u64(0, GCTX).u32(8, ASID));
        let mut vmsa = [0; 4096];
        vmsa[0x3b0..0x3b8].copy_from_slice(&self.features.to_le_bytes());
        let mut digest = [0; 48];
        for (n, page_type, content) in [
            (0, PageType::Normal, [0x5a; 4096]),
            (1, PageType::Vmsa, vmsa),
            (2, PageType::Secrets, [0; 4096]),
        ] {
            let pa = PAGE + (n << 12);
            lab.machine.poke(pa, &content);
            lab.pre_guest(pa, ASID, 0x8000 + (n << 12));
            let update = buf(32).u64(0, GCTX).u32(8, (page_type as u32) << 1).u64(16, pa);
            let outcome = lab.ok("SNP_LAUNCH_UPDATE", &update);
            let fact = outcome.facts.iter().find(|fact| fact.0 == "digest").unwrap();
            if let crate::Fact::Bytes(bytes) = &fact.1 {
                digest.copy_from_slice(bytes);
            }
        }
        prepare(&lab, digest);
        lab.ok("SNP_LAUNCH_FINISH", &self.finish);
        let key = |n: u64| lab.machine.peek(PAGE + 0x2020 + 32 * n, 32).try_into().unwrap();
        let keys = [key(0), key(1), key(2), key(3)];
        lab.firmware(RESPONSE, 1);
        Inside { lab, keys, sequence: [0; 4] }
    }

    pub(super) fn run(self) -> Inside {
        self.run_with(|_, _| ())
    }
}

/// As [`Lab::context`], on another part.
pub(super) fn context_of(config: Config) -> Lab {
    let mut lab = Lab::with(config);
    lab.prepare();
    lab.ok("SNP_INIT", &buf(0));
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
    lab.firmware(GCTX, 1);
    lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
    lab
}

/// A request, before it is sealed.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) sequence: u64,
    /// 0x60 bytes; tag and sequence number are filled in by [`Message::seal`].
    pub(super) header: [u8; PAYLOAD],
    pub(super) payload: Vec<u8>,
}

impl Message {
    pub(super) fn new(sequence: u64, kind: u8, version: u8, vmpck: u8, payload: &[u8]) -> Message {
        let mut header = [0; PAYLOAD];
        let size = (payload.len() as u16).to_le_bytes();
        header[0x30..0x38].copy_from_slice(&[1, 1, 0x60, 0, kind, version, size[0], size[1]]);
        header[0x3c] = vmpck;
        Message { sequence, header, payload: payload.to_vec() }
    }

    pub(super) fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut page = self.header.to_vec();
        let (about, iv) = (&self.header[0x30..], iv(self.sequence));
        let cipher = Cipher::aes_256_gcm();
        let mut tag = [0; 16];
        let sealed = encrypt_aead(cipher, key, Some(&iv), about, &self.payload, &mut tag).unwrap();
        page[..16].copy_from_slice(&tag);
        page[0x20..0x28].copy_from_slice(&self.sequence.to_le_bytes());
        page.extend(sealed);
        page.resize(4096, 0);
        page
    }
}

fn iv(sequence: u64) -> [u8; 12] {
    let mut iv = [0; 12];
    iv[..8].copy_from_slice(&sequence.to_le_bytes());
    iv
}

pub(super) fn guest_request() -> Buf {
    buf(24).u64(0, GCTX).u64(8, REQUEST).u64(16, RESPONSE)
}

impl Inside {
    /// The next message with key `vmpck`, in version 1.
    pub(super) fn message(&self, kind: u8, vmpck: u8, payload: &[u8]) -> Message {
        Message::new(self.sequence[usize::from(vmpck)] + 1, kind, 1, vmpck, payload)
    }

    /// Has the host carry a page.
    pub(super) fn carry(&mut self, page: &[u8]) -> Outcome {
        self.lab.machine.poke(REQUEST, page);
        self.lab.run("SNP_GUEST_REQUEST", &guest_request())
    }

    /// Asks, and opens the answer as Linux does (verify_and_dec_payload()).
    pub(super) fn ask(&mut self, message: &Message) -> Result<Vec<u8>, Status> {
        let vmpck = usize::from(message.header[0x3c]);
        let status = self.carry(&message.seal(&self.keys[vmpck])).status;
        if status != Status::Success {
            return Err(status);
        }
        let page = self.lab.machine.peek(RESPONSE, 4096);
        let sequence = u64::from_le_bytes(page[0x20..0x28].try_into().unwrap());
        assert_eq!(sequence, message.sequence + 1, "sequence number of the answer");
        let mut header = message.header;
        header[0x34] += 1;
        header[0x36..0x38].copy_from_slice(&page[0x36..0x38]);
        assert_eq!(page[0x28..0x60], header[0x28..], "header of the answer");
        let size = usize::from(u16::from_le_bytes([page[0x36], page[0x37]]));
        let cipher = Cipher::aes_256_gcm();
        let (about, sealed) = (&page[0x30..0x60], &page[0x60..0x60 + size]);
        let key = &self.keys[vmpck];
        let answer = decrypt_aead(cipher, key, Some(&iv(sequence)), about, sealed, &page[..16]);
        self.sequence[vmpck] = sequence;
        Ok(answer.expect("the answer is authentic"))
    }

    /// The status inside the answer, and the rest of it.
    pub(super) fn answer(&mut self, kind: u8, vmpck: u8, payload: &[u8]) -> (u32, Vec<u8>) {
        let message = self.message(kind, vmpck, payload);
        let answer = self.ask(&message).unwrap();
        (u32::from_le_bytes(answer[..4].try_into().unwrap()), answer[4..].to_vec())
    }

    /// A report for VMPL 0, with `data` in it.
    pub(super) fn report(&mut self, data: [u8; 64]) -> Vec<u8> {
        let (status, answer) = self.answer(MSG_REPORT_REQ, 0, &report_request(data, 0, 0));
        assert_eq!(status, 0, "status of the report");
        assert_eq!(answer[..4], 0x4a0u32.to_le_bytes(), "size of the report");
        assert_eq!(answer.len(), 0x1c + 0x4a0);
        answer[0x1c..].to_vec()
    }
}

pub(super) fn report_request(data: [u8; 64], vmpl: u32, key_sel: u32) -> Vec<u8> {
    let mut request = data.to_vec();
    request.extend(vmpl.to_le_bytes());
    request.extend(key_sel.to_le_bytes());
    request.resize(0x60, 0);
    request
}
