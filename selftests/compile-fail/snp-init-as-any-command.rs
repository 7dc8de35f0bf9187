// SPDX-License-Identifier: GPL-2.0

//! SNP_INIT is not issued like any other command, which would need no proof.
//!
//! in: platform/snp.rs

use super::*;

impl Platform {
    fn start_without_proof(&mut self) -> Result<(), CmdError> {
        #[cfg(refused)]
        return self.channel.issue::<crate::cmd::snp::SnpInit>(&mut ()); //~ E0603 struct `SnpInit` is private
        #[cfg(not(refused))]
        self.channel.issue::<SnpDfFlush>(&mut ())
    }
}
