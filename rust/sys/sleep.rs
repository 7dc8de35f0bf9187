// SPDX-License-Identifier: GPL-2.0

//! System sleep: a say before suspend and hibernation.
//!
//! C header: `include/linux/suspend.h`

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Who may refuse that the system goes to sleep.
pub trait SleepVeto {
    /// Before suspend, hibernation, or the resume from an image. `what` names it. May sleep.
    ///
    /// # Errors
    ///
    /// An error aborts the transition and is returned to whoever asked for it.
    fn may_sleep(what: &str) -> Result;
}

/// A registered [`SleepVeto`]. Dropping it unregisters it and waits for a running call to end.
#[pin_data(PinnedDrop)]
pub struct SleepVetoRegistration {
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: The block is only touched by the notifier chain, under its lock.
unsafe impl Send for SleepVetoRegistration {}

// SAFETY: As above; there are no methods.
unsafe impl Sync for SleepVetoRegistration {}

impl SleepVetoRegistration {
    /// Registers `T`.
    pub fn new<T: SleepVeto>() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writing. It stays in place and registered until
                // `drop()`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(before_sleep::<T>),
                        ..Default::default()
                    });
                    to_result(bindings::register_pm_notifier(slot))
                }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for SleepVetoRegistration {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The block was registered in `new()`; unregistering something registered does not
        // fail, and afterwards nobody refers to it.
        unsafe { bindings::unregister_pm_notifier(self.block.get()) };
    }
}

/// # Safety
///
/// To be called by the notifier chain only.
unsafe extern "C" fn before_sleep<T: SleepVeto>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    const HIBERNATION: c_ulong = bindings::PM_HIBERNATION_PREPARE as c_ulong;
    const SUSPEND: c_ulong = bindings::PM_SUSPEND_PREPARE as c_ulong;
    const RESTORE: c_ulong = bindings::PM_RESTORE_PREPARE as c_ulong;

    let what = match action {
        HIBERNATION => "hibernation",
        SUSPEND => "suspend",
        RESTORE => "resume from hibernation",
        _ => return bindings::NOTIFY_DONE as c_int,
    };
    match T::may_sleep(what) {
        Ok(()) => bindings::NOTIFY_OK as c_int,
        // C: notifier_from_errno().
        Err(err) => {
            (bindings::NOTIFY_STOP_MASK | (bindings::NOTIFY_OK + err.to_errno().unsigned_abs()))
                as c_int
        }
    }
}
