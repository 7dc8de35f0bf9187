// SPDX-License-Identifier: GPL-2.0

//! Mappings of physical memory that the kernel does not manage.
//!
//! C header: `include/linux/io.h`

use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

/// A write-back cached mapping of a physical range, in 64-bit words.
pub struct Mapping {
    start: NonNull<u64>,
    words: usize,
}

impl Mapping {
    /// Maps `len` bytes at the physical address `start`, both multiples of 8.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if they are not; [`ENOMEM`] if the range cannot be mapped, among others because
    /// it is memory of the kernel in part.
    pub fn new(start: u64, len: usize) -> Result<Self> {
        // CAST: A small constant.
        const MEMREMAP_WB: c_ulong = bindings::MEMREMAP_WB as c_ulong;

        if start % 8 != 0 || len % 8 != 0 {
            return Err(EINVAL);
        }
        // SAFETY: Maps whatever there is, or fails.
        let va = unsafe { bindings::memremap(start, len, MEMREMAP_WB) };
        Ok(Self {
            start: NonNull::new(va.cast()).ok_or(ENOMEM)?,
            words: len / 8,
        })
    }

    /// Reads word after word. Hardware may change them meanwhile.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.words).map(|i| {
            // SAFETY: `i` lies inside the mapping, which is aligned: it starts where the physical
            // range does, at a multiple of 8. Volatile because others write the memory.
            unsafe { self.start.add(i).read_volatile() }
        })
    }

    /// Reads the word number `i`, if there is one.
    pub fn word(&self, i: usize) -> Option<u64> {
        // SAFETY: As above.
        (i < self.words).then(|| unsafe { self.start.add(i).read_volatile() })
    }

    /// Sets every word to zero.
    ///
    /// # Safety
    ///
    /// The memory belongs to the caller, and writing to it does not fault: no CPU enforces an RMP
    /// that gives it to somebody else.
    pub unsafe fn zero(&self) {
        // SAFETY: The range is what `new()` mapped, for reading and writing.
        unsafe { self.start.write_bytes(0, self.words) };
    }
}

// SAFETY: A mapping may be used by any task; its methods only read, but for one that is unsafe.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new()` mapped it, and no reference into it is left.
        unsafe { bindings::memunmap(self.start.as_ptr().cast()) };
    }
}
