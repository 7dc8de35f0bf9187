// SPDX-License-Identifier: GPL-2.0

//! SNP firmware up and down, when host and firmware refuse at each step.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_snp)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        sys::errno::EOPNOTSUPP,
        testing::script::CLOSE_INIT_REFUSED,
        wire::{
            snp::INIT_CIPHERTEXT_HIDING_EN,
            status, //
        }, //
    };

    #[test]
    fn a_window_that_does_not_open() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // A CPU is offline: no SNP, but SEV.
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, INIT, DF_FLUSH]));
        check!(!p.is_snp_up() && HOST.assigned() == 0);
        // SNP comes before SEV or not at all.
        HOST.open.store(0, Relaxed);
        for probe in [true, false] {
            check!(p.init(probe, 0).is_ok() && HOST.saw(&[]), "{}", probe);
            check!(!p.is_snp_up() && !p.sev_on_demand, "{}", probe);
        }
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        p.shutdown(Leaving::KvmGone);
        // Firmware's lines of the TMR are not written over what comes there next.
        check!(HOST.saw(&[SHUTDOWN]) && !HOST.cached.load(Relaxed));

        // Nor do the CPUs fit: the same.
        HOST.open.store(0, Relaxed);
        HOST.prepare.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF, INIT, DF_FLUSH]));
        check!(!p.is_snp_up() && HOST.assigned() == 0);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]));

        HOST.open.store(ENOMEM.to_errno(), Relaxed);
        check!(errno(p.init(true, 0)) == Some(ENOMEM));
        check!(HOST.saw(&[Open]));
        Ok(())
    }

    #[test]
    fn cpus_that_cannot_be_prepared() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // What closing the window answers, and what is said then.
        for (close, keep) in [
            (0, None),
            (EBUSY.to_errno(), None),
            (ENOMEM.to_errno(), Some(KEEP_UNDECIDED)),
        ] {
            HOST.close.store(close, Relaxed);
            HOST.prepare.store(EIO.to_errno(), Relaxed);
            check!(errno(p.init(true, 0)) == Some(EIO), "{}", close);
            match keep {
                Some(keep) => check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF, keep])),
                None => check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF])),
            }
            HOST.prepare.store(0, Relaxed);
        }
        check!(!p.is_snp_up());
        Ok(())
    }

    #[test]
    fn snp_init_refused_with_each_status() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let documented = status::TABLE.iter().map(|row| Status::new(row.code));
        for status in Iterator::chain(documented, [Status::new(0x9000), Status::new(0xffff)]) {
            if status.is_success() {
                continue;
            }
            let verdict = match status {
                Status::HWERROR_PLATFORM | Status::HWERROR_UNSAFE => KEEP_HWERROR,
                Status::RMP_INITIALIZATION_FAILED => KEEP_RMP_INIT,
                _ => CLOSE_INIT_REFUSED,
            };
            plan.once(CommandId::SNP_INIT_EX, Refuses(status));
            said::forget();
            check!(errno(p.init(true, 0)) == Some(EIO), "{}", status);
            check!(said::only(&["snp-init-failed"]), "{}", status);
            check!(HOST.saw(&[Open, Prepare, SNP_INIT, verdict]), "{}", status);
            check!(!p.is_snp_up(), "{}", status);
            HOST.snp_en.store(0, Relaxed);
        }
        // It is as if nothing had been tried.
        said::forget();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START) && said::only(&[]));
        p.shutdown(Leaving::KvmGone);
        Ok(())
    }

    #[test]
    fn snp_df_flush_refused_stops_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        plan.once(CommandId::SNP_DF_FLUSH, Refuses(Status::WBINVD_REQUIRED));
        said::forget();
        check!(errno(p.init(true, 0)) == Some(EIO));
        check!(said::only(&["command-failed"]));
        check!(HOST.saw(&[
            Open,
            Prepare,
            SNP_INIT,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            KEEP_LEGACY
        ]));
        check!(!p.is_snp_up());
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::KvmGone);
        Ok(())
    }

    #[test]
    fn snp_shutdown_that_wants_a_flush() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let flush = Refuses(Status::DFFLUSH_REQUIRED);
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.once(CommandId::SNP_SHUTDOWN_EX, flush);
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&[]));
        check!(HOST.saw(&[
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));

        // The flush is refused, or does not help: SNP stays up, and the next stop tries again.
        for faults in [
            &[
                (CommandId::SNP_SHUTDOWN_EX, flush, 1),
                (CommandId::SNP_DF_FLUSH, Refuses(Status::INVALID_PARAM), 1),
            ][..],
            &[(CommandId::SNP_SHUTDOWN_EX, flush, 2)][..],
        ] {
            plan.set(&[]);
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            check!(p.stop_sev().is_ok());
            check!(HOST.saw(&[SHUTDOWN]));
            plan.set(faults);
            said::forget();
            check!(p.stop_snp(Leaving::KvmGone).is_err());
            check!(said::only(match faults.len() {
                2 => &["command-failed"],
                _ => &["snp-shutdown-guests"],
            }));
            check!(p.is_snp_up());
            match faults.len() {
                2 => check!(HOST.saw(&[SNP_SHUTDOWN, SNP_DF_FLUSH])),
                _ => check!(HOST.saw(&[SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN])),
            }
            check!(p.stop_snp(Leaving::KvmGone).is_ok());
            check!(HOST.saw(&[SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        }
        Ok(())
    }

    #[test]
    fn snp_shutdown_refused_for_good() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.set(&[(
            CommandId::SNP_SHUTDOWN_EX,
            Refuses(Status::INVALID_PARAM),
            usize::MAX,
        )]);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        check!(p.is_snp_up());
        // SEV can be started again beside it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        // The device goes.
        said::forget();
        p.abandon_snp();
        check!(HOST.saw(&[KEEP_REFUSED]) && said::only(&["snp-stays"]));
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn pages_of_the_iommu_are_taken_back_where_snp_en_stays() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (x86, iommu, lines) in [
            (true, EIO.to_errno(), &[][..]),
            (false, 0, &[]),
            (false, EIO.to_errno(), &["iommu-pages-stay"]),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, x86)?;
            check!(p.start_snp(0).is_ok() && HOST.iommu_asked() == 0);
            HOST.iommu.store(iommu, Relaxed);
            HOST.forget_events();
            said::forget();
            p.shutdown(Leaving::KvmGone);
            check!(
                said::only(lines) && HOST.iommu_asked() == usize::from(!x86),
                "{}",
                x86
            );
            let end = if x86 { CLOSE_SNP_OFF } else { KEEP_LEGACY };
            check!(HOST.saw(&[SNP_SHUTDOWN, end]), "{}", x86);
            HOST.forget();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn snp_en_that_stays_after_an_x86_shutdown() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        plan.clears_snp_en.set(false);
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&["snp-en-stays"]));
        // snp_host does not close the window, and the pages' assignments are not forgotten.
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.snp_en.load(Relaxed) == CPUS);

        // Nor does it if it cannot see whether a CPU has it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        HOST.close.store(ENOMEM.to_errno(), Relaxed);
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&["snp-en-unseen"]));
        Ok(())
    }

    #[test]
    fn snp_does_not_stop_beside_sev() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let state = Refuses(Status::INVALID_PLATFORM_STATE);
        let other = Refuses(Status::INVALID_PARAM);
        // Whether SEV stops; how SNP_SHUTDOWN_EX is refused; what is told of that.
        for (stops, refusal, line) in [
            (false, state, "snp-shutdown-before-sev"),
            (false, other, "command-failed"),
            (true, state, "command-failed"),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            let shutdown = (CommandId::SHUTDOWN, other, usize::from(!stops));
            plan.set(&[(CommandId::SNP_SHUTDOWN_EX, refusal, 1), shutdown]);
            said::forget();
            p.shutdown(Leaving::KvmGone);
            match stops {
                true => check!(said::only(&[line])),
                false => check!(said::only(&["command-failed", line])),
            }
            check!(said::with(fmt!("SNP_SHUTDOWN_EX failed: ")), "{}", stops);
            check!(p.is_snp_up(), "{}", stops);
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn a_tcb_that_is_not_the_obvious_one_is_told() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (current_tcb, reported_tcb) in [(7, 7), (7, 6), (6, 7)] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            p.snp_status.current_tcb = current_tcb;
            p.snp_status.reported_tcb = reported_tcb;
            said::forget();
            check!(p.init(true, 0).is_ok());
            let same = current_tcb == reported_tcb;
            check!(said::only(if same { &[] } else { &["tcb-older"] }));
            check!(
                same || said::with(fmt!(
                    "have TCB {reported_tcb:#018x}, firmware has {current_tcb:#018x}:"
                ))
            );
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn asids_are_split_as_kvm_amd_asks_for_when_it_is_loaded() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // What kvm-amd says, and what firmware is asked for.
        for (max_snp_asid, asked) in [(0, None), (40, Some(40)), (0xffff, Some(0xffff)), (0, None)]
        {
            check!(p.init(true, max_snp_asid).is_ok());
            let (flags, asid) = plan.asked_for.get();
            let hides = flags & INIT_CIPHERTEXT_HIDING_EN != 0;
            check!(hides.then_some(asid) == asked, "{}", max_snp_asid);
            check!(hides || asid == 0, "{}", max_snp_asid);
            p.shutdown(Leaving::KvmGone);
        }
        check!(errno(p.init(true, 0x10000)) == Some(EINVAL));
        Ok(())
    }

    /// The log has why from when the module was loaded.
    #[test]
    fn a_host_without_snp_is_no_news() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        HOST.unfit.store(true, Relaxed);
        said::forget();
        check!(p.start_snp(0).is_ok() && !p.is_snp_up());
        check!(HOST.saw(&[]) && said::only(&[]));
        Ok(())
    }

    #[test]
    fn firmware_of_each_age() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const OLD_START: [Event; 6] = [
            Open,
            Prepare,
            Command(CommandId::SNP_INIT),
            SNP_DF_FLUSH,
            INIT,
            DF_FLUSH,
        ];
        for (minor, start) in [
            (50, &[INIT, DF_FLUSH][..]),
            (51, &OLD_START),
            (52, &START),
            (58, &START),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, false)?;
            p.api.minor = minor;
            // By whoever ran before.
            HOST.cached.store(true, Relaxed);
            said::forget();
            check!(p.init(true, 0).is_ok() && HOST.saw(start), "{}", minor);
            let old = minor < 51;
            check!(
                said::only(if old { &["firmware-too-old"] } else { &[] }),
                "{}",
                minor
            );
            check!(!old || said::with(fmt!("API 1.50.1, SNP needs 1.51;")));
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }
}
