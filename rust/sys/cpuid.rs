// SPDX-License-Identifier: GPL-2.0

//! What CPUID says.

use core::arch::x86_64::__cpuid;

/// Whether RMP_CFG exists and the RMP may be segmented (CPUID 0x8000001f, EAX bit 23).
pub fn has_segmented_rmp() -> bool {
    // SAFETY: Every CPU in long mode has CPUID.
    let highest = unsafe { __cpuid(0x8000_0000) }.eax;
    // SAFETY: As above.
    highest >= 0x8000_001f && unsafe { __cpuid(0x8000_001f) }.eax & 1 << 23 != 0
}
