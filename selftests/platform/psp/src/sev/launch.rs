// SPDX-License-Identifier: GPL-2.0
//! LAUNCH_START, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_FINISH.

use sha2::{Digest, Sha256};

use super::certificate::{Usage, LEN as CERTIFICATE};
use super::guest::{whole_blocks, Guest, State, POLICY_ES};
use super::keys::certificate;
use super::session::{self, IntegrityKey, MEASUREMENT};
use crate::call::{Call, Fact};
use crate::{Psp, Status};

/// Policy bit 1: no other guest has the same keys.
const POLICY_NO_KEY_SHARING: u32 = 1 << 1;
/// Bits 5:0 are flags, 23:16 and 31:24 the least API version.
const POLICY_KNOWN: u32 = 0xffff_003f;
/// Bytes of a VMSA.
const VMSA: u64 = 0x1000;

/// `{handle in/out, policy, dh_cert, dh_cert_len, reserved, session, session_len}`. The guest's
/// keys come from its owner's session, from the guest whose handle was given, or are new.
pub(crate) fn start(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (sharing, policy) = (call.u32(0), call.u32(4));
    call.fact("policy", Fact::Number(policy.into()));
    if !psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    call.reserved(20..24)?;
    let owner_has_session = call.pa(24) != 0;
    // Which of the two keys would count is not said anywhere (model choice).
    if policy & !POLICY_KNOWN != 0 || (sharing != 0 && owner_has_session) {
        return Err(Status::InvalidParam);
    }
    let wanted = ((policy >> 16) as u8, (policy >> 24) as u8);
    if wanted > (psp.config.api.major, psp.config.api.minor)
        || (policy & POLICY_ES != 0 && !psp.sev.es)
    {
        return Err(Status::PolicyFailure);
    }
    let tik = match sharing {
        0 if owner_has_session => owners_key(psp, call, policy)?,
        0 => psp.sev.random(),
        handle => shared_key(psp, handle, policy)?,
    };
    psp.sev.handles += 1;
    let handle = psp.sev.handles;
    let guest = Guest { state: State::Launch, policy, asid: 0, tik, digest: Sha256::new() };
    psp.sev.guests.insert(handle, guest);
    call.set_u32(0, handle);
    call.fact("handle", Fact::Number(handle.into()));
    Ok(())
}

fn shared_key(psp: &Psp, handle: u32, policy: u32) -> Result<IntegrityKey, Status> {
    let other = psp.sev.guests.get(&handle).ok_or(Status::InvalidGuest)?;
    if policy & POLICY_NO_KEY_SHARING != 0 || other.policy != policy {
        return Err(Status::PolicyFailure);
    }
    Ok(other.tik)
}

fn owners_key(psp: &Psp, call: &mut Call<'_>, policy: u32) -> Result<IntegrityKey, Status> {
    if call.u32(16) != CERTIFICATE as u32 || call.u32(32) != session::LEN as u32 {
        return Err(Status::InvalidLen);
    }
    let owner = certificate(call, call.pa(8), Usage::Pdh)?;
    let bytes = call.read(call.pa(24), session::LEN as u64)?;
    let mut session = [0; session::LEN];
    session.copy_from_slice(&bytes);
    let shared = psp.sev.active.agree(&owner).ok_or(Status::InvalidCertificate)?;
    session::open(&shared, &session, policy)
}

/// `{handle, reserved, address, len}`: encrypts memory in place, and measures it.
pub(crate) fn update_data(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    update(psp, call, |_, pa, len| whole_blocks(pa, len))
}

/// `{handle, reserved, address, len}`: the same for the registers of a vCPU, one page.
pub(crate) fn update_vmsa(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    update(psp, call, |guest, pa, len| match (guest.policy & POLICY_ES, pa % VMSA) {
        // Such a guest has no VMSA (that the status is this one is a model choice).
        (0, _) => Err(Status::PolicyFailure),
        _ if len != VMSA => Err(Status::InvalidLen),
        (_, 0) => Ok(()),
        _ => Err(Status::InvalidAddress),
    })
}

fn update(
    psp: &mut Psp,
    call: &mut Call<'_>,
    allowed: impl Fn(&Guest, u64, u64) -> Result<(), Status>,
) -> Result<(), Status> {
    let (pa, len) = (call.pa(8), u64::from(call.u32(16)));
    let (_, guest) = psp.sev.guest(call)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    guest.active()?;
    call.reserved(4..8)?;
    allowed(guest, pa, len)?;
    // Encrypted in place: it must be memory that firmware may write, and its plain text stays.
    let _checked = call.output(pa, len)?;
    guest.digest.update(call.read(pa, len)?);
    let digest = guest.digest.clone().finalize();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    Ok(())
}

/// `{handle, reserved, address, len in/out}`; answer `{measurement 32, nonce 16}`. The measurement
/// is complete.
pub(crate) fn measure(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (api, nonce) = (psp.config.api, psp.sev.random());
    let (_, guest) = psp.sev.guest(call)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    call.reserved(4..8)?;
    let (pa, len) = (call.pa(8), call.u32(16) as usize);
    call.set_u32(16, MEASUREMENT as u32);
    if pa == 0 || len < MEASUREMENT {
        return Err(Status::InvalidLen);
    }
    let place = call.output(pa, MEASUREMENT as u64)?;
    guest.state = State::Secret;
    let digest = guest.digest.clone().finalize();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    call.write(place, &session::measurement(&guest.tik, api, guest.policy, &digest, nonce));
    Ok(())
}

/// `{handle}`: measured or not, as KVM's own selftests expect.
pub(crate) fn finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (_, guest) = psp.sev.guest(call)?;
    if guest.state == State::Running {
        return Err(Status::InvalidGuestState);
    }
    guest.state = State::Running;
    Ok(())
}
