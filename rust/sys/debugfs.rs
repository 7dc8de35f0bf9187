// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs that keep their module loaded while they are open.
//!
//! Those of [`kernel::debugfs`] do not: when one is closed after its module was unloaded, debugfs
//! looks for operations that are gone.
//!
//! C header: `include/linux/debugfs.h`

use core::{
    marker::PhantomData,
    ptr, //
};

use kernel::{
    bindings, fmt,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
};

use super::module_pin::this_module;

/// What a file shows.
pub trait Shown {
    /// Writes it. The kernel asks again with more room if there was too little.
    ///
    /// # Errors
    ///
    /// That of the formatter.
    fn show(f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// What writing to a file does, whatever is written.
pub trait Written {
    /// Does it.
    ///
    /// # Errors
    ///
    /// That of the call that writes.
    fn written() -> Result;
}

struct Text<T>(PhantomData<T>);

impl<T: Shown> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::show(f)
    }
}

impl<T: Shown> Text<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// As the operation demands: `file` is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By the caller's promise. `show` needs no data.
        unsafe { bindings::single_open(file, Some(Self::show), ptr::null_mut()) }
    }

    /// # Safety
    ///
    /// `seq` is valid, and the caller's alone.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: By the caller's promise.
        let seq = unsafe { SeqFile::from_raw(seq) };
        seq_print!(seq, "{}", Self(PhantomData));
        0
    }
}

struct Action<T>(PhantomData<T>);

impl<T: Written> Action<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module(),
        write: Some(Self::write),
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// None; nothing is done with the arguments.
    unsafe extern "C" fn write(
        _file: *mut bindings::file,
        _bytes: *const c_char,
        count: usize,
        _offset: *mut bindings::loff_t,
    ) -> isize {
        match T::written() {
            // CAST: The kernel lets nobody write more.
            Ok(()) => count as isize,
            // CAST: A small number.
            Err(err) => err.to_errno() as isize,
        }
    }
}

/// A directory, which goes with its files when this is dropped: nobody is in an operation of theirs
/// then. As is usual in debugfs, what cannot be made is left out in silence.
pub struct Directory(#[cfg(CONFIG_DEBUG_FS)] *mut bindings::dentry);

// SAFETY: The kernel locks what is behind the pointer.
unsafe impl Send for Directory {}
// SAFETY: As above.
unsafe impl Sync for Directory {}

impl Directory {
    /// A directory in the root of debugfs.
    pub fn new(name: &'static CStr) -> Self {
        Self(
            #[cfg(CONFIG_DEBUG_FS)]
            // SAFETY: The name is valid.
            unsafe {
                bindings::debugfs_create_dir(name.as_char_ptr(), ptr::null_mut())
            },
        )
    }

    /// Adds a file that root may read.
    pub fn shows<T: Shown>(self, name: &'static CStr) -> Self {
        self.file(name, 0o400, &Text::<T>::OPERATIONS)
    }

    /// Adds a file that root may write to.
    pub fn acts<T: Written>(self, name: &'static CStr) -> Self {
        self.file(name, 0o200, &Action::<T>::OPERATIONS)
    }

    #[cfg_attr(not(CONFIG_DEBUG_FS), expect(unused_variables))]
    fn file(
        self,
        name: &'static CStr,
        mode: bindings::umode_t,
        operations: &'static bindings::file_operations,
    ) -> Self {
        // SAFETY: The name is valid, the operations are static, and need no data. Of a parent that
        // is an error the function makes one, too.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                mode,
                self.0,
                ptr::null_mut(),
                ptr::null(),
                operations,
            )
        };
        self
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: What `new()` made, or an error, which the function ignores.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_remove(self.0)
        };
    }
}
