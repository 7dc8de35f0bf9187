// SPDX-License-Identifier: GPL-2.0

//! `unsafe` stands in `rust/sys/` and at the named seams, not in logic.
//!
//! in: pages.rs

use super::*;

fn first(pages: &HvPages) -> u8 {
    #[cfg(refused)]
    return unsafe { *pages.bytes().as_ptr() }; //~ unsafe_code usage of an `unsafe` block
    #[cfg(not(refused))]
    pages.bytes()[0]
}
