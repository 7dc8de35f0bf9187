// SPDX-License-Identifier: GPL-2.0
//! INIT, INIT_EX, SHUTDOWN, FACTORY_RESET, PLATFORM_STATUS, DF_FLUSH, DOWNLOAD_FIRMWARE.

use super::identity::{Identity, NV_LEN};
use super::Area;
use crate::asid::Owner;
use crate::call::Call;
use crate::{Psp, Status};

const INIT_ES: u32 = 1;
/// Larger than any image that AMD has published.
const MAX_IMAGE: u32 = 1 << 20;

/// `{flags, reserved, tmr, tmr_len}`
pub(crate) fn init(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    may_init(psp, call)?;
    let tmr = tmr(call, call.u32(0), call.pa(8), call.u32(16))?;
    psp.sev.active = psp.sev.flash.clone();
    initialised(psp, call, call.u32(0), tmr, None);
    Ok(())
}

/// `{length, flags, tmr, tmr_len, reserved, nv, nv_len}`
pub(crate) fn init_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    may_init(psp, call)?;
    if call.u32(0) != call.buffer.len() as u32 || call.u32(32) != NV_LEN as u32 {
        return Err(Status::InvalidLen);
    }
    let flags = call.u32(4);
    let tmr = tmr(call, flags, call.pa(8), call.u32(16))?;
    let nv = Area { pa: call.pa(24), len: NV_LEN as u64 };
    let place = call.output(nv.pa, nv.len)?;
    let content = call.read(nv.pa, nv.len)?;
    let seed = psp.config.seed;
    let Some(stored) = Identity::from_nv(seed, &content) else {
        // The reset state replaces what was there, so that the retry which Linux makes succeeds.
        call.write(place, &Identity::new(seed).to_nv());
        return Err(Status::SecureDataInvalid);
    };
    psp.sev.active = stored.unwrap_or_else(|| Identity::new(seed));
    call.write(place, &psp.sev.active.to_nv());
    initialised(psp, call, flags, tmr, Some(nv));
    Ok(())
}

/// UNINIT only. While SNP_EN is set and SNP is not initialised, hardware refuses legacy INIT: that
/// is what a failed SNP_INIT looks like in public logs (AMDSEV issues 140, 176, 189).
fn may_init(psp: &Psp, call: &Call<'_>) -> Result<(), Status> {
    let snp_en = call.platform.cpus().iter().any(|cpu| cpu.snp_en());
    if psp.sev.initialised() || (snp_en && call.rmp.is_none()) {
        return Err(Status::InvalidPlatformState);
    }
    Ok(())
}

/// Checks the memory that SEV-ES needs: 1 MiB, with SNP 2 MiB of Firmware pages, aligned to its
/// size. INVALID_LEN and INVALID_ADDRESS are model choices.
fn tmr(call: &mut Call<'_>, flags: u32, pa: u64, len: u32) -> Result<Option<Area>, Status> {
    if flags & INIT_ES == 0 {
        return Ok(None);
    }
    let need = if call.rmp.is_some() { 2 << 20 } else { 1 << 20 };
    if u64::from(len) < need {
        return Err(Status::InvalidLen);
    }
    if pa % need != 0 {
        return Err(Status::InvalidAddress);
    }
    let _checked = call.output(pa, len.into())?;
    Ok(Some(Area { pa, len: len.into() }))
}

fn initialised(psp: &mut Psp, call: &Call<'_>, flags: u32, tmr: Option<Area>, nv: Option<Area>) {
    psp.sev.initialised = true;
    psp.sev.es = flags & INIT_ES != 0;
    psp.sev.tmr = tmr;
    psp.sev.nv = nv;
    psp.asids.initialised(call.platform, call.rmp.is_some());
}

/// Allowed in every state; sev-tool's table lists it for INIT and WORKING. In UNINIT there is
/// nothing to do (model choice). Guests are lost, and their ASIDs have to be flushed.
pub(crate) fn shutdown(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    for handle in psp.sev.guests.keys() {
        psp.asids.release(Owner::Sev(*handle), call.platform);
    }
    psp.sev.reset();
    Ok(())
}

pub(crate) fn factory_reset(psp: &mut Psp, _call: &mut Call<'_>) -> Result<(), Status> {
    if psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    psp.sev.flash.new_all();
    Ok(())
}

/// `{api_major, api_minor, state, flags, build, guest_count}`, all out.
pub(crate) fn status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let api = psp.config.api;
    let owner = u32::from(psp.sev.identity().externally_owned());
    let flags = owner | (u32::from(psp.sev.es) << 8);
    call.buffer[0] = api.major;
    call.buffer[1] = api.minor;
    call.buffer[2] = psp.sev.state() as u8;
    call.buffer[3..7].copy_from_slice(&flags.to_le_bytes());
    call.buffer[7] = api.build;
    call.set_u32(8, psp.sev.guests.len() as u32);
    Ok(())
}

pub(crate) fn df_flush(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if !psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    psp.asids.flush(call.platform)
}

/// `{address, len}`. No image is accepted: an image must be signed with AMD's key, and the model
/// runs no code that an image could replace.
pub(crate) fn download_firmware(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if psp.sev.initialised() || call.rmp.is_some() {
        return Err(Status::InvalidPlatformState);
    }
    let len = call.u32(8);
    if len == 0 || len > MAX_IMAGE {
        return Err(Status::InvalidLen);
    }
    call.read(call.pa(0), len.into())?;
    Err(Status::BadSignature)
}
