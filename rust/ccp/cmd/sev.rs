// SPDX-License-Identifier: GPL-2.0

//! INIT, and why it is allowed.

use super::{
    snp::SnpUp,
    Channel,
    CmdError, //
};
use crate::{
    mailbox::Transport,
    sys::snp_host::NoSnpEn,
    wire::{
        command,
        sev, //
    },
};

/// Why INIT is allowed now. Firmware refuses it on CPUs with SNP_EN as long as SNP firmware is not
/// initialised.
#[allow(dead_code, reason = "a proof is held, not read")]
pub(crate) enum Order<'a> {
    /// SNP is up.
    AfterSnp(&'a SnpUp),
    /// SNP_EN is set on no CPU.
    WithoutSnp(NoSnpEn),
}

impl<T: Transport> Channel<T> {
    /// Issues INIT, which starts the legacy platform. Nothing has been logged on failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn init_sev(
        &mut self,
        request: &mut sev::Init,
        _order: &Order<'_>,
    ) -> Result<(), CmdError> {
        self.issue_start(command::INIT, request)
    }
}
