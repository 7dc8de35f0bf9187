// SPDX-License-Identifier: GPL-2.0

//! Guests' pages against an RMP that refuses at each place in turn, and that reports what the
//! kernel's functions would repeat for ever.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_gmem)]
#[allow(
    unsafe_code,
    reason = "the macro's, and a look at memory by its address"
)]
mod suite {
    use super::super::*;
    use crate::{
        pages::leaked,
        sys::{
            pages::Pages,
            physical::Physical,
            said, //
        },
        testing::{
            check,
            compound,
            guest_rmp::FakeRmp, //
        },
    };

    const ASID: u32 = 7;
    const GFN: u64 = 0x200;

    fn owner(asid: u32, gfn: u64) -> Owner {
        Owner {
            asid,
            gpa: gfn << 12,
        }
    }

    /// Two pages of 2 MiB.
    fn block() -> Result<(Pages, FakeRmp)> {
        let mut pages = compound(10)?;
        pages.bytes_mut().fill(0x5a);
        let rmp = FakeRmp::new(Frames::of(&pages))?;
        Ok((pages, rmp))
    }

    fn private(frames: Frames, level: Level) -> Result<Private> {
        Private::new(frames, GFN, level, ASID)
    }

    /// Whether the block still holds what the host wrote although its owner has freed it, so that
    /// nobody else has it: KASAN reports a look at pages that were freed.
    fn survives(pages: Pages) -> bool {
        let (start, len) = (pages.phys(), pages.len());
        drop(pages);
        // SAFETY: The one address is that of a block that is lost.
        let memory = unsafe { Physical::access() };
        memory.is_filled(start, len, 0x5a)
    }

    #[test]
    fn pages_are_traced_as_they_come_and_go() -> Result {
        for (level, count) in [(Level::Size4K, 2), (Level::Size2M, 1024)] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages).first(count);
            let (pfn, each) = (frames.pfn(), level.pages());
            let second = pfn + each as u64;
            let gpa = GFN << 12;
            let second_gpa = gpa + ((each as u64) << 12);
            said::forget();
            make_private(&rmp, &private(frames, level)?)?;
            check!(said::traced(&[
                fmt!("guest {pfn:#x} {each} {ASID} {gpa:#x}"),
                fmt!("guest {second:#x} {each} {ASID} {second_gpa:#x}"),
            ]));
            // They are this guest's.
            make_private(&rmp, &private(frames, level)?)?;
            check!(said::traced(&[]));
            check!(make_shared(&rmp, frames) == 0);
            check!(said::traced(&[
                fmt!("host {pfn:#x} {each} 0 0x0"),
                fmt!("host {second:#x} {each} 0 0x0"),
            ]));
        }
        Ok(())
    }

    #[test]
    fn pages_come_and_go_in_both_sizes() -> Result {
        for (level, count) in [(Level::Size4K, 3), (Level::Size2M, 1024)] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages).first(count);
            make_private(&rmp, &private(frames, level)?)?;
            check!(rmp.all(frames, Some((level, ASID, GFN))), "{:?}", level);
            check!(rmp.assigns() == count / level.pages(), "{:?}", level);
            // Whose entries are immutable firmware alone may change.
            check!(rmp.immutable() == 0, "{:?}", level);
            // Again: they are this guest's, and nothing is done.
            make_private(&rmp, &private(frames, level)?)?;
            check!(rmp.assigns() == count / level.pages(), "{:?}", level);
            check!(max_level(&rmp, frames) == level);
            check!(make_shared(&rmp, frames) == 0);
            check!(rmp.all(frames, None) && rmp.releases() == count / level.pages());
            check!(max_level(&rmp, frames) == Level::Size4K && rmp.is_legal());
        }
        Ok(())
    }

    #[test]
    fn arguments_fit_the_level() -> Result {
        let (pages, rmp) = block()?;
        let frames = Frames::of(&pages);
        let rows = [
            (frames.first(1), GFN, Level::Size4K, ASID, true),
            (frames.first(0), GFN, Level::Size4K, ASID, false),
            (frames.first(1), GFN, Level::Size4K, 0, false),
            (frames.first(1), 1 << 39, Level::Size4K, ASID, false),
            (frames.first(512), GFN, Level::Size2M, ASID, true),
            (frames.first(512), GFN + 1, Level::Size2M, ASID, false),
            (frames.first(511), GFN, Level::Size2M, ASID, false),
            (frames.skip(1).first(512), GFN, Level::Size2M, ASID, false),
        ];
        for (n, (frames, gfn, level, asid, right)) in rows.into_iter().enumerate() {
            check!(
                Private::new(frames, gfn, level, asid).is_ok() == right,
                "{}",
                n
            );
        }
        check!(rmp.assigns() == 0);
        Ok(())
    }

    /// What is assigned is not believed to be this guest's, at this address, in this size.
    #[test]
    fn somebody_elses_page_is_refused_and_left() -> Result {
        let rows = [
            // What is there, and what is asked for.
            (Level::Size4K, ASID + 1, GFN, Level::Size4K),
            (Level::Size4K, 0, GFN, Level::Size4K),
            (Level::Size4K, ASID, GFN + 1, Level::Size4K),
            (Level::Size2M, ASID + 1, GFN, Level::Size4K),
            (Level::Size2M, ASID, GFN + 512, Level::Size4K),
            (Level::Size2M, ASID + 1, GFN, Level::Size2M),
            (Level::Size2M, ASID, GFN + 512, Level::Size2M),
            // Its own, but in pieces.
            (Level::Size4K, ASID, GFN, Level::Size2M),
        ];
        for (n, (there, asid, gfn, asked)) in rows.into_iter().enumerate() {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages);
            rmp.assign(frames.first(there.pages()), there, owner(asid, gfn), false)?;
            let result = make_private(&rmp, &private(frames.first(asked.pages()), asked)?);
            check!(matches!(result, Err(err) if err == EEXIST), "{}", n);
            check!(
                rmp.assigns() == 1 && rmp.releases() == 0 && rmp.is_legal(),
                "{}",
                n
            );
        }
        // A piece of its own larger page is its own.
        let (pages, rmp) = block()?;
        let frames = Frames::of(&pages);
        rmp.assign(
            frames.first(512),
            Level::Size2M,
            owner(ASID, GFN - 5),
            false,
        )?;
        make_private(&rmp, &private(frames.skip(5).first(1), Level::Size4K)?)?;
        check!(rmp.assigns() == 1 && rmp.is_legal());
        Ok(())
    }

    /// One small page in the middle, of anybody, and there is no large one around it: RMPUPDATE
    /// would overlap.
    #[test]
    fn no_large_page_over_a_small_one() -> Result {
        for place in [0, 1, 511] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages).first(512);
            let small = frames.skip(place).first(1);
            rmp.assign(small, Level::Size4K, owner(3, 9), false)?;
            let result = make_private(&rmp, &private(frames, Level::Size2M)?);
            check!(matches!(result, Err(err) if err == EEXIST), "{}", place);
            check!(rmp.assigns() == 1 && rmp.is_legal(), "{}", place);
        }
        Ok(())
    }

    #[test]
    fn all_pages_or_none() -> Result {
        for (count, bad) in (1..=4).flat_map(|count| (0..count).map(move |bad| (count, bad))) {
            for stuck in [false, true] {
                let (pages, rmp) = block()?;
                let frames = Frames::of(&pages).first(count);
                rmp.assign_fails.set(bad, 1);
                if stuck {
                    rmp.release_fails.set(0, 1);
                }
                let before = leaked();
                let result = make_private(&rmp, &private(frames, Level::Size4K)?);
                check!(matches!(result, Err(err) if err == EFAULT), "{}", bad);
                // The first that was assigned is the one that does not come back.
                let lost = usize::from(stuck && bad > 0);
                check!(leaked() - before == lost, "{} {}", bad, stuck);
                check!(
                    rmp.all(frames.skip(lost), None) && rmp.is_legal(),
                    "{}",
                    bad
                );
                check!(lost == 0 || survives(pages), "{}", bad);
            }
        }
        Ok(())
    }

    /// What was this guest's before the call stays it.
    #[test]
    fn a_failure_takes_nothing_that_was_there() -> Result {
        let (pages, rmp) = block()?;
        let frames = Frames::of(&pages);
        make_private(&rmp, &private(frames.first(2), Level::Size4K)?)?;
        rmp.assign_fails.set(1, 1);
        check!(make_private(&rmp, &private(frames.first(4), Level::Size4K)?).is_err());
        check!(rmp.all(frames.first(2), Some((Level::Size4K, ASID, GFN))));
        check!(rmp.all(frames.skip(2), None) && rmp.is_legal());
        Ok(())
    }

    #[test]
    fn a_page_in_the_middle_is_split_first() -> Result {
        for busy in [0, 1, SPLITS - 1] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages);
            let page = private(frames.first(512), Level::Size2M)?;
            make_private(&rmp, &page)?;
            rmp.busy.set(busy);
            let before = leaked();
            check!(make_shared(&rmp, frames.skip(5).first(1)) == 0, "{}", busy);
            check!(rmp.all(frames.skip(5).first(1), None), "{}", busy);
            // The others are the guest's, one by one.
            check!(
                rmp.all(frames.first(5), Some((Level::Size4K, ASID, GFN))),
                "{}",
                busy
            );
            check!(rmp.splits() == busy + 1 && leaked() == before && rmp.is_legal());
        }
        // Where it begins or ends with one that is shared as a whole.
        for (place, count, splits) in [(0, 5, 1), (5, 600, 2), (5, 1019, 1), (507, 5, 1)] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages);
            make_private(&rmp, &private(frames, Level::Size2M)?)?;
            let before = leaked();
            let shared = frames.skip(place).first(count);
            check!(
                make_shared(&rmp, shared) == 0 && rmp.all(shared, None),
                "{}",
                place
            );
            check!(
                rmp.all(frames.first(place), Some((Level::Size4K, ASID, GFN))),
                "{}",
                place
            );
            check!(
                rmp.splits() == splits && leaked() == before && rmp.is_legal(),
                "{}",
                count
            );
        }
        Ok(())
    }

    /// An entry that cannot be split, or that somebody holds for ever: an end, and the page is kept
    /// once.
    #[test]
    fn a_page_that_cannot_be_split_is_lost() -> Result {
        for (busy, tries) in [(usize::MAX, SPLITS), (0, 1)] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages);
            make_private(&rmp, &private(frames.first(512), Level::Size2M)?)?;
            rmp.busy.set(busy);
            rmp.unsplittable.set(busy == 0);
            let before = leaked();
            said::forget();
            for n in 0..2 {
                check!(make_shared(&rmp, frames.skip(5).first(1)) == 1);
                check!(said::only(if n == 0 { &["pages-lost"] } else { &[] }));
                check!(said::with(fmt!(
                    ": a page of a guest, whose 2 MiB entry in the RMP cannot be split; "
                )));
                check!(leaked() - before == 1 && rmp.splits() == tries);
            }
            check!(rmp.releases() == 0 && rmp.is_legal() && survives(pages));
        }
        Ok(())
    }

    /// The page is counted, kept from the allocator and not touched a second time; the others come
    /// back.
    #[test]
    fn a_page_that_stays_assigned_is_lost() -> Result {
        for (level, count, lost) in [(Level::Size4K, 3, 1), (Level::Size2M, 1024, 512)] {
            let (pages, rmp) = block()?;
            let frames = Frames::of(&pages).first(count);
            make_private(&rmp, &private(frames, level)?)?;
            rmp.release_fails.set(1, 1);
            let before = leaked();
            said::forget();
            check!(make_shared(&rmp, frames) == lost && leaked() - before == lost);
            let why = "pages of a guest, whose entries in the RMP cannot be changed (";
            check!(said::only(&["pages-lost"]) && said::with(fmt!(": {why}")));
            let releases = rmp.releases();
            check!(make_shared(&rmp, frames) == lost && leaked() - before == lost);
            check!(rmp.releases() == releases && rmp.is_legal(), "{:?}", level);
            let stuck = frames.skip(level.pages()).first(level.pages());
            check!(!rmp.all(stuck, None) && rmp.all(frames.first(level.pages()), None));
            check!(survives(pages), "{:?}", level);
        }
        Ok(())
    }

    /// Who cannot look does not give away.
    #[test]
    fn a_page_without_an_entry_is_lost() -> Result {
        let (pages, rmp) = block()?;
        rmp.blind.set(Some(EIO));
        let frames = Frames::of(&pages).first(1);
        let before = leaked();
        check!(
            matches!(make_private(&rmp, &private(frames, Level::Size4K)?), Err(err) if err == EIO)
        );
        check!(max_level(&rmp, frames) == Level::Size4K && leaked() == before);
        check!(make_shared(&rmp, frames) == 1 && leaked() - before == 1 && survives(pages));
        // Where there is no RMP nobody can have the page.
        let (pages, rmp) = block()?;
        rmp.blind.set(Some(ENODEV));
        let before = leaked();
        check!(make_shared(&rmp, Frames::of(&pages)) == 0 && leaked() == before);
        Ok(())
    }

    #[test]
    fn vmsas_are_checked() -> Result {
        let good = |page: &mut [u8]| {
            for (at, value) in [
                (0xd1, 0x15),
                (0x3b0, 0x21),
                (0x178, 0x12),
                (0x2e0, 4),
                (0x3f0, 1),
            ] {
                *page.get_mut(at).ok_or(EINVAL)? = value;
            }
            Ok(())
        };
        let vmsa = Vmsa::check(0x21, good)?;
        check!(vmsa.bytes().get(0xd1) == Some(&0x15) && vmsa.bytes().len() == PAGE_SIZE);
        let reserved = [
            0xc8, 0xcc, 0xcf, 0xd8, 0x13f, 0x1c0, 0x1d7, 0x248, 0x267, 0x298, 0x2df, 0x300, 0x320,
            0x380, 0x38f, 0x670, 0xfff,
        ];
        // VMPL 1, no SVME, another feature, one too few.
        let wrong = [(0xca, 1), (0xd1, 5), (0x3b1, 2), (0x3b0, 1)];
        for (at, value) in Iterator::chain(reserved.map(|at| (at, 1)).into_iter(), wrong) {
            let changed = |page: &mut [u8]| {
                good(page)?;
                *page.get_mut(at).ok_or(EINVAL)? = value;
                Ok(())
            };
            let refused = Vmsa::check(0x21, changed);
            check!(matches!(refused, Err(err) if err == EINVAL), "{:#x}", at);
        }
        check!(matches!(Vmsa::check(0x21, |_| Err(EFAULT)), Err(err) if err == EFAULT));
        Ok(())
    }

    #[test]
    fn no_vmsa_at_2_mib() -> Result {
        let (pages, _rmp) = block()?;
        let frames = Frames::of(&pages);
        let new = |n, gfn, page_type| {
            let frame = frames.skip(n).first(1);
            LaunchPage::new(0, frame, gfn, ASID, page_type, Contents::InPlace).map(|_| ())
        };
        check!(matches!(new(512, 1, SNP_PAGE_TYPE_VMSA), Err(err) if err == EAGAIN));
        check!(matches!(new(1, 512, SNP_PAGE_TYPE_VMSA), Err(err) if err == EINVAL));
        check!(new(1, 1, SNP_PAGE_TYPE_VMSA).is_ok() && new(0, 0, 1).is_ok());
        check!(new(1, 1, 0).is_err() && new(1, 1, 8).is_err() && new(1, 1 << 39, 1).is_err());
        for (asid, right) in [(0, false), (1, true), (u32::MAX, true)] {
            let page = LaunchPage::new(0, frames.first(1), 1, asid, 1, Contents::InPlace);
            check!(page.is_ok() == right, "{}", asid);
        }
        Ok(())
    }
}
