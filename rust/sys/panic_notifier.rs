// SPDX-License-Identifier: GPL-2.0

//! The notifier of a panic, with what it is to work on.
//!
//! C header: `include/linux/panic_notifier.h`

use core::cell::UnsafeCell;

use super::bindings::panic_notifier_list;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// What to do when the kernel panics.
pub trait OnPanic: Send {
    /// Runs on the panicking CPU, with interrupts off and the other CPUs stopped, in any context.
    ///
    /// It must not sleep, wait for a lock, allocate or free.
    fn on_panic(&mut self);
}

/// A registered panic notifier. Dropping it unregisters and waits for a running call to end.
#[pin_data(PinnedDrop)]
pub struct PanicNotifier<T: OnPanic> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    /// Touched by [`panicked`] alone.
    action: UnsafeCell<T>,
}

// SAFETY: The block is only touched by the notifier chain, under its lock, and `T` is `Send`.
unsafe impl<T: OnPanic> Send for PanicNotifier<T> {}

// SAFETY: As above; there are no methods.
unsafe impl<T: OnPanic> Sync for PanicNotifier<T> {}

impl<T: OnPanic> PanicNotifier<T> {
    /// Registers `action`. Only called by the kernel if `crash_kexec_post_notifiers` is set, which
    /// SNP hosts do at boot.
    pub fn register(action: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            action: UnsafeCell::new(action),
            // Last: a panic finds the action in place.
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writing; it stays where it is and registered until
                // `drop()`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(panicked::<T>),
                        ..Default::default()
                    });
                    to_result(bindings::atomic_notifier_chain_register(
                        &raw mut panic_notifier_list,
                        slot,
                    ))
                }
            }),
        })
    }
}

/// # Safety
///
/// To be called by the panic notifier chain, with the block of a registered [`PanicNotifier<T>`].
unsafe extern "C" fn panicked<T: OnPanic>(
    block: *mut bindings::notifier_block,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: By the caller's promise the block lies in a `PanicNotifier<T>`.
    let notifier =
        unsafe { kernel::container_of!(Opaque::cast_from(block), PanicNotifier<T>, block) };
    // SAFETY: As above. The kernel panics once, and one CPU walks the chain: nobody else has a
    // reference to the action.
    unsafe { &mut *(*notifier).action.get() }.on_panic();
    bindings::NOTIFY_DONE as c_int
}

#[pinned_drop]
impl<T: OnPanic> PinnedDrop for PanicNotifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The block was registered in `register()`; afterwards nobody refers to it.
        // Unregistering something registered does not fail.
        unsafe {
            bindings::atomic_notifier_chain_unregister(
                &raw mut panic_notifier_list,
                self.block.get(),
            )
        };
    }
}
