// SPDX-License-Identifier: GPL-2.0
//! SNP_CONFIG, SNP_COMMIT, SNP_VLEK_LOAD.

use sha2::{Digest, Sha256};

use super::tcb;
use crate::call::Call;
use crate::{Psp, Status};

/// Wrapped VLEK (virtee/sev): `{iv 12, reserved 4, key 384, tcb 8, reserved 8, tag 16}`.
const VLEK_LEN: u64 = 0x1b0;
const VLEK_TCB: usize = 0x190;
const VLEK_TAG: usize = 0x1a0;

/// `{reported_tcb, flags {0 mask_chip_id, 1 mask_chip_key}, reserved}`. A TCB of 0 follows the
/// current one. Linux sends it only while initialised, where it is therefore required here (model
/// choice).
pub(crate) fn config(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    let (reported, flags) = (call.u64(0), call.u32(8));
    call.reserved(12..64)?;
    if flags & !3 != 0 || !tcb::within(reported, psp.snp.committed_tcb) {
        return Err(Status::InvalidParam);
    }
    psp.snp.reported_tcb = (reported != 0).then_some(reported);
    psp.snp.mask_chip_id = flags & 1 != 0;
    psp.snp.mask_chip_key = flags & 2 != 0;
    Ok(())
}

/// `{len}`. Linux sends it in whatever state the platform is, and tools expect success.
pub(crate) fn commit(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if call.u32(0) != call.buffer.len() as u32 {
        return Err(Status::InvalidLen);
    }
    psp.snp.committed_tcb = psp.snp.current_tcb;
    Ok(())
}

/// `{len, version u8, reserved, address}`. AMD wraps a VLEK with a key that it shares with the
/// chip; the model's wrapping is its own: the tag is a keyed hash of the rest. Everything else
/// does not unwrap, which is INVALID_KEY by that status' name.
pub(crate) fn vlek_load(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    if call.u32(0) != call.buffer.len() as u32 {
        return Err(Status::InvalidLen);
    }
    call.reserved(5..8)?;
    if call.u8(4) != 0 {
        return Err(Status::InvalidParam);
    }
    let blob = call.read(call.pa(8), VLEK_LEN)?;
    if blob[VLEK_TAG..] != vlek_tag(psp.config.seed, &blob) {
        return Err(Status::InvalidKey);
    }
    let mut wrapped_tcb = [0; 8];
    wrapped_tcb.copy_from_slice(&blob[VLEK_TCB..VLEK_TCB + 8]);
    if !tcb::within(u64::from_le_bytes(wrapped_tcb), psp.snp.current_tcb) {
        return Err(Status::InvalidParam);
    }
    psp.snp.vlek_loaded = true;
    Ok(())
}

/// The tag of a wrapped VLEK for the chip with this seed.
pub(crate) fn vlek_tag(seed: u64, blob: &[u8]) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(b"ccp-rs PSP model VLEK")
        .chain_update(seed.to_le_bytes())
        .chain_update(&blob[..VLEK_TAG])
        .finalize();
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    tag
}
