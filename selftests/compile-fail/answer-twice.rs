// SPDX-License-Identifier: GPL-2.0

//! A command is answered once.
//!
//! in: mailbox.rs

use super::*;

fn twice<I: BarIo, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError> {
    let flight = mailbox.start(command, Address::NONE, Wait::Poll)?;
    let _ = flight.finish();
    #[cfg(not(refused))]
    let flight = mailbox.start(command, Address::NONE, Wait::Poll)?;
    let _ = flight.finish(); //~ E0382 move occurs because `flight` has type `InFlight
    Ok(())
}
