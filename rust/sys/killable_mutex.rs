// SPDX-License-Identifier: GPL-2.0

//! A mutex in a static whose waiters can be killed.
//!
//! `kernel::sync::Mutex` waits uninterruptibly only. Behind a holder that works for minutes such a
//! waiter cannot be got rid of, and the hung-task detector takes it for a bug.
//!
//! C header: `include/linux/mutex.h`

use core::{
    cell::UnsafeCell,
    mem,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull,
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// A `struct mutex` and what it guards.
pub(crate) struct KillableMutex<T> {
    raw: Opaque<bindings::mutex>,
    data: UnsafeCell<T>,
}

// SAFETY: The mutex lets one task at a time at the data.
unsafe impl<T: Send> Sync for KillableMutex<T> {}

impl<T> KillableMutex<T> {
    /// A mutex around `data`, to be put into a static.
    ///
    /// # Safety
    ///
    /// [`Self::init`] must be called before any other method.
    pub(crate) const unsafe fn new(data: T) -> Self {
        Self {
            raw: Opaque::uninit(),
            data: UnsafeCell::new(data),
        }
    }

    /// Makes the mutex usable. `name` and `class` are for lockdep.
    ///
    /// # Safety
    ///
    /// To be called once.
    pub(crate) unsafe fn init(
        &'static self,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) {
        // SAFETY: The mutex is static, and by the promise of `new()` nobody uses it yet.
        unsafe { bindings::__mutex_init(self.raw.get(), name.as_char_ptr(), class.as_ptr()) };
    }

    /// Waits for the mutex, unless the task is killed.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if it is; nobody will see it.
    pub(crate) fn lock_killable(&'static self) -> Result<Guard<T>> {
        let raw = self.raw.get();
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        // SAFETY: The mutex was initialised, and the caller may sleep. No lock is held that nests
        // it.
        let locked = unsafe { bindings::_mutex_lock_killable(raw, 0, core::ptr::null_mut()) };
        #[cfg(not(CONFIG_DEBUG_LOCK_ALLOC))]
        // SAFETY: The mutex was initialised, and the caller may sleep.
        let locked = unsafe { bindings::mutex_lock_killable(raw) };
        to_result(locked)?;
        // SAFETY: This task has just taken the mutex.
        Ok(unsafe { self.taken() })
    }

    /// Waits for the mutex. For callers that have to do their work even if the task is killed;
    /// while it is not, the hung-task detector leaves it alone.
    pub(crate) fn lock(&'static self) -> Guard<T> {
        self.lock_killable().unwrap_or_else(|_| {
            // SAFETY: The mutex was initialised, and the caller may sleep.
            unsafe { bindings::mutex_lock(self.raw.get()) };
            // SAFETY: This task has just taken the mutex.
            unsafe { self.taken() }
        })
    }

    /// The guard of a mutex that this task has taken.
    ///
    /// # Safety
    ///
    /// The task holds the mutex, and no other guard of that lock exists.
    pub(crate) unsafe fn taken(&'static self) -> Guard<T> {
        Guard {
            raw: &self.raw,
            // SAFETY: `get()` returns the address of a field.
            data: unsafe { NonNull::new_unchecked(self.data.get()) },
        }
    }
}

/// The mutex is held. Dropping the guard unlocks.
///
/// The pointer makes the guard `!Send`: a mutex is unlocked by the task that locked it.
#[must_use = "unlocks when dropped"]
pub(crate) struct Guard<T: 'static> {
    raw: &'static Opaque<bindings::mutex>,
    /// What the mutex guards, or a part of that.
    data: NonNull<T>,
}

impl<T> Guard<Option<T>> {
    /// The same lock, for what is in the option. The mutex is unlocked if there is nothing.
    pub(crate) fn some(mut self) -> Option<Guard<T>> {
        let data = NonNull::from(self.as_mut()?);
        let guard = Guard {
            raw: self.raw,
            data,
        };
        // The mutex is the new guard's to unlock.
        mem::forget(self);
        Some(guard)
    }
}

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The mutex is held, and the data are in a static.
        unsafe { self.data.as_ref() }
    }
}

impl<T> DerefMut for Guard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The mutex is held, and the guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: The mutex is held, by this task.
        unsafe { bindings::mutex_unlock(self.raw.get()) };
    }
}
