// SPDX-License-Identifier: GPL-2.0
//! SEV-SNP: platform life cycle, guests and their launch, pages.

pub(crate) mod abi;
mod asker;
pub(crate) mod config;
mod cpuid;
mod derived_key;
pub(crate) mod digest;
mod endorsement;
pub(crate) mod guest;
pub(crate) mod id_block;
pub(crate) mod info;
pub(crate) mod launch;
mod launch_abi;
mod message;
mod message_abi;
pub(crate) mod page;
pub(crate) mod platform;
mod report;
pub(crate) mod request;
mod secrets;
pub(crate) mod tcb;

use std::collections::BTreeMap;

use guest::Guest;
use rmp::Geometry;

use crate::endorsement::Vlek;

/// Guest policy bit 19: the host may read and write the guest's memory.
const POLICY_DEBUG: u64 = 1 << 19;

/// What lasts from SNP_INIT to shutdown.
#[derive(Debug)]
pub(crate) struct Running {
    /// The table as the CPUs had it at SNP_INIT.
    pub(crate) geometry: Geometry,
    /// Largest ASID that an SNP guest may have.
    pub(crate) max_asid: u32,
    pub(crate) ciphertext_hiding: bool,
    pub(crate) rapl_disabled: bool,
    /// What the IOMMU writes to: Firmware until shutdown.
    pub(crate) iommu_pages: Vec<u64>,
    /// Guests by the address of their context page.
    pub(crate) guests: BTreeMap<u64, Guest>,
    /// Contexts created so far.
    serial: u64,
}

impl Running {
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// The SNP platform.
#[derive(Debug, Default)]
pub(crate) struct Snp {
    pub(crate) running: Option<Running>,
    /// An SNP_INIT with INIT_RMP has succeeded, and the host could not write the table since.
    pub(crate) rmp_initialised: bool,
    /// What SNP_CONFIG asked reports to show; none follows the committed one.
    pub(crate) reported_tcb: Option<u64>,
    pub(crate) mask_chip_id: bool,
    pub(crate) mask_chip_key: bool,
    pub(crate) vlek: Option<Vlek>,
    pub(crate) mitigations_verified: u64,
}

impl Snp {
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        self.running.as_ref().map(|running| running.geometry.clone())
    }

    pub(crate) fn corrupt_launch_digest(&mut self, gctx: u64) {
        if let Some(guest) = self.running.as_mut().and_then(|r| r.guests.get_mut(&gctx)) {
            guest.digest.corrupt();
        }
    }
}
