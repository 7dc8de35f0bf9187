// SPDX-License-Identifier: GPL-2.0

//! The abstractions of `rust/sys` that this crate uses.

#[path = "../sys/bindings.rs"]
pub(crate) mod bindings;
#[path = "../sys/snp_host.rs"]
pub mod snp_host;
