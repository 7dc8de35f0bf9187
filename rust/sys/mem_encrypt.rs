// SPDX-License-Identifier: GPL-2.0

//! Memory-encryption facts of this host.
//!
//! C header: `include/linux/mem_encrypt.h`

use super::cpu;
use kernel::bindings;

/// The bit of a physical address that selects encryption with the host key (SME), or 0.
pub(crate) fn sme_mask() -> u64 {
    // SAFETY: The variable is constant after early boot.
    let mask = unsafe { bindings::sme_me_mask };
    #[cfg(CONFIG_KUNIT = "y")]
    let mask = mask | super::fake_sme::mask();
    mask
}

/// An address without the encryption bit. That of a legacy guest's page has it also without SME:
/// KVM sets it in RECEIVE_UPDATE_DATA.
pub(crate) fn without_c_bit(address: u64) -> u64 {
    address & !(sme_mask() | cpu::c_bit())
}
