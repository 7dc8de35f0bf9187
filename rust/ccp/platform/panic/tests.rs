// SPDX-License-Identifier: GPL-2.0

//! A panic: what firmware is still asked, and what is told.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_panic)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        mailbox::{
            NotIdle,
            Wait, //
        },
        nv::Contents,
        platform::testing::*,
        sys::errno::ENODATA,
        testing::script::silence, //
    };
    use core::sync::atomic::AtomicBool;

    /// The kernel panics. `busy`: firmware is at work on a command of whoever holds the lock.
    fn panic(
        host: &'static FakeHost,
        plan: &Plan,
        p: &Platform<impl Transport>,
        busy: Option<NotIdle>,
    ) -> Result {
        host.forget_events();
        plan.reclaims.set(0);
        let polled = Scripted::new(|call: &Call| match call.wait {
            Wait::Poll => plan.execute(host, call),
            Wait::Interrupt => silence(call.command),
        });
        let polled = match busy {
            Some(why) => polled.busy(why),
            None => polled,
        };
        let mut last = p.last_shutdown(polled)?;
        said::forget();
        host.iommu_asked();
        last.run();
        Ok(())
    }

    #[test]
    fn panic_stops_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let lost = Refuses(Status::DFFLUSH_REQUIRED);
        let owed = Refuses(Status::WBINVD_REQUIRED);
        const ONCE: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN];
        const TWICE: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN];
        const HALF: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH];
        for x86 in [true, false] {
            // What firmware does; what it is asked; whether SNP is over then.
            for (faults, busy, events, over) in [
                (&[][..], None, ONCE, true),
                (&[(CommandId::SNP_SHUTDOWN_EX, lost, 1)], None, TWICE, true),
                (&[(CommandId::SNP_SHUTDOWN_EX, lost, 2)], None, TWICE, false),
                (
                    &[
                        (CommandId::SNP_SHUTDOWN_EX, lost, 1),
                        (CommandId::SNP_DF_FLUSH, owed, 1),
                    ],
                    None,
                    HALF,
                    false,
                ),
                (
                    &[
                        (CommandId::SNP_SHUTDOWN_EX, lost, 1),
                        (CommandId::SNP_DF_FLUSH, lost, 1),
                    ],
                    None,
                    HALF,
                    false,
                ),
                (&[(CommandId::SNP_SHUTDOWN_EX, owed, 1)], None, ONCE, false),
                // What SEV says is of no interest.
                (&[(CommandId::SHUTDOWN, lost, 1)], None, ONCE, true),
                (
                    &[(
                        CommandId::SHUTDOWN,
                        Refuses(Status::INVALID_PLATFORM_STATE),
                        1,
                    )],
                    None,
                    ONCE,
                    true,
                ),
                (&[], Some(NotIdle::Busy), &[], false),
                (&[], Some(NotIdle::Gone), &[], false),
            ] {
                let plan = Plan::new();
                let (_faux, mut p) = platform(&HOST, &plan, x86)?;
                check!(p.init(true, 0).is_ok());
                plan.set(faults);
                panic(&HOST, &plan, &p, busy)?;
                check!(HOST.saw(events), "{} {:?}", x86, busy);
                // What is told, and how many pages of the TMR stay firmware's by that.
                let (lines, left) = match (over, x86) {
                    (true, true) => (&[][..], None),
                    (true, false) => (&["panic-snp-en-stays"][..], Some(0)),
                    (false, _) => (&["panic-snp-stays"][..], Some(512)),
                };
                check!(said::only(lines), "{} {:?}", x86, busy);
                let why = match busy {
                    Some(NotIdle::Busy) => "firmware still works on ",
                    Some(NotIdle::Gone) => "firmware is gone since ",
                    None => ": ",
                };
                if !over {
                    check!(said::with(fmt!("{why}")), "{} {:?}", x86, busy);
                    check!(said::with(fmt!("; SNP_EN is set, ")), "{} {:?}", x86, busy);
                }
                check!(left.is_none_or(|left| said::with(fmt!(
                    "the memory of 0 guest(s) and {} page(s) of firmware",
                    left + leaked()
                ))));
                // The TMR is taken back where SNP_EN stays.
                let taken = !x86 && busy.is_none();
                check!(
                    plan.reclaims.get() == if taken { 512 } else { 0 },
                    "{}",
                    x86
                );
                check!(HOST.assigned() == if taken { 0 } else { 512 }, "{}", x86);
                check!(
                    (HOST.snp_en.load(Relaxed) == 0) == (x86 && over),
                    "{} {:?}",
                    x86,
                    busy
                );
                check!(p.channel.record().snp() != over, "{} {:?}", x86, busy);
                // The IOMMU's pages come back where the RMP stays, and firmware has let go of them.
                check!(HOST.iommu_asked() == usize::from(over && !x86));
                // For the test alone: its pages come back.
                plan.set(&[]);
                p.shutdown(Leaving::KvmGone);
                HOST.forget();
                HOST.snp_en.store(0, Relaxed);
            }
        }
        Ok(())
    }

    /// It is asked to clear SNP_EN, says that it has, and has not.
    #[test]
    fn panic_tells_of_all_pages_if_snp_en_stays_after_all() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        plan.clears_snp_en.set(false);
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]) && HOST.snp_en.load(Relaxed) == CPUS);
        check!(said::only(&["panic-snp-en-stays"]));
        check!(said::with(fmt!(
            "the memory of 0 guest(s) and {} page(s) of firmware",
            512 + leaked()
        )));
        check!(plan.reclaims.get() == 0 && HOST.assigned() == 512 && HOST.iommu_asked() == 1);
        Ok(())
    }

    /// As the kernel has it called.
    #[test]
    fn the_notifier_stops_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.start_snp(0).is_ok());
        HOST.forget_events();
        let mut last = p.last_shutdown(Scripted::new(|call: &Call| {
            HOST.note(Command(call.command.id));
            Ok(Status::SUCCESS)
        }))?;
        check!(last.call(0) == Ok(()) && HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        Ok(())
    }

    #[test]
    fn panic_tells_of_pages_of_the_iommu_that_stay() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        check!(p.start_snp(0).is_ok());
        HOST.iommu.store(EIO.to_errno(), Relaxed);
        panic(&HOST, &plan, &p, None)?;
        check!(said::only(&["panic-iommu-pages"]) && said::with(fmt!("taken back ({EIO:?})")));
        check!(HOST.iommu_asked() == 1 && HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        Ok(())
    }

    /// CPUs that are being stopped: whether they wait, and what they were told.
    struct Others {
        held: AtomicBool,
        in_time: AtomicBool,
        host: &'static FakeHost,
    }

    /// They have written back, and were let go.
    const WRITTEN_BACK: Event = Keep(100);

    const LET_GO: Event = Keep(101);

    impl crate::stopped_cpus::OtherCpus for Others {
        fn are_held(&self) -> bool {
            self.held.load(Relaxed)
        }

        fn write_back(&self) -> bool {
            self.host.note(WRITTEN_BACK);
            self.in_time.load(Relaxed)
        }

        fn let_go(&self) {
            self.host.note(LET_GO);
        }
    }

    /// Guests are ended first, one after the other, if the other CPUs can pay for it; they are let
    /// go in any case.
    #[test]
    fn panic_ends_guests() -> Result {
        static HOST: FakeHost = FakeHost::new();
        static OTHERS: Others = Others {
            held: AtomicBool::new(false),
            in_time: AtomicBool::new(true),
            host: &HOST,
        };
        const STUCK: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN, LET_GO];
        const REFUSED: &[Event] = &[DECOMMISSION, DECOMMISSION, LET_GO];
        const ENDED: &[Event] = &[
            DECOMMISSION,
            DECOMMISSION,
            WRITTEN_BACK,
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            LET_GO,
        ];
        // Whether the others wait, one guest is refused, the others are in time; what is told.
        for (held, refused, in_time, events, lines) in [
            (
                false,
                false,
                true,
                STUCK,
                &["panic-guests-stay", "panic-snp-stays"][..],
            ),
            (true, false, true, ENDED, &["panic-guests-ended"]),
            (true, false, false, ENDED, &["panic-guests-ended"]),
            (true, true, true, REFUSED, &["panic-snp-stays"]),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            // One of three has gone.
            let guests = [guest(&mut p)?, guest(&mut p)?, guest(&mut p)?];
            relay_context(&mut p, CommandId::SNP_DECOMMISSION, guests[0].1)?;
            plan.dirty.set(false);
            OTHERS.held.store(held, Relaxed);
            OTHERS.in_time.store(in_time, Relaxed);
            HOST.forget_events();
            let polled = Scripted::new(|call: &Call| match call.wait {
                // The second of two.
                Wait::Poll if refused && call.is(CommandId::SNP_DECOMMISSION) => {
                    let answer = plan.execute(&HOST, call);
                    match plan.active.get() {
                        0 => Ok(Status::INVALID_GUEST),
                        _ => answer,
                    }
                }
                Wait::Poll => plan.execute(&HOST, call),
                Wait::Interrupt => silence(call.command),
            });
            let mut last = p.last_shutdown(polled)?;
            last.others = &OTHERS;
            said::forget();
            last.run();
            check!(HOST.saw(events), "{} {}", held, refused);
            check!(said::only(lines), "{} {}", held, refused);
            // The guests that are left are those that the driver knows.
            let told = match events.len() == ENDED.len() {
                true => said::with(fmt!("2 SNP guest(s) ended for the panic")),
                false => said::with(fmt!("the memory of 2 guest(s) and ")),
            };
            check!(told, "{} {}", held, refused);
            check!(said::with(fmt!("but not all CPUs have written")) != in_time);
            check!(
                (HOST.snp_en.load(Relaxed) == 0) == (events.len() == ENDED.len()),
                "{}",
                held
            );
            // For the test alone: its pages come back.
            plan.active.set(0);
            plan.dirty.set(false);
            p.shutdown(Leaving::KvmGone);
            for (page, _) in guests {
                p.free_firmware_page(page);
            }
            HOST.forget();
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    /// The pages of both areas that stay firmware's count.
    #[test]
    fn panic_tells_of_pages_that_it_cannot_take_back() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (first, left) in [(0, 3), (511, 2), (512, 3)] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, false)?;
            p.nv = Nv::Unread(ENODATA);
            p.set_nv(Contents::blank());
            check!(p.init(true, 0).is_ok() && HOST.assigned() == 512 + 8);
            HOST.shared_fails.set(first, left);
            panic(&HOST, &plan, &p, None)?;
            check!(said::only(&["panic-snp-en-stays"]), "{}", first);
            let pages = left + leaked();
            check!(
                said::with(fmt!("and {pages} page(s) of firmware")),
                "{first}"
            );
            check!(HOST.assigned() == left as i32, "{}", first);
            // For the test alone: its pages come back.
            HOST.shared_fails.set(0, 0);
            p.shutdown(Leaving::KvmGone);
            HOST.forget();
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn panic_asks_nothing_of_firmware_without_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        check!(p.start_sev().is_ok());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        p.shutdown(Leaving::KvmGone);
        plan.once(CommandId::SNP_INIT_EX, Refuses(Status::INVALID_CONFIG));
        check!(p.init(true, 0).is_err());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        check!(p.init(true, 0).is_ok());
        p.shutdown(Leaving::KvmGone);
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        Ok(())
    }

    #[test]
    fn panic_stops_firmware_that_was_left_initialised() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        plan.snp_init.set(true);
        check!(p.identify().is_ok());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        Ok(())
    }
}
