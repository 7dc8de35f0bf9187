// SPDX-License-Identifier: GPL-2.0

//! Nothing gets at the platform but through `slot::lock()`, which takes the command lock.
//!
//! in: uapi.rs

use super::*;

fn beside() -> Result<u64> {
    #[cfg(refused)]
    drop(slot::COMMANDS.lock()); //~ E0603 static `COMMANDS` is private
    Ok(slot::lock()?.snp_policy_bits())
}
