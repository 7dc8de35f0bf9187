// SPDX-License-Identifier: GPL-2.0

//! Makes what has words printable by the kernel's macros, which have a `Display` trait of their own.

use kernel::fmt;

use crate::{
    cmd::CmdError,
    mailbox::Dead,
    wire::{
        ApiVersion,
        Status, //
    },
};

macro_rules! printable {
    ($($type:ty),* $(,)?) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    )* };
}

printable!(ApiVersion, CmdError, Dead, Status);
