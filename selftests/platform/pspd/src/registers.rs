// SPDX-License-Identifier: GPL-2.0
//! The registers in BAR 2.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::generation::{Generation, Offsets, PlatformAccess, Tee};
use crate::services;

/// CMDRESP bit 31: set by firmware when the command has ended.
pub const RESPONSE: u32 = 1 << 31;
/// CMDRESP bit 0 of a command: interrupt on completion.
const IOC: u32 = 1;
/// INTSTS and INTEN bit 1: a SEV command has completed.
const SEV_CMD_COMPLETE: u32 = 1 << 1;

/// What the feature register has: SEV (0), security reporting (7), fused part (8), boot integrity
/// (9), debug lock (10), anti-rollback (15), ROM armor (19). The security bits are those from 8 on.
pub const FEATURES: u32 = 0x0008_8781;
/// Bootloader version 00.29.00.75, in the notation of the driver's sysfs file.
const BOOTLOADER: u32 = 0x0029_0075;
/// Version of the TEE, in the same notation.
const TEE: u32 = 0x0034_0012;

/// A command that was written to CMDRESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    pub command: u32,
    pub buffer: u64,
    pub interrupt: bool,
    /// The command before had not ended yet.
    pub overrun: bool,
    /// Register reads since the doorbell or mark before.
    pub reads: u64,
    /// Register writes since then, this one included.
    pub writes: u64,
}

/// What a register write has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    Sev(Doorbell),
    Service(services::Request),
}

/// The register file, shared by the server (reads, writes) and the worker (completion).
pub struct Registers {
    offsets: Offsets,
    cmdresp: AtomicU32,
    lo: AtomicU32,
    hi: AtomicU32,
    inten: AtomicU32,
    intsts: AtomicU32,
    features: u32,
    message: AtomicU32,
    message_lo: AtomicU32,
    message_hi: AtomicU32,
    doorbell: AtomicU32,
    mailbox: AtomicU32,
    mailbox_lo: AtomicU32,
    mailbox_hi: AtomicU32,
    wptr: AtomicU32,
    rptr: AtomicU32,
    reads: AtomicU64,
    writes: AtomicU64,
    all_ones: AtomicBool,
}

impl Registers {
    pub fn new(generation: Generation, features: u32) -> Registers {
        Registers {
            offsets: generation.offsets(),
            cmdresp: AtomicU32::new(0),
            lo: AtomicU32::new(0),
            hi: AtomicU32::new(0),
            inten: AtomicU32::new(0),
            intsts: AtomicU32::new(0),
            features,
            message: AtomicU32::new(RESPONSE),
            message_lo: AtomicU32::new(0),
            message_hi: AtomicU32::new(0),
            doorbell: AtomicU32::new(RESPONSE),
            mailbox: AtomicU32::new(RESPONSE),
            mailbox_lo: AtomicU32::new(0),
            mailbox_hi: AtomicU32::new(0),
            wptr: AtomicU32::new(0),
            rptr: AtomicU32::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            all_ones: AtomicBool::new(false),
        }
    }

    /// Register values after reset: 0, also where a command or its response was; platform access
    /// and the PSP's own mailbox are ready (model choices).
    pub fn reset(&self) {
        for register in [&self.cmdresp, &self.lo, &self.hi, &self.inten, &self.intsts] {
            register.store(0, Ordering::Release);
        }
        self.complete_message(0);
        self.complete_doorbell(0);
        self.complete_mailbox(0);
        self.wptr.store(0, Ordering::Release);
        self.set_rptr(0);
    }

    /// A register access of the driver.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let value = self.value(offset & !3).to_le_bytes();
        for (n, byte) in data.iter_mut().enumerate() {
            // Accesses are 32 bits wide; what lies beyond one register reads as zero.
            *byte = value.get((offset & 3) as usize + n).copied().unwrap_or(0);
        }
    }

    fn value(&self, offset: u64) -> u32 {
        let o = &self.offsets;
        if self.all_ones.load(Ordering::Acquire) {
            return u32::MAX;
        }
        match offset {
            at if at == o.cmdresp => self.cmdresp.load(Ordering::Acquire),
            at if at == o.cmdbuff_lo => self.lo.load(Ordering::Acquire),
            at if at == o.cmdbuff_hi => self.hi.load(Ordering::Acquire),
            at if at == o.inten => self.inten.load(Ordering::Acquire),
            at if at == o.intsts => self.intsts.load(Ordering::Acquire),
            at if at == o.feature => self.features,
            at if at == o.bootloader => BOOTLOADER,
            at => {
                let access = o.platform_access.and_then(|p| self.platform_access(&p, at));
                access.or_else(|| self.tee(&o.tee?, at)).unwrap_or(0)
            }
        }
    }

    fn tee(&self, t: &Tee, offset: u64) -> Option<u32> {
        Some(match offset {
            at if at == t.cmdresp => self.mailbox.load(Ordering::Acquire),
            at if at == t.cmdbuff_lo => self.mailbox_lo.load(Ordering::Acquire),
            at if at == t.cmdbuff_hi => self.mailbox_hi.load(Ordering::Acquire),
            at if at == t.wptr => self.wptr.load(Ordering::Acquire),
            at if at == t.rptr => self.rptr.load(Ordering::Acquire),
            at if at == t.info => TEE,
            _ => return None,
        })
    }

    fn platform_access(&self, p: &PlatformAccess, offset: u64) -> Option<u32> {
        Some(match offset {
            at if at == p.cmdresp => self.message.load(Ordering::Acquire),
            at if at == p.cmdbuff_lo => self.message_lo.load(Ordering::Acquire),
            at if at == p.cmdbuff_hi => self.message_hi.load(Ordering::Acquire),
            at if at == p.doorbell => self.doorbell.load(Ordering::Acquire),
            _ => return None,
        })
    }

    /// A register write of the driver. A command in CMDRESP is the doorbell.
    pub fn write(&self, offset: u64, data: &[u8]) -> Option<Rung> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let value = u32::from_le_bytes(data.try_into().ok()?);
        if self.all_ones.load(Ordering::Acquire) {
            return None;
        }
        let o = &self.offsets;
        match offset {
            at if at == o.cmdbuff_lo => self.lo.store(value, Ordering::Release),
            at if at == o.cmdbuff_hi => self.hi.store(value, Ordering::Release),
            at if at == o.inten => self.inten.store(value, Ordering::Release),
            at if at == o.intsts => {
                // Write one to clear.
                self.intsts.fetch_and(!value, Ordering::AcqRel);
            }
            at if at == o.cmdresp => return Some(Rung::Sev(self.ring(value))),
            at => {
                let access =
                    o.platform_access.and_then(|p| self.write_platform_access(&p, at, value));
                let request = access.or_else(|| self.write_tee(&o.tee?, at, value))?;
                return Some(Rung::Service(request));
            }
        }
        None
    }

    /// A message is written with the ready bit clear, and so is the doorbell's; the doorbell's
    /// starts with the button.
    fn write_platform_access(
        &self,
        p: &PlatformAccess,
        offset: u64,
        value: u32,
    ) -> Option<services::Request> {
        match offset {
            at if at == p.cmdbuff_lo => self.message_lo.store(value, Ordering::Release),
            at if at == p.cmdbuff_hi => self.message_hi.store(value, Ordering::Release),
            at if at == p.doorbell => self.doorbell.store(value & !RESPONSE, Ordering::Release),
            at if at == p.cmdresp => {
                self.message.store(value & !RESPONSE, Ordering::Release);
                let lo = u64::from(self.message_lo.load(Ordering::Acquire));
                let hi = u64::from(self.message_hi.load(Ordering::Acquire));
                let number = (value >> 16) as u8;
                return Some(services::Request::Message { number, buffer: lo | (hi << 32) });
            }
            at if at == p.button && value & 1 != 0 => {
                let number = self.doorbell.load(Ordering::Acquire) as u8;
                return Some(services::Request::Doorbell { number });
            }
            _ => {}
        }
        None
    }

    /// A command of the PSP's own mailbox is written with the ready bit clear; the ring has new
    /// entries when its end is written.
    fn write_tee(&self, t: &Tee, offset: u64, value: u32) -> Option<services::Request> {
        match offset {
            at if at == t.cmdbuff_lo => self.mailbox_lo.store(value, Ordering::Release),
            at if at == t.cmdbuff_hi => self.mailbox_hi.store(value, Ordering::Release),
            at if at == t.cmdresp => {
                self.mailbox.store(value & !RESPONSE, Ordering::Release);
                let lo = u64::from(self.mailbox_lo.load(Ordering::Acquire));
                let hi = u64::from(self.mailbox_hi.load(Ordering::Acquire));
                let number = (value >> 16) as u8 & 0xf;
                return Some(services::Request::Mailbox { number, buffer: lo | (hi << 32) });
            }
            at if at == t.wptr => {
                self.wptr.store(value, Ordering::Release);
                return Some(services::Request::Ring { end: value });
            }
            _ => {}
        }
        None
    }

    /// A command of the PSP's own mailbox has ended.
    pub fn complete_mailbox(&self, status: u16) {
        self.mailbox.store(RESPONSE | u32::from(status), Ordering::Release);
    }

    /// The ring has been read up to here.
    pub fn set_rptr(&self, at: u32) {
        self.rptr.store(at, Ordering::Release);
    }

    /// A message of platform access has ended.
    pub fn complete_message(&self, status: u16) {
        self.message.store(RESPONSE | u32::from(status), Ordering::Release);
    }

    /// What the doorbell was rung for has ended.
    pub fn complete_doorbell(&self, status: u16) {
        self.doorbell.store(RESPONSE | u32::from(status), Ordering::Release);
    }

    fn ring(&self, value: u32) -> Doorbell {
        let before = self.cmdresp.swap(value & !RESPONSE, Ordering::AcqRel);
        let lo = u64::from(self.lo.load(Ordering::Acquire));
        let hi = u64::from(self.hi.load(Ordering::Acquire));
        let (reads, writes) = self.take_accesses();
        Doorbell {
            command: (value >> 16) & 0x7ff,
            buffer: lo | (hi << 32),
            interrupt: value & IOC != 0,
            overrun: before != 0 && before & RESPONSE == 0,
            reads,
            writes,
        }
    }

    /// Reads and writes since the last time.
    pub fn take_accesses(&self) -> (u64, u64) {
        (self.reads.swap(0, Ordering::Relaxed), self.writes.swap(0, Ordering::Relaxed))
    }

    /// Firmware answers. Says whether an interrupt is due.
    pub fn complete(&self, status: u16, interrupt: bool) -> bool {
        self.cmdresp.store(RESPONSE | u32::from(status), Ordering::Release);
        self.intsts.fetch_or(SEV_CMD_COMPLETE, Ordering::AcqRel);
        interrupt && self.inten.load(Ordering::Acquire) & SEV_CMD_COMPLETE != 0
    }

    /// From now on every register reads as all ones and writes are lost: the device does not
    /// answer on the bus any more.
    pub fn vanish(&self) {
        self.all_ones.store(true, Ordering::Release);
    }

    /// The device is there again, with the register values that it had.
    pub fn come_back(&self) {
        self.all_ones.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(registers: &Registers, offset: u64) -> u32 {
        let mut data = [0; 4];
        registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// A SEV command.
    fn ring(registers: &Registers, offset: u64, value: u32) -> Doorbell {
        match registers.write(offset, &value.to_le_bytes()) {
            Some(Rung::Sev(bell)) => bell,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_doorbell_carries_command_buffer_and_counts() {
        for generation in
            [Generation::Id1456, Generation::Id1486, Generation::Id14ca, Generation::Id156e]
        {
            let registers = Registers::new(generation, FEATURES);
            let o = generation.offsets();
            assert_eq!(read(&registers, o.feature) & 1, 1, "{generation:?}");
            assert_eq!(registers.write(o.inten, &u32::MAX.to_le_bytes()), None);
            assert_eq!(registers.write(o.cmdbuff_lo, &0x1000u32.to_le_bytes()), None);
            assert_eq!(registers.write(o.cmdbuff_hi, &1u32.to_le_bytes()), None);
            let bell = ring(&registers, o.cmdresp, 0x0085_0001);
            let expected = Doorbell {
                command: 0x85,
                buffer: 0x1_0000_1000,
                interrupt: true,
                overrun: false,
                reads: 1,
                writes: 4,
            };
            assert_eq!(bell, expected, "{generation:?}");
            assert_eq!(read(&registers, o.cmdresp), 0x0085_0001, "busy");
            let second = ring(&registers, o.cmdresp, 4 << 16);
            assert!(second.overrun && !second.interrupt);
            assert!(registers.complete(0x1a, bell.interrupt));
            assert_eq!(read(&registers, o.cmdresp), RESPONSE | 0x1a);
            assert_eq!(read(&registers, o.intsts), 2);
            registers.write(o.intsts, &2u32.to_le_bytes());
            assert_eq!(read(&registers, o.intsts), 0);
        }
    }

    #[test]
    fn interrupts_need_both_the_command_and_the_enable_register() {
        let registers = Registers::new(Generation::Id1486, FEATURES);
        let o = Generation::Id1486.offsets();
        assert!(!registers.complete(0, true), "disabled");
        registers.write(o.inten, &2u32.to_le_bytes());
        assert!(!registers.complete(0, false), "not asked for");
        assert!(registers.complete(0, true));
    }

    #[test]
    fn a_vanished_device_reads_all_ones() {
        let registers = Registers::new(Generation::Id1486, FEATURES);
        let o = Generation::Id1486.offsets();
        registers.vanish();
        assert_eq!(read(&registers, o.feature), u32::MAX);
        assert_eq!(read(&registers, 0), u32::MAX);
        assert_eq!(registers.write(o.cmdresp, &0x40001u32.to_le_bytes()), None);
        registers.come_back();
        assert_eq!(read(&registers, o.feature), FEATURES);
        assert_eq!(read(&registers, o.cmdresp), 0, "the doorbell was lost");
    }

    #[test]
    fn platform_access_is_ready_until_something_starts() {
        use services::Request::{Doorbell, Message};
        let registers = Registers::new(Generation::Id1486, FEATURES);
        let p = Generation::Id1486.offsets().platform_access.unwrap();
        let write = |at, value: u32| registers.write(at, &value.to_le_bytes());
        assert_eq!([read(&registers, p.cmdresp), read(&registers, p.doorbell)], [RESPONSE; 2]);
        assert_eq!(write(p.cmdbuff_lo, 0x5000), None);
        assert_eq!(write(p.cmdbuff_hi, 2), None);
        let message = Message { number: 0x14, buffer: 0x2_0000_5000 };
        assert_eq!(write(p.cmdresp, 0x14 << 16), Some(Rung::Service(message)));
        assert_eq!(read(&registers, p.cmdresp), 0x14 << 16);
        registers.complete_message(6);
        assert_eq!(read(&registers, p.cmdresp), RESPONSE | 6);
        assert_eq!([read(&registers, p.cmdbuff_lo), read(&registers, p.cmdbuff_hi)], [0x5000, 2]);

        assert_eq!(write(p.doorbell, 0x42), None);
        assert_eq!(write(p.button, 2), None, "that is not the button");
        assert_eq!(write(p.button, 1), Some(Rung::Service(Doorbell { number: 0x42 })));
        registers.complete_doorbell(0);
        assert_eq!(read(&registers, p.doorbell), RESPONSE);

        let without = Registers::new(Generation::Id14ca, FEATURES);
        assert_eq!(without.write(p.cmdresp, &(0x14u32 << 16).to_le_bytes()), None);
        assert_eq!(read(&without, p.cmdresp), 0);
    }

    #[test]
    fn the_psps_own_mailbox_and_the_ring() {
        use services::Request::{Mailbox, Ring};
        for generation in [Generation::Id14ca, Generation::Id156e, Generation::Id17d8] {
            let registers = Registers::new(generation, FEATURES);
            let t = generation.offsets().tee.unwrap();
            let write = |at, value: u32| registers.write(at, &value.to_le_bytes());
            assert_eq!(read(&registers, t.cmdresp), RESPONSE);
            assert_eq!([write(t.cmdbuff_lo, 0x6000), write(t.cmdbuff_hi, 3)], [None; 2]);
            let command = Mailbox { number: 14, buffer: 0x3_0000_6000 };
            assert_eq!(write(t.cmdresp, 14 << 16), Some(Rung::Service(command)));
            assert_eq!(read(&registers, t.cmdresp), 14 << 16);
            registers.complete_mailbox(0xd);
            assert_eq!(read(&registers, t.cmdresp), RESPONSE | 0xd);
            assert_eq!(write(t.wptr, 0x400), Some(Rung::Service(Ring { end: 0x400 })));
            registers.set_rptr(0x400);
            assert_eq!([read(&registers, t.wptr), read(&registers, t.rptr)], [0x400; 2]);
            assert_eq!([write(t.rptr, 0), write(t.info, 0)], [None; 2], "these are read only");
            assert_eq!([read(&registers, t.rptr), read(&registers, t.info)], [0x400, TEE]);
        }
        let without = Registers::new(Generation::Id1486, FEATURES);
        assert_eq!(without.write(0x10544, &(14u32 << 16).to_le_bytes()), None);
        assert_eq!(read(&without, 0x10544), 0);
    }

    #[test]
    fn odd_accesses_are_harmless() {
        let registers = Registers::new(Generation::Id1486, FEATURES);
        let o = Generation::Id1486.offsets();
        let mut wide = [0xaa; 8];
        registers.complete(0, false);
        registers.read(o.cmdresp, &mut wide);
        assert_eq!(wide, [0, 0, 0, 0x80, 0, 0, 0, 0]);
        assert_eq!(registers.write(o.cmdresp, &[1]), None);
        assert_eq!(registers.write(o.cmdresp, &[0; 8]), None);
    }
}
