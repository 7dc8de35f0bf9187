// SPDX-License-Identifier: GPL-2.0

//! A command is answered once.
//!
//! in: mailbox.rs

use super::*;

fn twice<'a, I, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    let flight = mailbox.start(command, Address::NONE, Wait::Poll)?;
    let _ = flight.finish();
    #[cfg(not(refused))]
    let flight = mailbox.start(command, Address::NONE, Wait::Poll)?;
    let _ = flight.finish(); //~ E0382 move occurs because `flight` has type `InFlight
    Ok(())
}
