// SPDX-License-Identifier: GPL-2.0

//! Under the lock, commands are what the platform offers: its channel is its own.
//!
//! in: uapi.rs

use super::*;

fn beside() -> Result<bool> {
    let platform = slot::lock()?;
    #[cfg(refused)]
    return Ok(platform.channel.dead().is_some()); //~ E0616 field `channel` of struct `Platform` is private
    #[cfg(not(refused))]
    Ok(platform.is_snp_up())
}
