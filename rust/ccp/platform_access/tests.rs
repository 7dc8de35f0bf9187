// SPDX-License-Identifier: GPL-2.0

//! The mailbox against a PSP that follows a script.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_platform_access)]
#[allow(unsafe_code, reason = "the macro's, and the licence of firmware")]
mod suite {
    use super::super::*;
    use crate::{
        driver::PSPV2,
        pages::leaked,
        sys::{
            fake_io,
            fake_sme::Sme,
            physical::Physical, //
        },
        testing::check,
    };
    use core::cell::Cell;

    const READY: u32 = 1 << 31;
    const RECOVERY: u32 = 1 << 30;
    /// HSTI_QUERY (Linux: include/linux/psp-platform-access.h), where the register has the number.
    const QUERY: u32 = 0x14 << 16;

    struct Psp {
        /// C2PMSG_28, and the address of the buffer.
        message: Cell<u32>,
        buffer: Cell<[u32; 2]>,
        /// What the register says after a message; without READY there is no answer.
        answer: Cell<u32>,
        /// What it puts into the buffer: the status, and the security bits.
        status: Cell<u32>,
        hsti: Cell<u32>,
        /// Messages: number and status bits as written, the size in the buffer, and the address.
        sent: Cell<[Option<(u32, u32, u64)>; 2]>,
        /// The address of somebody else's buffer, who has sent a message meanwhile.
        other: Cell<Option<[u32; 2]>>,
        /// C2PMSG_80 as it is read, as it is after the bell was rung, and as it was written; what
        /// was written to the button.
        bell: Cell<u32>,
        rung: Cell<u32>,
        asked: Cell<u32>,
        button: Cell<[Option<u32>; 2]>,
        /// So often it is not ready yet when it is asked.
        late: Cell<usize>,
    }

    impl Psp {
        fn new() -> Self {
            Self {
                message: Cell::new(READY),
                buffer: Cell::new([0; 2]),
                answer: Cell::new(READY),
                status: Cell::new(0),
                hsti: Cell::new(0),
                sent: Cell::new([None; 2]),
                other: Cell::new(None),
                bell: Cell::new(READY),
                rung: Cell::new(READY),
                asked: Cell::new(0),
                button: Cell::new([None; 2]),
                late: Cell::new(0),
            }
        }

        fn take(&self, written: u32) {
            let [low, high] = self.buffer.get();
            let address = u64::from(high) << 32 | u64::from(low);
            // SAFETY: The address is that of the buffer of the message, which is being sent.
            let memory = unsafe { Physical::access() };
            let word = |bytes: &[u8], at: usize| {
                let bytes: Option<&[u8; 4]> = bytes.get(at..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            memory.with(address, 12, |bytes| {
                let [first, _] = self.sent.get();
                self.sent
                    .set([Some((written, word(bytes, 0), address)), first]);
                // It has nothing of the PSP's before.
                let blank = word(bytes, 4) == 0 && word(bytes, 8) == 0;
                let values = [self.status.get(), if blank { self.hsti.get() } else { !0 }];
                for (at, value) in [4, 8].into_iter().zip(values) {
                    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                }
            });
            self.message.set(self.answer.get());
            self.buffer
                .set(self.other.get().unwrap_or(self.buffer.get()));
        }
    }

    impl fake_io::Device for Psp {
        fn read(&self, offset: usize) -> u32 {
            let [low, high] = self.buffer.get();
            match &PSPV2.registers.platform_access {
                Some(map) if offset == map.cmdbuf_lo => low,
                Some(map) if offset == map.cmdbuf_hi => high,
                _ if self.late.get() > 0 => {
                    self.late.set(self.late.get() - 1);
                    0
                }
                Some(map) if offset == map.doorbell => self.bell.get(),
                _ => self.message.get(),
            }
        }

        fn write(&self, offset: usize, value: u32) {
            let Some(map) = &PSPV2.registers.platform_access else {
                return;
            };
            let [low, high] = self.buffer.get();
            if offset == map.cmdbuf_lo {
                self.buffer.set([value, high]);
            } else if offset == map.cmdbuf_hi {
                self.buffer.set([low, value]);
            } else if offset == map.cmdresp {
                self.take(value);
            } else if offset == map.doorbell {
                self.asked.set(value);
            } else if offset == map.button {
                let [first, _] = self.button.get();
                self.button.set([Some(value), first]);
                self.bell.set(self.rung.get());
            }
        }
    }

    type View<'a> = fake_io::View<'a, Psp>;

    fn access(psp: &Psp) -> Result<PlatformAccess<View<'_>>> {
        let map = PSPV2.registers.platform_access.as_ref().ok_or(EINVAL)?;
        Ok(PlatformAccess::new(fake_io::region(psp), map))
    }

    const SEV_AND_TEE: u32 = 0b11;

    fn ask(psp: &Psp, access: &mut PlatformAccess<View<'_>>, hsti: u32) -> Result<u32> {
        psp.hsti.set(hsti);
        access
            .with_security(Capability::from(SEV_AND_TEE))
            .map(u32::from)
    }

    #[test]
    fn the_security_bits_come_to_their_place() -> Result {
        let _sme = Sme::pretend();
        let psp = Psp::new();
        let mut access = access(&psp)?;
        let before = leaked();
        // Bit 7 says that those from 8 on mean something.
        check!(ask(&psp, &mut access, 0b1010_0001) == Ok(0b1010_0001 << 8 | 1 << 7 | SEV_AND_TEE));
        let [Some((message, size, address)), None] = psp.sent.get() else {
            return Err(EINVAL);
        };
        check!(message == QUERY && size == 12);
        check!(address & Sme::MASK != 0 && address & 0xfff == 0);
        // The mailbox is free for the next one.
        check!(ask(&psp, &mut access, 0) == Ok(1 << 7 | SEV_AND_TEE));
        check!(leaked() == before);
        Ok(())
    }

    #[test]
    fn a_psp_that_takes_no_message_gets_none() -> Result {
        let psp = Psp::new();
        let mut access = access(&psp)?;
        for message in [READY | RECOVERY, RECOVERY, 0] {
            psp.message.set(message);
            check!(ask(&psp, &mut access, 1) == Err(EBUSY), "{message:#x}");
        }
        check!(psp.sent.get() == [None; 2] && psp.buffer.get() == [0; 2]);
        psp.message.set(READY);
        check!(ask(&psp, &mut access, 1).is_ok());
        Ok(())
    }

    #[test]
    fn refusals_of_both_kinds() -> Result {
        let psp = Psp::new();
        let mut access = access(&psp)?;
        let before = leaked();
        // In the register, and in the buffer.
        psp.answer.set(READY | 2);
        check!(ask(&psp, &mut access, 1) == Err(EIO));
        psp.answer.set(READY);
        for status in [3, 1 << 8, 1 << 16, 1 << 24] {
            psp.status.set(status);
            check!(ask(&psp, &mut access, 1) == Err(EIO), "{}", status);
        }
        // The caller finds either in the buffer, and the answer behind it.
        psp.hsti.set(7);
        for (in_register, in_buffer, status) in [(2, 3, 2), (0, 3, 3), (0xffff, 0, 0xffff)] {
            psp.answer.set(READY | in_register);
            psp.status.set(in_buffer);
            let mut buffer = [0; 16];
            buffer[0] = 16;
            check!(access.send(0x14, &mut buffer) == Err(EIO));
            let mut expected = [0; 16];
            (expected[0], expected[8]) = (16, 7);
            expected[4..8].copy_from_slice(&u32::to_le_bytes(status));
            check!(buffer == expected, "{}", status);
        }
        psp.answer.set(READY);
        // It has answered, so the buffers are the host's.
        check!(leaked() == before);
        psp.status.set(0);
        check!(ask(&psp, &mut access, 1).is_ok());
        Ok(())
    }

    /// Its answer is none to ours, whatever it is.
    #[test]
    fn a_message_of_somebody_else() -> Result {
        let psp = Psp::new();
        let mut access = access(&psp)?;
        check!(ask(&psp, &mut access, 1).is_ok());
        for other in [[0x1000, 0], [0, 1], [!0, !0]] {
            psp.other.set(Some(other));
            check!(ask(&psp, &mut access, 1) == Err(EBUSY), "{:?}", other);
        }
        // One half is that of our own.
        for half in [0, 1] {
            psp.other.set(None);
            check!(ask(&psp, &mut access, 1).is_ok());
            let mut other = psp.buffer.get();
            other[half] ^= 0x1000;
            psp.other.set(Some(other));
            check!(ask(&psp, &mut access, 1) == Err(EBUSY), "{}", half);
        }
        Ok(())
    }

    #[test]
    fn the_doorbell_is_rung() -> Result {
        let psp = Psp::new();
        let access = access(&psp)?;
        let mut refusal = 0x55;
        check!(access.ring(0x134, &mut refusal) == Ok(()) && refusal == 0x55);
        check!(psp.asked.get() == 0x34 && psp.button.take() == [Some(1), None]);
        psp.rung.set(READY | 3);
        check!(access.ring(1, &mut refusal) == Err(EIO) && refusal == 3);
        // That is no reason not to ring again.
        psp.rung.set(0);
        check!(access.ring(1, &mut refusal) == Err(ETIMEDOUT) && refusal == 3);
        psp.button.take();
        check!(access.ring(2, &mut refusal) == Err(EBUSY) && refusal == 3);
        check!(psp.asked.get() == 1 && psp.button.get() == [None; 2]);
        Ok(())
    }

    #[test]
    fn a_psp_that_takes_its_time_is_asked_often() -> Result {
        /// At least so many reads are in the time that it may take.
        const LATE: usize = 20;
        let psp = Psp::new();
        let mut access = access(&psp)?;
        let mut refusal = 0;
        psp.late.set(LATE);
        check!(access.ring(1, &mut refusal) == Ok(()) && psp.late.get() == 0);
        psp.late.set(LATE);
        check!(ask(&psp, &mut access, 1).is_ok() && psp.late.get() == 0);
        Ok(())
    }

    #[test]
    fn the_buffer_of_a_message_without_an_answer_is_kept() -> Result {
        let psp = Psp::new();
        let mut access = access(&psp)?;
        let before = leaked();
        psp.answer.set(0);
        check!(ask(&psp, &mut access, 1) == Err(ETIMEDOUT));
        check!(leaked() == before + 1);
        // While it is at work nothing more is sent.
        check!(ask(&psp, &mut access, 1) == Err(EBUSY));
        check!(leaked() == before + 1 && psp.sent.get()[1].is_none());
        // With the answer it is as before, but for the page.
        psp.message.set(READY);
        psp.answer.set(READY);
        check!(ask(&psp, &mut access, 1).is_ok() && leaked() == before + 1);
        Ok(())
    }
}
