// SPDX-License-Identifier: GPL-2.0
//! Attestation reports.

use sha2::{Digest, Sha256, Sha384};
use zerocopy::{FromZeros, IntoBytes};

use super::asker::Asker;
use super::endorsement::Endorsement;
use super::guest::Guest;
use super::message_abi::{Report, ReportAnswer, ReportBody, ReportRequest, Version};
use crate::call::must_be_zero;
use crate::{crypto, endorsement, Api, Psp, Status};

const ECDSA_P384: u32 = 1;
/// SIGNING_KEY in KEY_INFO for a report without signature.
const NONE: u32 = 7;

/// The report that a guest asks for.
pub(super) fn answer(
    psp: &Psp,
    asker: &Asker<'_>,
    request: &ReportRequest,
) -> Result<ReportAnswer, Status> {
    if !asker.speaks_for(request.vmpl.get()) {
        return Err(Status::InvalidParam);
    }
    must_be_zero(&request.reserved)?;
    let endorsement = Endorsement::select(psp, asker.guest, request.flags.get())?;
    let mut answer = ReportAnswer::new_zeroed();
    answer.size = (size_of::<Report>() as u32).into();
    answer.report = signed(psp, body(psp, asker.guest, request, endorsement), endorsement);
    Ok(answer)
}

fn signed(psp: &Psp, body: ReportBody, endorsement: Endorsement) -> Report {
    let mut report = Report::new_zeroed();
    if let Some(key) = endorsement.key(psp) {
        report.signature = crypto::sign(&key, &Sha384::digest(body.as_bytes()));
    }
    report.body = body;
    report
}

fn body(psp: &Psp, guest: &Guest, request: &ReportRequest, endorsement: Endorsement) -> ReportBody {
    let (snp, firmware) = (&psp.snp, &psp.firmware);
    let api = firmware.current.api;
    let mut body = ReportBody {
        version: api.report_version().into(),
        policy: guest.policy.into(),
        vmpl: request.vmpl,
        signature_algorithm: ECDSA_P384.into(),
        current_tcb: firmware.current.tcb.into(),
        platform_info: platform_info(psp).into(),
        key_info: key_info(psp, guest, endorsement).into(),
        report_data: request.report_data,
        measurement: *guest.digest.bytes(),
        host_data: guest.host_data,
        report_id: report_id(psp.config.seed, guest.serial),
        // No migration agent.
        report_id_ma: [0xff; 32],
        reported_tcb: psp.reported_tcb().into(),
        cpuid: if api.report_version() > 2 { psp.config.part.cpu() } else { [0; 3] },
        committed_tcb: firmware.committed.tcb.into(),
        current: version(firmware.current.api),
        committed: version(firmware.committed.api),
        launch_tcb: guest.launch_tcb.into(),
        ..ReportBody::new_zeroed()
    };
    if let Some(block) = &guest.id_block {
        body.guest_svn = block.guest_svn.into();
        body.family_id = block.family_id;
        body.image_id = block.image_id;
        body.id_key_digest = block.id_key_digest;
        body.author_key_digest = block.author_key_digest.unwrap_or([0; 48]);
    }
    if !snp.mask_chip_id {
        body.chip_id = endorsement::chip_id(psp.config.part, psp.config.seed);
    }
    if api.attests_mitigations() {
        body.launch_mitigations = guest.launch_mitigations.into();
        body.current_mitigations = snp.mitigations_verified.into();
    }
    body
}

fn version(api: Api) -> Version {
    Version { build: api.build, minor: api.minor, major: api.major, reserved: 0 }
}

fn key_info(psp: &Psp, guest: &Guest, endorsement: Endorsement) -> u32 {
    let author = guest.id_block.as_ref().is_some_and(|block| block.author_key_digest.is_some());
    let signing = if endorsement.key(psp).is_some() { endorsement as u32 } else { NONE };
    u32::from(author) | u32::from(psp.snp.mask_chip_key) << 1 | signing << 2
}

/// The model's memory has neither TSME nor ECC; it is one file, so no two addresses are aliases.
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
