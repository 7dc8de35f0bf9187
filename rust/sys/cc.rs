// SPDX-License-Identifier: GPL-2.0

//! Confidential computing attributes of this kernel.
//!
//! C header: `include/linux/cc_platform.h`

use kernel::bindings;

/// Whether this kernel is an SNP host: decided at boot, on bare metal only. A guest that uses SNP
/// virtualisation itself never is.
pub fn is_snp_host() -> bool {
    // SAFETY: Callable in any context.
    unsafe { bindings::cc_platform_has(bindings::cc_attr_CC_ATTR_HOST_SEV_SNP) }
}
