// SPDX-License-Identifier: GPL-2.0

//! Pages that are firmware's are not forgotten in passing.
//!
//! in: cmd.rs

use super::*;

fn give<T: Transport>(pages: HvPages, channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    channel.give(pages)?; //~ unused_must_use unused `FwPages` that must be used
    #[cfg(not(refused))]
    let _ = channel.give(pages)?.take_back(channel);
    Ok(())
}
