// SPDX-License-Identifier: GPL-2.0
//! INIT, INIT_EX, SHUTDOWN, FACTORY_RESET, PLATFORM_STATUS, DF_FLUSH.

use zerocopy::little_endian::U64;

use super::identity::{Identity, NV_LEN};
use super::{abi, Area};
use crate::asid::Owner;
use crate::call::{must_be_zero, Call};
use crate::{Psp, Status};

const INIT_ES: u32 = 1;

/// Keys are those in flash.
pub(crate) fn init(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    may_init(psp, call)?;
    let request: abi::Init = call.request();
    must_be_zero(&request.reserved)?;
    let flags = request.flags.get();
    let tmr = tmr(call, flags, request.tmr, request.tmr_len.get())?;
    psp.sev.active = psp.sev.flash.clone();
    initialised(psp, call, flags, tmr, None);
    Ok(())
}

/// Keys are those in the NV area.
pub(crate) fn init_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    may_init(psp, call)?;
    let request: abi::InitEx = call.request();
    call.whole(request.length)?;
    if request.nv_len != NV_LEN as u32 {
        return Err(Status::InvalidLen);
    }
    must_be_zero(&request.reserved)?;
    let flags = request.flags.get();
    let tmr = tmr(call, flags, request.tmr, request.tmr_len.get())?;
    let nv = Area { pa: call.address(request.nv), len: NV_LEN as u64 };
    // Linux has it at a page (model choice).
    if nv.pa % 0x1000 != 0 {
        return Err(Status::InvalidAddress);
    }
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
fn tmr(call: &mut Call<'_>, flags: u32, tmr: U64, len: u32) -> Result<Option<Area>, Status> {
    if flags & !INIT_ES != 0 {
        return Err(Status::InvalidParam);
    }
    if flags & INIT_ES == 0 {
        return Ok(None);
    }
    let pa = call.address(tmr);
    if pa != tmr.get() {
        // __sev_platform_init_locked() of sev-dev.c leaves it out, and says that firmware ignores
        // it.
        call.report("C-bit in the address of the TMR", pa);
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

/// What the platform says about itself.
pub(crate) fn status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let api = psp.firmware.current.api;
    let owner = u32::from(psp.sev.identity().externally_owned());
    let flags = owner | (u32::from(psp.sev.es) << 8);
    call.answer(&abi::PlatformStatus {
        api_major: api.major,
        api_minor: api.minor,
        state: psp.sev.state() as u8,
        flags: flags.into(),
        build: api.build,
        guest_count: (psp.sev.guests.len() as u32).into(),
    });
    Ok(())
}

pub(crate) fn df_flush(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if !psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    psp.asids.flush(call.platform)
}
