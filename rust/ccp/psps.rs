// SPDX-License-Identifier: GPL-2.0

//! The PSPs of the system, and which of them is the master.
//!
//! Each socket has a PSP, but only the master takes commands: the PSP with the lowest PCI address.
//! The master is chosen once, when all PSPs have been probed that were there at module load;
//! `platform` then drives it. No other PSP takes the place of a master that is unbound or does not
//! answer: the state of SEV and SNP is in the master's firmware. A master that is bound again is
//! the master again. If there was no PSP at module load, the first one that is bound is chosen.
//!
//! # Locking
//!
//! The lock here comes after device locks, which the driver core holds while devices come and go,
//! and before that of `mitigations.rs` and the command lock.

use crate::{
    hot_load, mitigations,
    platform::{
        slot,
        MasterIo, //
    },
    regs::Registers,
    sys::{
        completion::Completion,
        fw_upload::Node, //
        log,
    },
    uapi::{
        self,
        SevFile, //
    },
};
use kernel::{
    device::Device,
    miscdevice::MiscDeviceRegistration,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::init()` initialises it before the driver is registered.
        pub(super) unsafe(uninit) static PSPS: Mutex<super::Psps> = super::Psps::NONE;
    }
}
use lock::PSPS;

/// A PSP with SEV that is bound.
pub(crate) struct Candidate {
    /// The PSP's place among all PCI devices.
    pub(crate) address: u64,
    /// The PSP's device.
    pub(crate) dev: ARef<Device>,
    /// The PSP's registers, valid until [`remove`]. The one attempt to make it the master takes
    /// them: firmware that did not answer may still be at work, and only a new binding tries again.
    pub(crate) registers: Option<Registers<MasterIo>>,
    /// The interrupt handler completes this.
    pub(crate) done: Arc<Completion>,
}

struct Psps {
    all: KVec<Candidate>,
    /// The address of the PSP that is the master whenever it is bound.
    chosen: Option<u64>,
    /// The address of the master, while `platform` drives it.
    master: Option<u64>,
    /// Takes images for the master's firmware.
    images: Option<Node>,
    /// All PSPs have been probed that were there at module load.
    complete: bool,
    /// /dev/sev exists while a PSP with SEV is bound.
    node: Option<Pin<KBox<MiscDeviceRegistration<SevFile>>>>,
}

/// Makes the list usable.
///
/// # Safety
///
/// To be called once, before the driver is registered.
#[allow(unsafe_code)]
pub(crate) unsafe fn init() {
    // SAFETY: Called once, and before anything else in this file.
    unsafe { PSPS.init() };
}

/// A PSP was bound.
///
/// # Errors
///
/// [`ENOMEM`] and what registering `/dev/sev` returns. The list is unchanged then.
pub(crate) fn add(candidate: Candidate) -> Result {
    let mut psps = PSPS.lock();
    let address = candidate.address;
    psps.all.push(candidate, GFP_KERNEL)?;
    if psps.node.is_none() {
        let node =
            KBox::pin_init(uapi::node(), GFP_KERNEL).inspect_err(|_| drop(psps.all.pop()))?;
        psps.node = Some(node);
    }
    if psps.complete {
        psps.attach_master();
        psps.notice_if_not_master(address);
    }
    Ok(())
}

/// Chooses the master: all PSPs have been probed that were there at module load.
pub(crate) fn complete() {
    let mut psps = PSPS.lock();
    psps.complete = true;
    psps.attach_master();
}

/// Takes the PSP at `address` out of the list, and returns when nobody uses it any more. If it was
/// the master, its firmware is shut down and the exports answer -ENODEV from then on. Returns
/// whether firmware had to be shut down.
pub(crate) fn remove(address: u64) -> bool {
    let mut psps = PSPS.lock();
    let mut in_use = false;
    if psps.master == Some(address) {
        // Waits for an image that is being loaded.
        psps.images = None;
        in_use = slot::detach();
        mitigations::update();
        psps.master = None;
    }
    let position = psps.all.iter().position(|psp| psp.address == address);
    if let Some(Ok(_)) = position.map(|position| psps.all.remove(position)) {
        if psps.all.is_empty() {
            psps.node = None;
            // A static is not dropped when the module goes: the memory has to be freed by hand.
            psps.all = KVec::new();
        }
    }
    in_use
}

/// Whether `platform` drives the PSP at `address`.
pub(crate) fn is_master(address: u64) -> bool {
    PSPS.lock().master == Some(address)
}

impl Psps {
    const NONE: Self = Self {
        all: KVec::new(),
        chosen: None,
        master: None,
        images: None,
        complete: false,
        node: None,
    };

    /// Logs if the PSP at `address`, which has just been bound, cannot become the master.
    fn notice_if_not_master(&self, address: u64) {
        if self.master.is_some() || self.chosen == Some(address) {
            return;
        }
        if let Some(psp) = self.all.iter().find(|psp| psp.address == address) {
            log::notice!(
                psp.dev,
                "not-the-master",
                "this PSP is not the master, which is not bound or does not answer: SEV stays off until that one is bound; if it is gone for good reload ccp"
            );
        }
    }

    /// Attaches the master, if it is bound and not attached yet.
    fn attach_master(&mut self) {
        let lowest = || self.all.iter().map(|psp| psp.address).min();
        self.chosen = self.chosen.or_else(lowest);
        let chosen = self
            .all
            .iter_mut()
            .find(|psp| Some(psp.address) == self.chosen);
        let Some(psp) = chosen else { return };
        let Some(registers) = psp.registers.take() else {
            return;
        };
        match slot::attach(psp.dev.clone(), psp.address, registers, psp.done.clone()) {
            Ok(()) => {
                self.master = Some(psp.address);
                self.images = hot_load::node(&psp.dev);
            }
            Err(err) => log::err!(
                psp.dev,
                "not-identified",
                "SEV is not available: the firmware could not be identified ({err:?})"
            ),
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
