// SPDX-License-Identifier: GPL-2.0

//! What other modules may issue is chosen in one place; INIT is not among it.
//!
//! in: cmd/relay.rs

use super::*;
use crate::wire::CommandId;

fn init<T: Transport>(
    channel: &mut Channel<T>,
    data: &mut [u8],
    memory: &CallerMemory,
) -> Result<(), CmdError> {
    #[cfg(refused)]
    let command = CommandId::INIT.row();
    #[cfg(not(refused))]
    let Some(command) = Relayed::new(CommandId::DF_FLUSH.row()) else {
        return Ok(());
    };
    channel.relay(command, data, memory) //~ E0308 expected `Relayed`, found `&CommandInfo`
}
