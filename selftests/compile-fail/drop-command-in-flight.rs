// SPDX-License-Identifier: GPL-2.0

//! A command that was started is waited for: without it the mailbox would stay busy.
//!
//! in: mailbox.rs

use super::*;

fn forget<I: BarIo, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError> {
    #[cfg(refused)]
    mailbox.start(command, Address::NONE, Wait::Interrupt)?; //~ unused_must_use unused `InFlight` that must be used
    #[cfg(not(refused))]
    let _ = mailbox
        .start(command, Address::NONE, Wait::Interrupt)?
        .finish();
    Ok(())
}
