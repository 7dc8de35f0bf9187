// SPDX-License-Identifier: GPL-2.0
//! Guests without SNP: what lasts from LAUNCH_START to DECOMMISSION, their ASIDs, and the host's
//! view into them.
//!
//! A guest's memory is plain text, as that of SNP guests is: what encrypting in place comes to are
//! the checks, and the digest. So nothing here shows that a page is unreadable without its key.

use sha2::Sha256;
use zerocopy::little_endian::U32;

use super::{abi, Sev, State as PlatformState};
use crate::asid::Owner;
use crate::call::{must_be_zero, Call, Fact};
use crate::{Psp, Status};

/// Policy bit 0: nobody but the guest reads its memory.
const POLICY_NO_DEBUG: u32 = 1 << 0;
/// Policy bit 2: the guest's registers are encrypted, too.
pub(super) const POLICY_ES: u32 = 1 << 2;
/// What memory is encrypted in.
pub(super) const BLOCK: u64 = 16;

/// State of a guest, by the numbers that GUEST_STATUS reports; 0 is a guest that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// LUPDATE: memory is added.
    Launch = 1,
    /// LSECRET: measured.
    Secret = 2,
    Running = 3,
    /// SUPDATE: on its way to another platform.
    Sending = 4,
    /// RUPDATE: on its way from one.
    Receiving = 5,
    /// It is there, and runs no more here.
    Sent = 6,
}

/// A guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(super) state: State,
    pub(super) policy: u32,
    /// 0 while not activated.
    pub(super) asid: u32,
    /// Shared with its owner, or with the platform that it is sent to or received from.
    pub(super) keys: abi::TransportKeys,
    /// It was launched elsewhere.
    pub(super) received: bool,
    /// Of all that was launched here so far.
    pub(super) digest: Sha256,
    /// What LAUNCH_MEASURE has answered, zero before.
    pub(super) measurement: [u8; 32],
}

impl Guest {
    pub(super) fn new(state: State, policy: u32, keys: abi::TransportKeys) -> Guest {
        let received = state == State::Receiving;
        let digest = Sha256::default();
        Guest { state, policy, asid: 0, keys, received, digest, measurement: [0; 32] }
    }

    /// INVALID_GUEST_STATE in any other state.
    pub(super) fn is(&self, state: State) -> Result<(), Status> {
        match self.state == state {
            true => Ok(()),
            false => Err(Status::InvalidGuestState),
        }
    }

    /// INACTIVE if it has no ASID: its memory has no key in the memory controller.
    pub(super) fn active(&self) -> Result<(), Status> {
        match self.asid {
            0 => Err(Status::Inactive),
            _ => Ok(()),
        }
    }
}

impl Sev {
    /// The guest with this handle.
    pub(super) fn guest(&mut self, call: &mut Call<'_>, handle: U32) -> Result<&mut Guest, Status> {
        let handle = handle.get();
        call.fact("handle", Fact::Number(handle.into()));
        if self.state() != PlatformState::Working {
            return Err(Status::InvalidPlatformState);
        }
        self.guests.get_mut(&handle).ok_or(Status::InvalidGuest)
    }
}

/// Guests with encrypted registers have the ASIDs below those of the others (CPUID 8000001F).
pub(crate) fn activate(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Activate = call.request();
    bind(psp, call, request.handle, request.asid.get())
}

/// The same for some CPUs. The model binds the ASID on all of them, so all that the list does here
/// is to exist.
pub(crate) fn activate_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::ActivateEx = call.request();
    call.whole(request.length)?;
    let list = call.address(request.list);
    call.read(list, u64::from(request.count) * size_of::<U32>() as u64)?;
    bind(psp, call, request.handle, request.asid.get())
}

fn bind(psp: &mut Psp, call: &mut Call<'_>, handle: U32, asid: u32) -> Result<(), Status> {
    call.fact("asid", Fact::Number(asid.into()));
    let (min_sev, max) = (psp.config.min_sev_asid, psp.config.max_asid);
    let guest = psp.sev.guest(call, handle)?;
    let fits = match guest.policy & POLICY_ES {
        0 => (min_sev..=max).contains(&asid),
        _ => (1..min_sev).contains(&asid),
    };
    if !fits {
        return Err(Status::InvalidAsid);
    }
    psp.asids.bind(asid, Owner::Sev(handle.get()), call.platform)?;
    guest.asid = asid;
    Ok(())
}

/// The guest loses its ASID.
pub(crate) fn deactivate(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Handle = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    guest.active()?;
    guest.asid = 0;
    psp.asids.release(Owner::Sev(request.handle.get()), call.platform);
    Ok(())
}

/// In every state, but not before DEACTIVATE.
pub(crate) fn decommission(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Handle = call.request();
    if psp.sev.guest(call, request.handle)?.asid != 0 {
        return Err(Status::Active);
    }
    psp.sev.guests.remove(&request.handle.get());
    Ok(())
}

/// What firmware knows of the guest.
pub(crate) fn status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let abi::GuestStatus { handle, .. } = call.request();
    let guest = psp.sev.guest(call, handle)?;
    let (policy, asid, state) = (guest.policy.into(), guest.asid.into(), guest.state as u8);
    call.answer(&abi::GuestStatus { handle, policy, asid, state });
    Ok(())
}

/// DBG_DECRYPT and DBG_ENCRYPT. Either direction is a copy, in whole blocks, in every state (model
/// choice).
pub(crate) fn dbg_copy(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::Dbg = call.request();
    let guest = psp.sev.guest(call, request.handle)?;
    if guest.policy & POLICY_NO_DEBUG != 0 {
        return Err(Status::PolicyFailure);
    }
    guest.active()?;
    must_be_zero(&request.reserved)?;
    let (src, dst) = (call.address(request.src), call.address(request.dst));
    let len = u64::from(request.len);
    whole_blocks(src, len)?;
    whole_blocks(dst, len)?;
    let place = call.output(dst, len)?;
    let bytes = call.read(src, len)?;
    call.write(place, &bytes);
    Ok(())
}

/// Whether memory can be encrypted as a whole.
pub(super) fn whole_blocks(pa: u64, len: u64) -> Result<(), Status> {
    if len == 0 || len % BLOCK != 0 {
        return Err(Status::InvalidLen);
    }
    if pa % BLOCK != 0 {
        return Err(Status::InvalidAddress);
    }
    Ok(())
}
