// SPDX-License-Identifier: GPL-2.0

//! What stands in a command buffer does not pass for an address of pages that are given away.
//!
//! in: cmd.rs

use super::*;

fn reclaim<T: Transport>(pages: &FwPages, channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    let page = pages.spa().plain();
    #[cfg(not(refused))]
    let page = pages.spa();
    channel.page_reclaim(page) //~ E0308 expected `Spa`, found `Address`
}
