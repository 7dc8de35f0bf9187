// SPDX-License-Identifier: GPL-2.0

//! SEV INIT takes the reason why it is allowed now.
//!
//! in: platform/sev.rs

use super::*;

fn start<T: Transport>(channel: &mut Channel<T>, proof: NoSnpEn) -> Result<(), CmdError> {
    let mut request = init_request(None);
    #[cfg(refused)]
    return channel.init_sev(&mut request); //~ E0061 argument #2 of type `&InitProof` is missing
    #[cfg(not(refused))]
    channel.init_sev(&mut request, &InitProof::NoSnpEn(proof))
}
