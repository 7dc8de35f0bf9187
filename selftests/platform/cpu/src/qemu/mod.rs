// SPDX-License-Identifier: GPL-2.0
//! QEMU as the plugin uses it. Everything `unsafe` to do with QEMU is below here and in
//! [`crate::plugin`].

use std::fmt;

pub mod build;
pub mod code;
pub mod e820;
pub mod env;
pub mod ffi;
pub mod guest;
pub mod ignne;
pub mod interrupt;
pub mod kept_tlb;
pub mod layout;
pub mod lookup;
pub mod ops;
pub mod probe;
pub mod register;
pub mod resets;
pub mod stale;
pub mod tlb;
pub mod vcpu;
pub mod version;

/// An assumption about QEMU does not hold: going on would corrupt it.
#[inline(never)]
pub fn fatal(sentence: fmt::Arguments<'_>) -> ! {
    eprintln!("snp_cpu: {sentence}; QEMU is stopped, because its inside is not as expected");
    // SAFETY: ends the process from a CPU thread, without the exit handlers that would wait for
    // this thread.
    unsafe { libc::_exit(1) }
}
