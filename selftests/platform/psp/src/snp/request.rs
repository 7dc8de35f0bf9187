// SPDX-License-Identifier: GPL-2.0
//! SNP_GUEST_REQUEST: a guest asks, through the host that it does not trust.
//!
//! Two kinds of failure. Those of the envelope and of its carrier are the command's status, and
//! nothing has happened: neither the counters nor the response page have changed. What is wrong
//! with an authentic request is a status inside an authentic answer.

use rmp::{Refusal, State as PageState};

use super::abi;
use super::guest::{Guest, State};
use super::launch;
use super::message::{Header, PAGE};
use super::{derived_key, report, secrets};
use crate::call::{Call, Fact};
use crate::{Psp, Status};

/// Reads the payload of a request and writes the answer behind its status, which comes first.
type Answerer = fn(&Psp, &Asker<'_>, &[u8], &mut [u8]) -> Result<(), Status>;

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

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) guest: &'a Guest,
    /// Number of the key that sealed the request, which is that of the highest VMPL it speaks for.
    pub(super) vmpck: u8,
    /// Version of the message.
    pub(super) version: u8,
}

impl Asker<'_> {
    /// Who has the key of a VMPL may speak for it and for those with fewer rights.
    pub(super) fn speaks_for(&self, vmpl: u32) -> bool {
        (u32::from(self.vmpck)..4).contains(&vmpl)
    }
}

const KINDS: &[Kind] = &[
    Kind { number: 1, name: "CPUID", sizes: &[(1, CPUID)], answer: CPUID, run: cpuid },
    Kind {
        number: 3,
        name: "KEY",
        sizes: &[(1, 0x20), (2, 0x28)],
        answer: 0x40,
        run: derived_key::answer,
    },
    Kind {
        number: 5,
        name: "REPORT",
        sizes: &[(1, 0x60)],
        answer: 0x20 + report::LEN,
        run: report::answer,
    },
    Kind { number: 17, name: "TSC_INFO", sizes: &[(1, 0x80)], answer: 0x80, run: tsc_info },
];

/// Header and 64 entries of a CPUID table.
const CPUID: usize = 16 + 64 * 48;

/// The response page stays Firmware whatever happens: KVM uses it for
/// the guest's next request (snp_handle_guest_req()).
pub(crate) fn guest_request(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let buffer: abi::GuestRequest = call.request();
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
    // Request and answer have a number each; the last of the counter must remain for an answer
    // (AEAD_OFLOW by its name).
    if done > u64::MAX - 2 {
        return Err(Status::AeadOflow);
    }
    // A message that was carried before, or came out of order (INVALID_PARAM is a model choice).
    if header.sequence != done + 1 {
        return Err(Status::InvalidParam);
    }
    let key = secrets::vmpck(psp.config.seed, guest.serial, header.vmpck);
    let payload = header.open(&page, &key)?;
    let kind = KINDS.iter().find(|kind| kind.number == header.kind);
    // Unknown types, versions, sizes: INVALID_PARAM is a model choice.
    let kind = kind.ok_or(Status::InvalidParam)?;
    call.fact("message", Fact::Word(kind.name));
    if !kind.sizes.contains(&(header.version, payload.len())) {
        return Err(Status::InvalidParam);
    }

    let asker = Asker { guest: &guest, vmpck: header.vmpck, version: header.version };
    let mut answer = vec![0; kind.answer];
    let status = match (kind.run)(psp, &asker, &payload, &mut answer[4..]) {
        Ok(()) => Status::Success,
        Err(status) => {
            answer.fill(0);
            status
        }
    };
    answer[..4].copy_from_slice(&u32::from(status.code()).to_le_bytes());
    call.fact("answer", Fact::Word(status.name()));
    call.write(place, &header.answer(answer.len()).seal(&answer, &key));
    psp.guest(call, gctx)?.messages[usize::from(header.vmpck)] = done + 2;
    Ok(())
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

/// Request: `{count u32, reserved 12, 64 entries}`; answer: the same with the status in front of
/// the count. As in a launch page only the table's shape is checked: which values firmware accepts
/// is not public.
fn cpuid(_: &Psp, _: &Asker<'_>, request: &[u8], answer: &mut [u8]) -> Result<(), Status> {
    let table = launch::checked_cpuid(request.to_vec())?;
    answer[..4].copy_from_slice(&table[..4]);
    answer[12..].copy_from_slice(&table[16..]);
    Ok(())
}

/// Request: zeros. Answer: `{status u32, reserved 4, scale u64, offset u64, factor u32, zeros}`.
/// The scale has 32 fractional bits. The model's clock is exact and counts from 0 in every guest,
/// so offset and factor are 0. A guest without Secure TSC gets INVALID_PARAM (model choice).
fn tsc_info(psp: &Psp, asker: &Asker<'_>, request: &[u8], answer: &mut [u8]) -> Result<(), Status> {
    if !asker.guest.secure_tsc || request.iter().any(|byte| *byte != 0) {
        return Err(Status::InvalidParam);
    }
    let own = u64::from(psp.config.tsc_khz);
    let scale = match asker.guest.tsc_khz {
        0 => 1 << 32,
        khz => (u64::from(khz) << 32) / own,
    };
    answer[4..12].copy_from_slice(&scale.to_le_bytes());
    Ok(())
}
