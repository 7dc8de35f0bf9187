// SPDX-License-Identifier: GPL-2.0

//! SNP_INIT is not issued like any other command, which would need no proof.
//!
//! in: platform/snp.rs

use super::*;

impl Platform {
    fn start_without_proof(&mut self) -> Result<(), CmdError> {
        #[cfg(refused)]
        return self.channel.issue(command::SNP_INIT, &mut ()); //~ E0308 expected `Command<()>`, found `StartCommand<()>`
        #[cfg(not(refused))]
        self.channel.issue(command::SNP_DF_FLUSH, &mut ())
    }
}
