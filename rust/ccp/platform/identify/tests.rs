// SPDX-License-Identifier: GPL-2.0

//! Firmware in each state in which a driver may find it.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_identify)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::platform::testing::*;
    use core::cell::Cell;

    #[test]
    fn identifying_firmware_that_nobody_has_started() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        check!(p.identify().is_ok());
        check!(HOST.saw(&[SNP_STATUS, FEATURE_INFO, STATUS]));
        check!(!p.is_in_use() && p.api.at_least((1, 55)) && p.has_x86_snp_shutdown());
        Ok(())
    }

    /// Firmware is asked nothing about SNP, and SEV alone is started.
    #[test]
    fn firmware_on_a_host_without_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.unfit.store(true, Relaxed);
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        check!(p.identify().is_ok() && HOST.saw(&[STATUS]));
        check!(p.api.at_least((1, 55)) && !p.has_x86_snp_shutdown());
        p.features.ecx = u32::MAX;
        check!(p.snp_policy_bits() == 0);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]) && !p.is_snp_up());
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]) && HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn firmware_in_a_state_that_nobody_knows() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        plan.sev.set(3);
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        said::forget();
        check!(matches!(p.identify(), Err(err) if err.errno() == EIO));
        check!(said::only(&["sev-state-unknown"]) && said::with(fmt!("in state 3,")));
        check!(HOST.saw(&[SNP_STATUS, FEATURE_INFO, STATUS]) && !p.is_in_use());
        Ok(())
    }

    #[test]
    fn firmware_that_was_left_initialised_is_started_anew() -> Result {
        static HOST: FakeHost = FakeHost::new();
        // UNINIT, INIT, WORKING.
        for sev in [0, 1, 2] {
            let before = leaked();
            let plan = Plan::new();
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.snp_init.set(true);
            plan.sev.set(sev);
            HOST.snp_en.store(CPUS, Relaxed);
            said::forget();
            check!(p.identify().is_ok(), "{}", sev);
            check!(said::only(&["snp-left-initialised"]));
            check!(HOST.saw(&[SNP_STATUS, Open, SNP_STATUS, FEATURE_INFO, STATUS]));
            check!(p.is_in_use() && !p.is_snp_up() && HOST.assigned() == 0);
            // There may be guests when a VM is being made, but not when kvm-amd is being loaded.
            check!(errno(p.init(false, 0)) == Some(EBUSY) && HOST.saw(&[]));
            check!(said::only(&["start-with-guests"]));
            check!(p.init(true, 0).is_ok(), "{}", sev);
            check!(said::only(&["left-initialised"]));
            let stop = [SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF];
            let stop = stop.get(usize::from(sev == 0)..).ok_or(EINVAL)?;
            let mut events = KVec::new();
            for event in Iterator::chain(stop.iter(), &START) {
                events.push(*event, GFP_KERNEL)?;
            }
            check!(HOST.saw(&events), "{}", sev);
            check!(p.is_snp_up() && p.sev == Sev::Init);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
            check!(HOST.assigned() == 0 && leaked() == before);
        }
        Ok(())
    }

    #[test]
    fn firmware_that_was_left_initialised_and_stays_so() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        plan.snp_init.set(true);
        check!(p.identify().is_ok());
        HOST.forget_events();
        for _ in 0..2 {
            plan.once(CommandId::SNP_SHUTDOWN_EX, Refuses(Status::INVALID_PARAM));
            check!(errno(p.init(true, 0)) == Some(EIO));
            check!(HOST.saw(&[SNP_SHUTDOWN]) && !p.is_snp_up() && p.is_in_use());
        }
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        // SEV goes first or not at all.
        plan.sev.set(1);
        check!(p.identify().is_ok() && p.sev == Sev::Stale);
        HOST.forget_events();
        plan.once(CommandId::SHUTDOWN, Refuses(Status::INVALID_PARAM));
        check!(errno(p.init(true, 0)) == Some(EIO) && HOST.saw(&[SHUTDOWN]));
        check!(p.sev == Sev::Stale);
        Ok(())
    }

    #[test]
    fn guests_that_were_left_by_another_keep_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (guests, left, end) in [
            (1, Leaving::DeviceGone, &[SNP_SHUTDOWN, KEEP_LEGACY][..]),
            (1, Leaving::KvmGone, &[SNP_SHUTDOWN, CLOSE_SNP_OFF]),
            (0, Leaving::DeviceGone, &[SNP_SHUTDOWN, CLOSE_SNP_OFF]),
        ] {
            HOST.snp_en.store(CPUS, Relaxed);
            let plan = Plan::new();
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.snp_init.set(true);
            plan.guests.set(guests);
            check!(p.identify().is_ok());
            HOST.forget_events();
            p.shutdown(left);
            check!(HOST.saw(end), "{} {:?}", guests, left);
        }
        Ok(())
    }

    #[test]
    fn firmware_that_cannot_be_taken_over() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let silent = CommandId::SNP_PLATFORM_STATUS;
        let refusal = Refuses(Status::INVALID_PAGE_STATE);
        let plan = Plan::new();

        // Nothing happens if another status is refused.
        {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.once(silent, Refuses(Status::HWERROR_PLATFORM));
            said::forget();
            check!(p.identify().is_err() && HOST.saw(&[SNP_STATUS]));
            check!(said::only(&["command-failed"]));
        }

        // A CPU has no SNP_EN: no page may be given to firmware.
        {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.once(silent, refusal);
            HOST.snp_en.store(CPUS - 1, Relaxed);
            check!(p.identify().is_err());
            check!(HOST.saw(&[SNP_STATUS, Open, CLOSE_SNP_OFF]));
            check!(said::only(&["snp-left-uneven"]));
            check!(!p.is_in_use());
            HOST.snp_en.store(CPUS, Relaxed);
        }

        // It refuses that page, too; it says that it is not initialised after all; it falls silent.
        for (faults, keep) in [
            (&[(silent, refusal, 2)][..], KEEP_UNDECIDED),
            (&[(silent, refusal, 1)], KEEP_UNDECIDED),
            (&[(silent, refusal, 1), (silent, Silent, 1)], KEEP_TIMEOUT),
        ] {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.set(faults);
            said::forget();
            check!(p.identify().is_err());
            // The page for the answer, and that of the command buffer.
            let lines = match keep == KEEP_TIMEOUT {
                true => &["pages-lost", "pages-lost"][..],
                false => &["command-failed"],
            };
            check!(said::only(lines), "{}", faults.len());
            check!(HOST.saw(&[SNP_STATUS, Open, SNP_STATUS, keep]));
            check!(!p.is_in_use() && !p.channel.snp_init());
            // What has not answered keeps its page.
            check!(HOST.assigned() == i32::from(keep == KEEP_TIMEOUT));
        }
        Ok(())
    }

    #[test]
    fn an_image_for_firmware() -> Result {
        // Two pages; one byte differs from all others.
        let mut image = [0x5a_u8; 5000];
        image[4321] = 0xa5;
        // The API; what firmware says; how often it gets the image.
        for (minor, answers, times) in [
            (49, &[Status::SUCCESS, Status::SUCCESS][..], 2),
            (49, &[Status::SUCCESS, Status::BAD_SVN], 2),
            (49, &[Status::BAD_SIGNATURE], 1),
            (50, &[Status::SUCCESS], 1),
            (55, &[Status::SUCCESS], 1),
            (55, &[Status::BAD_VERSION], 1),
        ] {
            static HOST: FakeHost = FakeHost::new();
            let (_faux, dev) = device()?;
            let before = leaked();
            let asked = Cell::new(0);
            let transport = Scripted::new(|call: &Call| {
                let same = || -> Result<bool> {
                    let (address, len): (u64, u32) = (call.field(0)?, call.field(8)?);
                    let read = |bytes: &mut [u8]| bytes[..] == image[..];
                    Ok(len as usize == image.len()
                        && call.memory().with(address, image.len(), read))
                };
                let right = call.is(CommandId::DOWNLOAD_FIRMWARE) && same() == Ok(true);
                let answer = answers.get(asked.get()).filter(|_| right);
                asked.set(asked.get() + 1);
                Ok(answer.copied().unwrap_or(Status::INVALID_COMMAND))
            });
            let mut p = Platform::unidentified(Channel::new(dev, transport, &HOST)?);
            p.api = ApiVersion {
                major: 1,
                minor,
                build: 1,
            };
            let result = p.download(&image);
            let last = answers.last().copied().unwrap_or(Status::SUCCESS);
            check!(asked.get() == times, "{} {:?}", minor, answers);
            check!(
                match result {
                    Ok(()) => last.is_success(),
                    Err(err) => err.is(last) && !last.is_success(),
                },
                "{} {:?}",
                minor,
                answers
            );
            check!(HOST.assigned() == 0 && leaked() == before, "{}", minor);
        }
        Ok(())
    }
}
