// SPDX-License-Identifier: GPL-2.0
//! Keys, certificates and the chip's identifier.

use super::certificate::{Certificate, Usage, LEN};
use super::State;
use crate::call::Call;
use crate::{Psp, Status};

pub(crate) fn pek_gen(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_no_guests(psp)?;
    psp.sev.active.new_pek();
    save(psp, call)
}

pub(crate) fn pdh_gen(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_init(psp)?;
    psp.sev.active.new_pdh();
    save(psp, call)
}

/// `{address, len in/out}`
pub(crate) fn pek_csr(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_init(psp)?;
    let csr = psp.sev.active.pek_csr(psp.config.api);
    answer(call, csr.bytes())
}

/// `{pek, pek_len, reserved, oca, oca_len}`
pub(crate) fn pek_cert_import(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_no_guests(psp)?;
    if psp.sev.active.externally_owned() {
        return Err(Status::AlreadyOwned);
    }
    if call.u32(8) != LEN as u32 || call.u32(24) != LEN as u32 {
        return Err(Status::InvalidLen);
    }
    let pek = certificate(call, call.pa(0), Usage::Pek)?;
    let oca = certificate(call, call.pa(16), Usage::Oca)?;
    let ours = psp.sev.active.pek_csr(psp.config.api);
    if pek.public_key() != ours.public_key() {
        return Err(Status::InvalidCertificate);
    }
    if !oca.is_signed_by(Usage::Oca, &oca) || !pek.is_signed_by(Usage::Oca, &oca) {
        return Err(Status::BadSignature);
    }
    psp.sev.active.set_owner(pek, oca);
    save(psp, call)
}

/// `{pdh, pdh_len in/out, reserved, chain, chain_len in/out}`
pub(crate) fn pdh_cert_export(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_init(psp)?;
    let (pdh_pa, chain_pa) = (call.pa(0), call.pa(16));
    let (pdh_len, chain_len) = (call.u32(8) as usize, call.u32(24) as usize);
    call.set_u32(8, LEN as u32);
    call.set_u32(24, 3 * LEN as u32);
    if pdh_pa == 0 || chain_pa == 0 || pdh_len < LEN || chain_len < 3 * LEN {
        return Err(Status::InvalidLen);
    }
    let pdh_place = call.output(pdh_pa, LEN as u64)?;
    let chain_place = call.output(chain_pa, 3 * LEN as u64)?;
    let api = psp.config.api;
    let chain = psp.sev.active.chain(api);
    call.write(pdh_place, psp.sev.active.pdh(api).bytes());
    call.write(chain_place, &chain.map(|cert| *cert.bytes()).concat());
    Ok(())
}

/// `{address, len in/out}`: 64 bytes per socket; the model has one socket.
pub(crate) fn get_id(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let id = psp.sev.identity().chip_id();
    answer(call, &id)
}

/// INIT or WORKING, which is all but UNINIT.
fn needs_init(psp: &Psp) -> Result<(), Status> {
    if psp.sev.initialised() {
        Ok(())
    } else {
        Err(Status::InvalidPlatformState)
    }
}

/// INIT alone: a new PEK would be another platform than the one that the guests' owners have agreed
/// to.
fn needs_no_guests(psp: &Psp) -> Result<(), Status> {
    match psp.sev.state() {
        State::Init => Ok(()),
        State::Uninit | State::Working => Err(Status::InvalidPlatformState),
    }
}

/// The convention of `{address, len}`: the needed length comes back in any case, and is all that
/// happens if the address is 0 or the length too small.
fn answer(call: &mut Call<'_>, bytes: &[u8]) -> Result<(), Status> {
    let (pa, len) = (call.pa(0), call.u32(8) as usize);
    call.set_u32(8, bytes.len() as u32);
    if pa == 0 || len < bytes.len() {
        return Err(Status::InvalidLen);
    }
    let place = call.output(pa, bytes.len() as u64)?;
    call.write(place, bytes);
    Ok(())
}

pub(super) fn certificate(
    call: &mut Call<'_>,
    pa: u64,
    usage: Usage,
) -> Result<Certificate, Status> {
    let bytes = call.read(pa, LEN as u64)?;
    Certificate::from_bytes(&bytes).filter(|cert| cert.is(usage)).ok_or(Status::InvalidCertificate)
}

/// Keeps a changed identity where it came from.
fn save(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    match psp.sev.nv {
        Some(nv) => {
            let place = call.output(nv.pa, nv.len)?;
            call.write(place, &psp.sev.active.to_nv());
        }
        None => psp.sev.flash = psp.sev.active.clone(),
    }
    Ok(())
}
