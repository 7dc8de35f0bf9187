// SPDX-License-Identifier: GPL-2.0

//! SNP_INIT, SNP_INIT_EX, and the proof that SNP firmware is in the INIT state.

use kernel::prelude::*;

use super::{
    Channel,
    CmdError, //
};
use crate::{
    mailbox::Transport,
    sys::snp_host::SnpEnabled,
    wire::{
        command,
        snp, //
    },
};

/// Proof that SNP firmware is in the INIT state, and that all CPUs have SNP_EN.
pub(crate) struct SnpUp(SnpEnabled);

impl SnpUp {
    /// Firmware has left the INIT state, or nobody will ask it again: what remains to be said is
    /// what becomes of the hotplug window.
    pub(crate) fn over(self) -> SnpEnabled {
        self.0
    }
}

impl<T: Transport> Channel<T> {
    /// Issues SNP_INIT_EX with `request`, or SNP_INIT without.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; nothing has been logged. The CPUs are as they were.
    pub(crate) fn init_snp(
        &mut self,
        enabled: SnpEnabled,
        request: Option<&mut snp::SnpInitEx>,
    ) -> Result<SnpUp, (SnpEnabled, CmdError)> {
        let result = match request {
            Some(request) => self.issue_start(command::SNP_INIT_EX, request),
            None => self.issue_start(command::SNP_INIT, &mut ()),
        };
        match result {
            Ok(()) => {
                self.set_snp_init(true);
                Ok(SnpUp(enabled))
            }
            Err(err) => Err((enabled, err)),
        }
    }

    /// Takes over SNP firmware that this driver has not started: has it say itself that it is in
    /// the INIT state. It does so in a page in the Firmware state alone, which there can be because
    /// all CPUs have SNP_EN.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; nothing has been logged. [`EINVAL`] if firmware is in another state.
    pub(crate) fn adopt_snp(
        &mut self,
        enabled: SnpEnabled,
    ) -> Result<(SnpUp, snp::SnpStatus), (SnpEnabled, CmdError)> {
        self.set_snp_init(true);
        let err = match self.snp_status() {
            Ok(status) if status.is_init() => return Ok((SnpUp(enabled), status)),
            Ok(_) => CmdError::Transport(EINVAL),
            Err(err) => err,
        };
        self.set_snp_init(false);
        Err((enabled, err))
    }

    /// SNP_PLATFORM_STATUS. Nothing has been logged on failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]: INVALID_PAGE_STATE if SNP firmware is in the INIT state and this driver
    /// does not know.
    pub(crate) fn snp_status(&mut self) -> Result<snp::SnpStatus, CmdError> {
        self.answer_in_page(|channel, address| {
            channel.issue(command::SNP_PLATFORM_STATUS, &mut snp::Addr { address })
        })
    }
}
