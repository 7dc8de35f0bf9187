// SPDX-License-Identifier: GPL-2.0
//! LAUNCH_START, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_UPDATE_SECRET,
//! LAUNCH_FINISH, ATTESTATION_REPORT.

use sha2::{Digest, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use super::certificate::{Usage, ECDSA_SHA256, LEN as CERTIFICATE};
use super::guest::{whole_blocks, Guest, State, POLICY_ES};
use super::keys::certificate;
use super::{abi, packet, session};
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
    begin(psp, call, State::Launch)
}

/// What LAUNCH_START and RECEIVE_START have in common. The handle of another guest says whose
/// memory key the guest shall have.
pub(super) fn begin(psp: &mut Psp, call: &mut Call<'_>, state: State) -> Result<(), Status> {
    let mut buffer: abi::Start = call.request();
    let (sharing, policy) = (buffer.handle.get(), buffer.policy.get());
    call.fact("policy", Fact::Number(policy.into()));
    if !psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    must_be_zero(&buffer.reserved)?;
    let has_session = call.address(buffer.session) != 0;
    // A launch has keys from one of the two, and which would count is not said anywhere (model
    // choice). What is received has a session in any case: nothing would be readable without.
    let session_fits = match state {
        State::Receiving => has_session,
        _ => sharing == 0 || !has_session,
    };
    if policy & !POLICY_KNOWN != 0 || !session_fits {
        return Err(Status::InvalidParam);
    }
    let wanted = ((policy >> 16) as u8, (policy >> 24) as u8);
    if wanted > (psp.firmware.current.api.major, psp.firmware.current.api.minor)
        || (policy & POLICY_ES != 0 && !psp.sev.es)
    {
        return Err(Status::PolicyFailure);
    }
    let shared = (sharing != 0).then(|| shared_keys(psp, sharing, policy)).transpose()?;
    let keys = match (has_session, shared) {
        (true, _) => keys_of_session(psp, call, &buffer)?,
        (false, Some(keys)) => keys,
        (false, None) => psp.sev.new_keys(),
    };
    psp.sev.handles += 1;
    let handle = psp.sev.handles;
    psp.sev.guests.insert(handle, Guest::new(state, policy, keys));
    buffer.handle = handle.into();
    call.answer(&buffer);
    call.fact("handle", Fact::Number(handle.into()));
    Ok(())
}

fn shared_keys(psp: &Psp, handle: u32, policy: u32) -> Result<abi::TransportKeys, Status> {
    let other = psp.sev.guests.get(&handle).ok_or(Status::InvalidGuest)?;
    if policy & POLICY_NO_KEY_SHARING != 0 || other.policy != policy {
        return Err(Status::PolicyFailure);
    }
    Ok(other.keys.clone())
}

fn keys_of_session(
    psp: &Psp,
    call: &mut Call<'_>,
    request: &abi::Start,
) -> Result<abi::TransportKeys, Status> {
    let session_len = size_of::<abi::Session>() as u32;
    if request.dh_cert_len != CERTIFICATE as u32 || request.session_len != session_len {
        return Err(Status::InvalidLen);
    }
    let other = certificate(call, call.address(request.dh_cert), Usage::Pdh)?;
    let session: abi::Session = call.read_as(call.address(request.session))?;
    let shared = psp.sev.active.agree(&other).ok_or(Status::InvalidCertificate)?;
    session::open(&shared, &session, request.policy.get())
}

/// Encrypts memory in place, and measures it.
pub(crate) fn update_data(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    update(psp, call, |_, pa, len| whole_blocks(pa, len))
}

/// The same for the registers of a vCPU, one page.
pub(crate) fn update_vmsa(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    update(psp, call, whole_vmsa)
}

/// Whether that is the VMSA of a guest that has one.
pub(super) fn whole_vmsa(guest: &Guest, pa: u64, len: u64) -> Result<(), Status> {
    match (guest.policy & POLICY_ES, pa % VMSA) {
        // Such a guest has no VMSA (that the status is this one is a model choice).
        (0, _) => Err(Status::PolicyFailure),
        _ if len != VMSA => Err(Status::InvalidLen),
        (_, 0) => Ok(()),
        _ => Err(Status::InvalidAddress),
    }
}

fn update(
    psp: &mut Psp,
    call: &mut Call<'_>,
    allowed: impl Fn(&Guest, u64, u64) -> Result<(), Status>,
) -> Result<(), Status> {
    let request: abi::Launch = call.request();
    let (pa, len) = (call.address(request.address), u64::from(request.len));
    let guest = psp.sev.guest(call, request.handle)?;
    guest.is(State::Launch)?;
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
    let (api, nonce) = (psp.firmware.current.api, psp.sev.random());
    let mut buffer: abi::Launch = call.request();
    let guest = psp.sev.guest(call, buffer.handle)?;
    guest.is(State::Launch)?;
    must_be_zero(&buffer.reserved)?;
    let (pa, len) = (call.address(buffer.address), size_of::<abi::Measurement>() as u32);
    let fits = buffer.len >= len;
    buffer.len = len.into();
    call.answer_lengths(&buffer, &[pa], fits)?;
    let place = call.output(pa, len.into())?;
    guest.state = State::Secret;
    let digest: [u8; 32] = guest.digest.clone().finalize().into();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    let answer = session::measurement(&guest.keys.integrity, api, guest.policy, digest, nonce);
    guest.measurement = answer.measurement;
    call.write(place, answer.as_bytes());
    Ok(())
}

/// What the owner has sealed for a guest whose measurement he has seen.
pub(crate) fn update_secret(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Packet = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    guest.is(State::Secret)?;
    guest.active()?;
    packet::open(call, packet::SECRET, &guest.keys, &request, &guest.measurement)
}

/// Measured or not, as KVM's own selftests expect.
pub(crate) fn finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Handle = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    if !matches!(guest.state, State::Launch | State::Secret) {
        return Err(Status::InvalidGuestState);
    }
    guest.state = State::Running;
    Ok(())
}

/// What was launched, signed by the platform: for whoever has no session with the guest. Of a guest
/// that came from another platform there is nothing to say, the digest stayed there (model choice).
pub(crate) fn attestation_report(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let mut buffer: abi::AttestationReport = call.request();
    let guest = psp.sev.guest(call, buffer.handle)?.clone();
    if !matches!(guest.state, State::Secret | State::Running) || guest.received {
        return Err(Status::InvalidGuestState);
    }
    must_be_zero(&buffer.reserved)?;
    let (pa, len) = (call.address(buffer.address), size_of::<abi::Attested>() as u32);
    let fits = buffer.len >= len;
    buffer.len = len.into();
    call.answer_lengths(&buffer, &[pa], fits)?;
    let place = call.output(pa, len.into())?;
    let digest: [u8; 32] = guest.digest.finalize().into();
    let mut report = abi::Attested::new_zeroed();
    report.body = abi::AttestedBody { nonce: buffer.nonce, digest, policy: guest.policy.into() };
    report.usage = (Usage::Pek as u32).into();
    report.algorithm = ECDSA_SHA256.into();
    report.signature = psp.sev.active.sign(&Sha256::digest(report.body.as_bytes()));
    call.write(place, report.as_bytes());
    Ok(())
}
