// SPDX-License-Identifier: GPL-2.0

//! The platform, through which all commands go, does not outlive the command lock.
//!
//! in: uapi.rs

use super::*;
use crate::platform::Platform;

#[cfg(refused)]
fn escape() -> Result<&'static mut Platform> {
    slot::with(|platform| Ok(platform)) //~ - returning this value requires that `'1` must outlive `'2`
}

#[cfg(not(refused))]
fn escape() -> Result<u64> {
    slot::with(|platform| Ok(platform.snp_policy_bits()))
}
