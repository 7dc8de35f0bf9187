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
/// `SNP_EN` set.
///
/// May be called in any context, also in a panic: as of Linux 7.3 the function walks a list that
/// does not change after boot, takes no lock and allocates nothing. `rmp_make_shared()` would do
/// both to split a large mapping; the IOMMU driver has split those of its pages when it allocated
/// them (`iommu_alloc_4k_pages()`).
///
/// # Errors
///
/// As `amd_iommu_snp_disable()`; some pages then stay lost.
pub(crate) fn snp_disable() -> Result {
    // SAFETY: May be called in any context, as said above, once firmware has released the pages;
    // the function checks every page's state itself.
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
