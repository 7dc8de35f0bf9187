// SPDX-License-Identifier: GPL-2.0
//! Attestation reports (layout: virtee/sev, google/go-sev-guest, sev-tool).

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha256, Sha384};

use super::guest::Guest;
use super::request::Asker;
use super::{tcb, word};
use crate::endorsement::Vlek;
use crate::{crypto, endorsement, Psp, Status};

/// Bytes of a report.
pub(super) const LEN: usize = 0x4a0;
/// What is signed: everything before the signature.
const BODY: usize = 0x2a0;
const ECDSA_P384: u32 = 1;
/// SIGNING_KEY in KEY_INFO for a report without signature.
const NONE: u32 = 7;

/// Which key to use (KEY_SEL of requests).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endorsement {
    Vcek = 0,
    Vlek = 1,
}

impl Endorsement {
    /// What a KEY_SEL stands for: 0 the VLEK if one is loaded, else the VCEK; 1 the VCEK; 2 the
    /// VLEK. INVALID_KEY if the guest's owner has ruled out the VCEK, if no VLEK is loaded, or if
    /// the one that is does not reach up to the reported TCB.
    pub(super) fn select(psp: &Psp, guest: &Guest, key_sel: u32) -> Result<Endorsement, Status> {
        let loaded = psp.snp.vlek.as_ref();
        let vlek = match key_sel {
            0 => loaded.is_some(),
            1 => false,
            2 => true,
            _ => return Err(Status::InvalidParam),
        };
        let good = |vlek: &Vlek| tcb::within(psp.snp.reported_tcb(), vlek.tcb);
        match vlek {
            true if loaded.is_some_and(good) => Ok(Endorsement::Vlek),
            false if !guest.vcek_disabled => Ok(Endorsement::Vcek),
            _ => Err(Status::InvalidKey),
        }
    }

    /// The key, unless the host has masked it (SNP_CONFIG's MASK_CHIP_KEY, which is about the
    /// VCEK).
    fn key(self, psp: &Psp) -> Option<SigningKey> {
        let tcb = psp.snp.reported_tcb();
        match self {
            Endorsement::Vlek => psp.snp.vlek.as_ref().map(|vlek| vlek.key(tcb)),
            Endorsement::Vcek if psp.snp.mask_chip_key => None,
            Endorsement::Vcek => Some(endorsement::vcek_key(psp.config.seed, tcb)),
        }
    }
}

/// Request: `{report_data 64, vmpl u32, {1:0 key_sel} u32, reserved 24}`. Answer: `{status u32,
/// size u32, reserved 24, report}`.
pub(super) fn answer(
    psp: &Psp,
    asker: &Asker<'_>,
    request: &[u8],
    answer: &mut [u8],
) -> Result<(), Status> {
    let (vmpl, key_sel) = (word(request, 0x40), word(request, 0x44));
    if !asker.speaks_for(vmpl) || request[0x48..].iter().any(|byte| *byte != 0) {
        return Err(Status::InvalidParam);
    }
    let endorsement = Endorsement::select(psp, asker.guest, key_sel)?;
    answer[..4].copy_from_slice(&(LEN as u32).to_le_bytes());
    answer[0x1c..].copy_from_slice(&report(psp, asker.guest, vmpl, &request[..64], endorsement));
    Ok(())
}

/// Version 3 is the first with the CPU's family, model and stepping, 5 that with mitigations.
fn report(
    psp: &Psp,
    guest: &Guest,
    vmpl: u32,
    report_data: &[u8],
    endorsement: Endorsement,
) -> [u8; LEN] {
    let (snp, api) = (&psp.snp, psp.config.api);
    let key = endorsement.key(psp);
    let mut report = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);

    put(0x000, &if psp.config.attests_mitigations() { 5u32 } else { 3 }.to_le_bytes());
    if let Some(block) = &guest.id_block {
        put(0x004, &block.guest_svn.to_le_bytes());
        put(0x010, &block.family_id);
        put(0x020, &block.image_id);
        put(0x0e0, &block.id_key_digest);
        put(0x110, &block.author_key_digest.unwrap_or([0; 48]));
    }
    put(0x008, &guest.policy.to_le_bytes());
    put(0x030, &vmpl.to_le_bytes());
    put(0x034, &ECDSA_P384.to_le_bytes());
    put(0x038, &snp.current_tcb.to_le_bytes());
    put(0x040, &platform_info(psp).to_le_bytes());
    let author = guest.id_block.as_ref().is_some_and(|block| block.author_key_digest.is_some());
    let signing = if key.is_some() { endorsement as u32 } else { NONE };
    let key_info = u32::from(author) | u32::from(snp.mask_chip_key) << 1 | signing << 2;
    put(0x048, &key_info.to_le_bytes());
    put(0x050, report_data);
    put(0x090, guest.digest.bytes());
    put(0x0c0, &guest.host_data);
    put(0x140, &report_id(psp.config.seed, guest.serial));
    // No migration agent.
    put(0x160, &[0xff; 32]);
    put(0x180, &snp.reported_tcb().to_le_bytes());
    put(0x188, &psp.config.cpu);
    if !snp.mask_chip_id {
        put(0x1a0, &endorsement::chip_id(psp.config.seed));
    }
    put(0x1e0, &snp.committed_tcb.to_le_bytes());
    // Firmware is never replaced here, so the committed version is the current one.
    let version = [api.build, api.minor, api.major];
    put(0x1e8, &version);
    put(0x1ec, &version);
    put(0x1f0, &guest.launch_tcb.to_le_bytes());
    if psp.config.attests_mitigations() {
        put(0x1f8, &guest.launch_mitigations.to_le_bytes());
        put(0x200, &snp.mitigations_verified.to_le_bytes());
    }
    if let Some(key) = key {
        let signature = crypto::sign(&key, &Sha384::digest(&report[..BODY]));
        report[BODY..BODY + signature.len()].copy_from_slice(&signature);
    }
    report
}

/// `{0 SMT, 1 TSME, 2 ECC, 3 RAPL_DIS, 4 CIPHERTEXT_HIDING, 5 ALIAS_CHECK}`. The model's memory has
/// neither TSME nor ECC; it is one file, so no two addresses are aliases.
fn platform_info(psp: &Psp) -> u64 {
    let running = psp.snp.running.as_ref();
    u64::from(psp.config.smt)
        | u64::from(running.is_some_and(|running| running.rapl_disabled)) << 3
        | u64::from(running.is_some_and(|running| running.ciphertext_hiding)) << 4
        | 1 << 5
}

/// Random on silicon; derived, so that a run can be repeated.
fn report_id(seed: u64, serial: u64) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"ccp-rs PSP model report id")
        .chain_update(seed.to_le_bytes())
        .chain_update(serial.to_le_bytes())
        .finalize()
        .into()
}
