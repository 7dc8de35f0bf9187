// SPDX-License-Identifier: GPL-2.0
//! QEMU as the plugin uses it. Everything `unsafe` to do with QEMU is below here and in
//! [`crate::plugin`].

pub mod env;
pub mod ffi;
pub mod guest;
pub mod ignne;
pub mod interrupt;
pub mod ops;
pub mod tlb;
pub mod vcpu;
pub mod version;
