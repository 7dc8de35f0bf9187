// SPDX-License-Identifier: GPL-2.0

//! The list of HV-Fixed ranges.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_ranges)]
#[allow(unsafe_code, reason = "the macro's")]
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        sys::iomem::MemoryResource, //
    };
    use kernel::bindings::{
        IORES_DESC_ACPI_NV_STORAGE,
        IORES_DESC_ACPI_TABLES,
        IORES_DESC_NONE,
        IORES_DESC_RESERVED, //
    };

    #[test]
    fn what_the_bios_reserved_is_rounded_outwards() -> Result {
        // First and last byte; base and number of pages.
        for (start, end, base, page_count) in [
            (0, 0xfff, 0, 1),
            (0x1000, 0x2fff, 0x1000, 2),
            (0x1001, 0x1fff, 0x1000, 1),
            (0x1fff, 0x2000, 0x1000, 2),
            (0x9fc00, 0x9ffff, 0x9f000, 1),
            (1 << 40, (1 << 40) + 0x1000, 1 << 40, 2),
        ] {
            for (description, fixed) in [
                (IORES_DESC_ACPI_TABLES, true),
                (IORES_DESC_ACPI_NV_STORAGE, true),
                (IORES_DESC_RESERVED, true),
                (IORES_DESC_NONE, false),
            ] {
                let range = hv_fixed(MemoryResource {
                    start,
                    end,
                    description,
                })?;
                check!(range.is_some() == fixed, "{:#x} {:?}", start, description);
                let Some(range) = range else { continue };
                check!(
                    { range.base } == base && { range.page_count } == page_count,
                    "{:#x}",
                    start
                );
            }
        }
        let endless = MemoryResource {
            start: 0,
            end: u64::MAX,
            description: IORES_DESC_RESERVED,
        };
        check!(matches!(hv_fixed(endless), Err(err) if err == E2BIG));
        Ok(())
    }
}
