// SPDX-License-Identifier: GPL-2.0
//! The PCI functions that have SEV, and where each has its registers
//! (drivers/crypto/ccp/sp-pci.c: `pspv1`, `pspv2`, `pspv4`, `pspv6`).

use clap::ValueEnum;
use psp::Part;

/// A PCI device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generation {
    /// Naples
    #[value(name = "1456")]
    Id1456,
    /// Rome, Milan
    #[value(name = "1486")]
    Id1486,
    /// Genoa, Bergamo
    #[value(name = "14CA", alias = "14ca")]
    Id14ca,
    /// Turin
    #[value(name = "156E", alias = "156e")]
    Id156e,
    /// Turin's successor
    #[value(name = "17D8", alias = "17d8")]
    Id17d8,
}

/// Offsets in BAR 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub cmdresp: u64,
    pub cmdbuff_lo: u64,
    pub cmdbuff_hi: u64,
    pub feature: u64,
    pub bootloader: u64,
    pub inten: u64,
    pub intsts: u64,
    pub platform_access: Option<PlatformAccess>,
    pub tee: Option<Tee>,
}

/// Those of the PSP's own mailbox, and of the ring of the TEE (`teev1`, `teev2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tee {
    pub cmdresp: u64,
    pub cmdbuff_lo: u64,
    pub cmdbuff_hi: u64,
    pub wptr: u64,
    pub rptr: u64,
    pub info: u64,
}

impl Tee {
    /// With the first register at this offset.
    const fn new(first: u64) -> Tee {
        Tee {
            cmdresp: first,
            cmdbuff_lo: first + 4,
            cmdbuff_hi: first + 8,
            wptr: first + 12,
            rptr: first + 16,
            info: 0x109e8,
        }
    }
}

/// Those of platform access (`pa_v1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformAccess {
    pub cmdresp: u64,
    pub cmdbuff_lo: u64,
    pub cmdbuff_hi: u64,
    pub button: u64,
    pub doorbell: u64,
}

impl Generation {
    /// The one that a processor has.
    pub const fn of(part: Part) -> Generation {
        match part {
            Part::Milan => Generation::Id1486,
            Part::Genoa => Generation::Id14ca,
            Part::Turin => Generation::Id156e,
        }
    }

    pub const fn device_id(self) -> u16 {
        match self {
            Generation::Id1456 => 0x1456,
            Generation::Id1486 => 0x1486,
            Generation::Id14ca => 0x14ca,
            Generation::Id156e => 0x156e,
            Generation::Id17d8 => 0x17d8,
        }
    }

    pub const fn offsets(self) -> Offsets {
        match self {
            Generation::Id1456 => Offsets {
                cmdresp: 0x10580,
                cmdbuff_lo: 0x105e0,
                cmdbuff_hi: 0x105e4,
                feature: 0x105fc,
                bootloader: 0x105ec,
                inten: 0x10610,
                intsts: 0x10614,
                platform_access: None,
                tee: None,
            },
            Generation::Id1486 => Offsets {
                cmdresp: 0x10980,
                cmdbuff_lo: 0x109e0,
                cmdbuff_hi: 0x109e4,
                feature: 0x109fc,
                bootloader: 0x109ec,
                inten: 0x10690,
                intsts: 0x10694,
                platform_access: Some(PlatformAccess {
                    cmdresp: 0x10570,
                    cmdbuff_lo: 0x10574,
                    cmdbuff_hi: 0x10578,
                    button: 0x10a24,
                    doorbell: 0x10a40,
                }),
                tee: None,
            },
            Generation::Id14ca => Offsets {
                platform_access: None,
                tee: Some(Tee::new(0x10544)),
                ..Generation::Id1486.offsets()
            },
            Generation::Id156e | Generation::Id17d8 => Offsets {
                inten: 0x10510,
                intsts: 0x10514,
                tee: Some(Tee::new(0x10944)),
                ..Generation::Id14ca.offsets()
            },
        }
    }
}
