// SPDX-License-Identifier: GPL-2.0
//! Guests without SNP: what lasts from LAUNCH_START to DECOMMISSION, their ASIDs, and the host's
//! view into them.
//!
//! A guest's memory is plain text, as that of SNP guests is: what encrypting in place comes to are
//! the checks, and the digest. So nothing here shows that a page is unreadable without its key.

use sha2::Sha256;
use zerocopy::little_endian::U32;

use super::session::IntegrityKey;
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
}

/// A guest.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(super) state: State,
    pub(super) policy: u32,
    /// 0 while not activated.
    pub(super) asid: u32,
    pub(super) tik: IntegrityKey,
    /// Of all that was launched so far.
    pub(super) digest: Sha256,
}

impl Guest {
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
    let asid = request.asid.get();
    call.fact("asid", Fact::Number(asid.into()));
    let (min_sev, max) = (psp.config.min_sev_asid, psp.config.max_asid);
    let guest = psp.sev.guest(call, request.handle)?;
    let fits = match guest.policy & POLICY_ES {
        0 => (min_sev..=max).contains(&asid),
        _ => (1..min_sev).contains(&asid),
    };
    if !fits {
        return Err(Status::InvalidAsid);
    }
    psp.asids.bind(asid, Owner::Sev(request.handle.get()), call.platform)?;
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
