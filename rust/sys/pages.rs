// SPDX-License-Identifier: GPL-2.0

//! Physically contiguous pages of the direct map.
//!
//! C header: `include/linux/gfp.h`

use core::{
    ptr::NonNull,
    slice, //
};

use super::{
    bindings as c,
    direct_map,
    volatile::Volatile, //
};
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};

/// Allocation flags of the C side, for callers that received them through a C interface.
#[derive(Clone, Copy)]
pub(crate) struct Gfp(bindings::gfp_t);

impl Gfp {
    /// `GFP_KERNEL`.
    pub(crate) const KERNEL: Self = Self(bindings::GFP_KERNEL);
    /// `GFP_KERNEL_ACCOUNT`: charged to the memory cgroup of the caller.
    pub(crate) const KERNEL_ACCOUNT: Self = Self(bindings::GFP_KERNEL_ACCOUNT);

    /// Flags as C gave them.
    pub(crate) fn from_raw(raw: bindings::gfp_t) -> Self {
        Self(raw)
    }
}

/// `1 << order` physically contiguous, naturally aligned pages.
///
/// # Invariants
///
/// `va` is what `get_free_pages()` returned for `order`, and this object owns the pages; `len` is
/// their size. The address lies in the direct map.
pub(crate) struct Pages {
    va: NonNull<u8>,
    gfp: Gfp,
    order: u32,
    len: usize,
    /// The kernel's mapping of the pages does not use the caches.
    uncached: bool,
}

// SAFETY: The pages are plain memory that belongs to this object alone.
unsafe impl Send for Pages {}

// SAFETY: Shared access is read-only.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates zeroed pages. Sleeps if `gfp` allows it; fails silently.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn zeroed(gfp: Gfp, order: u32) -> Result<Self> {
        let flags = gfp.0 | bindings::__GFP_ZERO | bindings::__GFP_NOWARN;
        // SAFETY: Any flags and order are fine; an order that is too large fails.
        let va = unsafe { bindings::get_free_pages_noprof(flags, order) };
        // INVARIANT: As just returned.
        Ok(Self {
            va: NonNull::new(va as *mut u8).ok_or(ENOMEM)?,
            gfp,
            order,
            // The allocator has no order for which this overflows.
            len: PAGE_SIZE.wrapping_shl(order),
            uncached: false,
        })
    }

    /// Allocates zeroed pages for `len` bytes.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn for_len(gfp: Gfp, len: usize) -> Result<Self> {
        let count = len.div_ceil(PAGE_SIZE).max(1);
        Self::zeroed(gfp, count.next_power_of_two().trailing_zeros())
    }

    /// Allocates pages that start with `data`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn with_data(data: &[u8]) -> Result<Self> {
        let mut pages = Self::for_len(Gfp::KERNEL, data.len())?;
        pages.put(0, data)?;
        Ok(pages)
    }

    /// Other pages with the same contents.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn copy(&self) -> Result<Self> {
        let mut other = Self::zeroed(self.gfp, self.order)?;
        other.bytes_mut().copy_from_slice(self.bytes());
        Ok(other)
    }

    /// Number of pages.
    pub(crate) fn count(&self) -> usize {
        self.len / PAGE_SIZE
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Kernel virtual address, for C callers.
    pub(crate) fn virt(&self) -> *mut c_void {
        self.va.as_ptr().cast()
    }

    /// Physical address, without the encryption bit.
    pub(crate) fn phys(&self) -> u64 {
        // By the type invariant the address is in the direct map.
        direct_map::phys(self.va.as_ptr())
    }

    /// The contents.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant the memory is ours and initialised (zeroed).
        unsafe { slice::from_raw_parts(self.va.as_ptr(), self.len()) }
    }

    /// The contents.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.va.as_ptr(), self.len()) }
    }

    /// Copies `data` to this offset.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it does not fit.
    pub(crate) fn put(&mut self, offset: usize, data: &[u8]) -> Result {
        let end = offset.checked_add(data.len()).ok_or(EINVAL)?;
        let target = self.bytes_mut().get_mut(offset..end).ok_or(EINVAL)?;
        target.copy_from_slice(data);
        Ok(())
    }

    /// Maps the pages without caches, until they are freed.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: a large page of the direct map could not be split.
    pub(crate) fn set_uncached(&mut self) -> Result {
        // CAST: An address; the allocator has no order with so many pages.
        let (address, count) = (self.va.as_ptr() as c_ulong, self.count() as c_int);
        // SAFETY: By the type invariant these pages of the direct map are ours.
        to_result(unsafe { c::set_memory_uc(address, count) })?;
        self.uncached = true;
        Ok(())
    }

    /// The contents, for memory that somebody else uses at the same time.
    pub(crate) fn volatile(&self) -> Volatile<'_> {
        // SAFETY: By the type invariant the memory is ours and as long as this, and is not freed
        // before the borrow ends. Whoever calls this does not read it by `bytes()` meanwhile.
        unsafe { Volatile::new(self.va, self.len) }
    }

    /// Writes the cache lines of the pages back to memory and drops them from the caches.
    pub(crate) fn clflush(&self) {
        // SAFETY: The range is mapped and ours. The length is at most 4 MiB.
        unsafe { bindings::clflush_cache_range(self.va.as_ptr().cast(), self.len() as c_uint) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.uncached {
            // CAST: As in `set_uncached()`.
            let (address, count) = (self.va.as_ptr() as c_ulong, self.count() as c_int);
            // SAFETY: As in `set_uncached()`. The mapping was split then, so this does not fail.
            unsafe { c::set_memory_wb(address, count) };
        }
        // SAFETY: By the type invariant the address and order are those of the allocation.
        unsafe { bindings::free_pages(self.va.as_ptr() as c_ulong, self.order) };
    }
}
