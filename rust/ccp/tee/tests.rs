// SPDX-License-Identifier: GPL-2.0

//! The ring against a TEE that the tests play.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_tee)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::{
        entry,
        Access,
        Memory,
        Ring,
        Submitted,
        ENTRIES,
        ENTRY, //
    };
    use crate::{
        driver::PSPV4,
        pages::leaked,
        psp_mailbox::PspMailbox,
        regs::MailboxMap,
        sys::{
            fake_io,
            fake_sme::Sme,
            physical::Physical,
            said, //
        },
        testing::{
            check,
            have_passed, //
        }, //
    };
    use core::cell::{
        Cell,
        RefCell, //
    };
    use kernel::{
        prelude::*,
        sync::{
            atomic::Relaxed,
            Arc, //
        },
        time::{
            Delta,
            Instant,
            Monotonic, //
        }, //
    };

    /// The PSP's registers. Commands get the answers in their order.
    struct Psp {
        answers: [Cell<u32>; 3],
        orders: [Cell<u32>; 3],
        count: Cell<usize>,
        status: Cell<u32>,
        /// It takes a command, and gives no answer.
        silent: Cell<bool>,
        wptr: Cell<u32>,
        rptr: Cell<u32>,
    }

    const READY: u32 = 1 << 31;

    fn map() -> &'static MailboxMap {
        PSPV4.registers.mailbox.as_ref().unwrap()
    }

    impl fake_io::Device for Psp {
        fn read(&self, offset: usize) -> u32 {
            match offset {
                at if at == map().cmdresp && self.silent.get() => match self.count.get() {
                    0 => READY,
                    _ => 0,
                },
                at if at == map().cmdresp => READY | self.status.get(),
                at if at == map().rptr => self.rptr.get(),
                _ => 0,
            }
        }

        fn write(&self, offset: usize, value: u32) {
            if offset == map().wptr {
                self.wptr.set(value);
            }
            if offset == map().cmdresp {
                let n = self.count.replace(self.count.get() + 1);
                self.orders[n].set(value >> 16);
                self.status.set(self.answers[n].get());
            }
        }
    }

    fn psp(answers: [u32; 3]) -> Psp {
        Psp {
            answers: answers.map(Cell::new),
            orders: [const { Cell::new(0) }; 3],
            count: Cell::new(0),
            status: Cell::new(0),
            silent: Cell::new(false),
            wptr: Cell::new(0),
            rptr: Cell::new(0),
        }
    }

    type Io<'a> = fake_io::View<'a, Psp>;

    fn mailbox(psp: &Psp) -> PspMailbox<Io<'_>> {
        PspMailbox::new(fake_io::region(psp), map())
    }

    /// What an entry has for the TEE when it is submitted, and for its owner when that has the
    /// answer (drivers/crypto/ccp/tee-dev.h).
    const NOT_DONE: u32 = 0;
    const DONE: u32 = 2;
    const OWNER_WAITS: u32 = 1;
    const OWNER_HAS_IT: u32 = 3;

    /// A TEE that answers at once.
    struct Quick<'a>(RefCell<Option<Ring<Io<'a>>>>, &'a Psp);

    impl<'a> Access for Quick<'a> {
        type Io = Io<'a>;

        fn with<R>(&self, act: impl FnOnce(&mut Ring<Io<'a>>) -> Result<R>) -> Result<R> {
            let mut ring = self.0.try_borrow_mut().map_err(|_| EBUSY)?;
            let ring = ring.as_mut().ok_or(ENODEV)?;
            let before = ring.next;
            let done = act(ring);
            if ring.next != before {
                let entry = ring.memory.entry(before)?;
                let words = (entry.word(entry::STATE)?, entry.word(entry::FLAG)?);
                check!(words == (NOT_DONE, OWNER_WAITS), "{words:?}");
                let mut first = [0; 1];
                entry.part(entry::BUFFER, 1)?.read(&mut first)?;
                entry
                    .part(entry::BUFFER, 1)?
                    .fill(&[first[0].wrapping_add(1)])?;
                let status = entry.word(entry::COMMAND)?.wrapping_add(0x77);
                entry.set_word(entry::STATUS, status)?;
                entry.set_word(entry::STATE, DONE)?;
                self.1.rptr.set(self.1.wptr.get());
            }
            done
        }
    }

    #[test]
    fn commands_go_round() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let tee = Quick(RefCell::new(Some(Ring::new(&mut mailbox)?)), &psp);
        for n in 0..2 * ENTRIES + 1 {
            let mut buffer = [n as u8; 8];
            // Of what an entry had the last time nothing is left.
            let len = if n < ENTRIES { 8 } else { 1 };
            let sent = buffer.get_mut(..len).ok_or(EINVAL)?;
            assert_eq!(super::super::process(&tee, 5, sent)?, 0x7c);
            assert_eq!((buffer[0], buffer[1]), (n as u8 + 1, n as u8));
            let end = (n + 1) % ENTRIES * ENTRY;
            assert_eq!(psp.wptr.get() as usize, end);
            let ring = tee.0.borrow();
            let ring = ring.as_ref().ok_or(ENODEV)?;
            let entry = ring.memory.entry(n % ENTRIES)?;
            let mut behind = [0];
            entry.part(entry::BUFFER + 7, 1)?.read(&mut behind)?;
            assert_eq!(behind[0], if n < ENTRIES { n as u8 } else { 0 });
            assert_eq!((entry.word(entry::FLAG)?, ring.waiting), (OWNER_HAS_IT, 0));
        }
        let ring = tee.0.take().ok_or(ENODEV)?;
        assert!(super::super::process(&tee, 5, &mut [0]) == Err(ENODEV));
        ring.leave(&mut mailbox)?;
        assert_eq!(psp.orders.each_ref().map(Cell::get), [1, 2, 0]);
        Ok(())
    }

    /// A TEE that does not answer; the PSP is unbound meanwhile.
    struct Silent<'a>(RefCell<Ring<Io<'a>>>);

    impl<'a> Access for Silent<'a> {
        type Io = Io<'a>;

        fn with<R>(&self, act: impl FnOnce(&mut Ring<Io<'a>>) -> Result<R>) -> Result<R> {
            let mut ring = self.0.try_borrow_mut().map_err(|_| EBUSY)?;
            let done = act(&mut ring);
            ring.memory.left.store(true, Relaxed);
            done
        }
    }

    #[test]
    fn nobody_waits_for_a_tee_that_is_gone() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let tee = Silent(RefCell::new(Ring::new(&mut mailbox)?));
        let before = leaked();
        check!(super::super::process(&tee, 5, &mut [1]) == Err(ENODEV));
        tee.0.into_inner().leave(&mut mailbox)?;
        check!(leaked() == before);
        Ok(())
    }

    /// A TEE that is at work on whatever it got, and has not read any of it.
    struct Slow<'a>(RefCell<Ring<Io<'a>>>);

    impl<'a> Access for Slow<'a> {
        type Io = Io<'a>;

        const TIMEOUT_MS: i64 = 60;

        fn with<R>(&self, act: impl FnOnce(&mut Ring<Io<'a>>) -> Result<R>) -> Result<R> {
            act(&mut *self.0.try_borrow_mut().map_err(|_| EBUSY)?)
        }
    }

    #[test]
    fn silence_ends_the_use_of_the_tee() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let tee = Slow(RefCell::new(Ring::new(&mut mailbox)?));
        let before = leaked();
        said::forget();
        let start = Instant::<Monotonic>::now();
        check!(super::super::process(&tee, 5, &mut [1]) == Err(ETIMEDOUT));
        check!(have_passed(Slow::TIMEOUT_MS, start) && said::only(&["tee-silent"]));
        // The TEE reads there that nobody waits any more. The owner is never given the entry back.
        let mut ring = tee.0.borrow_mut();
        let flag = ring.memory.entry(0)?.word(entry::FLAG)?;
        check!(flag == 2 && ring.dead && ring.waiting == 1, "{flag}");
        // The silence of a ring that there was before is not this one's.
        let (old, other) = (ring.memory.clone(), Arc::new(Memory::new()?, GFP_KERNEL)?);
        (ring.dead, ring.memory) = (false, other);
        let mut submitted = Submitted {
            memory: old.clone(),
            entry: 0,
        };
        ring.silent(&submitted);
        ring.done(&submitted);
        check!(!ring.dead && ring.waiting == 1);
        submitted.memory = ring.memory.clone();
        ring.done(&submitted);
        check!(!ring.dead && ring.waiting == 0);
        (ring.dead, ring.memory) = (true, old);
        drop(ring);
        check!(super::super::process(&tee, 5, &mut [1]) == Err(EBUSY));
        check!(psp.wptr.get() as usize == ENTRY);
        check!(tee.0.into_inner().leave(&mut mailbox) == Err(EBUSY));
        drop(submitted);
        check!(leaked() == before + PAGES);
        Ok(())
    }

    #[test]
    fn an_entry_is_looked_for_for_a_while() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let mut ring = Ring::new(&mut mailbox)?;
        for _ in 1..ENTRIES {
            ring.try_submit(3, &[1])?;
        }
        let tee = Slow(RefCell::new(ring));
        let start = Instant::<Monotonic>::now();
        check!(super::super::process(&tee, 5, &mut [1]) == Err(EBUSY));
        check!(have_passed(Slow::TIMEOUT_MS, start));
        tee.0.into_inner().leave(&mut mailbox)
    }

    /// 32 KiB.
    const PAGES: usize = 8;

    #[test]
    fn a_ring_that_the_tee_keeps_is_lost() -> Result {
        let psp = psp([0, 7, 0]);
        let before = leaked();
        // Of this one it has not heard.
        drop(Memory::new()?);
        let ring = Ring::new(&mut mailbox(&psp))?;
        check!(leaked() == before);
        check!(ring.leave(&mut mailbox(&psp)) == Err(EIO));
        check!(leaked() == before + PAGES);
        Ok(())
    }

    #[test]
    fn a_tee_that_owes_an_answer_gets_no_command() -> Result {
        let psp = psp([0; 3]);
        let before = leaked();
        let tee = Quick(RefCell::new(Some(Ring::new(&mut mailbox(&psp))?)), &psp);
        tee.with(|ring| {
            ring.dead = true;
            Ok(())
        })?;
        check!(super::super::process(&tee, 5, &mut [1]) == Err(EBUSY));
        check!(psp.wptr.get() == 0 && leaked() == before);
        let ring = tee.0.take().ok_or(ENODEV)?;
        check!(ring.leave(&mut mailbox(&psp)) == Err(EBUSY));
        check!(psp.count.get() == 1 && leaked() == before + PAGES);
        Ok(())
    }

    #[test]
    fn sizes_are_checked() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let tee = Quick(RefCell::new(Some(Ring::new(&mut mailbox)?)), &psp);
        let mut large = [0; 989];
        assert!(super::super::process(&tee, 1, &mut []) == Err(EINVAL));
        assert!(super::super::process(&tee, 1, &mut large) == Err(EINVAL));
        assert_eq!(psp.wptr.get(), 0);
        assert_eq!(super::super::process(&tee, 1, &mut large[1..])?, 0x78);
        let ring = tee.0.take().ok_or(ENODEV)?;
        ring.leave(&mut mailbox)
    }

    #[test]
    fn a_full_ring_takes_no_command() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let mut ring = Ring::new(&mut mailbox)?;
        let first = ring.try_submit(3, &[1])?;
        assert_eq!(first.entry, 0);
        for n in 1..ENTRIES - 1 {
            assert_eq!(ring.try_submit(3, &[1])?.entry, n);
        }
        // Its end would be where the TEE reads.
        assert!(matches!(ring.try_submit(3, &[1]), Err(err) if err == EAGAIN));
        psp.rptr.set(2 * ENTRY as u32);
        assert_eq!(ring.try_submit(3, &[1])?.entry, ENTRIES - 1);
        // Read, but its owner has not fetched the answer.
        assert!(matches!(ring.try_submit(3, &[1]), Err(err) if err == EAGAIN));
        ring.done(&first);
        assert_eq!(ring.try_submit(3, &[1])?.entry, 0);
        ring.leave(&mut mailbox)
    }

    /// Where the TEE's command buffer is, and what is in it when the command comes.
    struct Reads {
        address: Cell<u64>,
        buffer: Cell<[u32; 3]>,
    }

    impl fake_io::Device for Reads {
        fn read(&self, _offset: usize) -> u32 {
            READY
        }

        #[allow(unsafe_code)]
        fn write(&self, offset: usize, value: u32) {
            let (value, address) = (u64::from(value), self.address.get());
            if offset == map().cmdbuf_lo {
                self.address.set(address & !0xffff_ffff | value);
            }
            if offset == map().cmdbuf_hi {
                self.address.set(address & 0xffff_ffff | value << 32);
            }
            // RING_INIT.
            if offset == map().cmdresp && value >> 16 == 1 {
                // SAFETY: The address is that of the buffer, which its owner leaves alone now.
                let memory = unsafe { Physical::access() };
                memory.with(address, 12, |bytes| {
                    let mut words = [0; 3];
                    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                        *word = bytes
                            .iter()
                            .rev()
                            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
                    }
                    self.buffer.set(words);
                });
            }
        }
    }

    #[test]
    fn the_tee_is_told_where_the_ring_is() -> Result {
        let _sme = Sme::pretend();
        let tee = Reads {
            address: Cell::new(0),
            buffer: Cell::new([0; 3]),
        };
        let mut mailbox = PspMailbox::new(fake_io::region(&tee), map());
        let ring = Ring::new(&mut mailbox)?;
        let [low, high, size] = tee.buffer.get();
        let address = u64::from(low) | u64::from(high) << 32;
        let pages = ring.memory.pages.as_ref().ok_or(EINVAL)?;
        check!(address == pages.spa().encrypted().raw() && address & Sme::MASK != 0);
        check!(address & 0x7fff == 0 && size == 0x8000);
        let buffer = tee.address.get();
        check!(buffer & Sme::MASK != 0 && buffer & 0xfff == 0 && buffer != address);
        ring.leave(&mut mailbox)
    }

    #[test]
    fn who_waits_hears_that_the_ring_was_left() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let before = leaked();
        let mut ring = Ring::new(&mut mailbox)?;
        let submitted = ring.try_submit(3, &[1])?;
        check!(!submitted.memory.left.load(Relaxed));
        ring.leave(&mut mailbox)?;
        check!(submitted.memory.left.load(Relaxed));
        drop(submitted);
        check!(leaked() == before);
        Ok(())
    }

    #[test]
    fn a_ring_that_was_left_is_replaced() -> Result {
        let psp = psp([0xd, 0, 0]);
        let ring = Ring::new(&mut mailbox(&psp))?;
        assert_eq!(psp.orders.each_ref().map(Cell::get), [1, 2, 1]);
        psp.answers[0].set(0);
        psp.count.set(0);
        ring.leave(&mut mailbox(&psp))
    }

    /// The answers to the next commands.
    fn answer(psp: &Psp, answers: [u32; 3]) {
        psp.count.set(0);
        for ((answer, order), next) in psp.answers.iter().zip(&psp.orders).zip(answers) {
            answer.set(next);
            order.set(0);
        }
    }

    #[test]
    fn a_tee_that_has_started_anew_gets_another_ring() -> Result {
        // There is none, or that of the kernel that has read the image. A TEE that was at a command
        // may go on with it.
        for (answers, orders, dead, lost) in [
            ([0; 3], [1, 0, 0], false, 0),
            ([0xd, 0, 0], [1, 2, 1], false, 0),
            ([0; 3], [1, 0, 0], true, PAGES),
        ] {
            let psp = psp([0; 3]);
            let mut mailbox = mailbox(&psp);
            let before = leaked();
            let mut ring = Ring::new(&mut mailbox)?;
            let submitted = ring.try_submit(3, &[1])?;
            ring.dead = dead;
            answer(&psp, answers);
            ring.replace(&mut mailbox)?;
            check!(psp.orders.each_ref().map(Cell::get) == orders);
            check!(submitted.memory.left.load(Relaxed) && !ring.memory.left.load(Relaxed));
            // Who waits may look at the old one.
            check!(leaked() == before);
            check!(!ring.dead && ring.waiting == 0);
            let next = ring.try_submit(3, &[1])?;
            check!(next.entry == 0 && submitted.entry == 0);
            // What becomes of the old one's command is nothing to the new one.
            ring.done(&submitted);
            ring.silent(&submitted);
            check!(ring.waiting == 1 && !ring.dead);
            drop(submitted);
            check!(leaked() == before + lost);
            ring.done(&next);
            check!(ring.waiting == 0);
            answer(&psp, [0; 3]);
            ring.leave(&mut mailbox)?;
            check!(leaked() == before + lost);
        }
        Ok(())
    }

    #[test]
    fn a_ring_that_is_not_replaced_is_lost() -> Result {
        let psp = psp([0; 3]);
        let mut mailbox = mailbox(&psp);
        let before = leaked();
        let mut ring = Ring::new(&mut mailbox)?;
        answer(&psp, [6, 0, 0]);
        check!(ring.replace(&mut mailbox) == Err(EIO));
        check!(ring.memory.left.load(Relaxed) && leaked() == before);
        drop(ring);
        check!(leaked() == before + PAGES);
        Ok(())
    }

    /// Until then it may take the ring, and read what the command names.
    #[test]
    fn a_ring_of_which_the_tee_says_nothing_is_lost() -> Result {
        let (psp, before) = (psp([0; 3]), leaked());
        psp.silent.set(true);
        let mut mailbox = mailbox(&psp);
        mailbox.timeout = Delta::from_millis(20);
        check!(matches!(Ring::new(&mut mailbox), Err(err) if err == ETIMEDOUT));
        check!(leaked() == before + PAGES + 1);
        Ok(())
    }

    #[test]
    fn refusals_are_errors() {
        let before = leaked();
        for (answers, count) in [([6, 0, 0], 1), ([0xd, 7, 0], 2), ([0xd, 0, 0xd], 3)] {
            let psp = psp(answers);
            assert!(matches!(Ring::new(&mut mailbox(&psp)), Err(err) if err == EIO));
            assert_eq!(psp.count.get(), count);
        }
        // The TEE has not taken it.
        assert_eq!(leaked(), before);
    }
}
