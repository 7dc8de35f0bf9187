// SPDX-License-Identifier: GPL-2.0

//! Requests against a PSP that the tests play.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_sfs)]
#[allow(unsafe_code, reason = "the macro's, and the licence of firmware")]
mod suite {
    use super::super::*;
    use crate::{
        driver::PSPV4,
        pages::leaked,
        regs::MailboxMap,
        sys::{
            fake_io,
            fake_sme::Sme,
            physical::Physical, //
        },
        testing::check,
    };
    use core::cell::Cell;
    use kernel::time::Delta;

    const READY: u32 = 1 << 31;
    /// The command in C2PMSG_17 (Linux: `PSP_CMD_TEE_EXTENDED_CMD`), and the requests in the buffer
    /// (include/linux/psp-platform-access.h).
    const EXTENDED: u32 = 14 << 16;
    const VERSIONS: u32 = 1;
    const PACKAGE: u32 = 2;

    /// A request, as the PSP finds it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Request {
        size: u32,
        number: u32,
        /// Both statuses, and what lies behind them in the first page.
        zero: bool,
        /// How many bytes of this value follow, and whether zeros do up to the size.
        body: (u8, usize),
        padded: bool,
    }

    struct Psp {
        ready: Cell<bool>,
        /// It takes a request, and gives no answer.
        silent: Cell<bool>,
        /// The address of the buffer.
        buffer: Cell<[u32; 2]>,
        /// Why it refuses, in the register and in the buffer.
        refusal: Cell<u32>,
        status: Cell<u32>,
        got: Cell<Option<Request>>,
    }

    /// What it says beside its status, and of its versions.
    const EXTENDED_STATUS: u32 = 0x77;
    const ANSWER: u8 = 0x5a;

    impl Psp {
        fn new() -> Self {
            Self {
                ready: Cell::new(true),
                silent: Cell::new(false),
                buffer: Cell::new([0; 2]),
                refusal: Cell::new(0),
                status: Cell::new(0),
                got: Cell::new(None),
            }
        }

        fn take(&self) {
            let [low, high] = self.buffer.get();
            let address = u64::from(high) << 32 | u64::from(low);
            // SAFETY: The address is that of the buffer of the request, which is being sent.
            let memory = unsafe { Physical::access() };
            memory.with(address, 2 << 20, |bytes| {
                let (page, rest) = bytes.split_at_mut(0x1000);
                let word = |at: usize| {
                    let word: Option<&[u8; 4]> = page.get(at..).and_then(<[u8]>::first_chunk);
                    word.map_or(0, |word| u32::from_le_bytes(*word))
                };
                let size = word(0);
                let body = rest.get(..(size as usize).saturating_sub(0x1000));
                let body = body.unwrap_or_default();
                let first = body.first().copied().unwrap_or(0);
                let same = body.iter().take_while(|byte| **byte == first).count();
                let mut padding = body.iter().skip(same);
                self.got.set(Some(Request {
                    size,
                    number: word(4),
                    zero: page.iter().skip(8).take(8).all(|byte| *byte == 0),
                    body: (first, same),
                    padded: padding.all(|byte| *byte == 0),
                }));
                for (at, value) in [(8, self.status.get()), (12, EXTENDED_STATUS)] {
                    if let Some(word) = page.get_mut(at..at + 4) {
                        word.copy_from_slice(&value.to_le_bytes());
                    }
                }
                if self.got.get().is_some_and(|got| got.number == VERSIONS) {
                    rest.iter_mut().take(0x1000).for_each(|to| *to = ANSWER);
                }
            });
        }
    }

    /// How many blocks the list of SNP_INIT_EX would have.
    fn blocks() -> usize {
        let mut count = 0;
        hv_fixed::list(|_| {
            count += 1;
            Ok(())
        });
        count
    }

    fn map() -> Result<&'static MailboxMap> {
        PSPV4.registers.mailbox.as_ref().ok_or(EINVAL)
    }

    impl fake_io::Device for Psp {
        fn read(&self, offset: usize) -> u32 {
            match map() {
                Ok(map) if offset == map.cmdresp && self.ready.get() => READY | self.refusal.get(),
                _ => 0,
            }
        }

        fn write(&self, offset: usize, value: u32) {
            let Ok(map) = map() else { return };
            let [low, high] = self.buffer.get();
            match offset {
                at if at == map.cmdbuf_lo => self.buffer.set([value, high]),
                at if at == map.cmdbuf_hi => self.buffer.set([low, value]),
                at if at == map.cmdresp && value == EXTENDED => {
                    self.take();
                    self.ready.set(!self.silent.get());
                }
                _ => {}
            }
        }
    }

    #[test]
    fn versions_come_from_the_page_behind_the_request() -> Result {
        let psp = Psp::new();
        let mut mailbox = PspMailbox::new(fake_io::region(&psp), map()?);
        let mut sfs = Sfs::new()?;
        let mut versions = KVec::from_elem(0, 0x1000, GFP_KERNEL)?;
        let answer = sfs.versions(&mut mailbox, &mut versions)?;
        check!(answer.result.is_ok() && answer.status == 0);
        check!(answer.extended_status == EXTENDED_STATUS);
        check!(versions.iter().all(|byte| *byte == ANSWER));
        // The PSP knows by that what it has not written.
        let request = Request {
            size: 0x2000,
            number: VERSIONS,
            zero: true,
            body: (0xc7, 0x1000),
            padded: true,
        };
        check!(psp.got.get() == Some(request), "{:?}", psp.got.get());
        // What the PSP has left in the buffer is no part of the next request.
        sfs.versions(&mut mailbox, &mut versions)?;
        check!(psp.got.get() == Some(request), "{:?}", psp.got.get());
        // The buffer does not outlive its user, as no list has had it.
        sfs.leave(&mut mailbox);
        check!(blocks() == 0);
        Ok(())
    }

    #[test]
    fn a_package_is_padded() -> Result {
        let _sme = Sme::pretend();
        let psp = Psp::new();
        let mut mailbox = PspMailbox::new(fake_io::region(&psp), map()?);
        let mut sfs = Sfs::new()?;
        // The second one is shorter: nothing is left of the first.
        for (len, byte, size) in [(0xf001, 0x11, 0x20000), (5000, 0x22, 0x10000)] {
            let package = KVVec::from_elem(byte, len, GFP_KERNEL)?;
            let answer = sfs.update(&mut mailbox, &package)?;
            check!(answer.result.is_ok() && answer.status == 0, "{}", len);
            let request = Request {
                size,
                number: PACKAGE,
                zero: true,
                body: (byte, len),
                padded: true,
            };
            check!(psp.got.get() == Some(request), "{:?}", psp.got.get());
            let [low, high] = psp.buffer.get();
            let address = u64::from(high) << 32 | u64::from(low);
            check!(address & Sme::MASK != 0 && address & 0x1f_ffff & !Sme::MASK == 0);
        }
        sfs.leave(&mut mailbox);
        Ok(())
    }

    #[test]
    fn a_package_that_fits() -> Result {
        for (package, size) in [
            (0, Some(0x10000)),
            (0xf000, Some(0x10000)),
            (0xf001, Some(0x20000)),
            (0x1e_f000, Some(0x1f_0000)),
            (0x1f_f000, Some(0x20_0000)),
            (0x1f_f001, None),
            (usize::MAX, None),
        ] {
            let found = Sfs::size_with(package);
            check!(found == size.ok_or(E2BIG), "{:#x}", package);
        }
        Ok(())
    }

    #[test]
    fn a_refusal_has_a_status() -> Result {
        let psp = Psp::new();
        let mut mailbox = PspMailbox::new(fake_io::region(&psp), map()?);
        let mut sfs = Sfs::new()?;
        let before = leaked();
        // In the register; then the one in the buffer says nothing.
        psp.status.set(4);
        psp.refusal.set(3);
        let answer = sfs.update(&mut mailbox, &[1])?;
        check!(answer.result == Err(EIO) && answer.status == 3);
        check!(answer.extended_status == EXTENDED_STATUS);
        psp.refusal.set(0);
        let answer = sfs.update(&mut mailbox, &[1])?;
        check!(answer.result.is_ok() && answer.status == 4);
        // A PSP that is at something else gets nothing, and the buffer stays.
        psp.ready.set(false);
        psp.got.set(None);
        check!(matches!(sfs.update(&mut mailbox, &[1]), Err(err) if err == EBUSY));
        check!(psp.got.get().is_none());
        psp.ready.set(true);
        check!(sfs.update(&mut mailbox, &[1]).is_ok() && psp.got.get().is_some());
        sfs.leave(&mut mailbox);
        check!(leaked() == before);
        Ok(())
    }

    /// What it has not answered it may still read and write. With the answer the buffer is ours.
    #[test]
    fn the_buffer_of_a_silent_psp_waits_for_its_answer() -> Result {
        let psp = Psp::new();
        let mut mailbox = PspMailbox::new(fake_io::region(&psp), map()?);
        mailbox.timeout = Delta::from_millis(20);
        let mut sfs = Sfs::new()?;
        let before = leaked();
        psp.silent.set(true);
        check!(matches!(sfs.update(&mut mailbox, &[1]), Err(err) if err == ETIMEDOUT));
        psp.got.set(None);
        for _ in 0..2 {
            check!(matches!(sfs.update(&mut mailbox, &[1]), Err(err) if err == EBUSY));
            check!(psp.got.get().is_none() && leaked() == before);
        }
        psp.silent.set(false);
        psp.ready.set(true);
        check!(sfs.update(&mut mailbox, &[1])?.result.is_ok() && psp.got.get().is_some());
        sfs.leave(&mut mailbox);
        check!(blocks() == 0 && leaked() == before);
        Ok(())
    }

    /// No list names memory that is not the driver's any more, however SFS ends.
    #[test]
    fn a_buffer_that_is_dropped_is_no_block_any_more() -> Result {
        let before = leaked();
        let sfs = Sfs::new()?;
        check!(blocks() == 1);
        // A block that is in no list is freed at once.
        hv_fixed::list(|_| Err(E2BIG));
        drop(sfs);
        check!(blocks() == 0 && leaked() == before);
        // One that is in a list is not freed: it is the next user's.
        for _ in 0..2 {
            let sfs = Sfs::new()?;
            check!(blocks() == 1);
            drop(sfs);
            check!(blocks() == 1);
        }
        let sfs = Sfs::new()?;
        hv_fixed::list(|_| Err(E2BIG));
        drop(sfs);
        check!(blocks() == 0 && leaked() == before);
        // The PSP may still use it.
        drop(Sfs {
            buffer: Some(Buffer::Firmwares(hv_fixed::take()?.lend())),
        });
        check!(blocks() == 0 && leaked() == before + 512);
        Ok(())
    }

    /// The PSP has given the buffer up meanwhile.
    #[test]
    fn a_buffer_that_was_answered_late_is_not_lost_at_the_end() -> Result {
        let psp = Psp::new();
        let mut mailbox = PspMailbox::new(fake_io::region(&psp), map()?);
        let before = leaked();
        let sfs = Sfs {
            buffer: Some(Buffer::Firmwares(hv_fixed::take()?.lend())),
        };
        sfs.leave(&mut mailbox);
        check!(blocks() == 0 && leaked() == before);
        // In a list it stays.
        let sfs = Sfs {
            buffer: Some(Buffer::Firmwares(hv_fixed::take()?.lend())),
        };
        check!(blocks() == 1);
        sfs.leave(&mut mailbox);
        check!(blocks() == 1 && leaked() == before);
        let sfs = Sfs::new()?;
        hv_fixed::list(|_| Err(E2BIG));
        drop(sfs);
        check!(blocks() == 0);
        Ok(())
    }
}
