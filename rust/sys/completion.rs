// SPDX-License-Identifier: GPL-2.0

//! Completions that can be waited for with a timeout and used again.
//!
//! `kernel::sync::Completion` has neither.
//!
//! C header: `include/linux/completion.h`

use kernel::{
    bindings,
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};

/// A `struct completion`.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: `struct completion` may be used from any task or interrupt.
unsafe impl Send for Completion {}

// SAFETY: As above; all methods synchronise through its spinlock, except `reinit()`, which may race
// with `complete()` at worst to the effect that the completion is lost or kept.
unsafe impl Sync for Completion {}

impl Completion {
    /// A completion that is not done.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is valid for writing a `struct completion`.
                unsafe { bindings::init_completion(slot) };
            }),
        })
    }

    /// Wakes one waiter, now or later. May be called from hard interrupt context.
    pub(crate) fn complete(&self) {
        // SAFETY: The completion was initialised in `new()`.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Forgets all earlier calls of [`Self::complete`].
    ///
    /// The caller makes sure that nobody waits (C: `reinit_completion()`).
    pub(crate) fn reinit(&self) {
        // SAFETY: The completion was initialised in `new()`. Volatile because `complete()` may run
        // at the same time on another CPU; the store is a single aligned word as in C.
        unsafe { (&raw mut (*self.inner.get()).done).write_volatile(0) };
    }

    /// Sleeps uninterruptibly until [`Self::complete`] or for `timeout`.
    ///
    /// Returns what was left of the timeout when it was completed, or [`None`].
    pub(crate) fn wait_timeout(&self, timeout: Jiffies) -> Option<Jiffies> {
        // SAFETY: The completion was initialised in `new()`.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout) } {
            0 => None,
            left => Some(left),
        }
    }
}
