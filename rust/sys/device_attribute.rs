// SPDX-License-Identifier: GPL-2.0

//! Read-only files of a PCI device in sysfs, as long as a driver is bound (`dev_groups`).
//!
//! C headers: `include/linux/device.h`, `include/linux/sysfs.h`

use core::marker::PhantomData;

use kernel::{
    bindings,
    device::{
        CoreInternal,
        Device, //
    },
    prelude::*,
    str::CString,
    types::Opaque, //
};

/// A driver whose devices have data while they are bound.
pub trait HasData {
    /// The data of a device that is bound.
    type Data<'bound>: Send + 'bound;
}

/// What a file says, without the final newline. With an error while the device is being bound there
/// is no file. May sleep.
type Text<T> = for<'a, 'bound> fn(&'a <T as HasData>::Data<'bound>) -> Result<CString>;

/// A file of the devices of `T`, to be put into a static.
#[repr(C)]
pub struct Attribute<T: HasData> {
    raw: Opaque<bindings::device_attribute>,
    text: Text<T>,
}

// SAFETY: The kernel only reads the attribute, apart from the lockdep key that it initialises under
// its own locks when the file is created.
unsafe impl<T: HasData> Sync for Attribute<T> {}

impl<T: HasData> Attribute<T> {
    /// A file that everybody may read.
    pub const fn new(name: &'static CStr, text: Text<T>) -> Self {
        let mut raw: bindings::device_attribute = pin_init::zeroed();
        raw.attr.name = kernel::str::as_char_ptr_in_const_context(name);
        raw.attr.mode = 0o444;
        raw.__bindgen_anon_1.show = Some(show::<T>);
        Self {
            raw: Opaque::new(raw),
            text,
        }
    }
}

/// The list of a driver's files, to be put into a static. `P` is one more than there are files.
#[repr(transparent)]
pub struct List<T, const P: usize> {
    attributes: [*const bindings::attribute; P],
    _driver: PhantomData<fn(T)>,
}

// SAFETY: Points to statics that are `Sync`.
unsafe impl<T, const P: usize> Sync for List<T, P> {}

impl<T: HasData, const P: usize> List<T, P> {
    /// These files.
    pub const fn new<const N: usize>(files: &'static [Attribute<T>; N]) -> Self {
        assert!(P == N + 1);
        // The kernel looks for NULL.
        let mut attributes = [core::ptr::null(); P];
        let mut n = 0;
        while n < N {
            // The `attribute` comes first in the `device_attribute`, and that in the file.
            attributes[n] = (&raw const files[n]).cast();
            n += 1;
        }
        Self {
            attributes,
            _driver: PhantomData,
        }
    }
}

/// The files of a driver as the driver core takes them, to be put into a static.
#[repr(transparent)]
pub struct Group<T>(bindings::attribute_group, PhantomData<fn(T)>);

// SAFETY: Points to statics that are `Sync`, and the kernel only reads it.
unsafe impl<T> Sync for Group<T> {}

impl<T: HasData> Group<T> {
    /// The group of these files, without a directory of its own.
    pub const fn new<const P: usize>(list: &'static List<T, P>) -> Self {
        let mut raw: bindings::attribute_group = pin_init::zeroed();
        raw.__bindgen_anon_1.is_visible_const = Some(is_visible::<T>);
        raw.__bindgen_anon_2.attrs_const = list.attributes.as_ptr();
        Self(raw, PhantomData)
    }
}

/// What `dev_groups` of the driver `T` points to, to be put into a static.
#[repr(transparent)]
pub struct Groups<T>([*const bindings::attribute_group; 2], PhantomData<fn(T)>);

// SAFETY: As for `Group`.
unsafe impl<T> Sync for Groups<T> {}

impl<T: HasData> Groups<T> {
    /// This group alone.
    pub const fn new(group: &'static Group<T>) -> Self {
        Self([&raw const group.0, core::ptr::null()], PhantomData)
    }

    pub(super) fn as_ptr(&'static self) -> *const *const bindings::attribute_group {
        self.0.as_ptr()
    }
}

/// # Safety
///
/// `dev` is bound to `T`, and stays so during the call. `attr` is that of an [`Attribute<T>`].
unsafe fn text<T: HasData>(
    dev: *mut bindings::device,
    attr: *const bindings::attribute,
) -> Result<CString> {
    // SAFETY: The caller promises a device. `device::Device` is transparent.
    let dev = unsafe { &*dev.cast::<Device<CoreInternal<'_>>>() };
    // SAFETY: `pci_adapter` has stored a `T::Data` before the driver core creates the files, and
    // the driver core removes them, which waits for readers, before it drops the data.
    let data = unsafe { dev.drvdata_borrow::<T::Data<'_>>() };
    // SAFETY: The caller promises that. The `attribute` comes first in its file, which is static.
    let file = unsafe { &*attr.cast::<Attribute<T>>() };
    (file.text)(&data)
}

/// # Safety
///
/// To be called by sysfs only, for a file in a [`Group<T>`] of a device that is bound to `T`.
unsafe extern "C" fn is_visible<T: HasData>(
    kobj: *mut bindings::kobject,
    attr: *const bindings::attribute,
    _n: c_int,
) -> bindings::umode_t {
    // SAFETY: The files belong to the device itself.
    let dev = unsafe { kernel::container_of!(kobj, bindings::device, kobj) };
    // SAFETY: By the caller's promise.
    match unsafe { text::<T>(dev, attr) } {
        // SAFETY: A valid attribute, which nobody changes.
        Ok(_) => unsafe { (*attr).mode },
        Err(_) => 0,
    }
}

/// # Safety
///
/// As for [`is_visible`]; `buf` points to a page to write to.
unsafe extern "C" fn show<T: HasData>(
    dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: By the caller's promise.
    match unsafe { text::<T>(dev, attr.cast_const().cast()) } {
        // SAFETY: The caller promises a page to write to, and the format takes one string.
        Ok(text) => unsafe {
            bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr()) as isize
        },
        Err(err) => err.to_errno() as isize,
    }
}
