// SPDX-License-Identifier: GPL-2.0

//! The notifier of system sleep.
//!
//! C header: `include/linux/suspend.h`

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// What is called when system sleep begins or is over.
pub trait OnSleep {
    /// `action` is `PM_SUSPEND_PREPARE` or one of its kind. May sleep.
    ///
    /// # Errors
    ///
    /// An error before sleep refuses it, and is returned to whoever asked for it.
    fn on_sleep(action: c_ulong) -> Result;
}

/// A registered notifier. Dropping it unregisters it and waits for a running call to end.
#[pin_data(PinnedDrop)]
pub struct PmNotifier<T: OnSleep> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    _notify: PhantomData<T>,
}

// SAFETY: The block is only touched by the notifier chain, under its lock.
unsafe impl<T: OnSleep> Send for PmNotifier<T> {}

// SAFETY: As above; there are no methods.
unsafe impl<T: OnSleep> Sync for PmNotifier<T> {}

impl<T: OnSleep> PmNotifier<T> {
    /// Registers `T`.
    pub fn register() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writing. It stays in place and registered until
                // `drop()`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(call::<T>),
                        ..Default::default()
                    });
                    to_result(bindings::register_pm_notifier(slot))
                }
            }),
            _notify: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: OnSleep> PinnedDrop for PmNotifier<T> {
    fn drop(self: Pin<&mut Self>) {
        let block = self.block.get();
        // SAFETY: The block was registered in `register()`. Unregistering something registered does
        // not fail, and afterwards nobody refers to it.
        unsafe { bindings::unregister_pm_notifier(block) };
    }
}

/// # Safety
///
/// To be called by the notifier chain only.
unsafe extern "C" fn call<T: OnSleep>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    match T::on_sleep(action) {
        Ok(()) => bindings::NOTIFY_DONE as c_int,
        // C: notifier_from_errno().
        Err(err) => {
            (bindings::NOTIFY_STOP_MASK | (bindings::NOTIFY_OK + err.to_errno().unsigned_abs()))
                as c_int
        }
    }
}

/// What the system is about to do, if `action` says that it goes to sleep.
pub fn about_to_sleep(action: c_ulong) -> Option<&'static str> {
    const HIBERNATION: c_ulong = bindings::PM_HIBERNATION_PREPARE as c_ulong;
    const SUSPEND: c_ulong = bindings::PM_SUSPEND_PREPARE as c_ulong;
    const RESTORE: c_ulong = bindings::PM_RESTORE_PREPARE as c_ulong;

    match action {
        HIBERNATION => Some("hibernation"),
        SUSPEND => Some("suspend"),
        RESTORE => Some("resume from hibernation"),
        _ => None,
    }
}
