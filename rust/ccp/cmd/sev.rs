// SPDX-License-Identifier: GPL-2.0

//! Legacy SEV commands that the driver issues itself.

use super::{
    snp::SnpUp,
    Channel,
    CmdError,
    Command, //
};
use crate::{
    mailbox::Transport,
    sys::snp_host::NoSnpEn,
    wire::{
        sev,
        CommandId, //
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
        self.issue::<Init>(request)
    }
}

/// Starts the legacy platform. Private, so that nobody issues it without an [`Order`].
struct Init;

impl Command for Init {
    const ID: CommandId = CommandId::INIT;
    type Request = sev::Init;
}

/// Stops the legacy platform; all its guests are gone.
pub(crate) struct Shutdown;

impl Command for Shutdown {
    const ID: CommandId = CommandId::SHUTDOWN;
    type Request = ();
}

/// Makes new keys and forgets the owner. The legacy platform must be stopped.
pub(crate) struct FactoryReset;

impl Command for FactoryReset {
    const ID: CommandId = CommandId::FACTORY_RESET;
    type Request = ();
}

/// Asks for version, state and owner.
pub(crate) struct PlatformStatus;

impl Command for PlatformStatus {
    const ID: CommandId = CommandId::PLATFORM_STATUS;
    type Request = sev::PlatformStatus;
}

/// Makes a new platform endorsement key (and a new PDH).
pub(crate) struct PekGen;

impl Command for PekGen {
    const ID: CommandId = CommandId::PEK_GEN;
    type Request = ();
}

/// Asks for a certificate signing request of the PEK.
pub(crate) struct PekCsr;

impl Command for PekCsr {
    const ID: CommandId = CommandId::PEK_CSR;
    type Request = sev::OutBuffer;
}

/// Installs a PEK certificate signed by the owner.
pub(crate) struct PekCertImport;

impl Command for PekCertImport {
    const ID: CommandId = CommandId::PEK_CERT_IMPORT;
    type Request = sev::PekCertImport;
}

/// Asks for the PDH certificate and its chain.
pub(crate) struct PdhCertExport;

impl Command for PdhCertExport {
    const ID: CommandId = CommandId::PDH_CERT_EXPORT;
    type Request = sev::PdhCertExport;
}

/// Makes a new platform Diffie-Hellman key.
pub(crate) struct PdhGen;

impl Command for PdhGen {
    const ID: CommandId = CommandId::PDH_GEN;
    type Request = ();
}

/// Flushes the data fabric, which makes ASIDs usable again after a WBINVD on all CPUs.
pub(crate) struct DfFlush;

impl Command for DfFlush {
    const ID: CommandId = CommandId::DF_FLUSH;
    type Request = ();
}

/// Replaces the firmware.
pub(crate) struct DownloadFirmware;

impl Command for DownloadFirmware {
    const ID: CommandId = CommandId::DOWNLOAD_FIRMWARE;
    type Request = sev::DownloadFirmware;
}

/// Asks for the unique ids of the sockets.
pub(crate) struct GetId;

impl Command for GetId {
    const ID: CommandId = CommandId::GET_ID;
    type Request = sev::OutBuffer;
}
