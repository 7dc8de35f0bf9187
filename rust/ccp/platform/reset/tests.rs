// SPDX-License-Identifier: GPL-2.0

//! Firmware that something has reset, or that was asleep.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_reset)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        sys::errno::EOPNOTSUPP, //
    };

    /// What the driver asks after a reset, as long as firmware has kept SNP; and if it has nothing
    /// of it.
    const KEPT: [Event; 2] = [SNP_STATUS, STATUS];

    const NOTHING_LEFT: [Event; 3] = [SNP_STATUS, FEATURE_INFO, STATUS];
    const LOST: [Event; 5] = [SNP_STATUS, KEEP_RESET, SNP_STATUS, FEATURE_INFO, STATUS];

    #[test]
    fn a_reset_that_firmware_has_not_noticed_changes_nothing() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.after_reset();
        check!(said::only(&["psp-reset-harmless"]));
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Init);
        check!(HOST.assigned() == 512);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.assigned() == 0 && leaked() == before);
        Ok(())
    }

    #[test]
    fn firmware_that_does_not_tell_its_state_is_believed_to_have_kept_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        plan.once(
            CommandId::SNP_PLATFORM_STATUS,
            Refuses(Status::INVALID_PARAM),
        );
        p.after_reset();
        // It is not asked for SEV's either.
        check!(HOST.saw(&[SNP_STATUS]) && said::only(&["command-failed"]));
        check!(p.is_snp_up() && p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]) && HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn after_sleep_firmware_is_asked_if_anything_was_up() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.after_sleep();
        check!(HOST.saw(&[]));
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.after_sleep();
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Init);
        check!(said::only(&[]));
        reset(&plan);
        p.after_sleep();
        check!(HOST.saw(&LOST) && !p.is_in_use() && said::only(&["pages-lost", "psp-reset"]));
        check!(leaked() == before + 512);
        p.after_sleep();
        check!(HOST.saw(&[]));
        HOST.forget();
        Ok(())
    }

    #[test]
    fn a_reset_of_firmware_is_believed_and_a_start_begins_anew() -> Result {
        // Told by the PCI core, or noticed by an answer.
        for told in [true, false] {
            static HOST: FakeHost = FakeHost::new();
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            let before = leaked();
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            reset(&plan);
            if told {
                p.after_reset();
            } else {
                plan.once(CommandId::PEK_GEN, Refuses(Status::INVALID_PLATFORM_STATE));
                check!(p.pek_gen().is_err() && HOST.saw(&[PEK_GEN]));
                p.check_for_reset();
            }
            check!(HOST.saw(&LOST), "{}", told);
            check!(said::with(fmt!("while SNP and SEV was initialised")));
            check!(!p.is_snp_up() && !p.is_in_use(), "{}", told);
            // The TMR is nobody's: firmware takes no page back in this state.
            check!(leaked() == before + 512, "{}", told);
            p.check_for_reset();
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[]), "{}", told);
            // SNP_INIT makes the RMP anew.
            HOST.forget();
            check!(p.init(true, 0).is_ok() && HOST.saw(&START), "{}", told);
            p.shutdown(Leaving::KvmGone);
            check!(
                HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]),
                "{}",
                told
            );
            check!(HOST.assigned() == 0, "{}", told);
        }
        Ok(())
    }

    #[test]
    fn guests_that_a_reset_has_taken_are_none() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        let (_, context) = guest(&mut p)?;
        HOST.forget_events();
        reset(&plan);
        p.after_reset();
        check!(HOST.saw(&LOST) && p.guests() == 0);
        let record = p.channel.record();
        check!(!record.snp() && record.guests() == 0 && record.pages() == 1);
        // KVM still has the guest, and keeps its context when that cannot be ended.
        plan.once(
            CommandId::SNP_DECOMMISSION,
            Refuses(Status::INVALID_PLATFORM_STATE),
        );
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_err());
        check!(HOST.saw(&[DECOMMISSION]));
        HOST.forget();
        // The context of before is none of the guests that may keep SNP_EN.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START) && p.guests() == 0);
        guest(&mut p)?;
        check!(p.guests() == 1);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[
            GCTX_CREATE,
            SHUTDOWN,
            DECOMMISSION,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        HOST.forget();
        Ok(())
    }

    #[test]
    fn sev_alone_may_be_lost() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.sev.set(0);
        said::forget();
        p.after_reset();
        check!(said::only(&["psp-reset"]));
        check!(said::with(fmt!("while SEV was initialised")));
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Uninit);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.assigned() == 0 && leaked() == before);

        // So may SNP.
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        reset(&plan);
        said::forget();
        p.after_reset();
        check!(HOST.saw(&LOST) && !p.is_in_use() && said::only(&["psp-reset"]));
        check!(said::with(fmt!("while SNP was initialised")));
        Ok(())
    }

    #[test]
    fn a_reset_without_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && p.sev == crate::platform::Sev::Init);
        reset(&plan);
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && p.sev == crate::platform::Sev::Uninit);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]) && leaked() == before);
        // Nothing that could be lost.
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && !p.is_in_use());
        Ok(())
    }

    #[test]
    fn a_refusal_for_another_reason_is_no_reset() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // Not in use: firmware is not even asked.
        plan.once(
            CommandId::FACTORY_RESET,
            Refuses(Status::INVALID_PLATFORM_STATE),
        );
        check!(p.factory_reset().is_err());
        HOST.forget_events();
        p.check_for_reset();
        check!(HOST.saw(&[]));

        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        for (status, asked) in [
            (Status::INVALID_PLATFORM_STATE, &KEPT[..]),
            (Status::INVALID_PARAM, &[]),
            (Status::SUCCESS, &[]),
        ] {
            plan.once(CommandId::PEK_GEN, Refuses(status));
            let _ = p.pek_gen();
            check!(HOST.saw(&[PEK_GEN]));
            said::forget();
            p.check_for_reset();
            check!(said::only(&[]), "{:?}", status);
            check!(HOST.saw(asked) && p.is_snp_up(), "{:?}", status);
            p.check_for_reset();
            check!(HOST.saw(&[]), "{:?}", status);
        }
        Ok(())
    }

    #[test]
    fn what_firmware_does_not_say_after_a_reset_is_as_it_was() -> Result {
        for (command, fault) in [
            (
                CommandId::SNP_PLATFORM_STATUS,
                Refuses(Status::HWERROR_PLATFORM),
            ),
            (CommandId::SNP_PLATFORM_STATUS, Silent),
            (
                CommandId::PLATFORM_STATUS,
                Refuses(Status::HWERROR_PLATFORM),
            ),
            (CommandId::PLATFORM_STATUS, Silent),
        ] {
            static HOST: FakeHost = FakeHost::new();
            HOST.forget();
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            HOST.forget_events();
            plan.once(command, fault);
            p.after_reset();
            check!(p.is_in_use() && p.channel.snp_init(), "{:?}", command);
            HOST.forget_events();
            // A dead mailbox is not asked.
            p.after_reset();
            let silent = matches!(fault, Silent);
            check!(HOST.saw(if silent { &[] } else { &KEPT }), "{:?}", command);
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }
}
