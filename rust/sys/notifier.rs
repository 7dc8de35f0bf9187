// SPDX-License-Identifier: GPL-2.0

//! Notifiers: what the kernel calls when it panics, and when the system goes to sleep.
//!
//! C headers: `include/linux/notifier.h`, `panic_notifier.h`, `suspend.h`

use core::cell::UnsafeCell;

use super::bindings::panic_notifier_list;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A chain of notifiers.
///
/// # Safety
///
/// From `register()` to `unregister()` the kernel calls a block, one call at a time, and with no
/// call left when `unregister()` returns.
pub unsafe trait Chain {
    /// # Safety
    ///
    /// `block` is valid, and stays where it is until `unregister()`.
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int;

    /// # Safety
    ///
    /// `block` is registered.
    unsafe fn unregister(block: *mut bindings::notifier_block);
}

/// The kernel panics. Callbacks run on the panicking CPU, with interrupts off and the other CPUs
/// stopped, in any context: they must not sleep, wait for a lock, allocate or free.
///
/// The kernel calls the chain only if `crash_kexec_post_notifiers` is set, which SNP hosts do at
/// boot.
pub struct Panic;

// SAFETY: The kernel panics once, and one CPU walks the chain. Unregistering waits for that CPU.
unsafe impl Chain for Panic {
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: By the caller's promise.
        unsafe { bindings::atomic_notifier_chain_register(&raw mut panic_notifier_list, block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: By the caller's promise. Unregistering something registered does not fail.
        unsafe { bindings::atomic_notifier_chain_unregister(&raw mut panic_notifier_list, block) };
    }
}

/// Whether the kernel panics. For a CPU that is being stopped, which cannot tell a panic from a
/// restart otherwise: `panic()` raises the word and leaves it so, a restart does not.
pub fn in_panic() -> bool {
    // SAFETY: A word that changes at the beginning of a panic; whoever reads it early reads zero.
    unsafe { (&raw const bindings::oops_in_progress).read_volatile() != 0 }
}

/// System sleep begins or is over. Callbacks may sleep; an error before sleep refuses it, and is
/// returned to whoever asked for it.
pub struct SystemSleep;

// SAFETY: Whoever calls the chain holds `system_transition_mutex`. Unregistering takes the chain's
// semaphore for writing, and so waits for a call.
unsafe impl Chain for SystemSleep {
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: By the caller's promise.
        unsafe { bindings::register_pm_notifier(block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: By the caller's promise. Unregistering something registered does not fail.
        unsafe { bindings::unregister_pm_notifier(block) };
    }
}

/// What a chain calls.
pub trait Callback: Send {
    /// The chain.
    type Chain: Chain;

    /// `action` says what happens, by a number of the chain's own.
    ///
    /// # Errors
    ///
    /// See the chain.
    fn call(&mut self, action: c_ulong) -> Result;
}

/// A registered callback. Dropping this unregisters it and waits for a running call to end.
#[pin_data(PinnedDrop)]
pub struct Notifier<T: Callback> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    /// Touched by [`notified`] alone.
    callback: UnsafeCell<T>,
}

// SAFETY: The block is only touched by the notifier chain, under its lock, and `T` is `Send`.
unsafe impl<T: Callback> Send for Notifier<T> {}

// SAFETY: As above; there are no methods.
unsafe impl<T: Callback> Sync for Notifier<T> {}

impl<T: Callback> Notifier<T> {
    /// Registers `callback`.
    pub fn register(callback: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            callback: UnsafeCell::new(callback),
            // Last: a call finds the callback in place.
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writing; it stays where it is and registered until
                // `drop()`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(notified::<T>),
                        ..Default::default()
                    });
                    to_result(T::Chain::register(slot))
                }
            }),
        })
    }
}

#[pinned_drop]
impl<T: Callback> PinnedDrop for Notifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The block was registered in `register()`.
        unsafe { T::Chain::unregister(self.block.get()) };
    }
}

/// # Safety
///
/// To be called by the notifier chain, with the block of a registered [`Notifier<T>`].
unsafe extern "C" fn notified<T: Callback>(
    block: *mut bindings::notifier_block,
    action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: By the caller's promise the block lies in a `Notifier<T>`.
    let notifier = unsafe { kernel::container_of!(Opaque::cast_from(block), Notifier<T>, block) };
    // SAFETY: As above. The chain makes one call at a time, and nobody else touches the callback.
    match unsafe { &mut *(*notifier).callback.get() }.call(action) {
        Ok(()) => bindings::NOTIFY_DONE as c_int,
        // C: notifier_from_errno().
        Err(err) => {
            (bindings::NOTIFY_STOP_MASK | (bindings::NOTIFY_OK + err.to_errno().unsigned_abs()))
                as c_int
        }
    }
}

/// What the system is about to do, if `action` of [`SystemSleep`] says that it goes to sleep.
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
