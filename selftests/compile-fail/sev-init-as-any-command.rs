// SPDX-License-Identifier: GPL-2.0

//! SEV INIT is not issued like any other command, which would need no proof.
//!
//! in: platform/sev.rs

use super::*;

fn start<T: Transport>(channel: &mut Channel<T>) -> Result<(), CmdError> {
    #[cfg(refused)]
    return channel.issue::<crate::cmd::sev::Init>(&mut init_request(None)); //~ E0603 struct `Init` is private
    #[cfg(not(refused))]
    channel.issue::<crate::cmd::sev::DfFlush>(&mut ())
}
