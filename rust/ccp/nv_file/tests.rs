// SPDX-License-Identifier: GPL-2.0

//! Which contents are written when, and that an older one never takes the place of a newer.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_nv_file)]
mod suite {
    use super::super::*;
    use crate::testing::check;

    fn is(found: Option<Arc<Contents>>, expected: &Arc<Contents>) -> bool {
        found.is_some_and(|found| Arc::ptr_eq(&found, expected))
    }

    #[test]
    fn the_newest_is_written_once() -> Result {
        let (old, new) = (Contents::blank()?, Contents::blank()?);
        let mut unwritten = Unwritten::NONE;
        check!(unwritten.take().is_none());
        unwritten.submitted = Some(old);
        unwritten.submitted = Some(new.clone());
        check!(is(unwritten.take(), &new));
        check!(unwritten.take().is_none());
        Ok(())
    }

    #[test]
    fn what_failed_is_written_when_somebody_tries_again() -> Result {
        let old = Contents::blank()?;
        let mut unwritten = Unwritten::NONE;
        unwritten.failed = Some(old.clone());
        check!(unwritten.take().is_none());
        unwritten.retry();
        check!(is(unwritten.take(), &old));
        unwritten.retry();
        check!(unwritten.take().is_none());
        Ok(())
    }

    #[test]
    fn what_failed_gives_way_to_something_newer() -> Result {
        let (old, new) = (Contents::blank()?, Contents::blank()?);
        // Whether it was submitted before somebody tries again, or written meanwhile.
        for tries_again in [true, false] {
            let mut unwritten = Unwritten::NONE;
            unwritten.failed = Some(old.clone());
            unwritten.submitted = Some(new.clone());
            if tries_again {
                unwritten.retry();
            }
            check!(is(unwritten.take(), &new));
            unwritten.retry();
            check!(unwritten.take().is_none());
        }
        Ok(())
    }
}
