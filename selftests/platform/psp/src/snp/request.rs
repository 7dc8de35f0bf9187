// SPDX-License-Identifier: GPL-2.0
//! SNP_GUEST_REQUEST: a guest asks, through the host that it does not trust.
//!
//! Two kinds of failure. Those of the envelope and of its carrier are the command's status, and
//! nothing has happened: neither the counters nor the response page have changed. What is wrong
//! with an authentic request is a status inside an authentic answer.

use rmp::{Refusal, State as PageState};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::asker::Asker;
use super::guest::{Guest, State};
use super::launch_abi::CpuidTable;
use super::message::{Header, PAGE};
use super::message_abi as abi;
use super::{cpuid, derived_key, report, secrets};
use crate::call::{must_be_zero, Call, Fact};
use crate::{Psp, Status};

/// The payload of the answer to a request's.
type Answerer = fn(&Psp, &Asker<'_>, &[u8]) -> Result<Vec<u8>, Status>;

/// A kind of request (`enum msg_type` in asm/sev.h); that of the answer is the next number.
/// Messages of migration agents (EXPORT, IMPORT, ABSORB, VMRK) are not modelled.
struct Kind {
    number: u8,
    name: &'static str,
    /// Bytes of the request's payload, by message version.
    sizes: &'static [(u8, usize)],
    /// Bytes of the answer's, in every case.
    answer: usize,
    run: Answerer,
}

const KINDS: &[Kind] = &[
    Kind {
        number: 1,
        name: "CPUID",
        sizes: &[(1, size_of::<abi::CpuidRequest>())],
        answer: size_of::<abi::CpuidAnswer>(),
        run: |psp, _, request| answered(cpuid_answer(psp, &payload(request))?),
    },
    Kind {
        number: 3,
        name: "KEY",
        sizes: &[(1, size_of::<abi::KeyRequest>()), (2, size_of::<abi::KeyRequest2>())],
        answer: size_of::<abi::KeyAnswer>(),
        run: |psp, asker, request| answered(derived_key::answer(psp, asker, &payload(request))?),
    },
    Kind {
        number: 5,
        name: "REPORT",
        sizes: &[(1, size_of::<abi::ReportRequest>())],
        answer: size_of::<abi::ReportAnswer>(),
        run: |psp, asker, request| answered(report::answer(psp, asker, &payload(request))?),
    },
    Kind {
        number: 17,
        name: "TSC_INFO",
        sizes: &[(1, size_of::<abi::TscInfoRequest>())],
        answer: size_of::<abi::TscInfoAnswer>(),
        run: |psp, asker, request| answered(tsc_info(psp, asker, &payload(request))?),
    },
];

/// The structure of a request, whose length the table has; an older version's ends in zeros.
fn payload<T: FromBytes + IntoBytes>(bytes: &[u8]) -> T {
    let mut request = T::new_zeroed();
    request.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    request
}

fn answered(answer: impl IntoBytes + Immutable) -> Result<Vec<u8>, Status> {
    Ok(answer.as_bytes().to_vec())
}

/// The response page stays Firmware whatever happens: KVM uses it for
/// the guest's next request (snp_handle_guest_req()).
pub(crate) fn guest_request(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let buffer: super::abi::GuestRequest = call.request();
    let (request, response) = (call.address(buffer.request), call.address(buffer.response));
    let gctx = call.address(buffer.gctx);
    let guest = psp.guest(call, gctx)?.clone();
    if guest.state != State::Running {
        return Err(Status::InvalidGuestState);
    }
    if request % PAGE as u64 != 0 || response % PAGE as u64 != 0 {
        return Err(Status::InvalidAddress);
    }
    let page = shared_page(call, request)?;
    let place = call.output(response, PAGE as u64)?;

    let header = Header::parse(&page)?;
    call.fact("vmpck", Fact::Number(header.vmpck.into()));
    call.fact("sequence", Fact::Number(header.sequence));
    let done = guest.messages[usize::from(header.vmpck)];
    follows(&header, done)?;
    let key = secrets::vmpck(psp.config.seed, guest.serial, header.vmpck);
    let asked = header.open(&page, &key)?;
    let answer = ask(psp, call, &guest, &header, &asked)?;
    call.write(place, &header.answer(answer.len()).seal(&answer, &key));
    psp.guest(call, gctx)?.messages[usize::from(header.vmpck)] = done + 2;
    Ok(())
}

/// Whether a message is the next after `done` others. One that was carried before, or came out of
/// order, is INVALID_PARAM (model choice). Request and answer have a number each; the last of the
/// counter must remain for an answer (AEAD_OFLOW by its name).
fn follows(header: &Header, done: u64) -> Result<(), Status> {
    match done.checked_add(2) {
        None => Err(Status::AeadOflow),
        Some(_) if header.sequence != done + 1 => Err(Status::InvalidParam),
        Some(_) => Ok(()),
    }
}

/// The payload of the answer to an authentic request. Unknown types, versions, sizes: INVALID_PARAM
/// is a model choice.
fn ask(
    psp: &Psp,
    call: &mut Call<'_>,
    guest: &Guest,
    header: &Header,
    asked: &[u8],
) -> Result<Vec<u8>, Status> {
    let kind = KINDS.iter().find(|kind| kind.number == header.kind);
    let kind = kind.ok_or(Status::InvalidParam)?;
    call.fact("message", Fact::Word(kind.name));
    if !kind.sizes.contains(&(header.version, asked.len())) {
        return Err(Status::InvalidParam);
    }
    let asker = Asker { guest, vmpck: header.vmpck, version: header.version };
    let (status, mut answer) = match (kind.run)(psp, &asker, asked) {
        Ok(answer) => (Status::Success, answer),
        Err(status) => (status, vec![0; kind.answer]),
    };
    // Every answer begins with its status.
    answer[..4].copy_from_slice(&u32::from(status.code()).to_le_bytes());
    call.fact("answer", Fact::Word(status.name()));
    Ok(answer)
}

/// Reads a page that the host shares with the guest. In a page of a guest, or of firmware's own,
/// lies cipher text, which is no message; the model has it in clear text, so it looks at the state
/// instead (INVALID_PAGE_STATE is a model choice).
fn shared_page(call: &mut Call<'_>, pa: u64) -> Result<Vec<u8>, Status> {
    let page = call.read(pa, PAGE as u64)?;
    match call.rmp()?.state(pa) {
        None => {}
        Some(PageState::Hypervisor | PageState::HvFixed) => {}
        Some(PageState::Firmware | PageState::Reclaim) => {}
        Some(state) => return Err(call.refused(pa, Refusal::State(state))),
    }
    Ok(page)
}

/// As in a launch page.
fn cpuid_answer(psp: &Psp, request: &abi::CpuidRequest) -> Result<abi::CpuidAnswer, Status> {
    if cpuid::check(&psp.config, &request.table)?.is_some() {
        return Err(Status::InvalidParam);
    }
    let CpuidTable { count, functions, .. } = request.table.clone();
    Ok(abi::CpuidAnswer { count, functions, ..abi::CpuidAnswer::new_zeroed() })
}

/// The scale has 32 fractional bits. The model's clock is exact and counts from 0 in every guest,
/// so offset and factor are 0. A guest without Secure TSC gets INVALID_PARAM (model choice).
fn tsc_info(
    psp: &Psp,
    asker: &Asker<'_>,
    request: &abi::TscInfoRequest,
) -> Result<abi::TscInfoAnswer, Status> {
    must_be_zero(&request.reserved)?;
    if !asker.guest.secure_tsc {
        return Err(Status::InvalidParam);
    }
    let own = u64::from(psp.config.tsc_khz);
    let scale = match asker.guest.tsc_khz {
        0 => 1 << 32,
        khz => (u64::from(khz) << 32) / own,
    };
    Ok(abi::TscInfoAnswer { scale: scale.into(), ..abi::TscInfoAnswer::new_zeroed() })
}
