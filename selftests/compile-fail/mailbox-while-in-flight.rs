// SPDX-License-Identifier: GPL-2.0

//! While a command is in flight the mailbox is of no other use.
//!
//! in: mailbox.rs

use super::*;

fn look<'a, I, T: Environment>(
    mailbox: &mut Mailbox<I, T>,
    command: &'static CommandInfo,
) -> Result<(), CmdError>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    #[cfg(not(refused))]
    let _ = mailbox.dead();
    let flight = mailbox.start(command, Address::NONE, Wait::Interrupt)?;
    #[cfg(refused)]
    let _ = mailbox.dead(); //~ E0502 cannot borrow `*mailbox` as immutable because it is also borrowed as mutable
    let _ = flight.finish();
    Ok(())
}
