// SPDX-License-Identifier: GPL-2.0

//! Every access goes to the register of the generation at hand.
//!
//! The C driver numbers the mailbox registers (C2PMSG_n, 4 bytes each from a base that the
//! generation has) and names the interrupt registers; both as in drivers/crypto/ccp/sp-pci.c of
//! Linux 7.3.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_registers)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::{
        Generation,
        PSPV1,
        PSPV2,
        PSPV4,
        PSPV6, //
    };
    use crate::{
        regs::{
            Doorbell,
            Registers, //
        },
        sys::fake_io, //
    };
    use core::cell::Cell;
    use kernel::prelude::*;

    /// What a generation must be like.
    struct Expected {
        generation: &'static Generation,
        name: &'static str,
        c2pmsg: usize,
        inten: usize,
        intsts: usize,
    }

    static TABLE: [Expected; 4] = [
        Expected {
            generation: &PSPV1,
            name: "pspv1",
            c2pmsg: 0x10500,
            inten: 0x10610,
            intsts: 0x10614,
        },
        Expected {
            generation: &PSPV2,
            name: "pspv2",
            c2pmsg: 0x10900,
            inten: 0x10690,
            intsts: 0x10694,
        },
        Expected {
            generation: &PSPV4,
            name: "pspv4",
            c2pmsg: 0x10900,
            inten: 0x10690,
            intsts: 0x10694,
        },
        Expected {
            generation: &PSPV6,
            name: "pspv6",
            c2pmsg: 0x10900,
            inten: 0x10510,
            intsts: 0x10514,
        },
    ];

    impl Expected {
        const fn c2pmsg(&self, n: usize) -> usize {
            self.c2pmsg + 4 * n
        }
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Access {
        Read(usize),
        Write(usize, u32),
    }

    /// Remembers the accesses; every read gives `answer`.
    struct Recorder {
        answer: u32,
        seen: Cell<[Option<Access>; 4]>,
    }

    impl Recorder {
        fn new(answer: u32) -> Self {
            Self {
                answer,
                seen: Cell::new([None; 4]),
            }
        }

        fn note(&self, access: Access) {
            let mut seen = self.seen.get();
            if let Some(free) = seen.iter_mut().find(|entry| entry.is_none()) {
                *free = Some(access);
            }
            self.seen.set(seen);
        }

        /// Whether exactly `accesses` were made, in this order.
        fn saw(&self, accesses: &[Access]) -> bool {
            self.seen.get().iter().flatten().eq(accesses)
        }
    }

    impl fake_io::Device for Recorder {
        fn read(&self, offset: usize) -> u32 {
            self.note(Access::Read(offset));
            self.answer
        }

        fn write(&self, offset: usize, value: u32) {
            self.note(Access::Write(offset, value));
        }
    }

    fn registers<'a>(
        device: &'a Recorder,
        expected: &Expected,
    ) -> Registers<fake_io::View<'a, Recorder>> {
        Registers::new(fake_io::region(device), &expected.generation.registers)
    }

    #[test]
    fn names() {
        for expected in &TABLE {
            assert_eq!(expected.generation.name, expected.name);
        }
    }

    #[test]
    fn command() {
        for expected in &TABLE {
            let device = Recorder::new(0);
            let mut registers = registers(&device, expected);
            registers.set_command_buffer(zerocopy::transmute!(0x0123_4567_89ab_cdef_u64));
            registers.ring(
                Doorbell::zeroed()
                    .with_const_command::<0x85>()
                    .with_interrupt(true),
            );
            assert!(device.saw(&[
                Access::Write(expected.c2pmsg(56), 0x89ab_cdef),
                Access::Write(expected.c2pmsg(57), 0x0123_4567),
                Access::Write(expected.c2pmsg(32), 0x85 << 16 | 1),
            ]));
        }
    }

    #[test]
    fn response() {
        for expected in &TABLE {
            let device = Recorder::new(0x8000_0026);
            let response = registers(&device, expected).response();
            assert!(device.saw(&[Access::Read(expected.c2pmsg(32))]));
            assert!(response.ready());
            assert_eq!(u32::from(response.status()), 0x26);
        }
    }

    #[test]
    fn versions() {
        for expected in &TABLE {
            let device = Recorder::new(0x0102_03ff);
            let versions = registers(&device, expected).versions();
            assert_eq!(versions.bootloader(), Some([1, 2, 3, 0xff]));
            assert!(device.saw(&[Access::Read(expected.c2pmsg(59))]));
            // Only generations with a TEE have that register.
            let device = Recorder::new(4);
            let tee = matches!(expected.name, "pspv4" | "pspv6");
            let versions = registers(&device, expected).versions();
            assert_eq!(versions.tee(), tee.then_some([0, 0, 0, 4]));
            assert_eq!(device.saw(&[Access::Read(expected.c2pmsg(58))]), tee);
            // Access may be denied.
            let device = Recorder::new(u32::MAX);
            let versions = registers(&device, expected).versions();
            assert_eq!((versions.bootloader(), versions.tee()), (None, None));
        }
    }

    #[test]
    fn capability() {
        for expected in &TABLE {
            let device = Recorder::new(0b11);
            let capability = registers(&device, expected).capability();
            assert!(device.saw(&[Access::Read(expected.c2pmsg(63))]));
            assert!(capability.is_some_and(|capability| capability.sev()));
        }
    }

    #[test]
    fn capability_of_a_device_that_is_gone() {
        for expected in &TABLE {
            let device = Recorder::new(u32::MAX);
            assert!(registers(&device, expected).capability().is_none());
        }
    }

    #[test]
    fn interrupts() {
        for expected in &TABLE {
            let device = Recorder::new(0b110);
            let interrupts = registers(&device, expected).interrupts();
            let pending = interrupts.acknowledge();
            interrupts.unmask();
            assert!(pending.sev_command_complete());
            // Only what was pending is acknowledged.
            assert!(device.saw(&[
                Access::Read(expected.intsts),
                Access::Write(expected.intsts, 0b110),
                Access::Write(expected.inten, u32::MAX),
            ]));
        }
    }

    #[test]
    fn masking_interrupts() {
        for expected in &TABLE {
            let device = Recorder::new(0);
            registers(&device, expected).interrupts().mask();
            assert!(device.saw(&[
                Access::Write(expected.inten, 0),
                Access::Write(expected.intsts, u32::MAX),
            ]));
        }
    }
}
