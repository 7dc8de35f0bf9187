// SPDX-License-Identifier: GPL-2.0

//! The tree of memory resources.
//!
//! C header: `include/linux/ioport.h`

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// What firmware (BIOS) said about a memory resource (`enum iores_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Description {
    /// Tables that ACPI has read or will read.
    AcpiTables,
    /// Storage for ACPI's sleep states.
    AcpiNvStorage,
    /// Reserved.
    Reserved,
    /// Anything else.
    Other,
}

impl Description {
    fn from_raw(raw: c_ulong) -> Self {
        const ACPI_TABLES: c_ulong = bindings::IORES_DESC_ACPI_TABLES as c_ulong;
        const ACPI_NV_STORAGE: c_ulong = bindings::IORES_DESC_ACPI_NV_STORAGE as c_ulong;
        const RESERVED: c_ulong = bindings::IORES_DESC_RESERVED as c_ulong;
        match raw {
            ACPI_TABLES => Self::AcpiTables,
            ACPI_NV_STORAGE => Self::AcpiNvStorage,
            RESERVED => Self::Reserved,
            _ => Self::Other,
        }
    }
}

/// A memory resource.
#[derive(Clone, Copy, Debug)]
pub struct MemoryResource {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// Kind.
    pub description: Description,
}

/// Which resources a walk visits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All memory, be it RAM or not.
    Memory,
    /// The RAM that the kernel uses.
    SystemRam,
}

/// Calls `visit` for every resource of this kind, ascending, until it fails.
///
/// The resource lock is not held during the calls; `visit` may sleep.
///
/// # Errors
///
/// What `visit` returned; [`EINVAL`] if there is no resource at all.
pub fn walk<F: FnMut(MemoryResource) -> Result>(kind: Kind, mut visit: F) -> Result {
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
            description: Description::from_raw(resource.desc),
        };
        match visit(seen) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }

    let flags = match kind {
        Kind::Memory => bindings::IORESOURCE_MEM,
        // As walk_system_ram_res() has it.
        Kind::SystemRam => bindings::IORESOURCE_SYSTEM_RAM | bindings::IORESOURCE_BUSY,
    };
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
    walk(Kind::SystemRam, |resource| {
        end = end.max(resource.end.saturating_add(1));
        Ok(())
    })?;
    Ok(end)
}
