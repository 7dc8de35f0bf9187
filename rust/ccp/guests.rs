// SPDX-License-Identifier: GPL-2.0

//! SNP guests that live. KVM knows them, the driver has no table of them.
//!
//! Firmware that was replaced under guests takes each of them over at its SNP_GUEST_STATUS. KVM
//! issues that for all of its guests, under its own locks, and ends those alone that firmware
//! refuses. A kvm-amd with hooks has registered for being asked to; Debian's own has not.
//!
//! `refresh_guests` in debugfs has KVM asked by hand.
//!
//! # Locking
//!
//! The lock here is held while KVM is at it. It comes before locks of KVM's, which come before the
//! command lock.

use kernel::{
    prelude::*,
    sync::GlobalGuard, //
};

use crate::sys::{
    bindings::snp_guests_asked as Asked,
    debugfs::Written,
    errno::EOPNOTSUPP,
    log, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::init()` initialises it before anybody can register.
        pub(super) unsafe(uninit) static KVM: Mutex<Option<&'static dyn super::AllGuests>> = None;
    }
}
use lock::KVM;

/// Who knows all guests.
pub(crate) trait AllGuests: Send + Sync {
    /// See `ask_all` in `include/linux/snp_guests.h`.
    fn ask_all(&self, asked: &mut Asked) -> Result;
}

/// # Safety
///
/// To be called once, before anything else here.
#[allow(unsafe_code)]
pub(crate) unsafe fn init() {
    // SAFETY: By the caller's promise.
    unsafe { KVM.init() };
}

/// # Errors
///
/// [`EBUSY`] if somebody is registered.
pub(crate) fn register(kvm: &'static dyn AllGuests) -> Result {
    let mut registered = KVM.lock();
    if registered.is_some() {
        return Err(EBUSY);
    }
    *registered = Some(kvm);
    Ok(())
}

/// Waits for KVM if it is being asked. Who is not registered may be unregistered.
pub(crate) fn unregister(kvm: &'static dyn AllGuests) {
    let mut registered = KVM.lock();
    if registered.is_some_and(|found| core::ptr::addr_eq(found, kvm)) {
        *registered = None;
    }
}

/// KVM. Whether it is registered does not change while this lives.
pub(crate) struct Kvm(GlobalGuard<KVM>);

impl Kvm {
    /// Sleeps; not to be called under a lock of KVM's or the command lock.
    pub(crate) fn hold() -> Self {
        Self(KVM.lock())
    }

    /// Whether KVM can be asked about all guests: kvm-amd has hooks and is loaded.
    pub(crate) fn can_ask(&self) -> bool {
        self.0.is_some()
    }

    /// Has firmware asked for the status of every guest.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if KVM cannot be asked; else KVM's: not all guests were asked about.
    pub(crate) fn ask_all(&self) -> Result<Asked> {
        let kvm = self.0.ok_or(EOPNOTSUPP)?;
        let mut asked = Asked { known: 0, ended: 0 };
        let result = kvm.ask_all(&mut asked);
        let Asked { known, ended } = asked;
        match result {
            Ok(()) => {
                log::notice!(
                    "guests-asked",
                    "firmware has told the status of {known} SNP guest(s), and refused {ended}, which KVM has ended"
                );
                Ok(asked)
            }
            Err(err) => {
                log::err!(
                    "guests-not-asked",
                    "not all SNP guests could be asked for their status ({err:?}): {known} were, and KVM has ended {ended}"
                );
                Err(err)
            }
        }
    }
}

/// `refresh_guests` in debugfs: writing anything to it asks for all guests.
pub(crate) struct Refresh;

impl Written for Refresh {
    fn written() -> Result {
        Kvm::hold().ask_all().map(drop)
    }
}
