// SPDX-License-Identifier: GPL-2.0

//! The kernel's node for firmware images: what user space writes to `/sys/class/firmware/NAME`.
//!
//! C header: `include/linux/firmware.h`

use core::{
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
use kernel::{
    bindings::{
        self,
        fw_upload_err as Code, //
    },
    device::Device,
    error::from_err_ptr,
    prelude::*, //
};

#[cfg(CONFIG_FW_UPLOAD)]
use bindings::{
    firmware_upload_register,
    firmware_upload_unregister, //
};

/// This kernel has no such nodes.
///
/// # Safety
///
/// As the C function, of which this does nothing.
#[cfg(not(CONFIG_FW_UPLOAD))]
unsafe fn firmware_upload_register(
    _module: *mut bindings::module,
    _parent: *mut bindings::device,
    _name: *const c_char,
    _ops: *const bindings::fw_upload_ops,
    _handle: *mut c_void,
) -> *mut bindings::fw_upload {
    super::errno::EOPNOTSUPP.to_ptr()
}

/// # Safety
///
/// As above.
#[cfg(not(CONFIG_FW_UPLOAD))]
unsafe fn firmware_upload_unregister(_upload: *mut bindings::fw_upload) {}

/// Why an image was not loaded, in the words of the file `error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// "hw-error"
    Hardware,
    /// "timeout"
    Timeout,
    /// "device-busy"
    Busy,
    /// "invalid-file-size"
    Size,
    /// "read-write-error"
    ReadWrite,
    /// "firmware-invalid"
    Invalid,
}

impl Refusal {
    fn code(self) -> Code {
        match self {
            Self::Hardware => bindings::fw_upload_err_FW_UPLOAD_ERR_HW_ERROR,
            Self::Timeout => bindings::fw_upload_err_FW_UPLOAD_ERR_TIMEOUT,
            Self::Busy => bindings::fw_upload_err_FW_UPLOAD_ERR_BUSY,
            Self::Size => bindings::fw_upload_err_FW_UPLOAD_ERR_INVALID_SIZE,
            Self::ReadWrite => bindings::fw_upload_err_FW_UPLOAD_ERR_RW_ERROR,
            Self::Invalid => bindings::fw_upload_err_FW_UPLOAD_ERR_FW_INVALID,
        }
    }
}

/// Whoever takes the images.
pub trait Loader {
    /// Loads an image. Sleeps; the kernel makes one call at a time, on a workqueue.
    ///
    /// # Errors
    ///
    /// What user space reads in the file `error`.
    fn load(image: &[u8]) -> Result<(), Refusal>;
}

/// A node. Dropping it waits for an image that is being loaded, and removes it.
///
/// The node holds no reference to its module, which could not be unloaded otherwise: whoever has
/// the node drops it before the module goes.
pub struct Node(NonNull<bindings::fw_upload>);

// SAFETY: A registration is not tied to a task.
unsafe impl Send for Node {}

impl Node {
    /// Makes `/sys/class/firmware/<name>` for a device that is bound.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if the kernel has no such nodes, [`ENOMEM`], what sysfs says.
    pub fn register<L: Loader>(dev: &Device, name: &'static CStr) -> Result<Self> {
        // SAFETY: A `Device` is a `struct device`, and valid; name and operations are static; no
        // module and no handle are fine.
        let upload = from_err_ptr(unsafe {
            firmware_upload_register(
                ptr::null_mut(),
                ptr::from_ref(dev).cast_mut().cast(),
                name.as_char_ptr(),
                &Operations::<L>::TABLE,
                ptr::null_mut(),
            )
        })?;
        NonNull::new(upload).map(Self).ok_or(EINVAL)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: As registered; nobody uses it afterwards.
        unsafe { firmware_upload_unregister(self.0.as_ptr()) };
    }
}

struct Operations<L>(core::marker::PhantomData<L>);

impl<L: Loader> Operations<L> {
    const TABLE: bindings::fw_upload_ops = bindings::fw_upload_ops {
        prepare: Some(prepare),
        write: Some(write::<L>),
        poll_complete: Some(poll_complete),
        cancel: Some(cancel),
        cleanup: None,
    };
}

/// Whatever is to be looked at is looked at while the image is loaded.
extern "C" fn prepare(_: *mut bindings::fw_upload, _: *const u8, _: u32) -> Code {
    bindings::fw_upload_err_FW_UPLOAD_ERR_NONE
}

/// # Safety
///
/// `data` has `offset + size` bytes, and `written` may be written to.
unsafe extern "C" fn write<L: Loader>(
    _upload: *mut bindings::fw_upload,
    data: *const u8,
    offset: u32,
    size: u32,
    written: *mut u32,
) -> Code {
    // SAFETY: By the caller's promise. The first call takes all, so the offset is 0.
    let image = unsafe { slice::from_raw_parts(data.add(offset as usize), size as usize) };
    match L::load(image) {
        Ok(()) => {
            // SAFETY: By the caller's promise.
            unsafe { *written = size };
            bindings::fw_upload_err_FW_UPLOAD_ERR_NONE
        }
        Err(refusal) => refusal.code(),
    }
}

/// Who has taken an image has done so.
extern "C" fn poll_complete(_: *mut bindings::fw_upload) -> Code {
    bindings::fw_upload_err_FW_UPLOAD_ERR_NONE
}

/// An image that is being loaded cannot be called back.
extern "C" fn cancel(_: *mut bindings::fw_upload) {}
