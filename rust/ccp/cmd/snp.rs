// SPDX-License-Identifier: GPL-2.0

//! SNP commands that the driver issues itself.

use kernel::prelude::*;

use super::{
    Channel,
    CmdError,
    Command, //
};
use crate::{
    mailbox::Transport,
    sys::snp_host::SnpEnabled,
    wire::{
        snp,
        CommandId, //
    },
};

/// Proof that SNP firmware is in the INIT state, and that all CPUs have SNP_EN.
pub(crate) struct SnpUp(SnpEnabled);

impl SnpUp {
    /// Firmware has left the INIT state, or nobody will ask it again: what remains to be said is what
    /// becomes of the hotplug window.
    pub(crate) fn over(self) -> SnpEnabled {
        self.0
    }
}

impl<T: Transport> Channel<T> {
    /// Issues SNP_INIT_EX with `request`, or SNP_INIT without.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; it has been logged. The CPUs are as they were.
    pub(crate) fn init_snp(
        &mut self,
        enabled: SnpEnabled,
        request: Option<&mut snp::SnpInitEx>,
    ) -> Result<SnpUp, (SnpEnabled, CmdError)> {
        let result = match request {
            Some(request) => self.require::<SnpInitEx>(request),
            None => self.require::<SnpInit>(&mut ()),
        };
        match result {
            Ok(()) => {
                self.set_snp_init(true);
                Ok(SnpUp(enabled))
            }
            Err(err) => Err((enabled, err)),
        }
    }

    /// Takes over SNP firmware that this driver has not started: has it say itself that it is in the INIT
    /// state. It does so in a page in the Firmware state alone, which there can be because all CPUs have
    /// SNP_EN.
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
    /// See [`CmdError`]: INVALID_PAGE_STATE if SNP firmware is in the INIT state and this driver does not
    /// know.
    pub(crate) fn snp_status(&mut self) -> Result<snp::SnpStatus, CmdError> {
        self.answer_in_page(|channel, address| {
            channel.issue::<SnpPlatformStatus>(&mut snp::Addr { address })
        })
    }
}

/// Starts SNP on firmware of API 1.51. Private, so that nobody issues it on CPUs that were not prepared.
struct SnpInit;

impl Command for SnpInit {
    const ID: CommandId = CommandId::SNP_INIT;
    type Request = ();
}

/// Starts SNP. Private for the same reason.
struct SnpInitEx;

impl Command for SnpInitEx {
    const ID: CommandId = CommandId::SNP_INIT_EX;
    type Request = snp::SnpInitEx;
}

/// Stops SNP.
pub(crate) struct SnpShutdownEx;

impl Command for SnpShutdownEx {
    const ID: CommandId = CommandId::SNP_SHUTDOWN_EX;
    type Request = snp::SnpShutdownEx;
}

/// Asks for version, state and TCB. The answer goes to the page in the request.
pub(crate) struct SnpPlatformStatus;

impl Command for SnpPlatformStatus {
    const ID: CommandId = CommandId::SNP_PLATFORM_STATUS;
    type Request = snp::Addr;
}

/// Asks for the features of this firmware. The answer goes to the page in the request.
pub(crate) struct SnpFeatureInfo;

impl Command for SnpFeatureInfo {
    const ID: CommandId = CommandId::SNP_FEATURE_INFO;
    type Request = snp::FeatureInfoRequest;
}

/// Flushes the data fabric for SNP ASIDs.
pub(crate) struct SnpDfFlush;

impl Command for SnpDfFlush {
    const ID: CommandId = CommandId::SNP_DF_FLUSH;
    type Request = ();
}

/// Takes a page back from firmware.
pub(crate) struct SnpPageReclaim;

impl Command for SnpPageReclaim {
    const ID: CommandId = CommandId::SNP_PAGE_RECLAIM;
    type Request = snp::PageReclaim;
}

/// Sets what attestation reports say about TCB and chip.
pub(crate) struct SnpConfig;

impl Command for SnpConfig {
    const ID: CommandId = CommandId::SNP_CONFIG;
    type Request = snp::SnpConfig;
}

/// Makes the running firmware the oldest that may ever be loaded.
pub(crate) struct SnpCommit;

impl Command for SnpCommit {
    const ID: CommandId = CommandId::SNP_COMMIT;
    type Request = snp::SnpCommit;
}

/// Loads a VLEK, which then signs attestation reports.
pub(crate) struct SnpVlekLoad;

impl Command for SnpVlekLoad {
    const ID: CommandId = CommandId::SNP_VLEK_LOAD;
    type Request = snp::VlekLoad;
}
