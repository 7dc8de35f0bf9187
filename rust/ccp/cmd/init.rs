// SPDX-License-Identifier: GPL-2.0

//! The commands that start firmware, with the proof that each takes, and SNP_SHUTDOWN_EX; how the
//! state of SNP firmware changes.

use kernel::prelude::*;

use super::{
    Channel,
    CmdError,
    InitProof,
    PageKind,
    Request,
    Snp,
    SnpIsUp, //
};
use crate::{
    mailbox::Transport,
    state,
    sys::snp_host::SnpEnabled,
    wire::{
        command,
        snp,
        CommandInfo,
        StartCommand,
        Status, //
    },
};

impl<T: Transport> Channel<T> {
    /// Issues SNP_INIT_EX with `request`, or SNP_INIT without. No ASID may be used then before
    /// [`Self::flush_snp`].
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; nothing has been logged. The CPUs are as they were.
    pub(crate) fn init_snp(
        &mut self,
        enabled: SnpEnabled,
        request: Option<&mut snp::SnpInitEx>,
    ) -> Result<(), (SnpEnabled, CmdError)> {
        let result = match request {
            Some(request) => self.issue_start(command::SNP_INIT_EX, request),
            None => self.issue_start(command::SNP_INIT, &mut ()),
        };
        match result {
            Ok(()) => {
                self.set_snp(Snp::Stale { enabled, guests: 0 });
                Ok(())
            }
            Err(err) => Err((enabled, err)),
        }
    }

    /// SNP_DF_FLUSH after SNP_INIT, which makes ASIDs usable.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged.
    pub(crate) fn flush_snp(&mut self) -> Result<(), CmdError> {
        self.require(command::SNP_DF_FLUSH, &mut ())?;
        self.snp = match core::mem::replace(&mut self.snp, Snp::Down) {
            Snp::Stale { enabled, guests: 0 } => Snp::Up(enabled),
            other => other,
        };
        Ok(())
    }

    /// SNP_SHUTDOWN_EX, and a second one after SNP_DF_FLUSH if firmware asks for the flush.
    ///
    /// `clear_snp_en`: firmware clears SNP_EN on all CPUs.
    ///
    /// # Errors
    ///
    /// The command that failed, and how; nothing has been logged.
    pub(crate) fn shutdown_snp(
        &mut self,
        clear_snp_en: bool,
    ) -> Result<(), (&'static CommandInfo, CmdError)> {
        let mut flags = snp::SHUTDOWN_IOMMU_SNP;
        if clear_snp_en {
            flags |= snp::SHUTDOWN_X86_SNP;
        }
        let shutdown = |channel: &mut Self| {
            let mut request = snp::SnpShutdownEx {
                // CAST: 8.
                len: size_of::<snp::SnpShutdownEx>() as u32,
                flags,
            };
            let result = channel.issue(command::SNP_SHUTDOWN_EX, &mut request);
            result.map_err(|err| (command::SNP_SHUTDOWN_EX.info(), err))
        };
        match shutdown(self) {
            Err((_, err)) if err.is(Status::DFFLUSH_REQUIRED) => {
                let flushed = self.issue(command::SNP_DF_FLUSH, &mut ());
                flushed.map_err(|err| (command::SNP_DF_FLUSH.info(), err))?;
                shutdown(self)
            }
            result => result,
        }
    }

    /// Firmware has left the INIT state. The caller decides about the hotplug window.
    pub(crate) fn snp_left_init(&mut self) -> Option<SnpEnabled> {
        let enabled = self.abandon_snp();
        self.set_snp(Snp::Down);
        enabled
    }

    /// Nobody issues another command to firmware, which may stay in the INIT state. The record for
    /// the panic path still says INIT. The caller decides about the hotplug window.
    pub(crate) fn abandon_snp(&mut self) -> Option<SnpEnabled> {
        match core::mem::replace(&mut self.snp, Snp::Down) {
            Snp::Down => None,
            Snp::Up(enabled) | Snp::Stale { enabled, .. } => Some(enabled),
        }
    }

    /// Takes over SNP firmware that this driver has not started, if firmware answers that it is in
    /// the INIT state. In that state firmware answers in a page in the Firmware state alone. All
    /// CPUs have SNP_EN, so the driver can make such a page.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; nothing has been logged. [`EINVAL`] if firmware is in another state.
    pub(crate) fn adopt_snp(
        &mut self,
        enabled: SnpEnabled,
    ) -> Result<snp::SnpStatus, (SnpEnabled, CmdError)> {
        match self.snp_status_in(PageKind::Assigned) {
            Ok(status) if status.is_init() => {
                self.set_snp(Snp::Stale {
                    enabled,
                    guests: status.guest_count,
                });
                Ok(status)
            }
            Ok(_) => Err((enabled, EINVAL.into())),
            Err(err) => Err((enabled, err)),
        }
    }

    /// SNP_PLATFORM_STATUS. Nothing has been logged on failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]: INVALID_PAGE_STATE if SNP firmware is in the INIT state and this driver
    /// does not know.
    pub(crate) fn snp_status(&mut self) -> Result<snp::SnpStatus, CmdError> {
        self.snp_status_in(self.page_kind())
    }

    /// The same, with the answer in a page of this kind, whatever the driver knows of firmware's
    /// state: firmware in the INIT state refuses a page of the host's (INVALID_PAGE_STATE).
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; nothing has been logged.
    pub(crate) fn snp_status_in(&mut self, kind: PageKind) -> Result<snp::SnpStatus, CmdError> {
        let status = self.answer_in_page(kind, |channel, address| {
            channel.issue(command::SNP_PLATFORM_STATUS, &mut snp::Addr { address })
        })?;
        state::status(status);
        Ok(status)
    }

    /// The proof, if SNP firmware is in the INIT state.
    pub(crate) fn snp_is_up(&self) -> Option<SnpIsUp> {
        self.snp_init().then_some(SnpIsUp(()))
    }

    /// Issues INIT or INIT_EX, which start the legacy platform. Nothing has been logged on failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn init_sev<R: Request>(
        &mut self,
        command: StartCommand<R>,
        request: &mut R,
        _proof: &InitProof,
    ) -> Result<(), CmdError> {
        self.issue_start(command, request)
    }
}
