// SPDX-License-Identifier: GPL-2.0
//! SNP_CONFIG, SNP_COMMIT, SNP_VLEK_LOAD.

use super::{abi, tcb};
use crate::call::{must_be_zero, Call};
use crate::endorsement::{Vlek, WrappedVlek};
use crate::{Psp, Status};

/// A TCB of 0 follows the current one. Linux sends it only while initialised, where it is therefore
/// required here (model choice).
pub(crate) fn config(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    let request: abi::Config = call.request();
    let (reported, flags) = (request.reported_tcb.get(), request.flags.get());
    must_be_zero(&request.reserved)?;
    if flags & !3 != 0 || !tcb::within(reported, psp.firmware.committed.tcb) {
        return Err(Status::InvalidParam);
    }
    psp.snp.reported_tcb = (reported != 0).then_some(reported);
    psp.snp.mask_chip_id = flags & 1 != 0;
    psp.snp.mask_chip_key = flags & 2 != 0;
    Ok(())
}

/// Linux sends it in whatever state the platform is, and tools expect success.
pub(crate) fn commit(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Commit = call.request();
    call.whole(request.length)?;
    psp.commit();
    Ok(())
}

/// AMD wraps a VLEK with a key that it shares with the chip. So does the model, with a key of its
/// own ([`crate::endorsement`]). What does not unwrap gets INVALID_KEY (by the status' name).
pub(crate) fn vlek_load(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    let request: abi::VlekLoad = call.request();
    call.whole(request.length)?;
    must_be_zero(&request.reserved)?;
    if request.version != 0 {
        return Err(Status::InvalidParam);
    }
    let wrapped: WrappedVlek = call.read_as(call.address(request.address))?;
    // What does not unwrap says nothing about its fields.
    let vlek = Vlek::unwrap(psp.config.seed, &wrapped).ok_or(Status::InvalidKey)?;
    must_be_zero(&wrapped.reserved)?;
    if !tcb::within(vlek.tcb, psp.firmware.current.tcb) {
        return Err(Status::InvalidParam);
    }
    psp.snp.vlek = Some(vlek);
    Ok(())
}
