// SPDX-License-Identifier: GPL-2.0

//! Kernel crashes: whether this kernel runs because of one, and the notifier for the next one.
//!
//! C headers: `include/linux/crash_dump.h`, `include/linux/panic_notifier.h`

use super::bindings as extra;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Whether this is a kdump kernel, started to save the memory of a crashed one.
pub(crate) fn is_kdump_kernel() -> bool {
    /// `ELFCORE_ADDR_MAX`: no crashed kernel left an ELF header.
    const NONE: u64 = u64::MAX;
    // SAFETY: The variable is set from the kernel command line during boot.
    unsafe { extra::elfcorehdr_addr != NONE }
}

/// What to do when the kernel panics.
pub(crate) trait OnPanic {
    /// Runs on the panicking CPU, with interrupts off and the other CPUs stopped, in any context.
    ///
    /// It must not sleep, wait for a lock, allocate or free.
    fn on_panic();
}

/// A registered panic notifier. Dropping it unregisters and waits for a running call to end.
#[pin_data(PinnedDrop)]
pub(crate) struct PanicNotifier {
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: The block is only touched by the notifier chain, under its lock.
unsafe impl Send for PanicNotifier {}

// SAFETY: As above; there are no methods.
unsafe impl Sync for PanicNotifier {}

impl PanicNotifier {
    /// Registers `T`. Only called by the kernel if `crash_kexec_post_notifiers` is set, which SNP
    /// hosts do at boot.
    pub(crate) fn register<T: OnPanic>() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writing; it stays where it is and registered until
                // `drop()`.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(panicked::<T>),
                        ..Default::default()
                    });
                    to_result(bindings::atomic_notifier_chain_register(
                        &raw mut extra::panic_notifier_list,
                        slot,
                    ))
                }
            }),
        })
    }
}

extern "C" fn panicked<T: OnPanic>(
    _block: *mut bindings::notifier_block,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    T::on_panic();
    bindings::NOTIFY_DONE as c_int
}

#[pinned_drop]
impl PinnedDrop for PanicNotifier {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The block was registered in `register()`; afterwards nobody refers to it.
        // Unregistering something registered does not fail.
        unsafe {
            bindings::atomic_notifier_chain_unregister(
                &raw mut extra::panic_notifier_list,
                self.block.get(),
            )
        };
    }
}
