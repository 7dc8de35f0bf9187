// SPDX-License-Identifier: GPL-2.0

//! I/O regions that are Rust values, for tests of code that is generic over [`Io`].
//!
//! [`Io`]: kernel::io::Io

use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    io::{
        IoBackend,
        IoBase,
        IoCapable,
        Region, //
    },
    ptr::KnownSize, //
};

/// A device with 32-bit registers; it answers accesses and may do something on them.
pub(crate) trait Device: 'static {
    /// What a read of the register at `offset` gives.
    fn read(&self, offset: usize) -> u32;

    /// `value` is written to the register at `offset`.
    fn write(&self, offset: usize, value: u32);
}

/// The I/O region of `device`, `SIZE` bytes long.
pub(crate) fn region<const SIZE: usize, D: Device>(device: &D) -> View<'_, D, Region<SIZE>> {
    View {
        device,
        ptr: Region::ptr_from_raw_parts_mut(ptr::null_mut(), SIZE),
    }
}

/// A part of the I/O region of a [`Device`].
pub(crate) struct View<'a, D, T: ?Sized> {
    device: &'a D,
    /// Never dereferenced: its address is the offset into the region.
    ptr: *mut T,
}

impl<D, T: ?Sized> Copy for View<'_, D, T> {}
impl<D, T: ?Sized> Clone for View<'_, D, T> {
    fn clone(&self) -> Self {
        *self
    }
}

// SAFETY: Of what this has, only the device is ever accessed, through a shared reference.
unsafe impl<D: Sync, T: ?Sized> Send for View<'_, D, T> {}
// SAFETY: As above.
unsafe impl<D: Sync, T: ?Sized> Sync for View<'_, D, T> {}

impl<'a, D: Device, T: ?Sized + KnownSize> IoBase<'a> for View<'a, D, T> {
    type Backend = Backend<D>;
    type Target = T;

    fn as_view(self) -> Self {
        self
    }
}

/// The backend of [`View`].
pub(crate) struct Backend<D>(PhantomData<D>);

impl<D: Device> IoBackend for Backend<D> {
    type View<'a, T: ?Sized + KnownSize> = View<'a, D, T>;

    fn as_ptr<'a, T: ?Sized + KnownSize>(view: Self::View<'a, T>) -> *mut T {
        view.ptr
    }

    unsafe fn project_view<'a, T: ?Sized + KnownSize, U: ?Sized + KnownSize>(
        view: Self::View<'a, T>,
        ptr: *mut U,
    ) -> Self::View<'a, U> {
        View {
            device: view.device,
            ptr,
        }
    }
}

impl<D: Device> IoCapable<u32> for Backend<D> {
    fn io_read<'a>(view: Self::View<'a, u32>) -> u32 {
        view.device.read(view.ptr.addr())
    }

    fn io_write<'a>(view: Self::View<'a, u32>, value: u32) {
        view.device.write(view.ptr.addr(), value);
    }
}
