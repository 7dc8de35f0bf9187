// SPDX-License-Identifier: GPL-2.0

//! The platform, through which all commands go, does not outlive the command lock.
//!
//! in: uapi.rs

use super::*;
use crate::platform::Platform;

#[cfg(refused)]
fn escape() -> Result<&'static mut Platform> {
    Ok(&mut *slot::lock()?) //~ E0515 cannot return value referencing temporary value
}

#[cfg(not(refused))]
fn escape() -> Result<u64> {
    Ok(slot::lock()?.snp_policy_bits())
}
