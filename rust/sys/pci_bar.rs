// SPDX-License-Identifier: GPL-2.0

//! Access to a BAR from places that the borrow checker cannot follow.

#[cfg(io_views)]
use kernel::io::{
    IoBase,
    Mmio,
    Region, //
};
use kernel::{
    io::Io,
    pci::Bar, //
};
#[cfg(not(io_views))]
use kernel::{
    io::{
        Mmio,
        MmioRaw, //
    },
    prelude::*,
};

/// 32-bit accesses to registers, by their byte offset.
pub trait BarIo: Copy {
    /// Reads a register. One outside of the BAR looks like a device that is gone.
    fn read(self, offset: usize) -> u32;

    /// Writes a register.
    fn write(self, offset: usize, value: u32);
}

/// The first `SIZE` bytes of a BAR, without the lifetime of its mapping.
#[derive(Clone, Copy)]
pub struct Unbounded<const SIZE: usize>(
    #[cfg(io_views)] Mmio<'static, Region<SIZE>>,
    /// Where it is mapped, and how much of it.
    #[cfg(not(io_views))]
    (usize, usize),
);

impl<const SIZE: usize> Unbounded<SIZE> {
    /// A view of `bar` without its lifetime, for an interrupt handler or a global that is taken
    /// down when the device is unbound.
    ///
    /// # Safety
    ///
    /// No copy of the view may be used after `bar` was dropped.
    pub unsafe fn new(bar: &Bar<'_, SIZE>) -> Self {
        #[cfg(io_views)]
        // SAFETY: Only the lifetime changes, and the caller promises to heed the true one.
        let mapped = unsafe {
            core::mem::transmute::<Mmio<'_, Region<SIZE>>, Mmio<'static, Region<SIZE>>>(
                bar.as_view(),
            )
        };
        #[cfg(not(io_views))]
        let mapped = (bar.addr(), bar.maxsize());
        Self(mapped)
    }

    #[cfg(io_views)]
    fn with<R>(self, access: impl FnOnce(Mmio<'static, Region<SIZE>>) -> R) -> R {
        access(self.0)
    }

    #[cfg(not(io_views))]
    fn with<R>(self, access: impl FnOnce(&Mmio<SIZE>) -> Result<R>) -> Result<R> {
        let (address, size) = self.0;
        let raw = MmioRaw::new(address, size)?;
        // SAFETY: The BAR is mapped there: `new()` has the place from it, and its caller has
        // promised that it is there still.
        access(unsafe { Mmio::from_raw(&raw) })
    }
}

impl<const SIZE: usize> BarIo for Unbounded<SIZE> {
    fn read(self, offset: usize) -> u32 {
        self.with(|io| io.try_read32(offset)).unwrap_or(u32::MAX)
    }

    fn write(self, offset: usize, value: u32) {
        let written = self.with(|io| io.try_write32(value, offset));
        debug_assert!(written.is_ok());
    }
}
