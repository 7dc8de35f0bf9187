// SPDX-License-Identifier: GPL-2.0
//! The repair of a race in QEMU 11.1 that makes nested guests go wrong.
//!
//! FRSTOR, FLDENV, FXRSTOR and XRSTOR of a status word without pending exceptions end in
//! `cpu_clear_ignne()` (target/i386/tcg/system/fpu_helper.c). It takes a bit out of HFLAGS2 of the
//! *first* CPU, whichever CPU executes the instruction, and not atomically. If the first CPU
//! changes its HFLAGS2 meanwhile, which VMRUN, #VMEXIT, STGI and CLGI do, the change is lost: the
//! host translates by nested tables, or a guest does not.
//!
//! Here the function gets other code, which clears the bit by an atomic operation. That never
//! brings an old value of the other bits back. At worst the bit comes back, which is for FPUs
//! without CR0.NE and nothing else.

use std::ffi::c_void;
use std::io;

use super::code;
use super::ffi::Functions;

/// What takes the function's place.
pub type Replacement = extern "C" fn();

/// MOVABS R11, imm64; JMP R11. R11 belongs to no caller.
const JUMP_BYTES: usize = 13;

/// Makes `cpu_clear_ignne()` of the QEMU that runs jump to `to`.
///
/// # Safety
///
/// The QEMU must be the one that the declarations were made for, and no CPU may run yet.
pub unsafe fn install(f: &Functions, to: Replacement) -> Result<(), String> {
    // SAFETY: the caller's promise; probe.rs has seen the function's last instructions
    // behind what is overwritten.
    unsafe { redirect(f.cpu_clear_ignne, to) }
        .map_err(|error| format!("cpu_clear_ignne() cannot be changed: {error}"))
}

/// Puts a jump at the start of a function.
///
/// # Safety
///
/// `function` must be code of at least [`JUMP_BYTES`] that nobody executes meanwhile.
unsafe fn redirect(function: *mut c_void, to: Replacement) -> io::Result<()> {
    let mut jump: [u8; JUMP_BYTES] = [0x49, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0xff, 0xe3];
    jump[2..10].copy_from_slice(&(to as usize).to_le_bytes());
    // SAFETY: the caller's promise.
    unsafe { code::write(function, &jump) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    static CALLS: AtomicU32 = AtomicU32::new(0);

    extern "C" fn called() {
        CALLS.fetch_add(1, Relaxed);
    }

    /// Two pages, with a function that traps across their border.
    #[test]
    fn a_redirected_function_is_the_other_one() {
        let function = code::pages().wrapping_byte_add(4090);
        // SAFETY: 64 bytes in the mapping. INT3, so that going on behind the jump would end the
        // test.
        unsafe { function.write_bytes(0xcc, 64) };
        // SAFETY: code that nobody executes.
        unsafe { redirect(function, called) }.expect("a page of the test's own");
        // SAFETY: a jump to a function of this type.
        let function = unsafe { std::mem::transmute::<*mut c_void, Replacement>(function) };
        function();
        assert_eq!(CALLS.load(Relaxed), 1);
    }
}
