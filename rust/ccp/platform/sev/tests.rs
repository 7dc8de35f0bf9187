// SPDX-License-Identifier: GPL-2.0

//! Legacy SEV up and down, its TMR, and firmware's persistent state.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_sev)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        nv::{
            self,
            Contents, //
        },
        platform::testing::*,
        sys::{
            errno::{
                ENODATA,
                EOPNOTSUPP, //
            },
            rmp::Frames, //
        },
        wire::status, //
    };

    #[test]
    fn sev_is_not_started_beside_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // Firmware refused SNP_INIT earlier, and SNP_EN stayed.
        HOST.snp_en.store(1, Relaxed);
        // As if firmware had been asked.
        said::forget();
        let refused = p.pek_gen();
        check!(said::only(&["sev-beside-snp-en"]));
        check!(said::with(fmt!("then; reload kvm_amd to initialise SNP")));
        check!(matches!(refused, Err(failure) if failure.fw_error == Some(1)));
        check!(errno(refused) == Some(EIO));
        check!(HOST.saw(&[]));
        HOST.snp_en.store(0, Relaxed);
        check!(p.pek_gen().is_ok());
        check!(HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));

        // The advice knows of a refusal, until a start succeeds.
        plan.once(CommandId::SNP_INIT_EX, Refuses(Status::INVALID_CONFIG));
        check!(p.init(true, 0).is_err());
        HOST.snp_en.store(1, Relaxed);
        check!(p.pek_gen().is_err() && said::with(fmt!("then; it refused SNP_INIT, too")));
        check!(p.init(true, 0).is_ok());
        p.shutdown(Leaving::KvmGone);
        HOST.snp_en.store(1, Relaxed);
        check!(p.pek_gen().is_err() && said::with(fmt!("then; reload kvm_amd")));
        let restart = "then; restart the machine, which clears SNP_EN";
        p.api.minor = 50;
        check!(p.pek_gen().is_err() && said::with(fmt!("{restart}: this firmware is too old")));
        HOST.unfit.store(true, Relaxed);
        check!(p.pek_gen().is_err() && said::with(fmt!("{restart}")));
        check!(!said::with(fmt!("{restart}: ")) && !said::with(fmt!("{restart}, ")));
        // Whoever cannot say where SNP_EN is set has another error.
        HOST.snp_en_unseen.store(ENOMEM.to_errno(), Relaxed);
        HOST.forget_events();
        said::forget();
        check!(errno(p.pek_gen()) == Some(ENOMEM) && said::only(&[]) && HOST.saw(&[]));
        HOST.snp_en.store(0, Relaxed);
        Ok(())
    }

    #[test]
    fn init_refused_leaves_snp_up() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let refused = Refuses(Status::INVALID_PLATFORM_STATE);
        plan.set(&[(CommandId::INIT, refused, 2)]);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT]));
        check!(p.is_snp_up());
        // What goes wrong then is the error of the first command that needs it.
        let failure = relay(&mut p, CommandId::LAUNCH_START).err().ok_or(EINVAL)?;
        check!(failure.errno == EIO && failure.fw_error == Some(1));
        check!(HOST.saw(&[INIT]) && p.is_snp_up());
        check!(relay(&mut p, CommandId::LAUNCH_START).is_ok());
        check!(HOST.saw(&[INIT, DF_FLUSH, Command(CommandId::LAUNCH_START)]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));

        // Damaged storage of firmware's is made anew by the first attempt, and no third is made.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        plan.once(CommandId::INIT, Refuses(Status::SECURE_DATA_INVALID));
        said::forget();
        check!(p.init(true, 0).is_ok());
        check!(said::only(&["storage-damaged"]));
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        plan.set(&[(CommandId::INIT, Refuses(Status::SECURE_DATA_INVALID), 2)]);
        said::forget();
        check!(p.init(true, 0).is_ok());
        check!(said::only(&[
            "storage-damaged",
            "command-failed",
            "sev-later"
        ]));
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, INIT]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn init_refused_without_snp_leaves_nothing() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        plan.once(CommandId::INIT, Refuses(Status::HWERROR_PLATFORM));
        said::forget();
        // kvm-amd gives up SEV, and does not ask for the shutdown when it is unloaded.
        let failure = p.init(true, 0).err().ok_or(EINVAL)?;
        check!(failure.errno == EIO && failure.fw_error == Some(0x13));
        check!(HOST.saw(&[Open, INIT]) && said::only(&["command-failed"]));
        check!(!p.is_in_use() && p.tmr.is_none() && !p.sev_on_demand);
        Ok(())
    }

    #[test]
    fn df_flush_refused_stops_sev() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        plan.once(CommandId::DF_FLUSH, Refuses(Status::WBINVD_REQUIRED));
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&START_WITHOUT_SEV));
        check!(HOST.assigned() == 0);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));

        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));

        // Nor does SNP go without its flush where there is no TMR, which is freed with a WBINVD.
        check!(p.start_snp(0).is_ok());
        HOST.private_fails.set(0, 3);
        plan.once(CommandId::DF_FLUSH, Refuses(Status::WBINVD_REQUIRED));
        HOST.forget_events();
        said::forget();
        check!(p.start_sev().is_err() && p.tmr.is_none());
        check!(HOST.saw(&[INIT, DF_FLUSH, SHUTDOWN, SNP_DF_FLUSH]));
        let lost = "pages-lost";
        check!(said::only(&[
            lost,
            lost,
            lost,
            "sev-es-no-memory",
            "command-failed"
        ]));
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    /// The TMR without SNP is smaller.
    #[test]
    fn a_tmr_of_another_size_is_replaced() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let before = leaked();
        let len = |p: &Platform<_>| p.tmr.as_ref().map(FwPages::len);
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok() && !p.is_snp_up() && len(&p) == Some(1 << 20));
        check!(p.factory_reset().is_ok() && len(&p) == Some(1 << 20));
        HOST.open.store(0, Relaxed);
        check!(p.init(true, 0).is_ok() && p.is_snp_up() && len(&p) == Some(2 << 20));
        check!(HOST.assigned() == 512 && leaked() == before);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0 && leaked() == before);
        HOST.forget_events();
        Ok(())
    }

    /// The mailbox has said why.
    #[test]
    fn a_dead_mailbox_is_not_asked_to_stop_sev() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        check!(p.init(true, 0).is_ok());
        plan.once(CommandId::PEK_GEN, Silent);
        check!(p.pek_gen().is_err());
        HOST.forget_events();
        said::forget();
        check!(matches!(p.stop_sev(), Err(CmdError::Dead(_))));
        check!(said::only(&[]) && HOST.saw(&[]) && p.sev == Sev::Init && p.tmr.is_some());
        // Nor SNP; the window stays open.
        check!(matches!(
            p.stop_snp(Leaving::KvmGone),
            Err(CmdError::Dead(_))
        ));
        check!(said::only(&[]) && HOST.saw(&[KEEP_DEAD]) && !p.channel.snp_init());
        HOST.forget();
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn sev_that_does_not_stop_keeps_its_memory() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.once(CommandId::SHUTDOWN, Refuses(Status::ACTIVE));
        check!(p.stop_sev().is_err());
        check!(HOST.saw(&[SHUTDOWN]));
        check!(p.sev == Sev::Init && HOST.assigned() == 512);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn a_bracket_undoes_only_what_it_did() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let refused = Refuses(Status::INVALID_PLATFORM_STATE);

        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        plan.once(CommandId::PEK_GEN, refused);
        check!(errno(p.pek_gen()) == Some(EIO));
        check!(HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        plan.once(CommandId::INIT, refused);
        check!(errno(p.pek_gen()) == Some(EIO) && HOST.saw(&[INIT]));
        plan.once(CommandId::DF_FLUSH, refused);
        check!(errno(p.pek_gen()) == Some(EIO));
        check!(HOST.saw(&[INIT, DF_FLUSH, SHUTDOWN]));

        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(p.is_snp_up());
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        check!(p.pek_gen().is_ok() && HOST.saw(&[PEK_GEN]));
        plan.once(CommandId::PEK_GEN, refused);
        check!(p.pek_gen().is_err() && HOST.saw(&[PEK_GEN]));
        check!(p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    /// The byte that is everywhere in what the file is to have, if it is to change.
    fn changed(p: &mut Platform<impl Transport>) -> Option<u8> {
        let contents = p.changed_nv()?;
        let bytes = contents.bytes();
        let first = *bytes.first()?;
        (bytes.len() == nv::LEN && bytes.iter().all(|byte| *byte == first)).then_some(first)
    }

    #[test]
    fn the_state_of_firmware_is_in_a_file() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        check!(p.wants_nv_file());
        p.set_nv(Contents::blank());
        check!(!p.wants_nv_file());

        // With SNP the area is firmware's in the RMP: 8 pages, beside the 512 of the TMR.
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT_EX, DF_FLUSH]));
        check!(HOST.assigned() == 512 + 8);
        check!(plan.nv_found.get() == Some(0xff));
        check!(p
            .channel
            .record()
            .sev_areas()
            .map(Frames::count)
            .eq([512, 8]));
        check!(changed(&mut p) == Some(1) && changed(&mut p).is_none());
        // What changes nothing is not written.
        check!(p.platform_status().is_ok() && changed(&mut p).is_none());
        check!(p.pek_gen().is_ok() && changed(&mut p) == Some(2));
        check!(p.pek_gen().is_ok());
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0 && leaked() == before);
        check!(p.channel.record().sev_areas().next().is_none());
        // The last change was seen before the area went back.
        check!(changed(&mut p) == Some(3));

        // Without SNP, for the time of one command: firmware gets what it left.
        HOST.forget_events();
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(plan.nv_found.get() == Some(3) && changed(&mut p) == Some(4));
        // Another task may have read the file before firmware changed its state.
        p.set_nv(Contents::blank());
        check!(p.pek_gen().is_ok() && plan.nv_found.get() == Some(4));
        check!(changed(&mut p) == Some(5));
        HOST.forget_events();

        // A factory reset deletes what is in the file, in each state. The area comes back after
        // SHUTDOWN: with SNP firmware lets go of none that it uses.
        for up in ["nothing", "SEV", "SEV and SNP"] {
            match up {
                "SEV" => check!(p.start_sev().is_ok()),
                "SEV and SNP" => check!(p.init(true, 0).is_ok() && HOST.assigned() == 512 + 8),
                _ => {}
            }
            check!(p.factory_reset().is_ok(), "{}", up);
            check!(changed(&mut p) == Some(0xff), "{}", up);
            check!(
                p.start_sev().is_ok() && plan.nv_found.get() == Some(0xff),
                "{}",
                up
            );
            check!(changed(&mut p) == Some(1), "{}", up);
            check!(p.stop_sev().is_ok(), "{}", up);
            check!(HOST.assigned() == 0 && leaked() == before, "{}", up);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_sev_off() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Err(EACCES));
        // SNP does not need it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&SNP_START));
        check!(p.is_snp_up() && p.wants_nv_file());
        let failure = p.pek_gen().err().ok_or(EINVAL)?;
        check!(failure.errno == EACCES && failure.fw_error == Some(status::NO_FW_CALL));
        check!(HOST.saw(&[]));
        check!(HOST.assigned() == 0);
        // The next attempt reads it again.
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(plan.nv_found.get() == Some(7) && changed(&mut p) == Some(8));
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn damaged_state_and_an_area_that_firmware_keeps() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        plan.once(CommandId::INIT_EX, Refuses(Status::SECURE_DATA_INVALID));
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT_EX, INIT_EX, DF_FLUSH]));
        // Firmware that does not stop keeps it.
        plan.once(CommandId::SHUTDOWN, Refuses(Status::HWERROR_PLATFORM));
        check!(p.stop_sev().is_err() && HOST.assigned() == 512 + 8);
        check!(p.stop_sev().is_ok() && HOST.assigned() == 0 && leaked() == before);
        // So does one that has not answered, and nobody looks at what it may be writing.
        check!(p.start_sev().is_ok() && changed(&mut p).is_none());
        plan.once(CommandId::PEK_GEN, Silent);
        check!(p.pek_gen().is_err());
        check!(p.changed_nv().is_none());
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 512 + 8);
        HOST.forget_events();
        drop(p);
        check!(leaked() >= before + 512 + 8);
        HOST.forget();
        Ok(())
    }

    #[test]
    fn memory_that_the_rmp_does_not_give_to_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        // Three blocks are tried. SEV does without the TMR; the panic path knows of none.
        HOST.private_fails.set(0, 3);
        check!(p.start_sev().is_ok() && p.tmr.is_none() && leaked() == before + 3 * 512);
        check!(said::with(fmt!("for SEV-ES (2048 KiB in one piece)")));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([8]) && HOST.saw(&[INIT_EX, DF_FLUSH]));
        check!(p.stop_sev().is_ok() && HOST.saw(&[SHUTDOWN]));
        // Not without the NV area.
        HOST.private_fails.set(512, 3);
        check!(p.start_sev().is_err() && HOST.saw(&[]));
        check!(leaked() == before + 3 * (512 + 8));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([512]) && HOST.assigned() == 512);
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH]));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([512, 8]) && HOST.assigned() == 512 + 8);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0 && leaked() == before + 3 * (512 + 8));
        check!(p.channel.record().sev_areas().next().is_none());
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn the_area_of_firmware_that_a_reset_or_the_end_of_snp_has_made_forget_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::blank());
        // After a reset nothing takes the pages back; the next area has what the last one had.
        check!(p.init(true, 0).is_ok() && changed(&mut p) == Some(1));
        reset(&plan);
        p.after_reset();
        check!(leaked() == before + 512 + 8);
        HOST.forget();
        plan.nv_found.set(None);
        check!(p.init(true, 0).is_ok() && plan.nv_found.get() == Some(1));
        check!(HOST.assigned() == 512 + 8);
        // SEV did not stop, but SNP did, and took SNP_EN with it: there is nothing to reclaim.
        plan.once(CommandId::SHUTDOWN, Refuses(Status::HWERROR_PLATFORM));
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        let reclaimed = plan.reclaims.get();
        check!(p.stop_sev().is_ok() && plan.reclaims.get() == reclaimed);
        check!(leaked() == before + 512 + 8);
        HOST.forget_events();
        Ok(())
    }
}
