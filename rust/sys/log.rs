// SPDX-License-Identifier: GPL-2.0

//! Lines of the kernel's log with a code at their end, `… [no-memory]`, by which they are looked
//! up: a code stays when the words around it change.
//!
//! The code comes before the text, which has no newline:
//! `log::err!(dev, "no-memory", "no {what}")`; the device may be missing. The compiler makes one
//! format string of text, code and newline.

use kernel::fmt::Arguments;

macro_rules! coded {
    ($level:ident, $code:literal, $($text:tt)+) => {{
        #[cfg(CONFIG_KUNIT = "y")]
        $crate::sys::said::note($code, ::kernel::prelude::fmt!($($text)+));
        $crate::sys::log::$level(
            ::core::format_args!("{} [{}]\n", ::kernel::prelude::fmt!($($text)+), $code)
        )
    }};
    ($level:ident, $dev:expr, $code:literal, $($text:tt)+) => {{
        #[cfg(CONFIG_KUNIT = "y")]
        $crate::sys::said::note($code, ::kernel::prelude::fmt!($($text)+));
        ::kernel::device::Device::$level(
            $dev.as_ref(),
            ::core::format_args!("{} [{}]\n", ::kernel::prelude::fmt!($($text)+), $code)
        )
    }};
}

/// Something failed.
macro_rules! err {
    ($($line:tt)+) => { $crate::sys::log::coded!(pr_err, $($line)+) };
}

/// Something is wrong, and what was asked for goes on.
macro_rules! warning {
    ($($line:tt)+) => { $crate::sys::log::coded!(pr_warn, $($line)+) };
}

/// Nothing is wrong, and somebody may want to know more, or do something.
macro_rules! notice {
    ($($line:tt)+) => { $crate::sys::log::coded!(pr_notice, $($line)+) };
}

pub(crate) use coded;
pub(crate) use err;
pub(crate) use notice;
// As a name of its own `warn` is an attribute.
pub(crate) use warning as warn;

/// Logs a whole line, as the methods of [`kernel::device::Device`] of this name do.
#[inline(never)]
pub fn pr_err(line: Arguments<'_>) {
    kernel::pr_err!("{}", line);
}

/// See [`pr_err`].
#[inline(never)]
pub fn pr_warn(line: Arguments<'_>) {
    kernel::pr_warn!("{}", line);
}

/// See [`pr_err`].
#[inline(never)]
pub fn pr_notice(line: Arguments<'_>) {
    kernel::pr_notice!("{}", line);
}
