// SPDX-License-Identifier: GPL-2.0

//! While a command is in flight the mailbox is of no other use.
//!
//! in: mailbox.rs

use super::*;

fn look<I: BarIo, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError> {
    #[cfg(not(refused))]
    let _ = mailbox.dead();
    let flight = mailbox.start(command, Address::NONE, Wait::Interrupt)?;
    #[cfg(refused)]
    let _ = mailbox.dead(); //~ E0502 cannot borrow `*mailbox` as immutable because it is also borrowed as mutable
    let _ = flight.finish();
    Ok(())
}
