// SPDX-License-Identifier: GPL-2.0
//! `x86_tcg_ops`, the constant table of functions by which QEMU's common code reaches that for x86.
//! The plugin puts functions of its own there.

use std::ffi::c_void;
use std::mem::size_of;
use std::{io, slice};

use super::ffi::Functions;

/// Bytes of the table (the size of the symbol in QEMU 11.1.3).
const OPS_BYTES: usize = 192;

/// Puts `hook` in the place of `original`, which the table must name once.
///
/// # Safety
///
/// The QEMU must be the one that the declarations were made for, no CPU may run yet, and `hook`
/// must be the address of a function of the same type.
pub unsafe fn replace(
    f: &Functions,
    name: &str,
    original: *mut c_void,
    hook: usize,
) -> Result<(), String> {
    let table = f.x86_tcg_ops.cast::<usize>();
    // SAFETY: the symbol has this size, the table holds pointers and flags, all initialised.
    let words = unsafe { slice::from_raw_parts(table, OPS_BYTES / size_of::<usize>()) };
    let mut places = words.iter().enumerate().filter(|(_, word)| **word == original.addr());
    let (Some((place, _)), None) = (places.next(), places.next()) else {
        return Err(format!("x86_tcg_ops does not name {name} exactly once"));
    };
    // SAFETY: within the table.
    let place = unsafe { table.add(place) };
    let page = (place.addr() & !0xfff) as *mut c_void;
    // SAFETY: the page that holds the word (it is aligned, so it lies in one) belongs to QEMU's
    // constants, which the loader has made read-only; nobody relies on that.
    if unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
        return Err(format!("x86_tcg_ops cannot be changed: {}", io::Error::last_os_error()));
    }
    // SAFETY: writable since the call before; nothing reads it yet (caller).
    unsafe { place.write(hook) };
    Ok(())
}
