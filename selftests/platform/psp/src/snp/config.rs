// SPDX-License-Identifier: GPL-2.0
//! SNP_CONFIG, SNP_COMMIT, SNP_VLEK_LOAD.

use super::tcb;
use crate::call::Call;
use crate::endorsement::{Vlek, WRAPPED_VLEK};
use crate::{Psp, Status};

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
/// chip; so does the model, with its own ([`crate::endorsement`]). Everything else does not unwrap,
/// which is INVALID_KEY by that status' name.
pub(crate) fn vlek_load(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    if call.u32(0) != call.buffer.len() as u32 {
        return Err(Status::InvalidLen);
    }
    call.reserved(5..8)?;
    if call.u8(4) != 0 {
        return Err(Status::InvalidParam);
    }
    let mut blob = [0; WRAPPED_VLEK];
    blob.copy_from_slice(&call.read(call.pa(8), WRAPPED_VLEK as u64)?);
    let vlek = Vlek::unwrap(psp.config.seed, &blob).ok_or(Status::InvalidKey)?;
    if !tcb::within(vlek.tcb, psp.snp.current_tcb) {
        return Err(Status::InvalidParam);
    }
    psp.snp.vlek = Some(vlek);
    Ok(())
}
