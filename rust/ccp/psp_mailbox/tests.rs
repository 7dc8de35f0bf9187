// SPDX-License-Identifier: GPL-2.0

//! The mailbox against registers that the tests play.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_psp_mailbox)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::{
        Order,
        PspMailbox, //
    };
    use crate::{
        driver::PSPV4,
        pages::HvPages,
        regs::MailboxMap,
        sys::{
            fake_io,
            fake_sme::Sme,
            pages::Gfp, //
        },
        testing::check, //
    };
    use core::cell::Cell;
    use kernel::{
        prelude::*,
        time::{
            Delta,
            Instant,
            Monotonic, //
        },
    };

    const READY: u32 = 1 << 31;
    const STATUS: u32 = 0x1234;
    /// A register nobody has written to.
    const UNTOUCHED: u32 = 0xdead_beef;

    /// The PSP's registers.
    struct Psp {
        /// So many times the register is read before it is ready.
        busy: Cell<u32>,
        /// The same from a command on.
        takes: u32,
        command: Cell<u32>,
        buffer: [Cell<u32>; 2],
    }

    fn map() -> &'static MailboxMap {
        PSPV4.registers.mailbox.as_ref().unwrap()
    }

    impl fake_io::Device for Psp {
        fn read(&self, offset: usize) -> u32 {
            assert_eq!(offset, map().cmdresp);
            match self.busy.get() {
                0 => READY | STATUS,
                left => {
                    self.busy.set(left - 1);
                    STATUS
                }
            }
        }

        fn write(&self, offset: usize, value: u32) {
            let register = match offset {
                at if at == map().cmdresp => {
                    self.busy.set(self.takes);
                    &self.command
                }
                at if at == map().cmdbuf_lo => &self.buffer[0],
                at if at == map().cmdbuf_hi => &self.buffer[1],
                _ => panic!("a register of the ring"),
            };
            register.set(value);
        }
    }

    impl Psp {
        fn written(&self) -> [u32; 3] {
            let [low, high] = &self.buffer;
            [self.command.get(), low.get(), high.get()]
        }
    }

    fn psp(busy: u32, takes: u32) -> Psp {
        Psp {
            busy: Cell::new(busy),
            takes,
            command: Cell::new(UNTOUCHED),
            buffer: [const { Cell::new(UNTOUCHED) }; 2],
        }
    }

    fn mailbox(psp: &Psp) -> PspMailbox<fake_io::View<'_, Psp>> {
        PspMailbox::new(fake_io::region(psp), map())
    }

    #[test]
    fn each_order_is_a_number_and_its_buffer() -> Result {
        let _sme = Sme::pretend();
        let pages = HvPages::zeroed(Gfp::KERNEL, 0)?.lend();
        let buffer = pages.spa().encrypted();
        let [low, high] = [buffer.raw() as u32, (buffer.raw() >> 32) as u32];
        check!(low != 0 && high != 0, "{low:#x} {high:#x}");
        let rows = [
            (Order::RingInit(buffer), [1 << 16, low, high]),
            (Order::RingDestroy, [2 << 16, UNTOUCHED, UNTOUCHED]),
            (Order::Extended(buffer), [14 << 16, low, high]),
        ];
        for (order, expected) in rows {
            let psp = psp(0, 3);
            let status = mailbox(&psp).send(order)?;
            let written = psp.written();
            check!(
                status == STATUS && written == expected,
                "{written:x?}, {expected:x?}"
            );
        }
        Ok(())
    }

    /// Who is busy with something else is told nothing, and has nothing of ours.
    #[test]
    fn a_busy_psp_is_not_disturbed() -> Result {
        let psp = psp(u32::MAX, 0);
        let mut mailbox = mailbox(&psp);
        assert_eq!(mailbox.need_ready(), Err(EBUSY));
        assert_eq!(mailbox.send(Order::RingDestroy), Err(EBUSY));
        assert_eq!(psp.written(), [UNTOUCHED; 3]);
        check!(!mailbox.borrower().uses_it);
        Ok(())
    }

    /// What was named is the PSP's until it answers.
    #[test]
    fn silence_ends_and_a_late_answer_counts() -> Result {
        let psp = psp(0, u32::MAX);
        let mut mailbox = mailbox(&psp);
        mailbox.timeout = Delta::from_millis(20);
        let start = Instant::<Monotonic>::now();
        assert_eq!(mailbox.send(Order::RingDestroy), Err(ETIMEDOUT));
        let took = start.elapsed();
        check!(took.as_millis() >= 20, "{} ms", took.as_millis());
        check!(mailbox.borrower().uses_it);
        assert_eq!(mailbox.send(Order::RingDestroy), Err(EBUSY));
        check!(mailbox.borrower().uses_it);
        psp.busy.set(0);
        check!(!mailbox.borrower().uses_it);
        Ok(())
    }

    /// The register is read often enough for an answer within the time, and what was answered is
    /// nobody's, whatever the PSP does next.
    #[test]
    fn an_answer_in_time_is_one() -> Result {
        let psp = psp(0, 4);
        let mut mailbox = mailbox(&psp);
        mailbox.timeout = Delta::from_secs(1);
        let start = Instant::<Monotonic>::now();
        assert_eq!(mailbox.send(Order::RingDestroy)?, STATUS);
        let took = start.elapsed();
        check!(took.as_millis() < 1000, "{} ms", took.as_millis());
        psp.busy.set(u32::MAX);
        check!(!mailbox.borrower().uses_it);
        Ok(())
    }
}
