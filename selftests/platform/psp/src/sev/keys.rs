// SPDX-License-Identifier: GPL-2.0
//! Keys, certificates and the chip's identifier.

use super::certificate::{Certificate, Usage, LEN};
use super::{abi, State};
use crate::call::{must_be_zero, Call};
use crate::{endorsement, Psp, Status};

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

/// The PEK without signatures, for an owner to sign.
pub(crate) fn pek_csr(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_init(psp)?;
    let csr = psp.sev.active.pek_csr(psp.firmware.current.api);
    answer(call, csr.bytes())
}

/// The PEK as an owner has signed it, and the owner's certificate.
pub(crate) fn pek_cert_import(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_no_guests(psp)?;
    if psp.sev.active.externally_owned() {
        return Err(Status::AlreadyOwned);
    }
    let request: abi::PekCertImport = call.request();
    if request.pek_len != LEN as u32 || request.oca_len != LEN as u32 {
        return Err(Status::InvalidLen);
    }
    must_be_zero(&request.reserved)?;
    let pek = certificate(call, call.address(request.pek), Usage::Pek)?;
    let oca = certificate(call, call.address(request.oca), Usage::Oca)?;
    let ours = psp.sev.active.pek_csr(psp.firmware.current.api);
    if pek.public_key() != ours.public_key() {
        return Err(Status::InvalidCertificate);
    }
    if !oca.is_signed_by(Usage::Oca, &oca) || !pek.is_signed_by(Usage::Oca, &oca) {
        return Err(Status::BadSignature);
    }
    psp.sev.active.set_owner(pek, oca);
    save(psp, call)
}

/// The PDH, and the certificates of who vouches for it.
pub(crate) fn pdh_cert_export(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    needs_init(psp)?;
    let mut buffer: abi::PdhCertExport = call.request();
    must_be_zero(&buffer.reserved)?;
    let (pdh_pa, chain_pa) = (call.address(buffer.pdh), call.address(buffer.chain));
    let fits = buffer.pdh_len >= LEN as u32 && buffer.chain_len >= 3 * LEN as u32;
    (buffer.pdh_len, buffer.chain_len) = ((LEN as u32).into(), (3 * LEN as u32).into());
    call.answer_lengths(&buffer, &[pdh_pa, chain_pa], fits)?;
    let pdh_place = call.output(pdh_pa, LEN as u64)?;
    let chain_place = call.output(chain_pa, 3 * LEN as u64)?;
    let api = psp.firmware.current.api;
    let chain = psp.sev.active.chain(api);
    call.write(pdh_place, psp.sev.active.pdh(api).bytes());
    call.write(chain_place, &chain.map(|cert| cert.bytes().to_vec()).concat());
    Ok(())
}

/// The chip's identifier, without the zeros behind it (model choice: snphost asks the key service
/// for a Turin's certificate by all that comes from here, and the service takes 8 bytes). That of
/// another socket's follows where there is room for both (`struct sev_user_data_get_id`; that one
/// is enough is a model choice, snphost and QEMU ask for one).
pub(crate) fn get_id(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let config = &psp.config;
    let id = |seed| endorsement::chip_id(config.part, seed)[..config.part.chip_id_len()].to_vec();
    let mut ids = id(config.seed);
    let room: abi::Place = call.request();
    if let Some(second) = config.second_seed {
        if room.len.get() as usize >= 2 * ids.len() {
            ids.extend(id(second));
        }
    }
    answer(call, &ids)
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

/// A command that answers with bytes, and has nothing but the place for them.
fn answer(call: &mut Call<'_>, bytes: &[u8]) -> Result<(), Status> {
    let mut buffer: abi::Place = call.request();
    let (pa, len) = (call.address(buffer.address), bytes.len() as u32);
    let fits = buffer.len >= len;
    buffer.len = len.into();
    call.answer_lengths(&buffer, &[pa], fits)?;
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
