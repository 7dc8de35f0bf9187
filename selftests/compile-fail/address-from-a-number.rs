// SPDX-License-Identifier: GPL-2.0

//! An address for firmware comes from pages that are firmware's, never from a number.
//!
//! in: cmd.rs

use super::*;

fn reclaim<T: Transport>(pages: &FwPages, channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    let page = Spa(0x1000); //~ E0423 pub(crate) struct Spa(u64);
    #[cfg(not(refused))]
    let page = pages.spa();
    channel.page_reclaim(page)
}
