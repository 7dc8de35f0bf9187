// SPDX-License-Identifier: GPL-2.0

//! Requests of user space and of kvm-amd.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_requests)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        wire::{
            command::TABLE,
            snp::SnpConfig,
            Relayed, //
        }, //
    };
    use core::cell::Cell;

    #[test]
    fn sev_starts_with_the_first_command_that_needs_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let needy = [
            CommandId::LAUNCH_START,
            CommandId::RECEIVE_START,
            CommandId::DF_FLUSH,
        ];
        // Nobody has asked for it.
        for id in needy {
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
        }
        for id in needy {
            check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
            check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
            for row in TABLE {
                let snp = row.name.starts_with("SNP_") && row.id != CommandId::SNP_PAGE_RECLAIM;
                if snp && Relayed::new(row).is_some() && row.id != CommandId::SNP_PLATFORM_STATUS {
                    check!(relay(&mut p, row.id).is_ok(), "{}", row.name);
                    check!(HOST.saw(&[Command(row.id)]), "{}", row.name);
                }
            }
            // What goes wrong is for the one who asked.
            plan.once(CommandId::INIT, Refuses(Status::HWERROR_PLATFORM));
            let failure = relay(&mut p, id).err().ok_or(EINVAL)?;
            check!(failure.errno == EIO && failure.fw_error == Some(0x13));
            check!(HOST.saw(&[INIT]));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[INIT, DF_FLUSH, Command(id)]));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
            check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&STOP));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
        }
        Ok(())
    }

    #[test]
    fn a_guest_of_snp_that_is_not_there_is_told_why() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let state = Status::INVALID_PLATFORM_STATE;
        let gctx = CommandId::SNP_GCTX_CREATE;
        for (up, id, status, told) in [
            (false, gctx, state, true),
            (false, gctx, Status::INVALID_PARAM, false),
            (false, CommandId::SNP_DECOMMISSION, state, false),
            (true, gctx, state, false),
        ] {
            check!(!up || p.start_snp(0).is_ok());
            plan.once(id, Refuses(status));
            said::forget();
            check!(relay(&mut p, id).is_err(), "{} {}", up, status);
            let lines: &[&str] = if told { &["snp-not-started"] } else { &[] };
            check!(said::only(lines), "{} {}", up, status);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn factory_reset_in_each_state() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const RESET: Event = Command(CommandId::FACTORY_RESET);
        for (state, refused, events) in [
            (0, None, &[STATUS, RESET][..]),
            (1, None, &[STATUS, SHUTDOWN, RESET]),
            (2, Some((EBUSY, Some(0))), &[STATUS]),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            let before = leaked();
            if state != 0 {
                check!(p.init(true, 0).is_ok());
                plan.sev.set(state);
            }
            HOST.forget_events();
            let tmr = p.tmr.as_ref().map(FwPages::spa);
            let said = p.factory_reset().err();
            let said = said.map(|failure| (failure.errno, failure.fw_error));
            check!(said == refused, "{}", state);
            check!(HOST.saw(events), "{}", state);
            // What was up is up again afterwards, and the TMR is the one that there was: firmware
            // has had it all the time.
            let reclaims = plan.reclaims.get();
            check!(p.start_sev().is_ok() && p.sev == Sev::Init, "{}", state);
            check!(plan.reclaims.get() == reclaims, "{}", state);
            let again = if state == 2 {
                &[][..]
            } else {
                &[INIT, DF_FLUSH]
            };
            check!(HOST.saw(again), "{}", state);
            let same = tmr.is_none() || p.tmr.as_ref().map(FwPages::spa) == tmr;
            check!(p.tmr.is_some() && same, "{}", state);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.assigned() == 0 && leaked() == before, "{}", state);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn nothing_is_reset_while_sev_does_not_stop() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const ERROR: Status = Status::INVALID_PARAM;
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        HOST.forget_events();
        plan.once(CommandId::SHUTDOWN, Refuses(ERROR));
        let said = p.factory_reset().err();
        let said = said.map(|failure| (failure.errno, failure.fw_error));
        check!(said == Some((EIO, Some(ERROR.raw().into()))));
        check!(HOST.saw(&[STATUS, SHUTDOWN]) && p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn each_certificate_has_its_own_buffer() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        for snp in [false, true] {
            check!(!snp || p.init(true, 0).is_ok());
            let certs = p.pdh_cert_export(Some([10, 5000]), true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() && certs.len == [9, 4999], "{}", snp);
            for (n, byte) in [0x11, 0x22].into_iter().enumerate() {
                let bytes = certs.bytes(n).unwrap_or_default();
                check!(bytes.len() == certs.len[n] as usize, "{} {}", snp, n);
                check!(bytes.iter().all(|found| *found == byte), "{} {}", snp, n);
            }
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    /// Whoever asks for the length alone has no buffer.
    #[test]
    fn an_answer_is_what_comes_back_from_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (plan, (_faux, dev)) = (Plan::new(), device()?);
        // What firmware was told, and whether it keeps the page that it was told.
        let (told, keeps) = (Cell::new((0_u64, 0_u32)), Cell::new(false));
        let script = |call: &Call| {
            if call.is(CommandId::SNP_PAGE_RECLAIM) {
                let page = call.field::<u64>(0).map_err(CmdError::Transport)?;
                if keeps.get() && page & !0xfff == told.get().0 {
                    return Ok(Status::INVALID_PAGE_STATE);
                }
            }
            if call.is(CommandId::GET_ID) || call.is(CommandId::PEK_CSR) {
                let address = call.field(0).map_err(CmdError::Transport)?;
                told.set((address, call.field(8).map_err(CmdError::Transport)?));
            }
            plan.execute(&HOST, call)
        };
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(script), &HOST)?);
        (p.api.major, p.api.minor) = (1, 55);
        check!(p.start_snp(0).is_ok() && p.is_snp_up());
        let before = leaked();
        for (lost, id) in [CommandId::GET_ID, CommandId::PEK_CSR].iter().enumerate() {
            let mut ask = |len| match *id {
                CommandId::GET_ID => p.get_id(len),
                _ => p.pek_csr(len),
            };
            let said = ask(None).map_err(|failure| failure.errno)?;
            check!(said.result.is_ok() && told.get() == (0, 0), "{id:?}");
            check!(said.bytes(0).is_none() && said.len == [0], "{id:?}");
            let said = ask(Some(64)).map_err(|failure| failure.errno)?;
            check!(said.result.is_ok() && said.bytes(0).is_some(), "{id:?}");
            check!(told.get().0 != 0 && told.get().1 == 64, "{id:?}");
            check!(leaked() == before + lost, "{id:?}");
            keeps.set(true);
            let said = ask(Some(64)).map_err(|failure| failure.errno)?;
            check!(said.result.is_err() && said.bytes(0).is_none(), "{id:?}");
            check!(leaked() == before + lost + 1, "{id:?}");
            keeps.set(false);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn an_answer_that_claims_more_than_there_is_room_for() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        // What firmware claims of its two buffers.
        let claims = Cell::new([0_u32; 2]);
        let status = Cell::new(Status::SUCCESS);
        let script = |call: &Call| {
            let offsets = match call.command.id {
                CommandId::GET_ID | CommandId::PEK_CSR => &[8][..],
                CommandId::PDH_CERT_EXPORT => &[8, 24],
                _ => return Ok(Status::SUCCESS),
            };
            for (offset, claim) in offsets.iter().zip(claims.get()) {
                call.set_field(*offset, claim);
            }
            Ok(status.get())
        };
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(script), &HOST)?);
        for (first, second, right) in [(64, 5000, true), (65, 5000, false), (64, 5001, false)] {
            claims.set([first, second]);
            said::forget();
            let certs = p.pdh_cert_export(Some([64, 5000]), true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() == right && certs.len == [64, 5000]);
            check!(said::only(if right { &[] } else { &["answer-too-long"] }));
            // Only the lengths were asked for, and may be any.
            let certs = p.pdh_cert_export(None, true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() && certs.len == [first, second]);
            check!(certs.bytes(0).is_none() && said::only(&[]));
        }
        claims.set([64, 5001]);
        check!(p.pdh_cert_export(Some([64, 5000]), true).is_ok());
        check!(said::with(fmt!(
            "PDH_CERT_EXPORT failed: firmware says that it put 0x1389 bytes into a buffer of 0x1388;"
        )));
        claims.set([65, 0]);
        for id in [CommandId::GET_ID, CommandId::PEK_CSR] {
            let ask = |p: &mut Platform<_>| match id {
                CommandId::GET_ID => p.get_id(Some(64)),
                _ => p.pek_csr(Some(64)),
            };
            let said = ask(&mut p).map_err(|failure| failure.errno)?;
            let failure = said.result.err().ok_or(EINVAL)?;
            check!(
                failure.errno == EIO && failure.fw_error == Some(0),
                "{:?}",
                id
            );
            check!(said.len == [64], "{:?}", id);
            // That is how firmware says how much it needs.
            status.set(Status::INVALID_LEN);
            let said = ask(&mut p).map_err(|failure| failure.errno)?;
            check!(said.result.is_err() && said.len == [65], "{:?}", id);
            status.set(Status::SUCCESS);
        }
        Ok(())
    }

    /// Whom each ASID belongs to, by what firmware has accepted.
    #[test]
    fn asids_are_noted() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const CONTEXT: u64 = 0x12_3456_7000;
        const HANDLE: u32 = 5;
        const ASID: u32 = 9;
        const SNP_ASID: u32 = 7;
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let mut snp_activate = [0; 12];
        snp_activate[..8].copy_from_slice(&CONTEXT.to_le_bytes());
        snp_activate[8..].copy_from_slice(&SNP_ASID.to_le_bytes());
        let mut activate = [0; 8];
        activate[..4].copy_from_slice(&HANDLE.to_le_bytes());
        activate[4..].copy_from_slice(&ASID.to_le_bytes());
        let (context, handle) = (CONTEXT.to_le_bytes(), HANDLE.to_le_bytes());
        // The command, and the ASIDs of both guests after it.
        for (id, buffer, asids) in [
            (
                CommandId::SNP_ACTIVATE,
                &snp_activate[..],
                (Some(SNP_ASID), None),
            ),
            (CommandId::ACTIVATE, &activate, (Some(SNP_ASID), Some(ASID))),
            (CommandId::DEACTIVATE, &handle, (Some(SNP_ASID), None)),
            (CommandId::SNP_DECOMMISSION, &context, (None, None)),
        ] {
            let asids_now = || {
                let of = |guest| state::asid_of(guest);
                (of(Guest::Snp(CONTEXT)), of(Guest::Sev(HANDLE)))
            };
            let before = asids_now();
            for status in [Status::INVALID_PARAM, Status::SUCCESS] {
                let mut data = [0; 12];
                let data = data.get_mut(..buffer.len()).ok_or(EINVAL)?;
                data.copy_from_slice(buffer);
                let command = Relayed::new(id.row()).ok_or(EPERM)?;
                if status != Status::SUCCESS {
                    plan.once(id, Refuses(status));
                }
                // SAFETY: There are no addresses in the buffers but one that firmware is told.
                let done = p.relay(command, data, &unsafe { CallerMemory::trust() });
                check!(done.is_ok() == status.is_success(), "{:?}", id);
                let expected = if done.is_ok() { asids } else { before };
                check!(asids_now() == expected, "{:?} {:?}", id, asids_now());
            }
        }
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn what_needs_snp_or_a_right() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let page = || HvPages::zeroed(Gfp::KERNEL, 0);
        let config = || SnpConfig::read_from_bytes(&[0; 64]).map_err(|_| EINVAL);
        check!(errno(p.set_config(config()?)) == Some(ENODEV));
        check!(errno(p.vlek_load(page()?, [0; 3])) == Some(ENODEV));
        // Whoever may not write does not start SEV.
        let refused = p.pdh_cert_export(None, false).err();
        check!(refused.is_some_and(|failure| failure.errno == EPERM));
        check!(HOST.saw(&[]));
        check!(p.init(true, 0).is_ok());
        HOST.forget_events();
        check!(p.set_config(config()?).is_ok() && p.vlek_load(page()?, [0; 3]).is_ok());
        check!(p.pdh_cert_export(None, false).is_ok());
        check!(HOST.saw(&[
            Command(CommandId::SNP_CONFIG),
            Command(CommandId::SNP_VLEK_LOAD),
            Command(CommandId::PDH_CERT_EXPORT)
        ]));
        plan.tcb.set(0x1234_5678_9abc_def0);
        plan.guests.set(3);
        let status = p.snp_platform_status().map_err(|failure| failure.errno)?;
        check!({ status.current_tcb } == 0x1234_5678_9abc_def0 && { status.guest_count } == 3);
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    /// One is named to be verified, and none to be asked about all.
    #[test]
    fn mitigations_are_named_by_number() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let asked = Cell::new((0_u16, 0_u64));
        let script = |call: &Call| {
            if call.is(CommandId::SNP_VERIFY_MITIGATION) {
                let (what, which) = (call.field(4), call.field(8));
                asked.set((what.unwrap_or(7), which.unwrap_or(7)));
            }
            Ok(Status::SUCCESS)
        };
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(script), &HOST)?);
        for (mitigation, expected) in [(Some(2), (1, 2)), (None, (0, 0)), (Some(0), (1, 0))] {
            check!(p.verify_mitigation(mitigation).is_ok() && asked.get() == expected);
        }
        Ok(())
    }

    /// The kinds by their numbers in KVM's ABI: SEV, SEV-ES, SNP.
    #[test]
    fn kinds_of_guests_that_kvm_may_offer() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (sev, es, snp) = (1 << 2, 1 << 3, 1 << 4);
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // The security version of SNP firmware is another byte of the TCB.
        let milan = (TcbLayout::MilanGenoa, 0x1b, 8 * 6);
        let turin = (TcbLayout::Turin, 4, 8 * 3);
        check!(p.vm_types_with(Some((milan.0, 0))) == sev | es);
        check!(p.start_snp(0).is_ok());
        said::forget();
        check!(p.vm_types_with(None) == sev | es | snp);
        for (layout, fixed_in, shift) in [milan, turin] {
            for (svn, kept) in [
                (0, es),
                (fixed_in - 1, es),
                (fixed_in, 0),
                (fixed_in + 1, 0),
            ] {
                plan.tcb.set(u64::from(svn) << shift);
                let types = p.vm_types_with(Some((layout, fixed_in)));
                check!(types == sev | kept | snp, "{} {}", fixed_in, svn);
            }
        }
        // Firmware that does not say is not trusted.
        plan.tcb.set(0);
        check!(said::only(&[]));
        for (fault, lines) in [
            (Refuses(Status::INVALID_PARAM), &["command-failed"][..]),
            // Of a mailbox that is dead already nobody has to be told.
            (Silent, &[]),
        ] {
            plan.once(CommandId::SNP_PLATFORM_STATUS, fault);
            if matches!(fault, Silent) {
                let _ = p.snp_platform_status();
            }
            said::forget();
            let types = p.vm_types_with(Some((milan.0, milan.1)));
            check!(types == sev | snp && said::only(lines));
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn es_guests_are_refused_by_the_kind_of_cpu() -> Result {
        use bindings::{
            X86_FEATURE_ZEN2,
            X86_FEATURE_ZEN3,
            X86_FEATURE_ZEN4,
            X86_FEATURE_ZEN5, //
        };
        let is_milan = |found| matches!(found, Some((TcbLayout::MilanGenoa, 0x1b)));
        let only = |feature| es_fixed_in(move |asked| asked == feature);
        check!(es_fixed_in(|_| false).is_none() && only(X86_FEATURE_ZEN2).is_none());
        check!(is_milan(only(X86_FEATURE_ZEN3)) && is_milan(only(X86_FEATURE_ZEN4)));
        check!(matches!(
            only(X86_FEATURE_ZEN5),
            Some((TcbLayout::Turin, 4))
        ));
        Ok(())
    }

    #[test]
    fn policy_bits_come_one_by_one() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const BASE: u64 = 0x001f_ffff;
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        // Bits of ECX of SNP_FEATURE_INFO and of the policy, by the ABI.
        for (ecx, policy) in [(2, 23), (3, 24), (4, 22), (5, 21)] {
            p.features.ecx = 1 << ecx;
            check!(p.snp_policy_bits() == BASE | 1 << policy, "{}", ecx);
        }
        p.features.ecx = !(1 << 2 | 1 << 3 | 1 << 4 | 1 << 5);
        check!(p.snp_policy_bits() == BASE);
        p.features.ecx = u32::MAX;
        check!(p.snp_policy_bits() == BASE | 0b1111 << 21);
        p.features.ecx = 0;
        // PAGE_SWAP_DISABLE: by the API, of firmware that has SNP_FEATURE_INFO.
        for (flags, minor, bits) in [
            (0, 58, BASE),
            (1 << 3, 57, BASE),
            (1 << 3, 58, BASE | 1 << 25),
            (u32::MAX, 59, BASE | 1 << 25),
            (!(1 << 3), 59, BASE),
        ] {
            p.snp_status.flags = flags;
            p.api.minor = minor;
            check!(p.snp_policy_bits() == bits, "{:#x} {}", flags, minor);
        }
        // Ciphertext hiding needs firmware and BIOS.
        for (ecx, flags, has) in [
            (0, 0, false),
            (1 << 3, 0, false),
            (0, 1 << 5, false),
            (1 << 3, 1 << 5, true),
            (!(1 << 3), u32::MAX, false),
            (u32::MAX, !(1 << 5), false),
        ] {
            p.features.ecx = ecx;
            p.snp_status.flags = flags;
            check!(p.has_ciphertext_hiding() == has, "{:#x} {:#x}", ecx, flags);
        }
        Ok(())
    }
}
