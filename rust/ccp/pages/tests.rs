// SPDX-License-Identifier: GPL-2.0

//! Ownership of pages against an RMP and a firmware that refuse at each place in turn.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_pages)]
#[allow(
    unsafe_code,
    reason = "the macro's, and a look at memory by its address"
)]
mod suite {
    use super::super::*;
    use crate::{
        error::{
            CmdError,
            Dead, //
        },
        sys::{
            caller_memory::CallerMemory,
            fake_sme::Sme,
            pages::{
                Gfp,
                Pages, //
            },
            physical::Physical,
            said, //
        },
        testing::{
            check,
            compound, //
        },
        wire::Status, //
    };
    use core::cell::Cell;
    use kernel::str::CString;

    /// Blocks of 1, 2, 4 and 8 pages.
    const ORDERS: core::ops::RangeInclusive<u32> = 0..=3;

    #[test]
    fn words_of_shared_memory_are_aligned_and_within_it() -> Result {
        let mut page = HvPages::zeroed(Gfp::KERNEL, 0)?;
        let last = page.len() - 4;
        for (at, value) in [(0, 0x0403_0201), (last, 0x0807_0605)] {
            page.volatile().set_word(at, value)?;
            check!(page.volatile().word(at) == Ok(value));
            check!(page.bytes().get(at..at + 4) == Some(&value.to_le_bytes()[..]));
        }
        for at in [1, 2, 3, last + 1, last + 4, usize::MAX] {
            check!(page.volatile().set_word(at, 0) == Err(EINVAL), "{at}");
            check!(page.volatile().word(at) == Err(EINVAL), "{at}");
        }
        check!(page.volatile().word(0) == Ok(0x0403_0201));
        let len = page.len();
        check!(page.volatile().part(1, len - 1).is_ok() && page.volatile().part(len, 0).is_ok());
        check!(page.volatile().part(1, len).is_err() && page.volatile().part(len + 1, 0).is_err());
        page.bytes_mut().fill(7);
        page.volatile().part(8, 8)?.fill(&[1, 2])?;
        check!(page.bytes().get(7..17) == Some(&[7, 1, 2, 0, 0, 0, 0, 0, 0, 7][..]));
        let mut three = [0; 3];
        page.volatile().part(7, 3)?.read(&mut three)?;
        check!(three == [7, 1, 2]);
        check!(page.volatile().part(7, 2)?.read(&mut three) == Err(EINVAL));
        check!(page.volatile().part(7, 2)?.fill(&three) == Err(EINVAL));
        check!(page.bytes().get(7..9) == Some(&[7, 1][..]));
        Ok(())
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Owner {
        Host,
        Firmware,
        /// Firmware has let go of it, the RMP entry is not shared yet.
        Released,
    }

    /// Where something goes wrong: at the frame of this number.
    #[derive(Clone, Copy, Default, Debug)]
    struct Faults {
        private: Option<usize>,
        reclaim: Option<usize>,
        dies: Option<usize>,
        shared: Option<usize>,
    }

    /// The owner of each frame of one block.
    struct Ledger {
        faults: Faults,
        /// How often [`Faults::private`] happens.
        refusals: Cell<usize>,
        base: Cell<Option<u64>>,
        /// Pages of a block, if there may be another block.
        count: Option<usize>,
        owners: [Cell<Owner>; 8],
        dead: bool,
        /// A change that the hardware refuses was tried.
        illegal: Cell<bool>,
        /// [`leaked`] at the beginning.
        leaked: usize,
    }

    const DEAD: Dead = Dead::Silent {
        command: "SNP_PAGE_RECLAIM",
        secs: 0,
    };

    impl Ledger {
        fn new(faults: Faults) -> Self {
            Self {
                faults,
                refusals: Cell::new(usize::MAX),
                base: Cell::new(None),
                count: None,
                owners: [const { Cell::new(Owner::Host) }; 8],
                dead: false,
                illegal: Cell::new(false),
                leaked: leaked(),
            }
        }

        fn number(&self, phys: u64) -> usize {
            let base = self.base.get().unwrap_or(phys);
            self.base.set(Some(base));
            (phys.wrapping_sub(base) >> 12) as usize
        }

        fn change(&self, n: usize, from: Owner, to: Owner) {
            match self.owners.get(n) {
                Some(owner) if owner.get() == from => owner.set(to),
                _ => self.illegal.set(true),
            }
        }

        /// Whether the frames, in their order, are: `host` of the host, one that is `stuck`'s,
        /// `firmware` of firmware, and the rest of the host.
        fn is(&self, host: usize, stuck: Owner, firmware: usize) -> bool {
            let mut owners = self.owners.iter().enumerate();
            !self.illegal.get()
                && owners.all(|(n, owner)| {
                    let expected = match n {
                        n if n == host => stuck,
                        n if n > host && n <= host + firmware => Owner::Firmware,
                        _ => Owner::Host,
                    };
                    owner.get() == expected
                })
        }

        fn all(&self, owner: Owner, count: usize) -> bool {
            let (block, rest) = self.owners.split_at(count);
            !self.illegal.get()
                && block.iter().all(|o| o.get() == owner)
                && rest.iter().all(|o| o.get() == Owner::Host)
        }

        /// Whether the block still holds what the host wrote, so that nobody else has it: KASAN
        /// reports a look at pages that were freed.
        fn is_kept(&self, count: usize) -> bool {
            // SAFETY: The one address is that of a block which this test has given away for good.
            let memory = unsafe { Physical::access() };
            self.base
                .get()
                .is_some_and(|base| memory.is_filled(base, count * 4096, 0x5a))
        }

        /// Whether the block is kept although its owner frees it.
        fn survives(&self, pages: Pages) -> bool {
            let count = pages.count();
            drop(pages);
            self.is_kept(count)
        }

        /// Pages that [`leaked`] has counted.
        fn counted(&self) -> usize {
            leaked() - self.leaked
        }
    }

    impl Reclaimer for Ledger {
        type Refusal = CmdError;
        type Rmp = Self;

        fn rmp(&self) -> &Self {
            self
        }

        fn is_dead(&self) -> bool {
            self.dead
        }

        fn page_reclaim(&mut self, page: Spa) -> Result<(), CmdError> {
            let n = self.number(page.plain().raw());
            if self.dead {
                self.illegal.set(true);
            }
            if self.faults.dies == Some(n) {
                self.dead = true;
                return Err(CmdError::Died(DEAD));
            }
            if self.faults.reclaim == Some(n) {
                return Err(CmdError::Firmware(Status::INVALID_PAGE_STATE));
            }
            self.change(n, Owner::Firmware, Owner::Released);
            Ok(())
        }
    }

    impl Rmp for Ledger {
        fn is_assigned(&self, frame: Frames) -> bool {
            let owner = self.owners.get(self.number(frame.phys()));
            owner.is_some_and(|owner| owner.get() != Owner::Host)
        }

        fn make_firmware(&self, frame: Frames) -> Result {
            let mut n = self.number(frame.phys());
            if self.count.is_some_and(|count| n >= count) {
                self.base.set(Some(frame.phys()));
                n = 0;
            }
            let refusals = self.refusals.get();
            if self.faults.private == Some(n) && refusals > 0 {
                self.refusals.set(refusals - 1);
                return Err(EPERM);
            }
            self.change(n, Owner::Host, Owner::Firmware);
            Ok(())
        }

        fn make_shared(&self, frame: Frames) -> Result {
            let n = self.number(frame.phys());
            if self.faults.shared == Some(n) {
                return Err(EPERM);
            }
            self.change(n, Owner::Released, Owner::Host);
            Ok(())
        }
    }

    /// The three ways in which frame `at` is not given back, and what it is then.
    fn stuck_at(at: usize) -> [(Faults, Owner); 3] {
        let none = Faults::default();
        [
            (
                Faults {
                    reclaim: Some(at),
                    ..none
                },
                Owner::Firmware,
            ),
            (
                Faults {
                    dies: Some(at),
                    ..none
                },
                Owner::Firmware,
            ),
            (
                Faults {
                    shared: Some(at),
                    ..none
                },
                Owner::Released,
            ),
        ]
    }

    /// As a guest's memory is: a page or a huge page, of which all parts have one count of
    /// references.
    fn users_pages(order: u32) -> Result<Pages> {
        let mut pages = compound(order)?;
        pages.bytes_mut().fill(0x5a);
        Ok(pages)
    }

    fn block(order: u32) -> Result<HvPages> {
        let mut pages = HvPages::zeroed(Gfp::KERNEL, order)?;
        pages.bytes_mut().fill(0x5a);
        Ok(pages)
    }

    #[test]
    fn a_range_has_the_frames_that_it_touches() -> Result {
        let _sme = Sme::pretend();
        // SAFETY: Nobody gets these frames.
        let memory = unsafe { CallerMemory::trust() };
        for (address, len, first, count) in [
            (0x1234_5000, 1, 0x12345, 1),
            (0x1234_5000, 0x1000, 0x12345, 1),
            (0x1234_5000, 0x1001, 0x12345, 2),
            (0x1234_5fff, 1, 0x12345, 1),
            (0x1234_5fff, 2, 0x12345, 2),
            // Offset in the first page, and a part of the last.
            (0x1234_5123, 0xedd, 0x12345, 1),
            (0x1234_5123, 0xede, 0x12345, 2),
            (0x1234_5123, 0x1000, 0x12345, 2),
            (0x1234_5123, 0x1edd, 0x12345, 2),
            (0x1234_5123, 0x1ede, 0x12345, 3),
            (0x1234_6000, 0x2000, 0x12346, 2),
        ] {
            for mask in [0, Sme::MASK] {
                let frames = memory.frames(address | mask, len)?;
                check!(
                    frames.pfn() == first && frames.count() == count,
                    "{:#x} {:#x}",
                    address | mask,
                    len
                );
                let mut each = frames.iter().enumerate();
                check!(each.all(|(n, frame)| frame.pfn() == first + n as u64 && frame.count() == 1));
            }
        }
        for (address, len) in [(u64::MAX, 1 << 52), (1, u64::MAX), (0, u64::MAX)] {
            let refused = memory.frames(address, len).err();
            check!(refused == Some(EINVAL), "{:#x} {:#x}", address, len);
        }
        Ok(())
    }

    #[test]
    fn there_and_back() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            let mut ledger = Ledger::new(Faults::default());
            let block = block(order)?;
            let pfn = block.frames().pfn();
            said::forget();
            let given = block.into_firmware(&mut ledger)?;
            check!(said::traced(&[fmt!("firmware {pfn:#x} {count} 0 0x0")]));
            check!(ledger.all(Owner::Firmware, count), "{}", count);
            check!(
                Some(given.spa().plain().raw()) == ledger.base.get(),
                "{}",
                count
            );
            let taken = given.take_back(&mut ledger).map_err(|_| EINVAL)?;
            check!(said::traced(&[fmt!("host {pfn:#x} {count} 0 0x0")]));
            check!(ledger.all(Owner::Host, count), "{}", count);
            check!(taken.bytes().len() == count * 4096, "{}", count);
            check!(taken.bytes().iter().all(|byte| *byte == 0x5a), "{}", count);
            check!(ledger.counted() == 0, "{}", count);
        }
        Ok(())
    }

    #[test]
    fn lent_pages_do_not_touch_the_rmp() -> Result {
        let mut ledger = Ledger::new(Faults::default());
        let given = block(1)?.lend();
        check!(given.take_back(&mut ledger).is_ok());
        check!(ledger.base.get().is_none() && ledger.counted() == 0);

        let given = block(1)?.lend();
        ledger.dead = true;
        check!(given.take_back(&mut ledger).is_err());
        check!(ledger.base.get().is_none());
        check!(ledger.counted() == 2);
        Ok(())
    }

    #[test]
    fn a_block_that_cannot_be_assigned_is_kept_and_another_tried() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            for (at, refusals) in (0..count).flat_map(|at| (0..=TRIES).map(move |r| (at, r))) {
                let mut ledger = Ledger::new(Faults {
                    private: Some(at),
                    ..Faults::default()
                });
                ledger.count = Some(count);
                ledger.refusals.set(refusals);
                let given = block(order)?.into_firmware(&mut ledger);
                let kept = refusals * count;
                check!(ledger.counted() == kept, "{} of {}", at, count);
                if refusals == TRIES {
                    check!(given.err() == Some(EIO), "{} of {}", at, count);
                    check!(ledger.all(Owner::Host, count), "{} of {}", at, count);
                    check!(ledger.is_kept(count), "{} of {}", at, count);
                    continue;
                }
                let given = given?;
                check!(ledger.all(Owner::Firmware, count), "{} of {}", at, count);
                let taken = given.take_back(&mut ledger).map_err(|_| EINVAL)?;
                check!(ledger.all(Owner::Host, count), "{} of {}", at, count);
                check!(taken.bytes().iter().all(|byte| *byte == 0x5a));
                check!(ledger.counted() == kept, "{} of {}", at, count);
            }
        }
        Ok(())
    }

    #[test]
    fn an_undo_that_fails_keeps_the_block() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            for at in 0..count {
                for stuck in 0..at {
                    for (faults, owner) in stuck_at(stuck) {
                        let mut ledger = Ledger::new(Faults {
                            private: Some(at),
                            ..faults
                        });
                        let refused = block(order)?.into_firmware(&mut ledger).err();
                        check!(refused == Some(EFAULT), "{:?}", ledger.faults);
                        let firmware = at - stuck - 1;
                        check!(ledger.is(stuck, owner, firmware), "{:?}", ledger.faults);
                        // The allocator frees a block as a whole or not at all.
                        check!(ledger.counted() == count, "{:?}", ledger.faults);
                        check!(ledger.is_kept(count), "{:?}", ledger.faults);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_not_given_back_is_kept() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            for stuck in 0..count {
                for (faults, owner) in stuck_at(stuck) {
                    let mut ledger = Ledger::new(faults);
                    let given = block(order)?.into_firmware(&mut ledger)?;
                    check!(given.take_back(&mut ledger).is_err(), "{:?}", faults);
                    check!(ledger.is(stuck, owner, count - stuck - 1), "{:?}", faults);
                    check!(ledger.counted() == count, "{:?}", faults);
                    check!(ledger.is_kept(count), "{:?}", faults);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_dead_mailbox_keeps_everything_and_is_asked_for_nothing() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            let mut ledger = Ledger::new(Faults::default());
            let given = block(order)?.into_firmware(&mut ledger)?;
            ledger.dead = true;
            check!(given.take_back(&mut ledger).is_err(), "{}", count);
            check!(ledger.all(Owner::Firmware, count), "{}", count);
            check!(ledger.counted() == count, "{}", count);
            check!(ledger.is_kept(count), "{}", count);
        }
        Ok(())
    }

    #[test]
    fn what_is_dropped_is_kept() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            let mut ledger = Ledger::new(Faults::default());
            drop(block(order)?.into_firmware(&mut ledger)?);
            check!(ledger.all(Owner::Firmware, count), "{}", count);
            check!(
                ledger.counted() == count && ledger.is_kept(count),
                "{}",
                count
            );
            drop(block(order)?.lend());
            check!(ledger.counted() == 2 * count, "{}", count);
        }
        Ok(())
    }

    #[test]
    fn guest_pages_go_and_come_back() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            let pages = users_pages(order)?;
            let mut ledger = Ledger::new(Faults::default());
            let given = GuestPages::into_firmware(Frames::of(&pages), &mut ledger)?;
            check!(ledger.all(Owner::Firmware, count), "{}", count);
            check!(given.take_back(&mut ledger).is_ok(), "{}", count);
            check!(ledger.all(Owner::Host, count), "{}", count);
            check!(ledger.counted() == 0, "{}", count);

            let given = GuestPages::into_firmware(Frames::of(&pages), &mut ledger)?;
            ledger.dead = true;
            check!(given.take_back(&mut ledger).is_err(), "{}", count);
            check!(ledger.all(Owner::Firmware, count), "{}", count);
            check!(ledger.counted() == count, "{}", count);
            check!(ledger.survives(pages), "{}", count);
        }
        Ok(())
    }

    #[test]
    fn guest_pages_are_lost_from_the_stuck_one_on() -> Result {
        for order in ORDERS {
            let count = 1 << order;
            for stuck in 0..count {
                for (faults, owner) in stuck_at(stuck) {
                    let pages = users_pages(order)?;
                    let mut ledger = Ledger::new(faults);
                    let given = GuestPages::into_firmware(Frames::of(&pages), &mut ledger)?;
                    check!(given.take_back(&mut ledger).is_err(), "{:?}", faults);
                    check!(ledger.is(stuck, owner, count - stuck - 1), "{:?}", faults);
                    check!(ledger.counted() == count - stuck, "{:?}", faults);
                    check!(ledger.survives(pages), "{:?}", faults);

                    // Pages that are known by their addresses only.
                    let pages = users_pages(order)?;
                    let frames = Frames::of(&pages);
                    let mut ledger = Ledger::new(faults);
                    for frame in frames.iter() {
                        ledger.make_firmware(frame)?;
                    }
                    let reclaimed = reclaim_foreign(frames, &mut ledger);
                    check!(reclaimed.is_err(), "{:?}", faults);
                    check!(ledger.is(stuck, owner, count - stuck - 1), "{:?}", faults);
                    check!(ledger.counted() == count - stuck, "{:?}", faults);
                    check!(ledger.survives(pages), "{:?}", faults);

                    // Only those that were assigned can be lost.
                    for at in stuck + 1..count {
                        let pages = users_pages(order)?;
                        let mut ledger = Ledger::new(Faults {
                            private: Some(at),
                            ..faults
                        });
                        let refused =
                            GuestPages::into_firmware(Frames::of(&pages), &mut ledger).err();
                        check!(refused == Some(EFAULT), "{:?}", ledger.faults);
                        let firmware = at - stuck - 1;
                        check!(ledger.is(stuck, owner, firmware), "{:?}", ledger.faults);
                        check!(ledger.counted() == at - stuck, "{:?}", ledger.faults);
                        check!(ledger.survives(pages), "{:?}", ledger.faults);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn in_a_panic_each_page_is_taken_back_for_itself() -> Result {
        for order in ORDERS {
            for stuck in 0..1 << order {
                for (faults, owner) in stuck_at(stuck) {
                    let pages = users_pages(order)?;
                    let ledger = Ledger::new(faults);
                    for frame in Frames::of(&pages).iter() {
                        ledger.make_firmware(frame)?;
                    }
                    let asked = Cell::new(0);
                    let reclaim = |page: Address| {
                        let n = ledger.number(page.raw());
                        asked.set(asked.get() + 1);
                        let refused = faults.reclaim.or(faults.dies) == Some(n);
                        if !refused {
                            ledger.change(n, Owner::Firmware, Owner::Released);
                        }
                        !refused
                    };
                    let left = unassign_each(Frames::of(&pages), &ledger, reclaim);
                    check!(left == 1 && asked.get() == 1 << order, "{:?}", faults);
                    check!(ledger.is(stuck, owner, 0), "{:?}", faults);
                    // Only that one is still firmware's, and nothing is recorded.
                    let left = unassign_each(Frames::of(&pages), &ledger, |_| {
                        asked.set(0);
                        false
                    });
                    check!(left == 1 && asked.get() == 0, "{:?}", faults);
                    check!(ledger.counted() == 0, "{:?}", faults);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn it_is_said_who_does_not_give_a_page_back() -> Result {
        let refused = NotUnassigned::Reclaim("busy");
        check!(CString::try_from_fmt(fmt!("{refused}"))?.to_bytes() == b"SNP_PAGE_RECLAIM: busy");
        let stuck = CString::try_from_fmt(fmt!("{}", NotUnassigned::<&str>::Rmp(EPERM)))?;
        let words = b"firmware released the page, but its RMP entry cannot be changed (";
        check!(stuck.to_bytes().starts_with(words));
        Ok(())
    }

    #[test]
    fn a_block_is_as_large_as_it_has_to_be() -> Result {
        for (len, count) in [(0, 1), (1, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 4)] {
            let pages = Pages::for_len(Gfp::KERNEL, len)?;
            check!(pages.count() == count, "{}", len);
        }
        Ok(())
    }

    #[test]
    fn a_page_is_lost_once() -> Result {
        let before = leaked();
        let (a, b) = (users_pages(2)?, users_pages(0)?);
        let (first, second) = (Frames::of(&a), Frames::of(&b));
        said::forget();
        Leaked::foreign(second.first(0), &UNANSWERED);
        check!(said::only(&[]) && said::traced(&[]) && leaked() == before);
        // Overlapping runs, in any order, and what lies between them; those that are lost by that.
        let mut all = 0;
        for (frames, new) in [
            (first.skip(2), Some(first.skip(2))),
            (first.skip(2), None),
            (first.first(1), Some(first.first(1))),
            (second, Some(second)),
            (first, Some(first.skip(1).first(1))),
            (first.first(3), None),
            (second, None),
        ] {
            said::forget();
            Leaked::foreign(frames, &UNANSWERED);
            all += new.map_or(0, Frames::count);
            check!(leaked() - before == all, "{:?}", frames);
            let lines = new.map(|_| "pages-lost");
            check!(said::only(lines.as_slice()));
            let pfn = |n| new.map_or(0, |new| new.pfn() + n);
            let count = new.map_or(0, Frames::count);
            check!(said::traced(
                [
                    fmt!("lost {:#x} 1 0 0x0", pfn(0)),
                    fmt!("lost {:#x} 1 0 0x0", pfn(1)),
                    fmt!("lost {:#x} 1 0 0x0", pfn(2)),
                ]
                .get(..count)
                .unwrap_or_default()
            ));
            check!(new.is_none_or(|new| said::with(fmt!(
                "{} page(s) from {:#x} on are lost until the machine restarts: ",
                new.count(),
                new.phys()
            ))));
        }

        // A page of the driver's own that was reclaimed by its address, and then by its owner.
        let faults = Faults {
            reclaim: Some(0),
            ..Faults::default()
        };
        let mut ledger = Ledger::new(faults);
        let given = block(0)?.into_firmware(&mut ledger)?;
        check!(reclaim_foreign(given.frames, &mut ledger).is_err());
        check!(given.take_back(&mut ledger).is_err());
        check!(ledger.counted() == 1 && ledger.is_kept(1));
        Ok(())
    }
}
