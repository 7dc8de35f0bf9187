// SPDX-License-Identifier: GPL-2.0

//! Model-specific registers of the CPU this runs on.
//!
//! C header: `arch/x86/include/asm/msr.h`

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// A model-specific register.
#[derive(Clone, Copy)]
pub struct Msr(u32);

impl Msr {
    /// The register with this number (`MSR_*` in the C header).
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Reads the register on this CPU. May be called in any context; unless the caller is pinned to
    /// a CPU, "this" is one that it may have left already.
    ///
    /// # Errors
    ///
    /// [`EIO`] if this CPU has no such register (the access faulted).
    pub fn read(self) -> Result<u64> {
        // eax, ecx, edx, ebx, esp, ebp, esi, edi (arch/x86/lib/msr-reg.S).
        let mut regs = [0, self.0, 0, 0, 0, 0, 0, 0];
        // SAFETY: `regs` has the eight words that the function reads and writes. A fault of RDMSR
        // is caught by its exception table. RDMSR changes nothing but EDX:EAX.
        to_result(unsafe { bindings::rdmsr_safe_regs(regs.as_mut_ptr()) })?;
        Ok(u64::from(regs[2]) << 32 | u64::from(regs[0]))
    }

    /// Writes the register on this CPU. May be called in any context in which the caller stays on
    /// one CPU.
    ///
    /// # Errors
    ///
    /// [`EIO`] if this CPU has no such register or refuses the value (the access faulted). Some
    /// bits ignore a write in silence: read back.
    ///
    /// # Safety
    ///
    /// The value must not make the CPU do what breaks the guarantees of other code.
    pub unsafe fn write(self, value: u64) -> Result {
        // As in `read()`. CAST: The halves.
        let mut regs = [value as u32, self.0, (value >> 32) as u32, 0, 0, 0, 0, 0];
        // SAFETY: As in `read()`; the caller answers for what the value does.
        to_result(unsafe { bindings::wrmsr_safe_regs(regs.as_mut_ptr()) })
    }
}
