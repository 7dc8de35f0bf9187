// SPDX-License-Identifier: GPL-2.0

//! SNP commands that the driver issues itself.

use super::Command;
use crate::wire::{
    snp,
    CommandId, //
};

/// Starts SNP on firmware of API 1.51.
pub(crate) struct SnpInit;

impl Command for SnpInit {
    const ID: CommandId = CommandId::SNP_INIT;
    type Request = ();
}

/// Starts SNP.
pub(crate) struct SnpInitEx;

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
