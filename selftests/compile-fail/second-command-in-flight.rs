// SPDX-License-Identifier: GPL-2.0

//! While a command is in flight no other can start.
//!
//! in: mailbox.rs

use super::*;

fn two<I: BarIo, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError> {
    let first = mailbox.start(command, Address::NONE, Wait::Interrupt)?;
    #[cfg(not(refused))]
    let _ = first.finish();
    let second = mailbox.start(command, Address::NONE, Wait::Interrupt)?; //~ E0499 cannot borrow `*mailbox` as mutable more than once at a time
    let _ = second.finish();
    #[cfg(refused)]
    let _ = first.finish();
    Ok(())
}
