// SPDX-License-Identifier: GPL-2.0

//! Memory-encryption facts of this host.
//!
//! C header: `include/linux/mem_encrypt.h`

use kernel::bindings;

/// The bit of a physical address that selects encryption with the host key (SME), or 0.
pub(crate) fn sme_mask() -> u64 {
    // SAFETY: The variable is constant after early boot.
    let mask = unsafe { bindings::sme_me_mask };
    #[cfg(CONFIG_KUNIT = "y")]
    let mask = mask | super::fake_sme::mask();
    mask
}
