// SPDX-License-Identifier: GPL-2.0
//! LAUNCH_START, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_FINISH.

use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use super::abi;
use super::certificate::{Usage, LEN as CERTIFICATE};
use super::guest::{whole_blocks, Guest, State, POLICY_ES};
use super::keys::certificate;
use super::session::{self, IntegrityKey};
use crate::call::{must_be_zero, Call, Fact};
use crate::{Psp, Status};

/// Policy bit 1: no other guest has the same keys.
const POLICY_NO_KEY_SHARING: u32 = 1 << 1;
/// Bits 5:0 are flags, 23:16 and 31:24 the least API version.
const POLICY_KNOWN: u32 = 0xffff_003f;
/// Bytes of a VMSA.
const VMSA: u64 = 0x1000;

/// The guest's keys come from its owner's session, from the guest whose handle was given, or are
/// new.
pub(crate) fn start(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let mut buffer: abi::LaunchStart = call.request();
    let (sharing, policy) = (buffer.handle.get(), buffer.policy.get());
    call.fact("policy", Fact::Number(policy.into()));
    if !psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    must_be_zero(&buffer.reserved)?;
    let owner_has_session = call.address(buffer.session) != 0;
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
        0 if owner_has_session => owners_key(psp, call, &buffer)?,
        0 => psp.sev.random(),
        handle => shared_key(psp, handle, policy)?,
    };
    psp.sev.handles += 1;
    let handle = psp.sev.handles;
    let guest = Guest { state: State::Launch, policy, asid: 0, tik, digest: Sha256::new() };
    psp.sev.guests.insert(handle, guest);
    buffer.handle = handle.into();
    call.answer(&buffer);
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

fn owners_key(
    psp: &Psp,
    call: &mut Call<'_>,
    request: &abi::LaunchStart,
) -> Result<IntegrityKey, Status> {
    let session_len = size_of::<abi::Session>() as u32;
    if request.dh_cert_len != CERTIFICATE as u32 || request.session_len != session_len {
        return Err(Status::InvalidLen);
    }
    let owner = certificate(call, call.address(request.dh_cert), Usage::Pdh)?;
    let session: abi::Session = call.read_as(call.address(request.session))?;
    let shared = psp.sev.active.agree(&owner).ok_or(Status::InvalidCertificate)?;
    session::open(&shared, &session, request.policy.get())
}

/// Encrypts memory in place, and measures it.
pub(crate) fn update_data(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    update(psp, call, |_, pa, len| whole_blocks(pa, len))
}

/// The same for the registers of a vCPU, one page.
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
    let request: abi::Launch = call.request();
    let (pa, len) = (call.address(request.address), u64::from(request.len));
    let guest = psp.sev.guest(call, request.handle)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    guest.active()?;
    must_be_zero(&request.reserved)?;
    allowed(guest, pa, len)?;
    // Encrypted in place: it must be memory that firmware may write, and its plain text stays.
    let _checked = call.output(pa, len)?;
    guest.digest.update(call.read(pa, len)?);
    let digest = guest.digest.clone().finalize();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    Ok(())
}

/// The measurement is complete.
pub(crate) fn measure(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (api, nonce) = (psp.config.api, psp.sev.random());
    let mut buffer: abi::Launch = call.request();
    let guest = psp.sev.guest(call, buffer.handle)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    must_be_zero(&buffer.reserved)?;
    let (pa, len) = (call.address(buffer.address), size_of::<abi::Measurement>() as u32);
    let fits = buffer.len >= len;
    buffer.len = len.into();
    call.answer(&buffer);
    if pa == 0 || !fits {
        return Err(Status::InvalidLen);
    }
    let place = call.output(pa, len.into())?;
    guest.state = State::Secret;
    let digest: [u8; 32] = guest.digest.clone().finalize().into();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    let answer = session::measurement(&guest.tik, api, guest.policy, digest, nonce);
    call.write(place, answer.as_bytes());
    Ok(())
}

/// Measured or not, as KVM's own selftests expect.
pub(crate) fn finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Handle = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    if guest.state == State::Running {
        return Err(Status::InvalidGuestState);
    }
    guest.state = State::Running;
    Ok(())
}
