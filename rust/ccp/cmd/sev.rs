// SPDX-License-Identifier: GPL-2.0

//! INIT, and why it is allowed.

use super::{
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
pub(crate) enum Order {
    /// SNP is up.
    AfterSnp(SnpIsUp),
    /// SNP_EN is set on no CPU.
    WithoutSnp(NoSnpEn),
}

/// Proof that SNP firmware is in the INIT state. It stays true for as long as the command lock is
/// held and nobody stops SNP.
#[derive(Clone, Copy)]
pub(crate) struct SnpIsUp(());

impl<T: Transport> Channel<T> {
    /// The proof, if SNP firmware is in the INIT state.
    pub(crate) fn snp_is_up(&self) -> Option<SnpIsUp> {
        self.snp_init().then_some(SnpIsUp(()))
    }

    /// Issues INIT, which starts the legacy platform. Nothing has been logged on failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn init_sev(
        &mut self,
        request: &mut sev::Init,
        _order: &Order,
    ) -> Result<(), CmdError> {
        self.issue_start(command::INIT, request)
    }
}
