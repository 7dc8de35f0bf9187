// SPDX-License-Identifier: GPL-2.0

//! Memory by its physical address, for tests that play the part of firmware.

use super::mem_encrypt::sme_mask;
use core::slice;
use kernel::bindings;

/// The licence to use physical addresses as firmware does.
pub(crate) struct Physical(());

impl Physical {
    /// # Safety
    ///
    /// As long as the result exists, the addresses that are passed to its methods come from the
    /// code under test, which gave them to firmware and leaves that memory alone meanwhile.
    pub(crate) unsafe fn access() -> Self {
        Self(())
    }

    /// Calls `f` with the `len` bytes at `address` (with or without encryption bit).
    pub(crate) fn with<R>(&self, address: u64, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        // SAFETY: The variable is constant after early boot.
        let base = unsafe { bindings::page_offset_base } as u64;
        let va = base.wrapping_add(address & !sme_mask()) as *mut u8;
        // SAFETY: The memory is in the direct map and firmware's, that is ours, see `access()`.
        f(unsafe { slice::from_raw_parts_mut(va, len) })
    }

    /// Whether the `len` bytes at `address` are all `value`.
    pub(crate) fn is_filled(&self, address: u64, len: usize, value: u8) -> bool {
        self.with(address, len, |bytes| {
            bytes.iter().all(|byte| *byte == value)
        })
    }
}
