// SPDX-License-Identifier: GPL-2.0

//! What tests assert.

/// Ends a test with an error if the condition does not hold. Unlike `assert!`, which ends the
/// thread, it lets go of what the test holds, and it can name the row of a table.
macro_rules! check {
    ($condition:expr, $($row:tt)+) => {
        if !$condition {
            kernel::pr_err!(
                "{}:{}: does not hold: {} ({})\n",
                file!(),
                line!(),
                stringify!($condition),
                kernel::prelude::fmt!($($row)+)
            );
            return Err(kernel::error::code::EINVAL);
        }
    };
    ($condition:expr) => { $crate::sys::check::check!($condition, "no table") };
}
pub(crate) use check;
