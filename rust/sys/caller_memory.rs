// SPDX-License-Identifier: GPL-2.0

//! Memory of an in-kernel caller that passes physical addresses.

use super::{
    direct_map,
    mem_encrypt::without_c_bit,
    rmp::Frames, //
};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The licence to use physical addresses that a caller put into a command buffer.
///
/// It exists for the time of one call from C whose contract is that the addresses name memory of
/// that caller.
pub(crate) struct CallerMemory(());

impl CallerMemory {
    /// Takes the caller's word.
    ///
    /// # Safety
    ///
    /// As long as the result exists, the physical addresses that are passed to its methods come
    /// from a caller who owns the memory behind them, with the lengths that go with them.
    pub(crate) unsafe fn trust() -> Self {
        Self(())
    }

    /// The frames behind `len` bytes at `address` (with or without encryption bit).
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range wraps around.
    pub(crate) fn frames(&self, address: u64, len: u64) -> Result<Frames> {
        let phys = without_c_bit(address);
        // SAFETY: The caller owns the memory (see `trust()`) and leaves it alone during the call.
        unsafe { Frames::foreign(phys, len) }.ok_or(EINVAL)
    }

    /// Copies `data` to `address` (with or without encryption bit).
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the address is not in the direct map.
    pub(crate) fn write(&self, address: u64, data: &[u8]) -> Result {
        let to = mapped(address, data.len())?;
        // SAFETY: Both ends are mapped RAM and the caller owns all of it (see `trust()`). `data` is
        // memory of this driver, so the ranges do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
        Ok(())
    }

    /// Copies what is at `address` (with or without encryption bit) to `data`. User space may be
    /// changing it meanwhile: then the result is some of both.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the address is not in the direct map.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) -> Result {
        let from = mapped(address, data.len())?;
        // SAFETY: As in `write()`. `memcpy()` copes with memory that changes, and nothing depends
        // on the bytes being those of one moment.
        unsafe { bindings::memcpy(data.as_mut_ptr().cast(), from.cast(), data.len()) };
        Ok(())
    }

    /// Copies the first frame of `from` to the first of `to`, which is another. As [`Self::read`].
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if one is not in the direct map.
    pub(crate) fn copy_page(&self, to: Frames, from: Frames) -> Result {
        let to = mapped(to.phys(), PAGE_SIZE)?;
        let from = mapped(from.phys(), PAGE_SIZE)?;
        if to == from {
            return Err(EFAULT);
        }
        // SAFETY: As above; two different pages do not overlap.
        unsafe { bindings::memcpy(to.cast(), from.cast(), PAGE_SIZE) };
        Ok(())
    }
}

/// Where `len` bytes at this physical address are in the direct map.
fn mapped(address: u64, len: usize) -> Result<*mut u8> {
    direct_map::virt(without_c_bit(address), len).ok_or(EFAULT)
}
