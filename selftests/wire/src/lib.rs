// SPDX-License-Identifier: GPL-2.0

//! The driver's wire formats, compiled for the build machine and compared with the kernel's header.

#![cfg(test)]

#[path = "../../../rust/wire/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the driver uses what the tests do not"
)]
mod wire;

mod tests;
