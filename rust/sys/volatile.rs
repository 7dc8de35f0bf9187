// SPDX-License-Identifier: GPL-2.0

//! Memory that a device reads and writes while the kernel does.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::prelude::*;

/// A range of such memory. Accesses are made as they are written, and in that order.
///
/// # Invariants
///
/// `start` is valid for reads and writes of `len` bytes for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Volatile<'a> {
    start: NonNull<u8>,
    len: usize,
    _memory: PhantomData<&'a u8>,
}

impl<'a> Volatile<'a> {
    /// # Safety
    ///
    /// The memory is valid for reads and writes of `len` bytes for `'a`, and nobody has a reference
    /// to it who relies on it.
    pub(crate) unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            start,
            len,
            _memory: PhantomData,
        }
    }

    /// A part of the range.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if that is beyond its end.
    pub(crate) fn part(self, offset: usize, len: usize) -> Result<Self> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(EINVAL);
        }
        // INVARIANT: A part of what is valid.
        Ok(Self {
            // SAFETY: Within the range, so within one allocation.
            start: unsafe { self.start.add(offset) },
            len,
            _memory: PhantomData,
        })
    }

    /// Reads the 32-bit word at an aligned offset.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none.
    pub(crate) fn word(self, offset: usize) -> Result<u32> {
        let word = self.part(offset, 4)?.start.cast::<u32>();
        if !word.is_aligned() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant, and aligned.
        Ok(unsafe { word.read_volatile() })
    }

    /// Writes the 32-bit word at an aligned offset.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none.
    pub(crate) fn set_word(self, offset: usize, value: u32) -> Result {
        let word = self.part(offset, 4)?.start.cast::<u32>();
        if !word.is_aligned() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant, and aligned.
        unsafe { word.write_volatile(value) };
        Ok(())
    }

    /// Reads bytes from the start on.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range has fewer.
    pub(crate) fn read(self, bytes: &mut [u8]) -> Result {
        let part = self.part(0, bytes.len())?;
        for (n, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `n` is less than the length of the part.
            *byte = unsafe { part.start.add(n).read_volatile() };
        }
        Ok(())
    }

    /// Writes bytes from the start on, and zeros behind them.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range has fewer.
    pub(crate) fn fill(self, bytes: &[u8]) -> Result {
        let _ = self.part(0, bytes.len())?;
        for n in 0..self.len {
            let byte = bytes.get(n).copied().unwrap_or(0);
            // SAFETY: `n` is less than the length.
            unsafe { self.start.add(n).write_volatile(byte) };
        }
        Ok(())
    }
}
