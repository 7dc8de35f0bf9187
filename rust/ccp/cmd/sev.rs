// SPDX-License-Identifier: GPL-2.0

//! Legacy SEV commands that the driver issues itself.

use super::Command;
use crate::wire::{
    sev,
    CommandId, //
};

/// Starts the legacy platform.
pub(crate) struct Init;

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
