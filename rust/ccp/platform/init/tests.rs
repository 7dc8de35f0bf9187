// SPDX-License-Identifier: GPL-2.0

//! `sev_platform_init()` and `sev_platform_shutdown()`: the whole order, when each step fails.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_init)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        sys::{
            errno::EOPNOTSUPP,
            rmp::Frames, //
        }, //
    };

    #[test]
    fn start_and_stop_where_snp_en_stays() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let before = leaked();
        let record = p.channel.record().clone();
        let pages = move || record.sev_areas().map(Frames::count).sum::<usize>();
        plan.on_record.replace(Some(KBox::new(pages, GFP_KERNEL)?));
        for _ in 0..2 {
            check!(p.init(true, 0).is_ok());
            check!(HOST.saw(&START));
            // The TMR is firmware's.
            check!(HOST.assigned() == 512);
            check!(p.is_snp_up());
            // Again changes nothing.
            check!(p.init(true, 0).is_ok() && HOST.saw(&[]));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&STOP));
            check!(HOST.assigned() == 0);
            // A panic in between would have reclaimed them.
            check!(plan.reclaims.take() == 512 && plan.least_on_record.get() == 512);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[]));
        }
        check!(leaked() == before);
        Ok(())
    }

    /// psp_init_on_probe=0: SEV waits for the first command that needs it.
    #[test]
    fn snp_alone_is_started_where_sev_is_to_wait() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init_for_kvm(0, false).is_ok() && HOST.saw(&SNP_START));
        check!(p.is_snp_up() && p.sev == Sev::Uninit && p.sev_on_demand);
        check!(relay(&mut p, CommandId::LAUNCH_START).is_ok());
        check!(HOST.saw(&[INIT, DF_FLUSH, Command(CommandId::LAUNCH_START)]));
        p.shutdown(Leaving::KvmGone);
        check!(!p.sev_on_demand && HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        Ok(())
    }

    #[test]
    fn start_and_stop_where_firmware_clears_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        for _ in 0..2 {
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
            check!(HOST.assigned() == 0);
        }
        check!(leaked() == before);
        Ok(())
    }

    #[test]
    fn silence_at_each_command() -> Result {
        static HOST: FakeHost = FakeHost::new();
        // The silent command; what starting does, and what stopping does then.
        let rows: [(CommandId, &[Event], &[Event]); 6] = [
            (
                CommandId::SNP_INIT_EX,
                &[Open, Prepare, SNP_INIT, KEEP_TIMEOUT],
                &[],
            ),
            (
                CommandId::SNP_DF_FLUSH,
                &[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, KEEP_DEAD],
                &[],
            ),
            // Nothing is left for a kvm-amd that offers no SEV.
            (
                CommandId::INIT,
                &[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, KEEP_DEAD],
                &[],
            ),
            (
                CommandId::DF_FLUSH,
                &[
                    Open,
                    Prepare,
                    SNP_INIT,
                    SNP_DF_FLUSH,
                    INIT,
                    DF_FLUSH,
                    KEEP_DEAD,
                ],
                &[],
            ),
            (CommandId::SHUTDOWN, &START, &[SHUTDOWN, KEEP_DEAD]),
            (
                CommandId::SNP_SHUTDOWN_EX,
                &START,
                &[SHUTDOWN, SNP_SHUTDOWN, KEEP_TIMEOUT],
            ),
        ];
        for (silent, start, stop) in rows {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            plan.once(silent, Silent);
            let starts = !matches!(
                silent,
                CommandId::SNP_INIT_EX
                    | CommandId::SNP_DF_FLUSH
                    | CommandId::INIT
                    | CommandId::DF_FLUSH
            );
            let started = errno(p.init(true, 0));
            check!(started == (!starts).then_some(ETIMEDOUT), "{:?}", silent);
            check!(HOST.saw(start), "{:?}", silent);
            HOST.cached.store(true, Relaxed);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(stop), "{:?}", silent);
            // Nor for one that does not listen any more.
            let stops = silent == CommandId::SNP_SHUTDOWN_EX;
            check!(HOST.cached.load(Relaxed) != stops, "{:?}", silent);
            check!(!p.is_snp_up(), "{:?}", silent);
            // Nobody is prepared for a firmware that does not listen.
            said::forget();
            check!(errno(p.init(true, 0)) == Some(EBUSY), "{:?}", silent);
            check!(said::only(&["start-refused"]), "{:?}", silent);
            check!(p.pek_gen().is_err(), "{:?}", silent);
            check!(HOST.saw(&[]), "{:?}", silent);
        }
        Ok(())
    }

    #[test]
    fn a_start_that_can_be_neither_ended_nor_undone() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let refused = Refuses(Status::INVALID_PARAM);
        plan.set(&[
            (CommandId::SNP_DF_FLUSH, refused, 1),
            (CommandId::SNP_SHUTDOWN_EX, refused, 1),
        ]);
        check!(errno(p.init(true, 0)) == Some(EIO) && !p.is_snp_up());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, SNP_SHUTDOWN]));
        // Without the flush no ASID may be used, so it is not taken for started.
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&[
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF,
            Open,
            Prepare,
            SNP_INIT,
            SNP_DF_FLUSH,
            INIT,
            DF_FLUSH
        ]));
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();

        // The same for SEV; SNP is not touched.
        plan.set(&[
            (CommandId::DF_FLUSH, refused, 1),
            (CommandId::SHUTDOWN, refused, 1),
        ]);
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&START_WITHOUT_SEV));
        check!(p.init(true, 0).is_ok() && p.sev == Sev::Init);
        check!(HOST.saw(&[SHUTDOWN, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn snp_is_not_started_for_a_vm() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        // kvm-amd was loaded while a CPU was offline; it came back later.
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        HOST.open.store(0, Relaxed);
        check!(p.factory_reset().is_ok());
        check!(HOST.saw(&[STATUS, SHUTDOWN, Command(CommandId::FACTORY_RESET)]));
        // KVM uses SVM by now, so the CPUs cannot be prepared; legacy guests do without.
        HOST.prepare.store(EBUSY.to_errno(), Relaxed);
        let start = CommandId::LAUNCH_START;
        check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
        check!(relay(&mut p, start).is_ok() && HOST.saw(&[INIT, DF_FLUSH, Command(start)]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]));
        // Nor does legacy SEV start beside SNP_EN without SNP.
        HOST.snp_en.store(1, Relaxed);
        check!(p.init(false, 0).is_ok());
        check!(errno(relay(&mut p, start)) == Some(EIO) && HOST.saw(&[]));
        Ok(())
    }
}
