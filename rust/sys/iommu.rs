// SPDX-License-Identifier: GPL-2.0

//! The IOMMU driver's part of SNP.
//!
//! C headers: `include/linux/amd-iommu.h`, `include/linux/iommu.h`

use super::bindings as extra;
use kernel::{
    bindings,
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
    to_result(unsafe { extra::amd_iommu_snp_disable() })
}

/// Whether the IOMMUs were fit for SNP at boot.
pub(crate) fn snp_enabled() -> bool {
    // SAFETY: Set at boot and never again.
    unsafe { extra::amd_iommu_snp_en }
}

/// Whether devices reach memory without translation unless somebody asks for it.
pub(crate) fn is_passthrough() -> bool {
    // SAFETY: May be called in any context; takes no arguments.
    unsafe { bindings::iommu_default_passthrough() }
}
