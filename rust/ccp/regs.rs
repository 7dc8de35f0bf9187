// SPDX-License-Identifier: GPL-2.0

//! The PSP's registers in BAR 2, as types.
//!
//! Generations have their registers at different places ([`RegisterMap`], filled in `driver.rs`),
//! with the same layout. The types are generic over the access to the BAR ([`BarIo`]), so the
//! mailbox also runs against a scripted device.
//!
//! [`Registers`], which start commands, have one owner, the mailbox. A panic stops that owner, and
//! has a mailbox with registers of its own. [`Interrupts`] may be copied: the interrupt handler has
//! one, and `driver.rs` another for masking.
//!
//! Source: drivers/crypto/ccp/{sp-pci.c, psp-dev.h, sev-dev.h} of Linux 7.3.

use crate::pages::Address;
use kernel::{
    bitfield,
    io::{
        Io,
        IoCapable,
        Region, //
    }, //
};

/// How much of BAR 2 is used: up to and including the highest register of any generation
/// (C2PMSG_63, the capabilities, at 0x109fc).
pub(crate) const BAR_SIZE: usize = 0x10a00;

bitfield! {
    /// What the driver writes to C2PMSG_32 to start a command.
    pub(crate) struct Doorbell(u32) {
        /// The command's number.
        26:16 command;
        /// Interrupt on completion.
        0:0 interrupt => bool;
    }
}

bitfield! {
    /// What the PSP writes to C2PMSG_32 when a command is done.
    pub(crate) struct Response(u32) {
        /// The response is there.
        31:31 ready => bool;
        /// As long as there is no response: the command that was written here.
        26:16 command;
        /// The firmware's status code.
        15:0 status;
    }
}

impl Response {
    /// A device that is gone reads as all ones, which looks like a response that is ready.
    pub(crate) fn is_all_ones(self) -> bool {
        u32::from(self) == u32::MAX
    }

    /// The number of the command that has no response yet. [`None`] also for a register that was
    /// never written.
    pub(crate) fn in_progress(self) -> Option<u32> {
        let command = self.command().get();
        (!self.ready() && command != 0).then_some(command)
    }
}

bitfield! {
    /// C2PMSG_63: what this PSP offers.
    pub(crate) struct Capability(u32) {
        /// SEV commands.
        0:0 sev => bool;
    }
}

bitfield! {
    /// P2CMSG_INTSTS: which interrupts are pending; writing a one clears it.
    pub(crate) struct InterruptStatus(u32) {
        /// The SEV mailbox has completed a command.
        1:1 sev_command_complete => bool;
    }
}

/// Where the registers of one PSP generation are, as byte offsets into BAR 2.
pub(crate) struct RegisterMap {
    /// C2PMSG_32 of the SEV mailbox: [`Doorbell`] to write, [`Response`] to read.
    pub(crate) cmdresp: usize,
    /// C2PMSG_56: bits 31:0 of the command buffer's system physical address.
    pub(crate) cmdbuf_lo: usize,
    /// C2PMSG_57: bits 63:32 of it.
    pub(crate) cmdbuf_hi: usize,
    /// C2PMSG_63: [`Capability`].
    pub(crate) feature: usize,
    /// P2CMSG_INTEN: a set bit enables the interrupt of that number.
    pub(crate) inten: usize,
    /// P2CMSG_INTSTS: [`InterruptStatus`].
    pub(crate) intsts: usize,
}

impl RegisterMap {
    /// The map of a generation whose C2PMSG_0 is at `c2pmsg`. While compiling it is checked that
    /// every register lies in the mapped part of the BAR and is aligned. [`BarIo`] relies on it.
    pub(crate) const fn new(c2pmsg: usize, inten: usize, intsts: usize) -> Self {
        let map = Self {
            cmdresp: c2pmsg + 4 * 32,
            cmdbuf_lo: c2pmsg + 4 * 56,
            cmdbuf_hi: c2pmsg + 4 * 57,
            feature: c2pmsg + 4 * 63,
            inten,
            intsts,
        };
        let last = BAR_SIZE - 4;
        // The feature register is the highest of the C2PMSG registers.
        assert!(map.feature <= last && inten <= last && intsts <= last);
        assert!(c2pmsg % 4 == 0 && inten % 4 == 0 && intsts % 4 == 0);
        map
    }
}

/// 32-bit accesses to the BAR: the kernel's [`Io`], whatever its lifetime.
pub(crate) trait BarIo: Copy {
    /// Reads a register of a [`RegisterMap`].
    fn read(self, offset: usize) -> u32;

    /// Writes a register of a [`RegisterMap`].
    fn write(self, offset: usize, value: u32);
}

impl<'a, I> BarIo for I
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    /// `RegisterMap::new()` has checked that the offset is valid, so the access cannot fail; if it
    /// did, it would look like a device that is gone.
    fn read(self, offset: usize) -> u32 {
        self.try_read32(offset).unwrap_or(u32::MAX)
    }

    fn write(self, offset: usize, value: u32) {
        let written = self.try_write32(value, offset);
        debug_assert!(written.is_ok());
    }
}

/// The registers of one PSP.
pub(crate) struct Registers<I> {
    io: I,
    map: &'static RegisterMap,
}

impl<I: BarIo> Registers<I> {
    /// The registers behind `io`, which lie where `map` says.
    pub(crate) fn new(io: I, map: &'static RegisterMap) -> Self {
        Self { io, map }
    }

    /// The same registers once more, for the panic path: a panic stops the owner of `self`.
    pub(crate) fn for_panic(&self) -> Self {
        Self { ..*self }
    }

    /// The interrupt registers among them.
    pub(crate) fn interrupts(&self) -> Interrupts<I> {
        Interrupts {
            io: self.io,
            map: self.map,
        }
    }

    /// What this PSP offers, or [`None`] if it does not answer: a read of all ones means that the
    /// BIOS denies access or that the device is gone.
    pub(crate) fn capability(&self) -> Option<Capability> {
        match self.io.read(self.map.feature) {
            u32::MAX => None,
            raw => Some(Capability::from(raw)),
        }
    }

    /// The mailbox's last response.
    pub(crate) fn response(&self) -> Response {
        Response::from(self.io.read(self.map.cmdresp))
    }

    /// Tells the mailbox where the command buffer is.
    pub(crate) fn set_command_buffer(&mut self, buffer: Address) {
        // CAST: The two halves are what the registers take.
        self.io.write(self.map.cmdbuf_lo, buffer.raw() as u32);
        self.io
            .write(self.map.cmdbuf_hi, (buffer.raw() >> 32) as u32);
    }

    /// Starts a command. The write also publishes the command buffer: MMIO writes are ordered after
    /// earlier writes to memory.
    pub(crate) fn ring(&mut self, doorbell: Doorbell) {
        self.io.write(self.map.cmdresp, doorbell.into());
    }
}

/// The interrupt registers of one PSP. There may be several of these.
#[derive(Clone, Copy)]
pub(crate) struct Interrupts<I> {
    io: I,
    map: &'static RegisterMap,
}

impl<I: BarIo> Interrupts<I> {
    /// Disables all interrupts and forgets the pending ones.
    pub(crate) fn mask(&self) {
        self.io.write(self.map.inten, 0);
        self.io.write(self.map.intsts, u32::MAX);
    }

    /// Enables all interrupts.
    pub(crate) fn unmask(&self) {
        self.io.write(self.map.inten, u32::MAX);
    }

    /// Whether the mailbox's interrupt is enabled. It is from [`Self::unmask`] on, unless something
    /// has reset the registers.
    pub(crate) fn are_enabled(&self) -> bool {
        // The same bits as in the status.
        InterruptStatus::from(self.io.read(self.map.inten)).sev_command_complete()
    }

    /// Reads which interrupts are pending and acknowledges exactly those.
    pub(crate) fn acknowledge(&self) -> InterruptStatus {
        let pending = self.io.read(self.map.intsts);
        self.io.write(self.map.intsts, pending);
        InterruptStatus::from(pending)
    }

    /// The mailbox's last response; see [`Registers::response`].
    pub(crate) fn response(&self) -> Response {
        Response::from(self.io.read(self.map.cmdresp))
    }
}
