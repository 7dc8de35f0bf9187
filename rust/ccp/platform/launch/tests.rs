// SPDX-License-Identifier: GPL-2.0

//! The launch of one page against firmware and an RMP that refuse at each step.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_launch)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::*;
    use crate::{
        cmd::Channel,
        error::CmdError,
        gmem::Contents,
        pages::leaked,
        sys::{
            guest_rmp::Owner,
            pages::Pages,
            rmp::Frames, //
        },
        testing::{
            check,
            compound,
            device,
            guest_rmp::FakeRmp,
            script::{
                silence,
                Call,
                Event::Command,
                FakeHost,
                Scripted, //
            }, //
        },
        wire::Status,
    };
    use core::cell::Cell;

    const ASID: u32 = 7;
    const GFN: u64 = 9;
    const GCTX: u64 = 0x7654_3000;
    const NORMAL: u32 = 1;
    const CPUID: u32 = 6;

    /// What firmware answers; [`None`] is silence.
    #[derive(Clone, Copy)]
    struct Answers {
        update: Option<Status>,
        reclaim: Status,
    }

    const GOOD: Answers = Answers {
        update: Some(Status::SUCCESS),
        reclaim: Status::SUCCESS,
    };

    struct Outcome {
        result: Result<(), Failure>,
        lost: usize,
        /// Of another page, after silence.
        again: Option<Result<(), Failure>>,
        /// First bytes of the page, as firmware found it, and of the source in the end.
        given: u8,
        source: u8,
    }

    /// Launches page 1 of a block with a copy of page 2, which is filled with 0x22.
    fn launch(
        host: &'static FakeHost,
        rmp: &FakeRmp,
        block: &mut Pages,
        page_type: u32,
        answers: Answers,
    ) -> Result<Outcome> {
        let frames = Frames::of(block);
        let (page, source) = (frames.skip(1).first(1), frames.skip(2).first(1));
        block.bytes_mut().fill(0x11);
        // SAFETY: The block is this test's.
        let memory = unsafe { CallerMemory::trust() };
        memory.write(source.phys(), &[0x22; 4096])?;
        let (_faux, dev) = device()?;
        let given = Cell::new(0);
        let script = |call: &Call| -> Result<Status, CmdError> {
            host.note(Command(call.command.id));
            if call.is(CommandId::SNP_PAGE_RECLAIM) {
                return Ok(answers.reclaim);
            }
            let spa = call.field::<u64>(16).unwrap_or(0);
            let right = call.field::<u64>(0) == Ok(GCTX)
                && call.field::<u64>(8) == Ok(u64::from(page_type) << 1)
                && call.field::<u64>(24) == Ok(0)
                && spa == page.phys() | crate::sys::mem_encrypt::sme_mask();
            call.memory().with(page.phys(), 1, |bytes| {
                for byte in bytes {
                    given.set(if right { *byte } else { 0xff });
                    // What firmware leaves in a page that it refuses.
                    *byte = 0x33;
                }
            });
            answers.update.map_or_else(|| silence(call.command), Ok)
        };
        let transport = Scripted::new(script);
        let mut platform = Platform::unidentified(Channel::new(dev, transport, host)?);
        let before = leaked();
        let mut launch = |page| {
            let contents = Contents::CopyOf(source);
            LaunchPage::new(GCTX, page, GFN, ASID, page_type, contents)
                .map_err(Failure::from)
                .and_then(|page| platform.launch_page(rmp, &page, &memory))
        };
        let result = launch(page);
        let silent = answers.update.is_none();
        let again = silent.then(|| launch(frames.skip(3).first(1)));
        let mut first = [0];
        memory.read(source.phys(), &mut first)?;
        Ok(Outcome {
            result,
            again,
            lost: leaked() - before,
            given: given.get(),
            source: first[0],
        })
    }

    fn block() -> Result<(Pages, FakeRmp)> {
        let pages = compound(2)?;
        let rmp = FakeRmp::new(Frames::of(&pages))?;
        Ok((pages, rmp))
    }

    fn errno(outcome: &Outcome) -> Option<(Error, Option<i32>)> {
        let failure = outcome.result.err()?;
        Some((failure.errno, failure.fw_error))
    }

    const UPDATE: crate::testing::script::Event = Command(CommandId::SNP_LAUNCH_UPDATE);
    const RECLAIM: crate::testing::script::Event = Command(CommandId::SNP_PAGE_RECLAIM);

    #[test]
    fn a_page_is_filled_assigned_and_launched() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (mut pages, rmp) = block()?;
        let outcome = launch(&HOST, &rmp, &mut pages, NORMAL, GOOD)?;
        check!(errno(&outcome).is_none() && outcome.given == 0x22 && outcome.lost == 0);
        check!(HOST.saw(&[UPDATE]) && rmp.assigns() == 1 && rmp.immutable() == 1);
        let page = Frames::of(&pages).skip(1).first(1);
        check!(rmp.all(page, Some((Level::Size4K, ASID, GFN))));
        Ok(())
    }

    /// Taken back, and what firmware says of a CPUID page goes to the source: of no other page, and
    /// for no other reason.
    #[test]
    fn a_page_that_firmware_refuses_is_taken_back() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let rows = [
            (NORMAL, Status::INVALID_PARAM, 0x22),
            (NORMAL, Status::INVALID_GUEST_STATE, 0x22),
            (CPUID, Status::INVALID_GUEST_STATE, 0x22),
            (CPUID, Status::INVALID_PARAM, 0x33),
        ];
        for (page_type, status, source) in rows {
            let (mut pages, rmp) = block()?;
            let answers = Answers {
                update: Some(status),
                ..GOOD
            };
            let outcome = launch(&HOST, &rmp, &mut pages, page_type, answers)?;
            check!(
                errno(&outcome) == Some((EIO, Some(status.raw().into()))),
                "{}",
                status
            );
            check!(
                outcome.source == source && outcome.lost == 0,
                "{} {}",
                page_type,
                status
            );
            check!(HOST.saw(&[UPDATE, RECLAIM]), "{}", status);
        }
        Ok(())
    }

    #[test]
    fn a_page_that_does_not_come_back_is_lost() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let refused = Some(Status::INVALID_PARAM);
        // Firmware keeps it, or the RMP does.
        for rmp_refuses in [false, true] {
            let (mut pages, rmp) = block()?;
            HOST.shared_fails.set(0, usize::from(rmp_refuses));
            let reclaim = match rmp_refuses {
                true => Status::SUCCESS,
                false => Status::INVALID_PAGE_STATE,
            };
            let answers = Answers {
                update: refused,
                reclaim,
            };
            let outcome = launch(&HOST, &rmp, &mut pages, CPUID, answers)?;
            check!(
                errno(&outcome) == Some((EFAULT, Some(0x16))),
                "{}",
                rmp_refuses
            );
            // Nothing is read of a page that is not ours.
            check!(
                outcome.lost == 1 && outcome.source == 0x22,
                "{}",
                rmp_refuses
            );
            check!(HOST.saw(&[UPDATE, RECLAIM]), "{}", rmp_refuses);
        }
        Ok(())
    }

    #[test]
    fn firmware_that_does_not_answer_keeps_the_page() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (mut pages, rmp) = block()?;
        let answers = Answers {
            update: None,
            ..GOOD
        };
        let outcome = launch(&HOST, &rmp, &mut pages, NORMAL, answers)?;
        check!(errno(&outcome) == Some((EFAULT, Some(0))));
        // It, and the command buffer.
        check!(outcome.lost == 2, "{}", outcome.lost);
        check!(HOST.saw(&[UPDATE]));
        // From then on no page is given away.
        let again = outcome.again.and_then(Result::err).ok_or(EINVAL)?;
        check!(again.errno == EBUSY && again.fw_error.is_none() && rmp.assigns() == 1);
        Ok(())
    }

    #[test]
    fn a_page_that_somebody_has_is_not_touched() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (mut pages, rmp) = block()?;
        let page = Frames::of(&pages).skip(1).first(1);
        let owner = Owner {
            asid: ASID,
            gpa: GFN << 12,
        };
        rmp.assign(page, Level::Size4K, owner, true)?;
        let outcome = launch(&HOST, &rmp, &mut pages, NORMAL, GOOD)?;
        check!(errno(&outcome) == Some((EEXIST, None)) && HOST.saw(&[]));
        check!(pages.bytes().get(4096) == Some(&0x11) && outcome.lost == 0);
        Ok(())
    }

    #[test]
    fn a_page_that_the_rmp_refuses_stays_ours() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (mut pages, rmp) = block()?;
        rmp.assign_fails.set(0, 1);
        let outcome = launch(&HOST, &rmp, &mut pages, NORMAL, GOOD)?;
        check!(errno(&outcome) == Some((EIO, None)) && HOST.saw(&[]) && outcome.lost == 0);
        Ok(())
    }
}
