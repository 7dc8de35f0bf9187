// SPDX-License-Identifier: GPL-2.0

//! `kernel::fmt::Display`, the trait of the kernel's printing macros, for types that have the one
//! of `core`.

use kernel::fmt;

use crate::{
    error::{
        CmdError,
        Dead,
        ErrorOf, //
    },
    wire::{
        ApiVersion,
        Status, //
    },
};

macro_rules! forward_display {
    ($($type:ty),* $(,)?) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    )* };
}

forward_display!(ApiVersion, CmdError, Dead, ErrorOf, Status);
