// SPDX-License-Identifier: GPL-2.0

//! The list of HV-Fixed ranges.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_ranges)]
#[allow(unsafe_code)] // The macro's; there is none here.
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

    /// Firmware is given all of them, or no list.
    #[test]
    fn a_list_has_room_for_so_many() -> Result {
        const ROOM: u32 = 255;
        let block = hv_fixed::take()?;
        for (reserved, listed) in [
            (ROOM - 1, Some(ROOM)),
            // A block that has no room is none of the BIOS's.
            (ROOM, Some(ROOM)),
            (ROOM + 1, None),
        ] {
            let list = list_of(|visit| {
                for n in 0..u64::from(reserved) {
                    visit(MemoryResource {
                        start: n << 20,
                        end: (n << 20) + 0xfff,
                        description: IORES_DESC_RESERVED,
                    })?;
                }
                Ok(())
            });
            let found = list
                .as_ref()
                .ok()
                .and_then(|list| list.bytes().first_chunk());
            check!(
                found.map(|count| u32::from_le_bytes(*count)) == listed,
                "{}",
                reserved
            );
            check!(listed.is_some() || matches!(list, Err(err) if err == E2BIG));
        }
        let none = list_of(|_| Err(ENODEV));
        hv_fixed::list(|_| Err(E2BIG));
        hv_fixed::give_back(block);
        check!(matches!(none, Err(err) if err == ENODEV));
        Ok(())
    }

    /// Each entry whole: what the BIOS has reserved here, then a block of `hv_fixed.rs`.
    #[test]
    fn the_list_for_snp_init_has_what_is_reserved_and_nothing_else() -> Result {
        let mut expected = KVec::new();
        iomem::walk(iomem::MEMORY, |resource| {
            if let Some(range) = hv_fixed(resource)? {
                expected.push(({ range.base }, { range.page_count }), GFP_KERNEL)?;
            }
            Ok(())
        })?;
        check!(!expected.is_empty());
        let block = hv_fixed::take()?;
        expected.push((block.phys(), 512), GFP_KERNEL)?;
        let list = reserved_by_bios();
        hv_fixed::list(|_| Err(E2BIG));
        hv_fixed::give_back(block);
        let list = list?;
        check!(list.len() == PAGE_SIZE);
        let word = |at: usize| -> Result<u32> {
            let bytes = list.bytes().get(at..at + 4).ok_or(EINVAL)?;
            Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| EINVAL)?))
        };
        // CAST: Fewer than fit a page.
        check!(word(0)? == expected.len() as u32 && word(4)? == 0);
        for (n, (base, pages)) in expected.iter().enumerate() {
            let at = 8 + 16 * n;
            let found = u64::from(word(at)?) | u64::from(word(at + 4)?) << 32;
            check!(found == *base, "{}", n);
            check!(word(at + 8)? == *pages && word(at + 12)? == 0, "{}", n);
        }
        let rest = list.bytes().get(8 + 16 * expected.len()..).ok_or(EINVAL)?;
        check!(rest.iter().all(|byte| *byte == 0));
        Ok(())
    }
}
