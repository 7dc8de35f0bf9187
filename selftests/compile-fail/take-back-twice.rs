// SPDX-License-Identifier: GPL-2.0

//! Pages are taken back once.
//!
//! in: cmd.rs

use super::*;

fn twice<T: Transport>(pages: FwPages, channel: &mut Channel<T>) {
    let ours = pages.take_back(channel);
    #[cfg(not(refused))]
    let Ok(pages) = ours.map(HvPages::lend) else {
        return;
    };
    let _ = pages.take_back(channel); //~ E0382 move occurs because `pages` has type `FwPages`
}
