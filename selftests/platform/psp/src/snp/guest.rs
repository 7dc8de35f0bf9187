// SPDX-License-Identifier: GPL-2.0
//! Guests and their contexts.

use rmp::State as PageState;
use zerocopy::IntoBytes;

use super::abi;
use super::digest::LaunchDigest;
use super::id_block::IdBlock;
use super::launch_abi::VMPCKS;
use super::{Running, POLICY_DEBUG};
use crate::asid::Owner;
use crate::call::{Call, Fact};
use crate::{Psp, Status};

/// GCTX.STATE, by the numbers that GUEST_STATUS reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Init = 0,
    Launch = 1,
    Running = 2,
}

/// A guest. Silicon keeps this encrypted in the context page; nobody but firmware can tell, so
/// the model keeps it here, and the page's RMP state alone is real.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) state: State,
    pub(crate) policy: u64,
    /// 0 while not activated.
    pub(crate) asid: u32,
    pub(crate) digest: LaunchDigest,
    /// Distinguishes the guests of one platform run, for keys.
    pub(crate) serial: u64,
    /// OS visible workarounds, passed on in the secrets page.
    pub(crate) gosvw: [u8; 16],
    /// Frequency asked for at LAUNCH_START; 0 is the machine's own.
    pub(crate) tsc_khz: u32,
    /// A VMSA of it has Secure TSC.
    pub(crate) secure_tsc: bool,
    /// The platform when the launch began, for reports.
    pub(crate) launch_tcb: u64,
    pub(crate) launch_mitigations: u64,
    /// From LAUNCH_FINISH on.
    pub(crate) id_block: Option<IdBlock>,
    pub(crate) host_data: [u8; 32],
    pub(crate) vcek_disabled: bool,
    /// Messages exchanged with each VMPCK, requests and answers.
    pub(crate) messages: [u64; VMPCKS],
}

impl Guest {
    fn new(serial: u64) -> Guest {
        Guest {
            state: State::Init,
            policy: 0,
            asid: 0,
            digest: LaunchDigest::START,
            serial,
            gosvw: [0; 16],
            tsc_khz: 0,
            secure_tsc: false,
            launch_tcb: 0,
            launch_mitigations: 0,
            id_block: None,
            host_data: [0; 32],
            vcek_disabled: false,
            messages: [0; VMPCKS],
        }
    }
}

impl Psp {
    /// The guest whose context is at `gctx`. INVALID_GUEST if that is no Context page.
    pub(super) fn guest(&mut self, call: &mut Call<'_>, gctx: u64) -> Result<&mut Guest, Status> {
        call.fact("gctx", Fact::Address(gctx));
        let context = call.rmp()?.state(gctx) == Some(PageState::Context);
        let running = self.snp.running.as_mut().ok_or(Status::InvalidPlatformState)?;
        match running.guests.get_mut(&gctx) {
            Some(guest) if context => Ok(guest),
            _ => Err(Status::InvalidGuest),
        }
    }

    pub(super) fn running(&mut self) -> Result<&mut Running, Status> {
        self.snp.running.as_mut().ok_or(Status::InvalidPlatformState)
    }
}

/// A Firmware page becomes a context.
pub(crate) fn gctx_create(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Gctx = call.request();
    let gctx = call.address(request.gctx);
    call.fact("gctx", Fact::Address(gctx));
    let held = psp.holds(gctx);
    let running = psp.running()?;
    if held {
        return Err(call.refused(gctx, rmp::Refusal::State(PageState::Firmware)));
    }
    let result = call.rmp()?.make_context(gctx);
    result.map_err(|refusal| call.refused(gctx, refusal))?;
    let serial = running.next_serial();
    running.guests.insert(gctx, Guest::new(serial));
    Ok(())
}

/// In every state, also after a launch that failed. The page becomes Firmware again.
pub(crate) fn decommission(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Gctx = call.request();
    let gctx = call.address(request.gctx);
    psp.guest(call, gctx)?;
    let result = call.rmp()?.drop_context(gctx);
    result.map_err(|refusal| call.refused(gctx, refusal))?;
    psp.running()?.guests.remove(&gctx);
    psp.asids.release(Owner::Snp(gctx), call.platform);
    Ok(())
}

/// The guest gets an ASID.
pub(crate) fn activate(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Activate = call.request();
    let (gctx, asid) = (call.address(request.gctx), request.asid.get());
    let max_asid = psp.running()?.max_asid;
    call.fact("asid", Fact::Number(asid.into()));
    let guest = psp.guest(call, gctx)?;
    if guest.state == State::Init {
        return Err(Status::InvalidGuestState);
    }
    if !(1..=max_asid).contains(&asid) {
        return Err(Status::InvalidAsid);
    }
    psp.asids.bind(asid, Owner::Snp(gctx), call.platform)?;
    psp.guest(call, gctx)?.asid = asid;
    Ok(())
}

/// What firmware knows of the guest.
pub(crate) fn status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::GuestStatus = call.request();
    let gctx = call.address(request.gctx);
    let guest = psp.guest(call, gctx)?;
    let answer = abi::GuestStatusAnswer {
        policy: guest.policy.into(),
        asid: guest.asid.into(),
        state: guest.state as u8,
        reserved: [0; 19],
    };
    let place = call.output_in_page(call.address(request.address), size_of_val(&answer) as u64)?;
    call.write(place, answer.as_bytes());
    Ok(())
}

/// The plain text of a page of a debuggable guest. The model does not encrypt,
/// so what remains of the command are its checks: the policy, the owner, the destination.
pub(crate) fn dbg_decrypt(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::DbgDecrypt = call.request();
    let (src, dst) = (call.address(request.src), call.address(request.dst));
    let gctx = call.address(request.gctx);
    let guest = psp.guest(call, gctx)?;
    let (policy, asid) = (guest.policy, guest.asid);
    if guest.state == State::Init {
        return Err(Status::InvalidGuestState);
    }
    if policy & POLICY_DEBUG == 0 {
        return Err(Status::PolicyFailure);
    }
    if src % 0x1000 != 0 || dst % 0x1000 != 0 {
        return Err(Status::InvalidAddress);
    }
    let place = call.output(dst, 0x1000)?;
    let page = call.read(src, 0x1000)?;
    if call.rmp()?.entry(src).map_or(0, |entry| entry.asid()) != asid || asid == 0 {
        return Err(Status::InvalidPageOwner);
    }
    call.write(place, &page);
    Ok(())
}
