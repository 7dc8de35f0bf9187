// SPDX-License-Identifier: GPL-2.0

//! The list of memory that SNP_INIT_EX makes HV-Fixed.
//!
//! The BIOS may write to the memory that it has reserved at any time. A page that is HV-Fixed stays
//! writable for the host under SNP and cannot be given to a guest. So is memory of this driver that
//! other firmware uses (`hv_fixed.rs`).

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    hv_fixed,
    pages::HvPages,
    sys::{
        iomem::{
            self,
            MemoryResource, //
        },
        pages::Gfp,
    },
    wire::snp::{
        Range,
        RangeListHeader, //
    },
};

/// A page with the list of all memory that the BIOS has reserved, and of `hv_fixed.rs`.
///
/// # Errors
///
/// [`E2BIG`] if there are more ranges than fit, [`ENOMEM`].
pub(super) fn reserved_by_bios() -> Result<HvPages> {
    list_of(|visit| iomem::walk(iomem::MEMORY, visit))
}

/// The same for memory that `walk` visits.
fn list_of(
    walk: impl FnOnce(&mut dyn FnMut(MemoryResource) -> Result) -> Result,
) -> Result<HvPages> {
    let mut page = HvPages::zeroed(Gfp::KERNEL, 0)?;
    let mut count = 0;
    let mut offset = size_of::<RangeListHeader>();
    let mut append = |range: Range| {
        // Fails if the range does not fit the page.
        page.put(offset, range.as_bytes()).map_err(|_| E2BIG)?;
        offset = offset.saturating_add(size_of::<Range>());
        count = u32::saturating_add(count, 1);
        Ok(())
    };
    walk(&mut |resource| hv_fixed(resource)?.map_or(Ok(()), &mut append))?;
    // Trouble with these is no reason to keep SNP off.
    hv_fixed::list(|frames| {
        append(Range {
            base: frames.phys(),
            page_count: u32::try_from(frames.count()).map_err(|_| E2BIG)?,
            rsvd: 0,
        })
    });
    let header = RangeListHeader {
        num_elements: count,
        rsvd: 0,
    };
    page.put(0, header.as_bytes())?;
    Ok(page)
}

/// The range for a resource, if the BIOS has reserved it. Both ends are rounded outwards: a page
/// that is reserved in part is reserved.
///
/// # Errors
///
/// [`E2BIG`] if the list has no number for so many pages.
pub(super) fn hv_fixed(resource: MemoryResource) -> Result<Option<Range>> {
    match resource.description {
        bindings::IORES_DESC_ACPI_TABLES
        | bindings::IORES_DESC_ACPI_NV_STORAGE
        | bindings::IORES_DESC_RESERVED => {}
        _ => return Ok(None),
    }
    let page = PAGE_SIZE as u64;
    let first = resource.start / page;
    let pages = (resource.end / page)
        .saturating_sub(first)
        .saturating_add(1);
    Ok(Some(Range {
        base: first.saturating_mul(page),
        page_count: u32::try_from(pages).map_err(|_| E2BIG)?,
        rsvd: 0,
    }))
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
