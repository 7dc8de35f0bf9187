// SPDX-License-Identifier: GPL-2.0

//! Registers that are Rust values, for tests of code that is generic over [`BarIo`].

use super::pci_bar::BarIo;

/// A device with 32-bit registers; it answers accesses and may do something on them.
pub(crate) trait Device: 'static {
    /// What a read of the register at `offset` gives.
    fn read(&self, offset: usize) -> u32;

    /// `value` is written to the register at `offset`.
    fn write(&self, offset: usize, value: u32);
}

/// The registers of `device`.
pub(crate) fn region<D: Device>(device: &D) -> View<'_, D> {
    View(device)
}

/// The registers of a [`Device`].
pub(crate) struct View<'a, D>(&'a D);

impl<D> Copy for View<'_, D> {}
impl<D> Clone for View<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> BarIo for View<'_, D> {
    fn read(self, offset: usize) -> u32 {
        self.0.read(offset)
    }

    fn write(self, offset: usize, value: u32) {
        self.0.write(offset, value);
    }
}
