// SPDX-License-Identifier: GPL-2.0

//! SEV INIT takes the reason why it is allowed now.
//!
//! in: platform/sev.rs

use super::*;

fn start<T: Transport>(channel: &mut Channel<T>, proof: NoSnpEn) -> Result<(), CmdError> {
    let mut request = sev::Init::default();
    #[cfg(refused)]
    return channel.init_sev(command::INIT, &mut request); //~ E0061 argument #3 of type `&InitProof` is missing
    #[cfg(not(refused))]
    channel.init_sev(command::INIT, &mut request, &InitProof::NoSnpEn(proof))
}
