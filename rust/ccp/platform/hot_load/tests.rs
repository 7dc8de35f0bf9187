// SPDX-License-Identifier: GPL-2.0

//! Images against firmware that answers each of them in every state.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_hot_load)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::*;
    use crate::{
        cmd::Channel,
        pages::leaked,
        platform::{
            leave::Leaving,
            Failure, //
        },
        sys::{
            caller_memory::CallerMemory,
            direct_map,
            mem_encrypt,
            pages::Gfp,
            said, //
        },
        testing::{
            check,
            device,
            script::{
                silence,
                Call,
                Event::{
                    self,
                    Command, //
                },
                FakeHost,
                Scripted,
                CPUS, //
            }, //
        },
        wire::{
            snp::{
                Feature,
                FeatureInfo,
                SnpStatus, //
            },
            Relayed, //
        },
    };
    use core::{
        cell::Cell,
        sync::atomic::Ordering::Relaxed, //
    };
    use kernel::faux;

    const EX: Event = Command(CommandId::SNP_DOWNLOAD_FIRMWARE_EX);
    const SNP_DF_FLUSH: Event = Command(CommandId::SNP_DF_FLUSH);
    const SNP_STATUS: Event = Command(CommandId::SNP_PLATFORM_STATUS);
    const FEATURE_INFO: Event = Command(CommandId::SNP_FEATURE_INFO);
    const STATUS: Event = Command(CommandId::PLATFORM_STATUS);
    const SHUTDOWN: Event = Command(CommandId::SHUTDOWN);
    const INIT: Event = Command(CommandId::INIT);
    const DF_FLUSH: Event = Command(CommandId::DF_FLUSH);

    /// What firmware is asked after an image.
    const QUERIES: [Event; 3] = [SNP_STATUS, FEATURE_INFO, STATUS];

    const IMAGE: [u8; 5000] = [0x5a; 5000];

    /// Firmware, and what it does not carry out.
    struct Firmware {
        host: &'static FakeHost,
        /// To the next images; [`None`] is silence.
        image: Cell<Option<Status>>,
        /// Another command, and how it is answered from then on.
        refused: Cell<Option<(CommandId, Status)>>,
        snp: Cell<bool>,
        sev: Cell<u8>,
        /// Of API 1.N.
        minor: Cell<u8>,
        /// The guest has to be asked about.
        waits: Cell<bool>,
    }

    impl Firmware {
        fn new(host: &'static FakeHost) -> Self {
            host.snp_en.store(0, Relaxed);
            host.forget_events();
            Self {
                host,
                image: Cell::new(Some(Status::SUCCESS)),
                refused: Cell::new(None),
                snp: Cell::new(false),
                sev: Cell::new(0),
                minor: Cell::new(55),
                waits: Cell::new(false),
            }
        }

        fn execute(&self, call: &Call) -> Result<Status, CmdError> {
            if call.is(CommandId::SNP_PAGE_RECLAIM) {
                return Ok(Status::SUCCESS);
            }
            self.host.note(Command(call.command.id));
            match self.refused.get() {
                Some((id, status)) if call.is(id) => return Ok(status),
                _ => {}
            }
            if call.is(CommandId::SNP_DOWNLOAD_FIRMWARE_EX) && self.image.get().is_none() {
                return silence(call.command);
            }
            self.carry_out(call).map_err(CmdError::Transport)
        }

        fn carry_out(&self, call: &Call) -> Result<Status> {
            let fill = |bytes: &[u8]| -> Result {
                let page: u64 = call.field(call.command.len - 8)?;
                if self.snp.get() && !self.host.is_assigned(page) {
                    return Err(EFAULT);
                }
                let put = |to: &mut [u8]| to.copy_from_slice(bytes);
                call.memory().with(page, bytes.len(), put);
                Ok(())
            };
            match call.command.id {
                CommandId::SNP_DOWNLOAD_FIRMWARE_EX => return self.take_image(call),
                CommandId::SNP_INIT_EX => self.snp.set(true),
                CommandId::SNP_SHUTDOWN_EX => self.snp.set(false),
                CommandId::INIT => self.sev.set(1),
                CommandId::SHUTDOWN => self.sev.set(0),
                CommandId::SNP_DF_FLUSH | CommandId::DF_FLUSH => {
                    if self.host.cached.load(Relaxed) {
                        return Ok(Status::WBINVD_REQUIRED);
                    }
                }
                CommandId::PLATFORM_STATUS => call.set_field(
                    0,
                    sev::PlatformStatus {
                        api_major: 1,
                        api_minor: self.minor.get(),
                        state: self.sev.get(),
                        guest_count: u32::from(self.sev.get() == 2),
                        ..Default::default()
                    },
                ),
                CommandId::SNP_PLATFORM_STATUS => fill(
                    SnpStatus {
                        state: self.snp.get().into(),
                        flags: SnpStatus::FLAG_FEATURE_INFO,
                        ..Default::default()
                    }
                    .as_bytes(),
                )?,
                CommandId::SNP_FEATURE_INFO => fill(
                    FeatureInfo {
                        // The newer firmware has more of them.
                        ecx: match self.minor.get() {
                            55 => Feature::RaplDisable as u32,
                            _ => Feature::RaplDisable as u32 | Feature::X86Shutdown as u32,
                        },
                        ..Default::default()
                    }
                    .as_bytes(),
                )?,
                CommandId::SNP_GUEST_STATUS => self.waits.set(false),
                CommandId::SNP_LAUNCH_UPDATE if self.waits.get() => {
                    return Ok(Status::INVALID_GUEST_STATE);
                }
                _ => {}
            }
            Ok(Status::SUCCESS)
        }

        fn take_image(&self, call: &Call) -> Result<Status> {
            let (address, len): (u64, u32) = (call.field(8)?, call.field(16)?);
            let read = |bytes: &mut [u8]| bytes[..] == IMAGE[..];
            let right = call.field::<u64>(0)? == 24
                && len as usize == IMAGE.len()
                // Not committed.
                && call.field::<u32>(20)? == 0
                && call.memory().with(address, IMAGE.len(), read);
            if !right {
                return Ok(Status::IN_USE);
            }
            if self.sev.get() != 0 {
                return Ok(Status::INVALID_PLATFORM_STATE);
            }
            let status = self.image.get().unwrap_or(Status::SUCCESS);
            if status.is_success() {
                self.minor.set(56);
                self.waits.set(true);
                self.host.cached.store(true, Relaxed);
            }
            Ok(status)
        }
    }

    fn platform(
        firmware: &Firmware,
    ) -> Result<(faux::Registration, Platform<impl Transport + '_>)> {
        let (faux, dev) = device()?;
        let transport = Scripted::new(|call: &Call| firmware.execute(call));
        let mut platform = Platform::unidentified(Channel::new(dev, transport, firmware.host)?);
        platform.identify()?;
        Ok((faux, platform))
    }

    /// A page that firmware has made a guest's context of.
    fn guest(p: &mut Platform<impl Transport>) -> Result<(usize, u64)> {
        let page = p.alloc_firmware_page(Gfp::KERNEL)?;
        let address = direct_map::phys(page.cast()) | mem_encrypt::sme_mask();
        issue(p, CommandId::SNP_GCTX_CREATE, &mut address.to_le_bytes())
            .map_err(|failure| failure.errno)?;
        Ok((page as usize, address))
    }

    fn issue(
        p: &mut Platform<impl Transport>,
        id: CommandId,
        data: &mut [u8],
    ) -> Result<(), Failure> {
        // SAFETY: The command names nothing of others.
        let memory = unsafe { CallerMemory::trust() };
        p.relay(Relayed::new(id.row()).ok_or(EINVAL)?, data, &memory)
    }

    #[test]
    fn each_answer_has_its_result() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let before = leaked();
        // Some have another meaning than with other commands.
        let cause = |status: Status| status.cause();
        for (answer, result, words) in [
            (Status::SUCCESS, Ok(()), "updated from 1.55.0 to 1.56.0"),
            (Status::BAD_SIGNATURE, Err(Refusal::Invalid), "AMD has not"),
            (Status::INVALID_PARAM, Err(Refusal::Invalid), "not the form"),
            (Status::UNSUPPORTED, Err(Refusal::Invalid), "another CPU"),
            (Status::BAD_VERSION, Err(Refusal::Invalid), "image is older"),
            (Status::BAD_SVN, Err(Refusal::Invalid), "image is older"),
            (
                Status::INVALID_CONFIG,
                Err(Refusal::Invalid),
                "image is older",
            ),
            (Status::INVALID_LEN, Err(Refusal::Size), "wrong length"),
            (Status::SHUTDOWN_REQUIRED, Err(Refusal::Busy), "end all SNP"),
            (
                Status::INVALID_PLATFORM_STATE,
                Err(Refusal::Busy),
                cause(Status::INVALID_PLATFORM_STATE),
            ),
            (
                Status::UPDATE_FAILED,
                Err(Refusal::ReadWrite),
                cause(Status::UPDATE_FAILED),
            ),
            (
                Status::RESTORE_REQUIRED,
                Err(Refusal::ReadWrite),
                "image of 1.55.0 now",
            ),
            (
                Status::HWERROR_PLATFORM,
                Err(Refusal::Hardware),
                cause(Status::HWERROR_PLATFORM),
            ),
            (
                Status::HWERROR_UNSAFE,
                Err(Refusal::Hardware),
                cause(Status::HWERROR_UNSAFE),
            ),
            (
                Status::INVALID_COMMAND,
                Err(Refusal::Hardware),
                "while it runs; put",
            ),
            (
                Status::RESOURCE_LIMIT,
                Err(Refusal::Hardware),
                cause(Status::RESOURCE_LIMIT),
            ),
            (
                Status::new(0x9000),
                Err(Refusal::Hardware),
                cause(Status::new(0x9000)),
            ),
        ] {
            for sev in [false, true] {
                let firmware = Firmware::new(&HOST);
                let (_faux, mut p) = platform(&firmware)?;
                check!(p.init(true, 0).is_ok());
                check!(sev || p.stop_sev().is_ok());
                HOST.forget_events();
                firmware.image.set(Some(answer));
                said::forget();
                let said = p.hot_load(&IMAGE, false);
                let lines = match answer {
                    Status::SUCCESS => &["firmware-provisional"][..],
                    Status::RESTORE_REQUIRED if sev => {
                        &["firmware-unusable", "sev-off-after-image"]
                    }
                    Status::RESTORE_REQUIRED => &["firmware-unusable"],
                    _ => &["image-refused"],
                };
                check!(said::only(lines), "{} {}", answer, sev);
                let words = match lines {
                    ["firmware-unusable", _] => "until the first SEV or SEV-ES guest",
                    _ => words,
                };
                check!(said::with(fmt!("{words}")), "{} {}", answer, sev);
                check!(
                    said.as_ref().map(|_| ()).map_err(|err| *err) == result,
                    "{}",
                    answer
                );
                check!(said.is_ok_and(|l| l.whole && l.guests == 0) == result.is_ok());
                // SEV is as it was, unless firmware does not work.
                let works = answer != Status::RESTORE_REQUIRED;
                let mut events = KVec::new();
                for (when, some) in [
                    (sev, &[STATUS, SHUTDOWN][..]),
                    (true, &[EX]),
                    (result.is_ok(), &[SNP_DF_FLUSH]),
                    (result.is_ok(), &QUERIES),
                    (sev && works, &[INIT, DF_FLUSH]),
                ] {
                    if when {
                        events.extend_from_slice(some, GFP_KERNEL)?;
                    }
                }
                check!(HOST.saw(&events), "{} {}", answer, sev);
                check!((p.sev == Sev::Init) == (sev && works), "{}", answer);
                check!(p.sev_on_demand == (sev && !works), "{}", answer);
                check!(p.is_snp_up(), "{}", answer);
                // What is known of firmware is what it is now, also to the panic path.
                let new = result.is_ok();
                check!(p.api.at_least((1, 56)) == new && p.has_x86_snp_shutdown() == new);
                check!(p.channel.record().x86_snp_shutdown() == new, "{}", answer);
                if !works {
                    needs_another_image(&firmware, &mut p)?;
                }
                p.shutdown(Leaving::KvmGone);
                HOST.forget();
            }
        }
        check!(leaked() == before);
        Ok(())
    }

    /// Firmware that does not work is asked nothing, so no page of a command is lost, until an
    /// image comes that works.
    fn needs_another_image(firmware: &Firmware, p: &mut Platform<impl Transport>) -> Result {
        let restore =
            |failure: Failure| failure.fw_error == Some(Status::RESTORE_REQUIRED.raw().into());
        firmware.host.forget_events();
        check!(p.platform_status().is_err_and(restore));
        check!(p.pek_gen().is_err_and(restore));
        firmware.image.set(Some(Status::BAD_VERSION));
        said::forget();
        check!(p.hot_load(&IMAGE, false).is_err());
        check!(said::only(&["firmware-still-unusable"]));
        check!(said::with(fmt!("the image is older")));
        check!(p.platform_status().is_err_and(restore));
        check!(firmware.host.saw(&[EX]));
        firmware.image.set(Some(Status::SUCCESS));
        check!(p.hot_load(&IMAGE, false).is_ok_and(|l| l.whole));
        check!(p.platform_status().is_ok());
        Ok(())
    }

    /// The firmware that the BIOS has loaded works.
    #[test]
    fn a_reset_ends_what_an_image_has_broken() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let firmware = Firmware::new(&HOST);
        let (_faux, mut p) = platform(&firmware)?;
        firmware.image.set(Some(Status::RESTORE_REQUIRED));
        check!(p.hot_load(&IMAGE, false).is_err() && p.platform_status().is_err());
        HOST.forget_events();
        p.check_for_reset();
        check!(HOST.saw(&[]) && p.platform_status().is_err());
        p.after_reset();
        check!(HOST.saw(&QUERIES) && p.platform_status().is_ok());
        Ok(())
    }

    #[test]
    fn sleep_does_not_end_what_an_image_has_broken() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let firmware = Firmware::new(&HOST);
        let (_faux, mut p) = platform(&firmware)?;
        check!(p.init(true, 0).is_ok());
        firmware.image.set(Some(Status::RESTORE_REQUIRED));
        check!(p.hot_load(&IMAGE, false).is_err());
        HOST.forget_events();
        p.after_sleep();
        check!(HOST.saw(&[]) && p.platform_status().is_err());
        p.abandon_snp();
        HOST.forget();
        Ok(())
    }

    #[test]
    fn what_is_up_decides() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const STALE: &[Event] = &[STATUS, SHUTDOWN, EX, SNP_STATUS, FEATURE_INFO, STATUS];
        // SNP, the state of legacy SEV, whether it is ours; the result, and what firmware is asked.
        for (snp, sev, ours, result, events) in [
            (
                false,
                0,
                false,
                Ok(()),
                &[EX, SNP_STATUS, FEATURE_INFO, STATUS][..],
            ),
            (
                true,
                0,
                true,
                Ok(()),
                &[EX, SNP_DF_FLUSH, SNP_STATUS, FEATURE_INFO, STATUS],
            ),
            (true, 2, true, Err(Refusal::Busy), &[STATUS]),
            // Left by an earlier kernel: it is stopped, and started when kvm-amd is loaded.
            (false, 1, false, Ok(()), STALE),
            (false, 2, false, Err(Refusal::Busy), &[STATUS]),
        ] {
            let firmware = Firmware::new(&HOST);
            firmware.sev.set(if ours { 0 } else { sev });
            let (_faux, mut p) = platform(&firmware)?;
            if ours {
                check!(p.init(true, 0).is_ok() && p.is_snp_up() == snp);
                check!(sev != 0 || p.stop_sev().is_ok());
                firmware.sev.set(sev);
            }
            HOST.forget_events();
            said::forget();
            let said = p.hot_load(&IMAGE, false);
            check!(said.as_ref().is_ok_and(|l| l.whole) == result.is_ok());
            let said = said.map(|_| ());
            check!(said == result, "{} {} {}", snp, sev, ours);
            let busy = result.is_err();
            check!(said::only(match busy {
                true => &["image-sev-guests"],
                false => &["firmware-provisional"],
            }));
            check!(!busy || said::with(fmt!("there are 1 SEV or SEV-ES")));
            check!(HOST.saw(events), "{} {} {}", snp, sev, ours);
            p.shutdown(Leaving::KvmGone);
            HOST.forget();
        }
        Ok(())
    }

    #[test]
    fn guests_need_a_kvm_that_can_be_asked() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let firmware = Firmware::new(&HOST);
        let (_faux, mut p) = platform(&firmware)?;
        check!(p.init(true, 0).is_ok() && p.stop_sev().is_ok());
        let guests = [guest(&mut p)?, guest(&mut p)?];
        HOST.forget_events();
        said::forget();
        check!(p
            .hot_load(&IMAGE, false)
            .is_err_and(|err| err == Refusal::Busy));
        check!(HOST.saw(&[]) && said::only(&["image-snp-guests"]));
        check!(said::with(fmt!("there are 2 SNP guest(s)")));
        check!(p
            .hot_load(&IMAGE, true)
            .is_ok_and(|l| l.whole && l.guests == 2));
        HOST.forget_events();

        // Whoever comes before KVM has asked about all guests is not refused.
        let update = |gctx: u64| {
            let mut data = [0; 32];
            data[..8].copy_from_slice(&gctx.to_le_bytes());
            data
        };
        let id = CommandId::SNP_LAUNCH_UPDATE;
        check!(issue(&mut p, id, &mut update(guests[0].1)).is_ok());
        let taken = [
            Command(id),
            Command(CommandId::SNP_GUEST_STATUS),
            Command(id),
        ];
        check!(HOST.saw(&taken));
        // A context that nobody has, and commands that are early for another reason.
        firmware.waits.set(true);
        let early = |result: Result<(), Failure>| {
            let status = Status::INVALID_GUEST_STATE.raw();
            result.is_err_and(|failure| failure.fw_error == Some(status.into()))
        };
        check!(early(issue(&mut p, id, &mut update(guests[0].1 + 0x10000))));
        check!(HOST.saw(&[Command(id)]));
        firmware
            .refused
            .set(Some((id, Status::INVALID_GUEST_STATE)));
        check!(early(issue(&mut p, id, &mut update(guests[1].1))));
        check!(HOST.saw(&taken));
        p.guests_taken_over();
        check!(early(issue(&mut p, id, &mut update(guests[1].1))));
        check!(HOST.saw(&[Command(id)]));

        for (page, context) in guests {
            let decommission = CommandId::SNP_DECOMMISSION;
            check!(issue(&mut p, decommission, &mut context.to_le_bytes()).is_ok());
            p.free_firmware_page(page);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    #[test]
    fn what_follows_an_image_may_fail() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let refuse = Status::RESOURCE_LIMIT;
        for (id, sev) in [
            (CommandId::SNP_DF_FLUSH, Sev::Init),
            (CommandId::SNP_FEATURE_INFO, Sev::Init),
            (CommandId::INIT, Sev::Uninit),
        ] {
            let firmware = Firmware::new(&HOST);
            let (_faux, mut p) = platform(&firmware)?;
            check!(p.init(true, 0).is_ok());
            firmware.refused.set(Some((id, refuse)));
            let whole = id == CommandId::INIT;
            said::forget();
            check!(
                p.hot_load(&IMAGE, false).is_ok_and(|l| l.whole == whole),
                "{:?}",
                id
            );
            check!(p.sev == sev && p.sev_on_demand == whole, "{:?}", id);
            match whole {
                true => check!(said::only(&[
                    "firmware-provisional",
                    "command-failed",
                    "sev-off-after-image"
                ])),
                false => check!(said::only(&["command-failed", "firmware-provisional"])),
            }
            firmware.refused.set(None);
            p.shutdown(Leaving::KvmGone);
            HOST.forget();
        }
        // SEV that does not stop.
        let firmware = Firmware::new(&HOST);
        let (_faux, mut p) = platform(&firmware)?;
        check!(p.init(true, 0).is_ok());
        for id in [CommandId::PLATFORM_STATUS, CommandId::SHUTDOWN] {
            firmware.refused.set(Some((id, refuse)));
            HOST.forget_events();
            said::forget();
            let said = p.hot_load(&IMAGE, false);
            check!(said.is_err_and(|err| err == Refusal::Hardware), "{:?}", id);
            check!(said::only(&["command-failed", "image-sev-stays"]));
            let events = [STATUS, SHUTDOWN];
            check!(HOST.saw(&events[..if id == CommandId::SHUTDOWN { 2 } else { 1 }]));
            check!(p.sev == Sev::Init, "{:?}", id);
        }
        firmware.refused.set(None);
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    #[test]
    fn an_image_that_is_not_answered() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let before = leaked();
        let firmware = Firmware::new(&HOST);
        let (_faux, mut p) = platform(&firmware)?;
        check!(p.init(true, 0).is_ok() && p.stop_sev().is_ok());
        // Longer than any piece of memory.
        let long = KVVec::from_elem(0x5a, (4 << 20) + 1, GFP_KERNEL)?;
        HOST.forget_events();
        said::forget();
        check!(p
            .hot_load(&long, false)
            .is_err_and(|err| err == Refusal::Size));
        check!(HOST.saw(&[]) && said::only(&["image-too-long"]));
        // The longest that there may be goes to firmware, which refuses it.
        let longest = long.get(1..).ok_or(EINVAL)?;
        check!(p
            .hot_load(longest, false)
            .is_err_and(|err| err == Refusal::Hardware));
        check!(HOST.saw(&[EX]));
        firmware.image.set(None);
        said::forget();
        check!(p
            .hot_load(&IMAGE, false)
            .is_err_and(|err| err == Refusal::Timeout));
        // The mailbox says the rest.
        check!(HOST.saw(&[EX]) && said::only(&["pages-lost", "pages-lost"]));
        // Firmware may still read it, and its command buffer.
        check!(leaked() == before + 3);
        said::forget();
        check!(p
            .hot_load(&IMAGE, false)
            .is_err_and(|err| err == Refusal::Hardware));
        check!(HOST.saw(&[]) && leaked() == before + 3);
        check!(said::only(&["image-not-loaded"]));
        check!(HOST.snp_en.load(Relaxed) == CPUS);
        p.abandon_snp();
        Ok(())
    }
}
