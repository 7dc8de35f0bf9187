// SPDX-License-Identifier: GPL-2.0

//! A guest's pages are taken back once.
//!
//! in: cmd/relay.rs

use super::*;
use crate::sys::rmp::Frames;

fn twice<T: Transport>(frames: Frames, channel: &mut Channel<T>) -> Result {
    let pages = GuestPages::into_firmware(frames, channel)?;
    let _ = pages.take_back(channel);
    #[cfg(not(refused))]
    let pages = GuestPages::into_firmware(frames, channel)?;
    let _ = pages.take_back(channel); //~ E0382 move occurs because `pages` has type `GuestPages`
    Ok(())
}
