// SPDX-License-Identifier: GPL-2.0

//! The driver's wire formats, compiled for the build machine and compared with the kernel's header.

#![cfg(test)]

/// In the driver an address can only be had for memory that is firmware's.
mod pages {
    #[derive(
        Clone,
        Copy,
        Default,
        Debug,
        zerocopy_derive::FromBytes,
        zerocopy_derive::IntoBytes,
        zerocopy_derive::Immutable,
        zerocopy_derive::KnownLayout,
    )]
    #[repr(transparent)]
    pub(crate) struct Address(pub(crate) u64);
}

#[path = "../../../rust/wire/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the driver uses what the tests do not"
)]
mod wire;

mod tests;
