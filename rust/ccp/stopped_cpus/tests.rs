// SPDX-License-Identifier: GPL-2.0

//! A CPU that is being stopped, and the one that panics; here they are one.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_stopped_cpus)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::testing::{
        check,
        have_passed, //
    };
    use kernel::{
        prelude::*,
        time::{
            Instant,
            Monotonic, //
        },
    };

    fn begin(guests: u32) {
        set_guests(guests);
        for word in [&HELD, &DONE, &ORDER] {
            word.store(0, Relaxed);
        }
    }

    /// How many wait, and how many have written back.
    fn counts() -> (u32, u32) {
        (HELD.load(Relaxed), DONE.load(Relaxed))
    }

    #[test]
    fn without_a_panic_or_guests_nobody_waits() -> Result {
        begin(1);
        hold();
        check!(counts() == (0, 0) && !MACHINE.are_held());
        begin(0);
        wait(|| ());
        check!(counts() == (0, 0) && !MACHINE.are_held());
        Ok(())
    }

    #[test]
    fn with_guests_a_cpu_writes_back_when_it_is_told_to() -> Result {
        begin(1);
        // Nobody waits: nobody is late.
        check!(MACHINE.write_back());
        for cpus in [1, 2] {
            wait(cpu::wbinvd_local);
            check!(counts() == (cpus, cpus) && MACHINE.are_held(), "{}", cpus);
            check!(MACHINE.write_back(), "{}", cpus);
        }
        begin(0);
        Ok(())
    }

    #[test]
    fn a_cpu_counts_when_it_has_written_back() -> Result {
        begin(1);
        check!(MACHINE.write_back());
        let mut meanwhile = None;
        wait(|| meanwhile = Some(counts()));
        check!(meanwhile == Some((1, 0)) && counts() == (1, 1));
        begin(0);
        Ok(())
    }

    #[test]
    fn one_that_is_late_is_waited_for_so_long() -> Result {
        begin(1);
        HELD.store(2, Relaxed);
        DONE.store(1, Relaxed);
        let asked = Instant::<Monotonic>::now();
        check!(!all_have_written_back(1000));
        check!(have_passed(10, asked));
        // The last look counts, and one is enough.
        DONE.store(2, Relaxed);
        check!(all_have_written_back(1) && !all_have_written_back(0));
        begin(0);
        Ok(())
    }

    #[test]
    fn who_comes_when_all_may_go_does_not_wait() -> Result {
        begin(1);
        MACHINE.let_go();
        wait(|| ());
        check!(counts() == (0, 0));
        begin(0);
        Ok(())
    }
}
