// SPDX-License-Identifier: GPL-2.0

//! The mailbox takes no number for a command buffer.
//!
//! in: cmd.rs

use super::*;

fn ring<T: Transport>(page: &FwPages, transport: &mut T) -> Result<Status, CmdError> {
    let command = crate::wire::command::SNP_PLATFORM_STATUS.info();
    #[cfg(refused)]
    let buffer = 0x1000_u64;
    #[cfg(not(refused))]
    let buffer = page.spa().encrypted();
    transport.execute(command, buffer, Wait::Interrupt) //~ E0308 expected `Address`, found `u64`
}
