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
use kernel::bitfield;

pub(crate) use crate::sys::pci_bar::BarIo;

/// How much of BAR 2 is used: up to and including the highest register of any generation
/// (C2PMSG_80, the doorbell of platform access, at 0x10a40).
pub(crate) const BAR_SIZE: usize = 0x10a44;

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
    /// C2PMSG_63: what this PSP offers, and what it says about the security of the platform
    /// (Documentation/ABI/testing/sysfs-driver-ccp).
    pub(crate) struct Capability(u32) {
        /// The flash memory protects itself from writes that the PSP does not do (ROM Armor).
        19:19 rom_armor_enforced => bool;
        /// There is a TPM of the HSP.
        18:18 hsp_tpm_available => bool;
        /// The SPI flash has a replay protected monotonic counter (RPMC).
        17:17 rpmc_spirom_available => bool;
        /// RPMC is used.
        16:16 rpmc_production_enabled => bool;
        /// Firmware cannot be replaced by an older one.
        15:15 anti_rollback_status => bool;
        /// All memory is encrypted (TSME).
        13:13 tsme_status => bool;
        /// The debugger has to be unlocked.
        10:10 debug_lock_on => bool;
        /// The PSP verifies the first stage of the BIOS.
        9:9 boot_integrity => bool;
        /// This is no part for development.
        8:8 fused_part => bool;
        /// The bits from `fused_part` on say something.
        7:7 security_reporting => bool;
        /// Firmware of others can be replaced (SFS).
        3:3 sfs => bool;
        /// A trusted execution environment.
        1:1 tee => bool;
        /// SEV commands.
        0:0 sev => bool;
    }
}

impl Capability {
    /// The bits from here on are about security.
    pub(crate) const FIRST_SECURITY_BIT: u32 = 8;
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
    /// C2PMSG_59: the version of the boot loader.
    pub(crate) bootloader: usize,
    /// C2PMSG_58, on generations that have it: the version of the TEE.
    pub(crate) tee: Option<usize>,
    /// The PSP's own mailbox and the ring of the TEE, on generations that have them.
    pub(crate) mailbox: Option<MailboxMap>,
    /// The registers of platform access, on generations that have it.
    pub(crate) platform_access: Option<PlatformAccessMap>,
    /// P2CMSG_INTEN: a set bit enables the interrupt of that number.
    pub(crate) inten: usize,
    /// P2CMSG_INTSTS: [`InterruptStatus`].
    pub(crate) intsts: usize,
}

impl RegisterMap {
    /// The map of a generation whose C2PMSG_0 is at `c2pmsg`. While compiling it is checked that
    /// every register lies in the mapped part of the BAR and is aligned: accesses cannot fail.
    pub(crate) const fn new(c2pmsg: usize, inten: usize, intsts: usize) -> Self {
        let map = Self {
            cmdresp: c2pmsg + 4 * 32,
            cmdbuf_lo: c2pmsg + 4 * 56,
            cmdbuf_hi: c2pmsg + 4 * 57,
            feature: c2pmsg + 4 * 63,
            bootloader: c2pmsg + 4 * 59,
            tee: None,
            mailbox: None,
            platform_access: None,
            inten,
            intsts,
        };
        let last = BAR_SIZE - 4;
        // The feature register is the highest of the C2PMSG registers.
        assert!(map.feature <= last && inten <= last && intsts <= last);
        assert!(c2pmsg % 4 == 0 && inten % 4 == 0 && intsts % 4 == 0);
        map
    }

    /// The same for a generation with a TEE, whose registers count from a C2PMSG_0 at `c2pmsg`.
    pub(crate) const fn with_tee(self, c2pmsg: usize) -> Self {
        let map = MailboxMap {
            cmdresp: c2pmsg + 4 * 17,
            cmdbuf_lo: c2pmsg + 4 * 18,
            cmdbuf_hi: c2pmsg + 4 * 19,
            wptr: c2pmsg + 4 * 20,
            rptr: c2pmsg + 4 * 21,
        };
        assert!(map.rptr <= BAR_SIZE - 4 && c2pmsg % 4 == 0);
        Self {
            tee: Some(self.bootloader - 4),
            mailbox: Some(map),
            ..self
        }
    }

    /// The same for a generation with platform access, whose messages count from a C2PMSG_0 at
    /// `c2pmsg`. The doorbell counts from that of the SEV mailbox.
    pub(crate) const fn with_platform_access(self, c2pmsg: usize) -> Self {
        let first = self.cmdresp - 4 * 32;
        let map = PlatformAccessMap {
            cmdresp: c2pmsg + 4 * 28,
            cmdbuf_lo: c2pmsg + 4 * 29,
            cmdbuf_hi: c2pmsg + 4 * 30,
            button: first + 4 * 73,
            doorbell: first + 4 * 80,
        };
        assert!(map.cmdbuf_hi <= BAR_SIZE - 4 && c2pmsg % 4 == 0);
        assert!(map.doorbell <= BAR_SIZE - 4);
        Self {
            platform_access: Some(map),
            ..self
        }
    }
}

/// Where the registers of platform access are (`platform_access.rs`).
pub(crate) struct PlatformAccessMap {
    /// C2PMSG_28: message and status.
    pub(crate) cmdresp: usize,
    /// C2PMSG_29: bits 31:0 of the buffer's system physical address.
    pub(crate) cmdbuf_lo: usize,
    /// C2PMSG_30: bits 63:32 of it.
    pub(crate) cmdbuf_hi: usize,
    /// C2PMSG_73: writing a one rings the doorbell.
    pub(crate) button: usize,
    /// C2PMSG_80: what it is rung for, and what came of it.
    pub(crate) doorbell: usize,
}

/// Where the PSP's own mailbox (`psp_mailbox.rs`) and the TEE's ring (`tee.rs`) have their
/// registers.
pub(crate) struct MailboxMap {
    /// C2PMSG_17: command and status.
    pub(crate) cmdresp: usize,
    /// C2PMSG_18: bits 31:0 of the buffer's system physical address.
    pub(crate) cmdbuf_lo: usize,
    /// C2PMSG_19: bits 63:32 of it.
    pub(crate) cmdbuf_hi: usize,
    /// C2PMSG_20: up to where the ring has commands.
    pub(crate) wptr: usize,
    /// C2PMSG_21: up to where the TEE has read them.
    pub(crate) rptr: usize,
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

    /// The registers among them that say which firmware the PSP runs.
    pub(crate) fn versions(&self) -> Versions<I> {
        Versions {
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

/// Which firmware the PSP runs, apart from that for SEV. There may be several of these.
#[derive(Clone, Copy)]
pub(crate) struct Versions<I> {
    io: I,
    map: &'static RegisterMap,
}

impl<I: BarIo> Versions<I> {
    /// The version of the boot loader: four numbers, or [`None`] if the PSP does not tell it.
    pub(crate) fn bootloader(&self) -> Option<[u8; 4]> {
        self.version(self.map.bootloader)
    }

    /// The version of the TEE.
    pub(crate) fn tee(&self) -> Option<[u8; 4]> {
        self.version(self.map.tee?)
    }

    fn version(&self, register: usize) -> Option<[u8; 4]> {
        match self.io.read(register) {
            u32::MAX => None,
            raw => Some(raw.to_be_bytes()),
        }
    }
}
