// SPDX-License-Identifier: GPL-2.0

//! Directories of files in `/sys/kernel` and `/sys/firmware`.
//!
//! C headers: `include/linux/kobject.h`, `include/linux/sysfs.h`

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    str::CString,
    types::Opaque, //
};

/// A file, to be put into a static.
#[repr(C)]
pub struct File {
    attr: Opaque<bindings::kobj_attribute>,
    show: fn() -> Result<CString>,
    store: Option<fn(u64) -> Result>,
}

// SAFETY: The kernel only reads the attribute, apart from the lockdep key that it initialises under
// its own locks when the file is created.
unsafe impl Sync for File {}

impl File {
    /// A file with these permissions. What costs more than a glance is for root alone.
    ///
    /// `show` makes the contents, without the final newline. It may sleep.
    pub const fn new(name: &'static CStr, mode: u16, show: fn() -> Result<CString>) -> Self {
        Self {
            attr: Opaque::new(Self::raw(name, mode)),
            show,
            store: None,
        }
    }

    /// The same for a file that also takes numbers. `store` may sleep.
    pub const fn writable(
        name: &'static CStr,
        mode: u16,
        show: fn() -> Result<CString>,
        store: fn(u64) -> Result,
    ) -> Self {
        let mut raw = Self::raw(name, mode);
        #[cfg(kobj_attribute_const)]
        {
            raw.__bindgen_anon_2.store = Some(store_file);
        }
        #[cfg(not(kobj_attribute_const))]
        {
            raw.store = Some(store_file);
        }
        Self {
            attr: Opaque::new(raw),
            show,
            store: Some(store),
        }
    }

    const fn raw(name: &'static CStr, mode: u16) -> bindings::kobj_attribute {
        let mut raw: bindings::kobj_attribute = pin_init::zeroed();
        raw.attr.name = kernel::str::as_char_ptr_in_const_context(name);
        raw.attr.mode = mode;
        #[cfg(kobj_attribute_const)]
        {
            raw.__bindgen_anon_1.show = Some(show_file);
        }
        #[cfg(not(kobj_attribute_const))]
        {
            raw.show = Some(show_file);
        }
        raw
    }
}

/// # Safety
///
/// `attr` is that of a [`File`], and `buf` points to a page to write to, as sysfs passes them.
unsafe extern "C" fn show_file(
    _kobj: *mut bindings::kobject,
    attr: *mut bindings::kobj_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: The caller promises that. The attribute comes first in its file, which is static.
    let file = unsafe { &*attr.cast_const().cast::<File>() };
    match (file.show)() {
        // SAFETY: The caller promises a page to write to, and the format takes one string.
        Ok(text) => unsafe {
            bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr()) as isize
        },
        Err(err) => err.to_errno() as isize,
    }
}

/// # Safety
///
/// `attr` is that of a [`File`], and `buf` points to `len` bytes with a NUL behind them, as sysfs
/// passes them.
unsafe extern "C" fn store_file(
    _kobj: *mut bindings::kobject,
    attr: *mut bindings::kobj_attribute,
    buf: *const c_char,
    len: usize,
) -> isize {
    // SAFETY: As in `show_file()`.
    let file = unsafe { &*attr.cast_const().cast::<File>() };
    let mut number = 0;
    // SAFETY: A string, by the caller's promise, and a place for the number.
    let parsed = to_result(unsafe { bindings::kstrtoull(buf, 0, &raw mut number) });
    let store = file.store.ok_or(EIO);
    match parsed.and_then(|()| store?(number)) {
        Ok(()) => len as isize,
        Err(err) => err.to_errno() as isize,
    }
}

/// A directory. Dropping it removes it with its files and waits for readers.
pub struct Directory(NonNull<bindings::kobject>);

// SAFETY: A kobject is not tied to a task.
unsafe impl Send for Directory {}

// SAFETY: As above; there are no methods.
unsafe impl Sync for Directory {}

impl Directory {
    /// Creates `/sys/kernel/<name>` with `files`.
    pub fn in_kernel(name: &'static CStr, files: &'static [File]) -> Result<Self> {
        // SAFETY: `kernel_kobj` is set during boot and stays.
        unsafe { Self::new(name, bindings::kernel_kobj, files) }
    }

    /// Creates `/sys/firmware/<name>` with `files`.
    pub fn in_firmware(name: &'static CStr, files: &'static [File]) -> Result<Self> {
        // SAFETY: As above.
        unsafe { Self::new(name, bindings::firmware_kobj, files) }
    }

    /// Creates a directory in this one, which stays until that one is dropped.
    pub fn inside(&self, name: &'static CStr, files: &'static [File]) -> Result<Self> {
        // SAFETY: There as long as `self`.
        unsafe { Self::new(name, self.0.as_ptr(), files) }
    }

    /// # Safety
    ///
    /// `parent` is the kobject of a directory.
    unsafe fn new(
        name: &'static CStr,
        parent: *mut bindings::kobject,
        files: &'static [File],
    ) -> Result<Self> {
        // SAFETY: By the caller's promise.
        let dir = unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), parent) };
        let dir = Self(NonNull::new(dir).ok_or(ENOMEM)?);
        for file in files {
            // SAFETY: The directory exists, and the attribute is static. The `attr` of a
            // `kobj_attribute` comes first, and the kobject's type takes it for one.
            to_result(unsafe {
                bindings::sysfs_create_file_ns(
                    dir.0.as_ptr(),
                    file.attr.get().cast_const().cast(),
                    core::ptr::null(),
                )
            })?;
        }
        Ok(dir)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: This is the reference from `in_kernel()`. The last one to go removes the
        // directory; removing its files waits for those who read them.
        unsafe { bindings::kobject_put(self.0.as_ptr()) };
    }
}
