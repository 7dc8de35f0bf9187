// SPDX-License-Identifier: GPL-2.0
//! Being called when QEMU delivers an exception or carries out a #VMEXIT, which are one to it:
//! `do_interrupt` of `x86_tcg_ops`.

use std::ffi::c_void;
use std::mem::transmute;
use std::sync::OnceLock;

use super::ffi::{CpuState, Functions};
use super::ops;

/// `do_interrupt` of `struct TCGCPUOps`. What to do is in the CPU's state (`env::exception_index`).
pub type DoInterrupt = unsafe extern "C" fn(*mut CpuState);

/// `EXCP_VMEXIT`.
pub const VMEXIT: i32 = 0x100;

static ORIGINAL: OnceLock<DoInterrupt> = OnceLock::new();

/// Puts `hook` in the place of QEMU's function, which [`perform`] calls.
///
/// # Safety
///
/// As for [`ops::replace`].
pub unsafe fn install(f: &Functions, hook: DoInterrupt) -> Result<(), String> {
    // SAFETY: what x86_cpu_do_interrupt is in QEMU 11.1.
    let original = unsafe { transmute::<*mut c_void, DoInterrupt>(f.x86_cpu_do_interrupt) };
    ORIGINAL.set(original).map_err(|_| "the plugin is loaded twice".to_owned())?;
    // SAFETY: the caller's promise; the hook has the type of the function.
    unsafe { ops::replace(f, "x86_cpu_do_interrupt", f.x86_cpu_do_interrupt, hook as usize) }
}

/// Calls QEMU's own function. It may leave by `longjmp` (a fault while an exception is being
/// delivered), so no value with a destructor may be alive in the caller.
///
/// # Safety
///
/// With the argument that QEMU has called the hook with.
pub unsafe fn perform(cpu: *mut CpuState) {
    if let Some(original) = ORIGINAL.get() {
        // SAFETY: the caller's promise.
        unsafe { original(cpu) }
    }
}
