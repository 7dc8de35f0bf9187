// SPDX-License-Identifier: GPL-2.0

//! What is firmware's cannot be written: firmware may be reading it, and the RMP forbids it.
//!
//! in: pages.rs

use super::*;

#[cfg(refused)]
fn write(mut pages: FwPages) {
    pages.bytes_mut()[0] = 1; //~ E0599 no method named `bytes_mut` found for struct `FwPages`
}

#[cfg(not(refused))]
fn write(mut pages: HvPages) {
    pages.bytes_mut()[0] = 1;
}
