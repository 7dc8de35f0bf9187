// SPDX-License-Identifier: GPL-2.0

//! What is behind a lock in a static (`kernel::sync::global_lock!`), and goes with the module.
//!
//! A static is not dropped when its module goes, and neither is what it points to.

use kernel::sync::{
    GlobalLock,
    GlobalLockBackend, //
};

/// Makes the lock usable; when this is dropped, the lock gets what it had in the beginning.
pub struct Contents<B: GlobalLockBackend + 'static>
where
    B::Item: Unpin,
{
    lock: &'static GlobalLock<B>,
    empty: fn() -> B::Item,
}

impl<B: GlobalLockBackend + 'static> Contents<B>
where
    B::Item: Unpin,
{
    /// `empty` makes what the lock has in the beginning.
    ///
    /// # Safety
    ///
    /// To be called once for each lock, and before anybody else uses it.
    pub unsafe fn init(lock: &'static GlobalLock<B>, empty: fn() -> B::Item) -> Self {
        // SAFETY: By the caller's promise.
        unsafe { lock.init() };
        Self { lock, empty }
    }
}

impl<B: GlobalLockBackend + 'static> Drop for Contents<B>
where
    B::Item: Unpin,
{
    fn drop(&mut self) {
        *self.lock.lock() = (self.empty)();
    }
}
