// SPDX-License-Identifier: GPL-2.0

//! Whether this kernel runs because another one crashed.
//!
//! C header: `include/linux/crash_dump.h`

use super::bindings;

/// Whether this is a kdump kernel, started to save the memory of a crashed one.
pub fn is_kdump_kernel() -> bool {
    /// `ELFCORE_ADDR_MAX`: no crashed kernel left an ELF header.
    const NONE: u64 = u64::MAX;
    // SAFETY: The variable is set from the kernel command line during boot.
    unsafe { bindings::elfcorehdr_addr != NONE }
}
