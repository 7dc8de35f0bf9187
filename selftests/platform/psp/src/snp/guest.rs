// SPDX-License-Identifier: GPL-2.0
//! Guests and their contexts.

use rmp::State as PageState;
use zerocopy::little_endian::U32;
use zerocopy::IntoBytes;

use super::abi;
use super::digest::LaunchDigest;
use super::id_block::IdBlock;
use super::launch_abi::VMPCKS;
use super::{Running, POLICY_DEBUG};
use crate::asid::Owner;
use crate::call::{must_be_zero, Call, Fact};
use crate::firmware::Version;
use crate::{Psp, Status};

const PAGE: u64 = 0x1000;

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
    /// The firmware that the context is of.
    pub(crate) firmware: Version,
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
    fn new(serial: u64, firmware: Version) -> Guest {
        Guest {
            state: State::Init,
            firmware,
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
    ///
    /// A context of the firmware before this one waits for SNP_GUEST_STATUS, which brings it up to
    /// date (Glaze's patches); until then it is INVALID_GUEST_STATE (model choice). Firmware from
    /// 1.58 on does that by itself.
    pub(super) fn guest(&mut self, call: &mut Call<'_>, gctx: u64) -> Result<&mut Guest, Status> {
        let current = self.firmware.current;
        let guest = self.any_guest(call, gctx)?;
        if current.api.needs_no_flush_after_download() {
            guest.firmware = current;
        }
        match guest.firmware == current {
            true => Ok(guest),
            false => Err(Status::InvalidGuestState),
        }
    }

    /// The same, whatever firmware the context is of.
    fn any_guest(&mut self, call: &mut Call<'_>, gctx: u64) -> Result<&mut Guest, Status> {
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
    let firmware = psp.firmware.current;
    let running = psp.running()?;
    if held {
        return Err(call.refused(gctx, rmp::Refusal::State(PageState::Firmware)));
    }
    let result = call.rmp()?.make_context(gctx);
    result.map_err(|refusal| call.refused(gctx, refusal))?;
    let serial = running.next_serial();
    running.guests.insert(gctx, Guest::new(serial, firmware));
    Ok(())
}

/// In every state, also after a launch that failed. The page becomes Firmware again.
pub(crate) fn decommission(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Gctx = call.request();
    let gctx = call.address(request.gctx);
    psp.any_guest(call, gctx)?;
    let result = call.rmp()?.drop_context(gctx);
    result.map_err(|refusal| call.refused(gctx, refusal))?;
    psp.running()?.guests.remove(&gctx);
    psp.asids.release(Owner::Snp(gctx), call.platform);
    Ok(())
}

/// The guest gets an ASID.
pub(crate) fn activate(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Activate = call.request();
    let gctx = call.address(request.gctx);
    bind(psp, call, gctx, request.asid.get())
}

/// The same for some CPUs. The model binds the ASID on all of them, so all that the list does here
/// is to exist.
pub(crate) fn activate_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::ActivateEx = call.request();
    call.rmp()?;
    call.whole(request.length)?;
    must_be_zero(&request.reserved)?;
    let (gctx, list) = (call.address(request.gctx), call.address(request.list));
    call.read(list, u64::from(request.count) * size_of::<U32>() as u64)?;
    bind(psp, call, gctx, request.asid.get())
}

fn bind(psp: &mut Psp, call: &mut Call<'_>, gctx: u64, asid: u32) -> Result<(), Status> {
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

/// What firmware knows of the guest. A context of the firmware before is brought up to date.
pub(crate) fn status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::GuestStatus = call.request();
    let gctx = call.address(request.gctx);
    let current = psp.firmware.current;
    let guest = psp.any_guest(call, gctx)?;
    let answer = abi::GuestStatusAnswer {
        policy: guest.policy.into(),
        asid: guest.asid.into(),
        state: guest.state as u8,
        reserved: [0; 19],
    };
    let place = call.output_in_page(call.address(request.address), size_of_val(&answer) as u64)?;
    guest.firmware = current;
    call.write(place, answer.as_bytes());
    Ok(())
}

/// The plain text of a page of a debuggable guest. The model does not encrypt,
/// so what remains of the command are its checks: the policy, the owner, the destination.
pub(crate) fn dbg_decrypt(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (asid, src, dst) = debug(psp, call)?;
    let place = call.output(dst, PAGE)?;
    let page = call.read(src, PAGE)?;
    owned(call, src, asid)?;
    call.write(place, &page);
    Ok(())
}

/// The reverse. Firmware writes to a guest's page only while the guest cannot: the destination is
/// Pre-Guest or Pre-Swap (model choice).
pub(crate) fn dbg_encrypt(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let (asid, src, dst) = debug(psp, call)?;
    let page = call.read(src, PAGE)?;
    call.read(dst, PAGE)?;
    owned(call, dst, asid)?;
    match call.rmp()?.state(dst) {
        Some(PageState::PreGuest | PageState::PreSwap) => {}
        state => {
            let state = state.unwrap_or(PageState::Hypervisor);
            return Err(call.refused(dst, rmp::Refusal::State(state)));
        }
    }
    call.platform.write(dst, &page);
    Ok(())
}

/// The guest's ASID, source and destination, if the host may look into the guest.
fn debug(psp: &mut Psp, call: &mut Call<'_>) -> Result<(u32, u64, u64), Status> {
    let request: abi::Dbg = call.request();
    let (src, dst) = (call.address(request.src), call.address(request.dst));
    let gctx = call.address(request.gctx);
    let guest = psp.guest(call, gctx)?;
    if guest.state == State::Init {
        return Err(Status::InvalidGuestState);
    }
    if guest.policy & POLICY_DEBUG == 0 {
        return Err(Status::PolicyFailure);
    }
    if src % PAGE != 0 || dst % PAGE != 0 {
        return Err(Status::InvalidAddress);
    }
    Ok((guest.asid, src, dst))
}

/// INVALID_PAGE_OWNER unless the page is that of the guest with this ASID.
fn owned(call: &Call<'_>, page: u64, asid: u32) -> Result<(), Status> {
    match call.rmp()?.entry(page) {
        Some(entry) if entry.asid() == asid && asid != 0 => Ok(()),
        _ => Err(Status::InvalidPageOwner),
    }
}
