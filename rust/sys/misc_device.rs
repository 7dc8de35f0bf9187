// SPDX-License-Identifier: GPL-2.0

//! Misc devices whose files belong to a module, and recognising those files.
//!
//! C header: `include/linux/miscdevice.h`

use kernel::{
    bindings,
    error::to_result,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    sync::SetOnce, //
};
use pin_init::pin_init_from_closure;

use super::module_pin::this_module;

struct Operations(bindings::file_operations);

// SAFETY: Pointers to functions and to the module, which nobody writes.
unsafe impl Send for Operations {}
// SAFETY: As above.
unsafe impl Sync for Operations {}

/// The file operations of a misc device. Files outlive the device, so these stay.
pub struct FileOperations(SetOnce<Operations>);

impl FileOperations {
    /// Those of a device that has not been registered yet.
    pub const fn new() -> Self {
        Self(SetOnce::new())
    }

    /// Registers the device. Its open files keep this module loaded; before Linux 7.3 those of
    /// [`MiscDeviceRegistration::register`] do not, and call code that is gone (Rust-for-Linux
    /// issue 1182).
    pub fn register<T: MiscDevice>(
        &'static self,
        options: MiscDeviceOptions,
    ) -> impl PinInit<MiscDeviceRegistration<T>, Error> {
        let init = move |slot: *mut MiscDeviceRegistration<T>| {
            let mut device = options.into_raw::<T>();
            // SAFETY: `into_raw()` has them point to operations that live as long as the module.
            let fops = unsafe { *device.fops };
            // It stays what it is if the device was registered before.
            self.0.populate(Operations(bindings::file_operations {
                owner: this_module(),
                ..fops
            }));
            device.fops = self.get().ok_or(EBUSY)?;
            let slot: *mut bindings::miscdevice = slot.cast();
            // SAFETY: The slot may be written, and the registration is nothing but this structure
            // (`repr(transparent)`).
            unsafe { slot.write(device) };
            // SAFETY: The structure stays where it is, as it is pinned, until its destructor
            // takes the registration back. The operations are those of `T`.
            to_result(unsafe { bindings::misc_register(slot) })
        };
        // SAFETY: With success the slot is a registered device, which is what there is to be
        // initialised; otherwise nothing is left that has to be dropped.
        unsafe { pin_init_from_closure(init) }
    }

    fn get(&self) -> Option<*const bindings::file_operations> {
        self.0.as_ref().map(|operations| &raw const operations.0)
    }

    /// Whether a file with these operations is one of the device.
    pub fn are(&self, f_op: *const bindings::file_operations) -> bool {
        self.get() == Some(f_op)
    }
}
