// SPDX-License-Identifier: GPL-2.0

//! Caches and identity of the CPUs.

use kernel::bindings;

/// Writes the caches of all online CPUs back and invalidates them. Sleeps.
pub(crate) fn wbinvd_on_all() {
    // SAFETY: May be called in any context that allows cross calls.
    unsafe { bindings::wbinvd_on_all_cpus() };
}

/// Writes the caches of this CPU back and invalidates them.
pub(crate) fn wbinvd_local() {
    // SAFETY: WBINVD changes no memory and no register. In ring 0 it does not fault on any CPU that
    // has SEV.
    unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Whether the boot CPU has a feature (`X86_FEATURE_*`) that neither BIOS nor kernel has disabled.
pub(crate) fn has(feature: u32) -> bool {
    // SAFETY: `boot_cpu_data` does not change after boot; the words are plain integers in every
    // variant of the union.
    let words = unsafe { bindings::boot_cpu_data.__bindgen_anon_3.x86_capability };
    words
        .get((feature / 32) as usize)
        .is_some_and(|word| word & (1 << (feature % 32)) != 0)
}

/// Family and model as CPUID gives them.
pub(crate) fn family_model() -> (u8, u8) {
    // SAFETY: `boot_cpu_data` does not change after boot; both fields are plain bytes.
    let id = unsafe { bindings::boot_cpu_data.__bindgen_anon_1.__bindgen_anon_1 };
    (id.x86, id.x86_model)
}
