// SPDX-License-Identifier: GPL-2.0

//! Guests that are left when the driver leaves SNP.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_leave)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use crate::{
        platform::testing::*,
        sys::pages::Gfp, //
    };

    #[test]
    fn snp_en_goes_only_if_nobody_may_use_it() -> Result {
        for (leaving, guests, x86, clears) in [
            (Leaving::KvmGone, 0, true, true),
            (Leaving::KvmGone, 1, true, true),
            (Leaving::DeviceGone, 0, true, true),
            (Leaving::DeviceGone, 1, true, false),
            (Leaving::DeviceGone, u32::MAX, true, false),
            (Leaving::Panic, 0, true, true),
            (Leaving::Panic, 1, true, true),
            (Leaving::KvmGone, 0, false, false),
            (Leaving::KvmGone, 1, false, false),
            (Leaving::DeviceGone, 0, false, false),
            (Leaving::DeviceGone, 1, false, false),
            (Leaving::Panic, 0, false, false),
            (Leaving::Panic, 1, false, false),
        ] {
            let cleared = leaving.clears_snp_en(guests, x86);
            check!(cleared == clears, "{:?} {} {}", leaving, guests, x86);
        }
        Ok(())
    }

    #[test]
    fn guests_that_are_left_are_decommissioned() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (leaving, end) in [
            (Leaving::DeviceGone, KEEP_LEGACY),
            (Leaving::KvmGone, CLOSE_SNP_OFF),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            guest(&mut p)?;
            guest(&mut p)?;
            HOST.forget_events();
            said::forget();
            p.shutdown(leaving);
            match leaving {
                Leaving::DeviceGone => check!(
                    said::only(&["guests-own-memory"])
                        && said::with(fmt!("2 SNP guest(s) own memory"))
                ),
                _ => check!(said::only(&[])),
            }
            check!(
                HOST.saw(&[
                    SHUTDOWN,
                    DECOMMISSION,
                    DECOMMISSION,
                    SNP_SHUTDOWN,
                    SNP_DF_FLUSH,
                    SNP_SHUTDOWN,
                    end
                ]),
                "{:?}",
                leaving
            );
            check!((HOST.snp_en.load(Relaxed) != 0) == (end == KEEP_LEGACY));
            check!(p.guests() == 0 && p.channel.record().guests() == 0);
            HOST.forget();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn guests_that_firmware_keeps_keep_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (refused, status, events) in [
            (
                CommandId::SNP_DECOMMISSION,
                Status::INVALID_GUEST,
                &[DECOMMISSION, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN][..],
            ),
            (
                CommandId::SNP_DF_FLUSH,
                Status::WBINVD_REQUIRED,
                &[DECOMMISSION, SNP_SHUTDOWN, SNP_DF_FLUSH],
            ),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.start_snp(0).is_ok());
            guest(&mut p)?;
            HOST.forget_events();
            plan.once(refused, Refuses(status));
            p.shutdown(Leaving::DeviceGone);
            check!(HOST.saw(events));
            check!(p.is_snp_up() && p.channel.record().snp());
            // A guest that firmware has let go of is none any more.
            let kept = refused == CommandId::SNP_DECOMMISSION;
            check!(p.guests() == u32::from(kept), "{}", status);
            p.abandon_snp();
            check!(HOST.saw(&[KEEP_REFUSED]));
            HOST.forget();
        }
        Ok(())
    }

    #[test]
    fn guests_that_are_left_keep_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        let (page, _) = guest(&mut p)?;
        check!(HOST.saw(&[GCTX_CREATE]));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.snp_en.load(Relaxed) == CPUS);
        p.free_firmware_page(page);
        check!(HOST.assigned() == 0);
        HOST.forget_events();

        // A guest that has ended, and a page that is no context, keep nothing.
        check!(p.init(true, 0).is_ok());
        let (page, context) = guest(&mut p)?;
        let other = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
        relay_context(&mut p, CommandId::SNP_DECOMMISSION, context)?;
        HOST.forget_events();
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));
        p.free_firmware_page(page);
        p.free_firmware_page(other);
        HOST.forget();

        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        Ok(())
    }
}
