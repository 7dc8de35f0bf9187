// SPDX-License-Identifier: GPL-2.0
//! SEND_START, SEND_UPDATE_DATA, SEND_UPDATE_VMSA, SEND_FINISH, SEND_CANCEL; RECEIVE_START,
//! RECEIVE_UPDATE_DATA, RECEIVE_UPDATE_VMSA, RECEIVE_FINISH: a guest goes from one platform to
//! another.
//!
//! The sender wraps new transport keys with what its PDH and the receiver's have in common; so the
//! host that receives needs the sender's PDH, and the sender wants to know whose the other is.

use zerocopy::IntoBytes;

use super::certificate::{Certificate, Usage, LEN as CERTIFICATE};
use super::guest::{Guest, State};
use super::keys::certificate;
use super::{abi, launch, packet, session};
use crate::call::{must_be_zero, Call};
use crate::{Psp, Status};

/// Policy bit 3: the guest stays here.
const POLICY_NO_SEND: u32 = 1 << 3;
/// Policy bit 4: it goes to platforms of the same owner only.
const POLICY_DOMAIN: u32 = 1 << 4;
/// Policy bit 5: it goes to AMD's chips only.
const POLICY_SEV: u32 = 1 << 5;

/// The length of a session is answered first, whatever else is in the buffer, because that is how
/// Linux asks for it; and only of a guest that may go.
pub(crate) fn send_start(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let mut buffer: abi::SendStart = call.request();
    let guest = psp.sev.guest(call, buffer.handle)?;
    guest.is(State::Running)?;
    let policy = guest.policy;
    if policy & POLICY_NO_SEND != 0 {
        return Err(Status::PolicyFailure);
    }
    let (pa, len) = (call.address(buffer.session), size_of::<abi::Session>() as u32);
    let fits = buffer.session_len >= len;
    (buffer.policy, buffer.session_len) = (policy.into(), len.into());
    call.answer_lengths(&buffer, &[pa], fits)?;
    let receiver = receiver(psp, call, &buffer, policy)?;
    let place = call.output(pa, len.into())?;
    let shared = psp.sev.active.agree(&receiver).ok_or(Status::InvalidCertificate)?;
    let (keys, nonce, iv) = (psp.sev.new_keys(), psp.sev.random(), psp.sev.random());
    let session = session::wrap(&shared, &keys, nonce, iv, policy);
    call.write(place, session.as_bytes());
    let guest = psp.sev.guest(call, buffer.handle)?;
    (guest.state, guest.keys) = (State::Sending, keys);
    Ok(())
}

/// The receiver's PDH, after a look at who vouches for it: its PEK, and for that the chip and an
/// owner. INVALID_CERTIFICATE, BAD_SIGNATURE and POLICY_FAILURE by their names (model choice).
fn receiver(
    psp: &Psp,
    call: &mut Call<'_>,
    request: &abi::SendStart,
    policy: u32,
) -> Result<Certificate, Status> {
    const LEN: u64 = CERTIFICATE as u64;
    for reserved in [&request.reserved, &request.reserved2, &request.reserved3] {
        must_be_zero(reserved)?;
    }
    if u64::from(request.pdh_len) != LEN || u64::from(request.chain_len) != 3 * LEN {
        return Err(Status::InvalidLen);
    }
    let (pdh, chain) = (call.address(request.pdh), call.address(request.chain));
    call.read(chain, 3 * LEN)?;
    let pdh = certificate(call, pdh, Usage::Pdh)?;
    let pek = certificate(call, chain, Usage::Pek)?;
    let oca = certificate(call, chain + LEN, Usage::Oca)?;
    let cek = certificate(call, chain + 2 * LEN, Usage::Cek)?;
    if !pdh.is_signed_by(Usage::Pek, &pek)
        || !pek.is_signed_by(Usage::Oca, &oca)
        || !pek.is_signed_by(Usage::Cek, &cek)
    {
        return Err(Status::BadSignature);
    }
    let [_, own, _] = psp.sev.active.chain(psp.firmware.current.api);
    if policy & POLICY_DOMAIN != 0 && own.public_key() != oca.public_key() {
        return Err(Status::PolicyFailure);
    }
    // AMD vouches for the CEK of its chips. Nobody does for those of the model.
    if policy & POLICY_SEV != 0 {
        return Err(Status::InvalidCertificate);
    }
    Ok(pdh)
}

/// Some memory.
pub(crate) fn send_data(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    send(psp, call, packet::DATA, |_, _, _| Ok(()))
}

/// The registers of a vCPU.
pub(crate) fn send_vmsa(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    send(psp, call, packet::VMSA, launch::whole_vmsa)
}

/// What a packet of some kind may be about: a guest, an address, a length.
type Allowed = fn(&Guest, u64, u64) -> Result<(), Status>;

fn send(psp: &mut Psp, call: &mut Call<'_>, kind: u8, allowed: Allowed) -> Result<(), Status> {
    let request: abi::Packet = call.request();
    let iv = psp.sev.random();
    let guest = psp.sev.guest(call, request.handle)?;
    guest.is(State::Sending)?;
    guest.active()?;
    if request.guest_len != 0 {
        allowed(guest, call.address(request.guest), request.guest_len.into())?;
    }
    packet::seal(call, kind, &guest.keys, iv)
}

/// The guest is there, and must not go on here.
pub(crate) fn send_finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    pass(psp, call, State::Sending, State::Sent)
}

/// The guest stays, and goes on.
pub(crate) fn send_cancel(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    pass(psp, call, State::Sending, State::Running)
}

/// A guest that is to be filled, as LAUNCH_START makes one that is to be launched.
pub(crate) fn receive_start(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    launch::begin(psp, call, State::Receiving)
}

/// Some memory.
pub(crate) fn receive_data(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    receive(psp, call, packet::DATA, |_, _, _| Ok(()))
}

/// The registers of a vCPU.
pub(crate) fn receive_vmsa(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    receive(psp, call, packet::VMSA, launch::whole_vmsa)
}

fn receive(psp: &mut Psp, call: &mut Call<'_>, kind: u8, allowed: Allowed) -> Result<(), Status> {
    let request: abi::Packet = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    guest.is(State::Receiving)?;
    guest.active()?;
    allowed(guest, call.address(request.guest), request.guest_len.into())?;
    packet::open(call, kind, &guest.keys, &request, &[])
}

/// The guest is here.
pub(crate) fn receive_finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    pass(psp, call, State::Receiving, State::Running)
}

fn pass(psp: &mut Psp, call: &mut Call<'_>, from: State, to: State) -> Result<(), Status> {
    let request: abi::Handle = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    guest.is(from)?;
    guest.state = to;
    Ok(())
}
