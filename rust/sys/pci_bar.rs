// SPDX-License-Identifier: GPL-2.0

//! Access to a BAR from places that the borrow checker cannot follow.

use kernel::{
    io::{
        IoBase,
        Mmio,
        Region, //
    },
    pci::Bar, //
};

/// A view of `bar` without its lifetime, for an interrupt handler or a global that is taken down
/// when the device is unbound.
///
/// # Safety
///
/// No copy of the view may be used after `bar` was dropped.
pub unsafe fn unbounded<const SIZE: usize>(bar: &Bar<'_, SIZE>) -> Mmio<'static, Region<SIZE>> {
    // SAFETY: Only the lifetime changes, and the caller promises to heed the true one.
    unsafe {
        core::mem::transmute::<Mmio<'_, Region<SIZE>>, Mmio<'static, Region<SIZE>>>(bar.as_view())
    }
}
