// SPDX-License-Identifier: GPL-2.0

//! SEV INIT is not issued like any other command, which would need no proof.
//!
//! in: platform/sev.rs

use super::*;

fn start<T: Transport>(channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    return channel.issue(command::INIT, &mut sev::Init::default()); //~ E0308 expected `Command<Init>`, found `StartCommand<Init>`
    #[cfg(not(refused))]
    channel.issue(command::DF_FLUSH, &mut ())
}
