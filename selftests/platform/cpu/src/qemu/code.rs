// SPDX-License-Identifier: GPL-2.0
//! Other bytes in QEMU's code.

use std::ffi::c_void;
use std::{io, ptr};

/// Puts `bytes` at `place`.
///
/// # Safety
///
/// `place` must be that much code, that nobody executes meanwhile.
pub unsafe fn write(place: *mut c_void, bytes: &[u8]) -> io::Result<()> {
    const PAGE: usize = 4096;
    let first = place.addr() & !(PAGE - 1);
    let length = place.addr() + bytes.len() - first;
    let protect = |rights| {
        // SAFETY: pages of code (caller). They stay readable and executable, so that other code in
        // them goes on.
        match unsafe { libc::mprotect(first as *mut c_void, length, rights) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    protect(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
    // SAFETY: writable since the call before, and nobody executes it (caller).
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
    protect(libc::PROT_READ | libc::PROT_EXEC)
}

/// Two pages that can be written and executed, of which nobody else knows; null if there are none.
pub fn pages() -> *mut c_void {
    let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let pages = unsafe { libc::mmap(ptr::null_mut(), 8192, rights, flags, -1, 0) };
    if pages == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    pages
}
