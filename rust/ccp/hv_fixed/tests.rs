// SPDX-License-Identifier: GPL-2.0

//! When a block is freed, and when it is kept. The tests share the blocks with the module, which
//! has none without a PSP.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_hv_fixed)]
mod suite {
    use super::super::*;
    use crate::{
        pages::leaked,
        testing::{
            check,
            script::FakeHost, //
        },
    };

    /// The page frame numbers of the blocks that a list would have.
    fn blocks() -> Result<KVec<u64>> {
        let mut found = KVec::new();
        list(|frames| Ok(found.push(frames.pfn(), GFP_KERNEL)?));
        Ok(found)
    }

    #[test]
    fn a_block_that_firmware_was_never_told_of_is_freed() -> Result {
        give_back(take()?);
        check!(blocks()?.is_empty());
        Ok(())
    }

    /// The kernel refuses that for pages that are mapped so already.
    #[test]
    fn a_block_is_mapped_without_caches() -> Result {
        let mut block = take()?;
        let again = block.set_uncached();
        give_back(block);
        check!(again == Err(EBUSY));
        // Nor is it a block if it cannot be mapped so.
        let mut pages = HvPages::zeroed(Gfp::KERNEL, ORDER)?;
        check!(pages.set_uncached().is_ok());
        let mut none = KVec::new();
        check!(matches!(add(&mut none, pages), Err(err) if err == EBUSY) && none.is_empty());
        Ok(())
    }

    /// Firmware makes it HV-Fixed, although nobody uses it any more.
    #[test]
    fn a_block_is_kept_while_it_is_in_a_list() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let block = take()?;
        let pfn = block.frames().pfn();
        check!(blocks()?.as_slice() == [pfn]);
        give_back(block);
        listed();
        let again = take()?;
        check!(again.frames().pfn() == pfn);
        give_back(again);
        check!(blocks()?.as_slice() == [pfn]);
        released(&NoSnpEn::measure(&HOST)?);
        check!(blocks()?.is_empty());
        Ok(())
    }

    /// The next list may have no room for it.
    #[test]
    fn a_fixed_block_is_kept_whatever_the_next_list_has() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let block = take()?;
        let pfn = block.frames().pfn();
        check!(blocks()?.as_slice() == [pfn]);
        listed();
        list(|_| Err(E2BIG));
        give_back(block);
        check!(blocks()?.as_slice() == [pfn]);
        released(&NoSnpEn::measure(&HOST)?);
        check!(blocks()?.is_empty());
        Ok(())
    }

    /// The module goes, and the RMP has not been cleared.
    #[test]
    fn a_fixed_block_that_is_dropped_is_lost() -> Result {
        for (fixed, lost) in [(false, 0), (true, 512)] {
            let pages = HvPages::zeroed(Gfp::KERNEL, ORDER)?;
            let before = leaked();
            drop(Block {
                frames: pages.frames(),
                listed: true,
                fixed,
                spare: Some(pages),
            });
            check!(leaked() - before == lost, "{}", fixed);
        }
        Ok(())
    }

    /// Whoever uses it may still do so.
    #[test]
    fn a_block_that_is_lost_is_in_no_list() -> Result {
        let (block, other) = (take()?, take()?);
        check!(blocks()?.len() == 2);
        lost(block.frames());
        check!(blocks()?.as_slice() == [other.frames().pfn()]);
        list(|_| Err(E2BIG));
        give_back(other);
        check!(blocks()?.is_empty());
        Ok(())
    }

    #[test]
    fn a_fixed_block_is_kept_for_the_next_until_the_rmp_is_cleared() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let mut block = take()?;
        let pfn = block.frames().pfn();
        check!(blocks()?.as_slice() == [pfn]);
        listed();
        block.bytes_mut().fill(7);
        give_back(block);
        check!(blocks()?.as_slice() == [pfn], "it is still in the list");
        let again = take()?;
        check!(again.frames().pfn() == pfn && blocks()?.len() == 1);
        check!(again.bytes().iter().all(|byte| *byte == 0));
        give_back(again);
        released(&NoSnpEn::measure(&HOST)?);
        check!(blocks()?.is_empty());
        Ok(())
    }

    #[test]
    fn a_block_that_is_in_use_when_the_rmp_is_cleared_is_freed_later() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let block = take()?;
        check!(blocks()?.len() == 1);
        listed();
        released(&NoSnpEn::measure(&HOST)?);
        check!(blocks()?.as_slice() == [block.frames().pfn()]);
        list(|_| Err(E2BIG));
        give_back(block);
        check!(blocks()?.is_empty());
        Ok(())
    }

    #[test]
    fn without_room_in_the_list_a_block_is_not_fixed() -> Result {
        let block = take()?;
        list(|_| Err(E2BIG));
        listed();
        give_back(block);
        check!(blocks()?.is_empty());
        Ok(())
    }
}
