// SPDX-License-Identifier: GPL-2.0

//! Error codes that a kernel crate may lack: at first it had those of `errno-base.h` and the
//! kernel's own alone.

use kernel::error::Error;

macro_rules! code {
    ($($name:ident;)*) => { $(
        /// As in the kernel's `errno.h`.
        #[cfg(errno_h)]
        pub const $name: Error = kernel::error::code::$name;

        /// As in the kernel's `errno.h`.
        #[cfg(not(errno_h))]
        pub const $name: Error =
            // CAST: A small number.
            // SAFETY: An `Error` is as large as its one field, or this does not compile; so that
            // field is all of it. It is an errno: an `i32` from -MAX_ERRNO to -1.
            unsafe { core::mem::transmute::<i32, Error>(-(kernel::bindings::$name as i32)) };
    )* };
}

code! {
    ENODATA;
    EOPNOTSUPP;
}
