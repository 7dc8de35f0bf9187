// SPDX-License-Identifier: GPL-2.0

//! What is firmware's cannot be read: firmware may be writing to it.
//!
//! in: pages.rs

use super::*;

#[cfg(refused)]
fn read(pages: FwPages) -> u8 {
    pages.bytes()[0] //~ E0599 no method named `bytes` found for struct `FwPages`
}

#[cfg(not(refused))]
fn read(pages: HvPages) -> u8 {
    pages.bytes()[0]
}
