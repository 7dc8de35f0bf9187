// SPDX-License-Identifier: GPL-2.0

//! The tree of memory resources.
//!
//! C header: `include/linux/ioport.h`

use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// The flags of all memory, be it RAM or not.
pub const MEMORY: u32 = bindings::IORESOURCE_MEM;

/// The flags of the RAM that the kernel uses, as `walk_system_ram_res()` has them.
pub const SYSTEM_RAM: u32 = bindings::IORESOURCE_SYSTEM_RAM | bindings::IORESOURCE_BUSY;

/// A memory resource.
#[derive(Clone, Copy, Debug)]
pub struct MemoryResource {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// What the BIOS said about it (`IORES_DESC_*`).
    pub description: u32,
}

/// Calls `visit` for every resource with these flags, ascending, until it fails.
///
/// The resource lock is not held during the calls; `visit` may sleep.
///
/// # Errors
///
/// What `visit` returned; [`EINVAL`] if there is no resource at all.
pub fn walk<F: FnMut(MemoryResource) -> Result>(flags: u32, mut visit: F) -> Result {
    /// # Safety
    ///
    /// To be called by `walk_iomem_res_desc()` with the arguments below.
    unsafe extern "C" fn thunk<F: FnMut(MemoryResource) -> Result>(
        resource: *mut bindings::resource,
        arg: *mut c_void,
    ) -> c_int {
        // SAFETY: `arg` is the `visit` of the caller below, which nobody else uses meanwhile.
        let visit = unsafe { &mut *arg.cast::<F>() };
        // SAFETY: The walk passes a valid resource (a copy on its stack).
        let resource = unsafe { &*resource };
        let seen = MemoryResource {
            start: resource.start,
            end: resource.end,
            // CAST: `enum iores_desc`, a few small numbers.
            description: resource.desc as u32,
        };
        from_result(|| visit(seen).map(|()| 0))
    }

    // SAFETY: `thunk` casts the argument back to what it is, and the walk is over when this
    // returns.
    to_result(unsafe {
        bindings::walk_iomem_res_desc(
            bindings::IORES_DESC_NONE as c_ulong,
            flags as c_ulong,
            0,
            u64::MAX,
            (&raw mut visit).cast(),
            Some(thunk::<F>),
        )
    })
}

/// The first address behind all RAM that the kernel uses.
///
/// # Errors
///
/// As [`walk`].
pub fn end_of_ram() -> Result<u64> {
    let mut end: u64 = 0;
    walk(SYSTEM_RAM, |resource| {
        end = end.max(resource.end.saturating_add(1));
        Ok(())
    })?;
    Ok(end)
}
