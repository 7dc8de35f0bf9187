// SPDX-License-Identifier: GPL-2.0
//! `x86_tcg_ops`, the constant table of functions by which QEMU's common code reaches that for x86.
//! The plugin puts functions of its own there.

use std::ffi::{c_int, c_void};
use std::mem::{size_of, MaybeUninit};
use std::{io, ptr, slice};

use libc::Dl_info;

use super::ffi::Functions;

/// More than this no such table has.
const MOST_WORDS: usize = 64;

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
    let bytes = symbol_size(f.x86_tcg_ops).ok_or("the size of x86_tcg_ops is not known")?;
    if bytes % size_of::<usize>() != 0 || bytes / size_of::<usize>() > MOST_WORDS {
        return Err(format!("x86_tcg_ops has {bytes} bytes"));
    }
    // SAFETY: the symbol has this size, the table holds pointers and flags, all initialised.
    let words = unsafe { slice::from_raw_parts(table, bytes / size_of::<usize>()) };
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

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

extern "C" {
    fn dladdr1(
        address: *const c_void,
        info: *mut Dl_info,
        extra: *mut *mut c_void,
        flags: c_int,
    ) -> c_int;
}

/// How many bytes a symbol of the program has, by its own table.
fn symbol_size(address: *mut c_void) -> Option<usize> {
    /// `RTLD_DL_SYMENT`: `extra` is the symbol's entry.
    const ENTRY: c_int = 1;
    let (mut info, mut entry) = (MaybeUninit::uninit(), ptr::null_mut());
    // SAFETY: a look-up; both results have room.
    let found = unsafe { dladdr1(address, info.as_mut_ptr(), &mut entry, ENTRY) };
    if found == 0 || entry.is_null() {
        return None;
    }
    // SAFETY: an entry of a table that stays loaded.
    let symbol = unsafe { &*entry.cast::<Symbol>() };
    usize::try_from(symbol.size).ok()
}
