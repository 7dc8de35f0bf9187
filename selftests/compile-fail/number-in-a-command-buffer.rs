// SPDX-License-Identifier: GPL-2.0

//! A command buffer takes no number for an address.
//!
//! in: cmd.rs

use super::*;

fn status<T: Transport>(page: &FwPages, channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    let address = 0x1000_u64;
    #[cfg(not(refused))]
    let address = page.spa().encrypted();
    let mut request = crate::wire::snp::Addr { address }; //~ E0308 expected `Address`, found `u64`
    channel.issue(crate::wire::command::SNP_PLATFORM_STATUS, &mut request)
}
