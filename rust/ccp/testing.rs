// SPDX-License-Identifier: GPL-2.0

//! What several KUnit suites need.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    faux,
    prelude::*,
    sync::aref::ARef, //
};

pub(crate) mod script;

/// Ends a test with an error if the condition does not hold. Other than `assert!`, which ends the
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
    ($condition:expr) => { check!($condition, "no table") };
}
pub(crate) use check;

/// A device for messages. It goes when the registration is dropped; the reference may stay.
pub(crate) fn device() -> Result<(faux::Registration, ARef<Device>)> {
    let registration = faux::Registration::new(c"ccp-test", None)?;
    let device: &Device<Bound> = registration.as_ref().as_ref();
    let device = ARef::from(&**device);
    Ok((registration, device))
}
