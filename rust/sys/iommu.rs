// SPDX-License-Identifier: GPL-2.0

//! The IOMMU driver's part of SNP.
//!
//! C header: `include/linux/amd-iommu.h`

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Takes back the pages that the IOMMUs used under SNP, after a firmware shutdown that leaves
/// `SNP_EN` set. Sleeps.
///
/// # Errors
///
/// As `amd_iommu_snp_disable()`; some pages then stay lost.
pub(crate) fn snp_disable() -> Result {
    // SAFETY: May be called in any sleepable context once firmware has released the pages; the
    // function checks every page's state itself.
    to_result(unsafe { bindings::amd_iommu_snp_disable() })
}
