// SPDX-License-Identifier: GPL-2.0

//! Reading a small file of the administrator's, and replacing it.
//!
//! C: `rust/shim/nv_file.c`

use super::bindings as c;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Reads a regular file into `to`, and returns how many bytes it has. Sleeps.
///
/// # Errors
///
/// [`EINVAL`] if it is no regular file, [`EFBIG`] if it has more bytes than `to`; what the file
/// system says.
pub(crate) fn read(path: &CStr, to: &mut [u8]) -> Result<usize> {
    // SAFETY: The path is a string, and the function writes at most as many bytes as it is told.
    let read = unsafe { c::ccp_nv_read(path.as_char_ptr(), to.as_mut_ptr().cast(), to.len()) };
    usize::try_from(read).map_err(|_| Error::from_errno(read as c_int))
}

/// Makes `from` the contents of the file, at once or not at all, and waits until they are on disk.
/// Sleeps.
///
/// # Errors
///
/// What the file system says. The file is as it was then.
pub(crate) fn write(path: &CStr, from: &[u8]) -> Result {
    // SAFETY: The path is a string, and the function reads as many bytes as it is told.
    to_result(unsafe { c::ccp_nv_write(path.as_char_ptr(), from.as_ptr().cast(), from.len()) })
}
