// SPDX-License-Identifier: GPL-2.0

//! Recognising the files of a misc device.

use kernel::{
    bindings,
    miscdevice::MiscDeviceRegistration,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// The file operations of a misc device, to tell its files from others.
pub struct FileOperations(Atomic<usize>);

impl FileOperations {
    /// Those of no device yet.
    pub const fn unknown() -> Self {
        Self(Atomic::new(0))
    }

    /// Remembers those of `device`. A file outlives its device, so they are not forgotten.
    pub fn remember<T>(&self, device: &MiscDeviceRegistration<T>)
    where
        T: kernel::miscdevice::MiscDevice,
    {
        // SAFETY: The structure is valid as long as the registration, and its `fops` do not change.
        let fops = unsafe { (*device.as_raw()).fops };
        self.0.store(fops.addr(), Relaxed);
    }

    /// Whether a file with these operations is one of the device.
    pub fn are(&self, f_op: *const bindings::file_operations) -> bool {
        !f_op.is_null() && f_op.addr() == self.0.load(Relaxed)
    }
}
