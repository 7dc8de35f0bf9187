// SPDX-License-Identifier: GPL-2.0

//! The record of lost pages.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_lost)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::testing::check;

    #[test]
    fn a_frame_is_noted_once_and_a_run_of_frames_in_one_place() -> Result {
        let before = leaked();
        let mut lost = Lost::NONE;
        // Frame, whether it is new, and how many runs there are then.
        for (pfn, new, runs) in [
            (5, true, 1),
            (5, false, 1),
            (6, true, 1),
            (6, false, 1),
            (8, true, 2),
            (7, true, 2),
            (7, false, 2),
            (8, false, 2),
            (4, true, 3),
        ] {
            check!(lost.add(pfn) == new, "{}", pfn);
            check!(lost.frames.len() == runs, "{}", pfn);
        }
        check!(leaked() - before == 5);
        Ok(())
    }
}
