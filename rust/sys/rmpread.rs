// SPDX-License-Identifier: GPL-2.0

//! RMPREAD: an entry of the RMP in a format that is the same on all CPUs that have the instruction.
//!
//! The raw entries in memory are documented for Zen 3 and Zen 4 only.

use kernel::prelude::*;

/// Reads the RMP entry of the 4 KiB page at the physical address `page`, as 16 bytes: the guest
/// address, then flags and ASID (`struct rmpentry` of arch/x86/virt/svm/sev.c).
///
/// # Errors
///
/// [`EFAULT`] if the CPU refuses, because the page has no entry.
///
/// # Safety
///
/// The CPU has RMPREAD, and `SYSCFG.SNP_EN` is set on it and on any other that the caller may be
/// moved to: the instruction is undefined otherwise.
pub unsafe fn rmpread(page: u64) -> Result<[u64; 2]> {
    let mut entry = [0u64; 2];
    let status: u64;
    // SAFETY: The instruction exists (caller). It reads the entry whose page is in RAX, writes 16
    // bytes to where RCX points, which is `entry`, and leaves its status in EAX. Binutils has no
    // name for it yet.
    unsafe {
        core::arch::asm!(
            ".byte 0xf2, 0x0f, 0x01, 0xfd",
            inout("rax") page => status,
            in("rcx") &raw mut entry,
            options(nostack),
        )
    };
    // CAST: The status is 32 bits wide.
    match status as u32 {
        0 => Ok(entry),
        _ => Err(EFAULT),
    }
}
